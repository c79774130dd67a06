//! The packing, `packing.json`: how one file lays a bundle out. Nobody signs it and nobody believes it.
//!
//! It can make a bundle refused, never make it mean something else: what the frames yield is held against the signed
//! index, and what it says about frames must fit together before the first of them is read.
//!
//! **Members and frames.** The carried members are `oci-layout`, `index.json`, and then those of
//! [`BundleIndex::members`] that are not omitted, counted from 0. The plain bytes of all frames one after the other are
//! the tar of the carried members and its end of 1024 zero bytes. `first` is the lowest number of a member of which the
//! frame holds any byte (header, content or padding), `count` is how many such members there are; a large member lies
//! in several frames, each of which counts it. Frame 1 of the file (the first of this table) holds members 0 and 1 and
//! nothing else, the last holds the end alone: its `first` is the number of members and its `count` 0.
//!
//! `offset` counts from the end of the head frame, so that a head can be replaced without touching the packing;
//! `total_size` is the sum of the sizes.
//!
//! **Text.** Numbers are padded with spaces to a fixed width, so the length of the text depends only on how many frames
//! and omitted digests there are, and the writer can put it in its place after the payload is written.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::digest::Digest;
use crate::frame;
use crate::index::BlobMember;
use crate::index::BundleIndex;
use crate::index::MemberKind;
use crate::json;
use crate::json::JsonError;
use crate::limits;
use crate::oci;
use crate::tar;

#[cfg(test)]
mod tests;

/// The parsed table, consistent in itself and with the index of its bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The bundle whose payload this is.
    pub bundle: Digest,
    /// What a delta was made against.
    pub base: Option<Base>,
    /// Blobs of the index that this file leaves out, their piece lists with them.
    pub omitted: BTreeSet<Digest>,
    /// The frames behind the head, in the order of the file.
    pub frames: Vec<Frame>,
    /// Bytes of all these frames.
    pub total_size: u64,
}

/// What a receiver of a delta is expected to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// What `id` names.
    pub kind: BaseKind,
    /// A bundle's id, or the digest of an inventory.
    pub id: Digest,
}

/// What a delta was made against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseKind {
    /// Another bundle.
    Bundle,
    /// The inventory of a site.
    Inventory,
}

impl fmt::Display for Base {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind.name(), self.id)
    }
}

/// One frame of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins, counted from the end of the head frame.
    pub offset: u64,
    /// Its bytes in the file.
    pub size: u64,
    /// The bytes that it decodes to.
    pub plain_size: u64,
    /// How its content is stored.
    pub codec: Codec,
    /// The SHA-256 of its bytes in the file.
    pub sha256: Digest,
    /// The first member of which it holds any byte.
    pub first: u64,
    /// How many members it holds any byte of.
    pub count: u64,
}

/// How a frame stores its content. Later versions add names; a reader refuses those that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// A zstd frame of raw blocks, in the one form of `frame.rs`.
    Raw,
    /// Any zstd frame with content size and checksum.
    Zstd,
}

/// A packing that fits neither itself nor its bundle.
#[derive(Debug, thiserror::Error)]
pub enum PackingError {
    /// Not strict JSON, or not in its one form.
    #[error("packing.json can't be read")]
    Json(#[source] JsonError),
    /// A codec that this version does not know.
    #[error("frame {frame} uses the codec {codec:?}, this version knows raw and zstd")]
    Codec {
        /// Number of the frame, the head is 0.
        frame: usize,
        /// The codec's name.
        codec: String,
    },
    /// The packing of another bundle.
    #[error("packing.json belongs to bundle {actual}, the head holds {expected}")]
    Bundle {
        /// What it names.
        actual: Digest,
        /// The bundle of this head.
        expected: Digest,
    },
    /// An omitted digest that the index does not list.
    #[error("packing.json omits {0}, which bundle.json does not list")]
    Omitted(Digest),
    /// A number that does not follow from the index and the frames before.
    #[error("frame {frame}: {field} is {actual}, expected {expected}")]
    Number {
        /// Number of the frame, the head is 0.
        frame: usize,
        /// Which number.
        field: &'static str,
        /// What it is.
        actual: u64,
        /// What it must be.
        expected: u64,
    },
    /// A total that is not the sum of the frames.
    #[error("packing.json: total_size is {actual}, its frames are {expected} bytes")]
    Total {
        /// What it says.
        actual: u64,
        /// The sum.
        expected: u64,
    },
    /// Frames are missing at the end, or there are some too many.
    #[error("packing.json lists {actual} bytes of content, the carried members are {expected}")]
    Content {
        /// Plain bytes of all frames.
        actual: u64,
        /// Plain bytes of the members and the end.
        expected: u64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "_type")]
    document_type: PackingType,
    bundle: Digest,
    total_size: u64,
    base: Option<Base>,
    omitted: Vec<Digest>,
    frames: Vec<WireFrame>,
}

