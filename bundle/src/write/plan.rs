//! What the writer decides before it writes: which codec each member gets, and where the frames are cut.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::index::BlobMember;
use crate::index::BundleIndex;
use crate::index::MemberKind;
use crate::json::JsonError;
use crate::limits;
use crate::oci;
use crate::packing::Codec;
use crate::tar;
use crate::write::BlobSource;
use crate::write::WriteError;

/// Plain bytes of a compressed frame: large enough for the compressor, small enough that several fit into memory.
pub(super) const ZSTD_PLAIN_BYTES: u64 = 16 << 20;

/// A frame of which everything is known but its compressed size and its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedFrame {
    pub(super) codec: Codec,
    pub(super) plain_size: u64,
    pub(super) first: u64,
    pub(super) count: u64,
}

/// A member to write.
#[derive(Clone, Debug)]
pub(super) enum Member {
    /// One that follows from the index.
    Fixed(&'static str, Vec<u8>),
    /// A blob or a piece list.
    Blob(BlobMember),
}

/// The members that the file will carry, and their frames.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) members: Vec<Member>,
    pub(super) frames: Vec<PlannedFrame>,
    /// Blobs that are to be stored as their media type says, but were not there to be looked at.
    pub(super) assumed: BTreeSet<Digest>,
}

impl Plan {
    /// Plans the payload that carries `blobs`; looks at the first bytes of those that may be compressed already.
    pub(super) fn new(
        index: &BundleIndex,
        blobs: Vec<BlobMember>,
        source: &dyn BlobSource,
    ) -> Result<Self, WriteError> {
        let json_error =
            |error: JsonError| WriteError::Index(crate::index::IndexError::Json(error));
        let mut members = vec![
            Member::Fixed("oci-layout", oci::oci_layout_bytes().to_vec()),
            Member::Fixed(
                "index.json",
                oci::oci_index_bytes(index).map_err(json_error)?,
            ),
        ];
        let mut cutter = Cutter::default();
        let layout = members.iter().map(Member::size);
        cutter.add_run(Codec::Zstd, &layout.collect::<Vec<_>>(), u64::MAX);
        let mut run = (Codec::Zstd, Vec::new());
        let mut assumed = BTreeSet::new();
        for blob in blobs {
            let codec = codec_for(&blob, source, &mut assumed)?;
            if codec != run.0 {
                cutter.add_run(run.0, &run.1, target(run.0));
                run = (codec, Vec::new());
            }
            run.1.push(blob.size);
            members.push(Member::Blob(blob));
        }
        cutter.add_run(run.0, &run.1, target(run.0));
        Ok(Self {
            members,
            frames: cutter.finish(),
            assumed,
        })
    }

    pub(super) fn plain_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.plain_size).sum()
    }
}

impl Member {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Fixed(_, content) => u64::try_from(content.len()).unwrap_or(u64::MAX),
            Self::Blob(blob) => blob.size,
        }
    }
}

const fn target(codec: Codec) -> u64 {
    match codec {
        Codec::Raw => limits::FRAME_PLAIN_BYTES_MAX,
        Codec::Zstd => ZSTD_PLAIN_BYTES,
    }
}

/// Cuts runs of members into frames.
#[derive(Default)]
struct Cutter {
    frames: Vec<PlannedFrame>,
    members: u64,
}

impl Cutter {
    /// Adds members that share a codec; their frames are full but the last.
    fn add_run(&mut self, codec: Codec, sizes: &[u64], target: u64) {
        let mut open = PlannedFrame {
            codec,
            plain_size: 0,
            first: self.members,
            count: 0,
        };
        for size in sizes {
            let mut left = tar::member_bytes(*size);
            while left > 0 {
                if open.plain_size == target {
                    self.frames.push(open);
                    open.plain_size = 0;
                    open.first = self.members;
                    open.count = 0;
                }
                let take = left.min(target - open.plain_size);
                open.plain_size += take;
                open.count += 1;
                left -= take;
            }
            self.members += 1;
        }
        if open.plain_size > 0 {
            self.frames.push(open);
        }
    }

    /// Adds the end of the archive.
    fn finish(mut self) -> Vec<PlannedFrame> {
        self.frames.push(PlannedFrame {
            codec: Codec::Raw,
            plain_size: tar::END_BYTES,
            first: self.members,
            count: 0,
        });
        self.frames
    }
}

/// Stored when compressing can't help: piece lists are hashes, and what is compressed already says so twice. What is
/// still to come has only its media type to say so, and goes into `assumed`.
fn codec_for(
    blob: &BlobMember,
    source: &dyn BlobSource,
    assumed: &mut BTreeSet<Digest>,
) -> Result<Codec, WriteError> {
    match blob.kind {
        MemberKind::PieceList { .. } => return Ok(Codec::Raw),
        MemberKind::Blob { .. } => {}
    }
    let Some(magic) = magic_of(&blob.media_type) else {
        return Ok(Codec::Zstd);
    };
    let start = source.start(&blob.digest, magic.len());
    let start = start.map_err(|source| WriteError::Source {
        digest: blob.digest,
        source,
    })?;
    Ok(match start {
        None => {
            assumed.insert(blob.digest);
            Codec::Raw
        }
        Some(start) if start == magic => Codec::Raw,
        Some(_other) => Codec::Zstd,
    })
}

/// What a blob of a compressed media type begins with.
pub(super) fn magic_of(media_type: &str) -> Option<&'static [u8]> {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| media_type.ends_with(suffix));
    if ends(&["+gzip", "/gzip", ".gzip", "/x-gzip"]) {
        Some(&[0x1f, 0x8b])
    } else if ends(&["+zstd", "/zstd"]) {
        Some(&[0x28, 0xb5, 0x2f, 0xfd])
    } else if ends(&["+xz", "/x-xz"]) {
        Some(&[0xfd, b'7', b'z', b'X', b'Z', 0])
    } else if ends(&["+zip", "/zip"]) {
        Some(b"PK\x03\x04")
    } else {
        None
    }
}