#[derive(Deserialize)]
enum PackingType {
    #[serde(rename = "sealift/packing/v1")]
    V1,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFrame {
    offset: u64,
    size: u64,
    plain_size: u64,
    codec: String,
    sha256: Digest,
    first: u64,
    count: u64,
}

impl Codec {
    /// The name in `packing.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Self::Raw),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Packing {
    /// Parses `packing.json` and requires that it fits the bundle.
    pub fn parse(bytes: &[u8], id: &Digest, index: &BundleIndex) -> Result<Self, PackingError> {
        let wire: Wire =
            json::decode(bytes, limits::PACKING_BYTES_MAX).map_err(PackingError::Json)?;
        let PackingType::V1 = wire.document_type;
        let mut frames = Vec::with_capacity(wire.frames.len());
        for (number, frame) in (1..).zip(wire.frames) {
            frames.push(frame.parse(number)?);
        }
        let packing = Self {
            bundle: wire.bundle,
            base: wire.base,
            omitted: wire.omitted.into_iter().collect(),
            frames,
            total_size: wire.total_size,
        };
        json::require_same(bytes, &packing.to_bytes()).map_err(PackingError::Json)?;
        packing.check(id, index)?;
        Ok(packing)
    }

    /// Writes the one text of it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(256 + 256 * self.frames.len());
        text.push_str("{\"_type\":\"sealift/packing/v1\",\n");
        let base = self.base.map_or_else(
            || "null".to_owned(),
            |base| {
                format!(
                    "{{\"kind\":\"{}\",\"id\":\"{}\"}}",
                    base.kind.name(),
                    base.id
                )
            },
        );
        // Writing into a String can't fail.
        let _infallible = write!(
            text,
            "\"bundle\":\"{}\",\"total_size\":{:17},\"base\":{base},\n\"omitted\":[",
            self.bundle, self.total_size,
        );
        for (index, digest) in self.omitted.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _infallible = write!(text, "{comma}\n\"{digest}\"");
        }
        text.push_str("],\n\"frames\":[");
        for (index, frame) in self.frames.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let codec = format!("\"{}\"", frame.codec.name());
            let _infallible = write!(
                text,
                "{comma}\n{{\"offset\":{:17},\"size\":{:8},\"plain_size\":{:8},\"codec\":{codec:6},\
                 \"sha256\":\"{}\",\"first\":{:5},\"count\":{:5}}}",
                frame.offset, frame.size, frame.plain_size, frame.sha256, frame.first, frame.count,
            );
        }
        text.push_str("]}\n");
        text.into_bytes()
    }

    /// The blob members that this file carries, in their order.
    pub fn carried(&self, index: &BundleIndex) -> Vec<BlobMember> {
        let members = index.members().into_iter();
        members.filter(|member| !self.omits(member)).collect()
    }

    /// The blob members that a receiver must have already, in the index's order.
    pub fn left_out(&self, index: &BundleIndex) -> Vec<BlobMember> {
        let members = index.members().into_iter();
        members.filter(|member| self.omits(member)).collect()
    }

    fn omits(&self, member: &BlobMember) -> bool {
        match member.kind {
            MemberKind::Blob { .. } => self.omitted.contains(&member.digest),
            MemberKind::PieceList { of } => self.omitted.contains(&of),
        }
    }
}

impl BaseKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Inventory => "inventory",
        }
    }
}

impl WireFrame {
    fn parse(self, frame: usize) -> Result<Frame, PackingError> {
        Ok(Frame {
            offset: self.offset,
            size: self.size,
            plain_size: self.plain_size,
            codec: Codec::of_name(&self.codec).ok_or_else(|| PackingError::Codec {
                frame,
                codec: self.codec.chars().take(80).collect(),
            })?,
            sha256: self.sha256,
            first: self.first,
            count: self.count,
        })
    }
}

impl Packing {
    /// Requires that every number follows from the index, the omissions, and the frames before.
    fn check(&self, id: &Digest, index: &BundleIndex) -> Result<(), PackingError> {
        if self.bundle != *id {
            return Err(PackingError::Bundle {
                actual: self.bundle,
                expected: *id,
            });
        }
        let blobs = index.blobs_by_digest();
        if let Some(unknown) = self
            .omitted
            .iter()
            .find(|digest| !blobs.contains_key(digest))
        {
            return Err(PackingError::Omitted(*unknown));
        }
        let mut walk = Walk::new(&self.member_sizes(index)?);
        for (number, frame) in (1..).zip(&self.frames) {
            walk.check(number, frame)?;
        }
        walk.finish(self.total_size)
    }

    /// Bytes of each carried member in the tar, header and padding included.
    fn member_sizes(&self, index: &BundleIndex) -> Result<Vec<u64>, PackingError> {
        let oci_index = oci::oci_index_bytes(index).map_err(PackingError::Json)?;
        let head = [oci::oci_layout_bytes().len(), oci_index.len()];
        let head = head.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
        let carried = self.carried(index);
        let blobs = carried.iter().map(|member| member.size);
        Ok(head
            .into_iter()
            .chain(blobs)
            .map(tar::member_bytes)
            .collect())
    }
}

/// Walks frames and members side by side.
struct Walk {
    /// Where each member ends in the plain content.
    ends: Vec<u64>,
    /// Where the next frame begins in the file.
    offset: u64,
    /// Where the next frame begins in the plain content.
    plain: u64,
    /// The first member that ends behind `plain`.
    member: usize,
}

impl Walk {
    fn new(member_bytes: &[u64]) -> Self {
        let mut end = 0;
        let ends = member_bytes.iter().map(|bytes| {
            end += bytes;
            end
        });
        Self {
            ends: ends.collect(),
            offset: 0,
            plain: 0,
            member: 0,
        }
    }

    fn check(&mut self, number: usize, frame: &Frame) -> Result<(), PackingError> {
        let equal = |field, actual, expected| {
            if actual == expected {
                return Ok(());
            }
            Err(PackingError::Number {
                frame: number,
                field,
                actual,
                expected,
            })
        };
        equal("offset", frame.offset, self.offset)?;
        let expected = self.plain_size_expected(frame);
        equal("plain_size", frame.plain_size, expected)?;
        match frame.codec {
            Codec::Raw => equal("size", frame.size, frame::raw_frame_bytes(expected))?,
            Codec::Zstd => {
                let limit = frame::zstd_frame_bytes_max(expected);
                let actual = frame.size.clamp(1, limit);
                equal("size", frame.size, actual)?;
            }
        }
        let (first, count) = self.step(frame.plain_size);
        equal("first", frame.first, first)?;
        equal("count", frame.count, count)?;
        self.offset += frame.size;
        Ok(())
    }

    /// The plain size itself where it may be chosen, else the one that is prescribed.
    fn plain_size_expected(&self, frame: &Frame) -> u64 {
        let members_end = self.ends.last().copied().unwrap_or(0);
        let layout_end = self.ends.get(1).copied().unwrap_or(0);
        if self.plain >= members_end {
            return tar::END_BYTES;
        }
        if self.plain < layout_end {
            return layout_end - self.plain;
        }
        let most = limits::FRAME_PLAIN_BYTES_MAX.min(members_end - self.plain);
        frame.plain_size.clamp(1, most)
    }

    /// Steps over a frame's content; gives its `first` and `count`.
    fn step(&mut self, plain_size: u64) -> (u64, u64) {
        let end = self.plain + plain_size;
        let next = self.ends.partition_point(|member_end| *member_end <= end);
        let starts_inside = next.checked_sub(1).and_then(|last| self.ends.get(last)) != Some(&end);
        let touched = next + usize::from(starts_inside && next < self.ends.len());
        let (first, count) = (self.member, touched.saturating_sub(self.member));
        self.member = next;
        self.plain = end;
        let number = |index| u64::try_from(index).unwrap_or(u64::MAX);
        (number(first), number(count))
    }

    fn finish(&self, total_size: u64) -> Result<(), PackingError> {
        let members_end = self.ends.last().copied().unwrap_or(0);
        if self.plain != members_end + tar::END_BYTES {
            return Err(PackingError::Content {
                actual: self.plain,
                expected: members_end + tar::END_BYTES,
            });
        }
        if total_size != self.offset {
            return Err(PackingError::Total {
                actual: total_size,
                expected: self.offset,
            });
        }
        Ok(())
    }
}
