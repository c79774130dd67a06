//! The members of a bundle's payload, in the order in which they lie in the file.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::digest::Hasher;
use crate::index::BlobEntry;
use crate::index::BundleIndex;
use crate::index::Stage;
use crate::pieces;
use crate::pieces::Cut;
use crate::pieces::PieceHasher;
use crate::pieces::PieceList;

/// A member `blobs/sha256/<hex>` of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobMember {
    /// What its bytes hash to; its name in the tar.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// What it is.
    pub media_type: String,
    /// When it is needed.
    pub stage: Stage,
    /// A blob of the index, or the piece list of the blob before it.
    pub kind: MemberKind,
}

/// Where a payload member comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// Listed in `bundle.json.blobs`.
    Blob {
        /// The digest of its piece list.
        pieces: Option<Digest>,
    },
    /// The piece list of another member.
    PieceList {
        /// The blob that it describes.
        of: Digest,
    },
}

impl BlobMember {
    fn blob(entry: &BlobEntry) -> Self {
        Self {
            digest: entry.digest,
            size: entry.size,
            media_type: entry.media_type.clone(),
            stage: entry.stage,
            kind: MemberKind::Blob {
                pieces: entry.pieces,
            },
        }
    }

    /// Its path in the tar, `blobs/sha256/<hex>`.
    pub fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest.to_hex())
    }

    /// The digest of its piece list, when it has one.
    pub const fn pieces(&self) -> Option<Digest> {
        match self.kind {
            MemberKind::Blob { pieces } => pieces,
            MemberKind::PieceList { .. } => None,
        }
    }

    fn piece_list(entry: &BlobEntry) -> Option<Self> {
        entry.pieces.map(|digest| Self {
            digest,
            size: Cut::standard(entry.size).list_bytes(),
            media_type: pieces::MEDIA_TYPE.to_owned(),
            stage: entry.stage,
            kind: MemberKind::PieceList { of: entry.digest },
        })
    }
}

impl BundleIndex {
    /// Names the piece list of each blob in `lists`.
    pub fn set_pieces(&mut self, lists: &BTreeMap<Digest, Digest>) {
        for blob in &mut self.blobs {
            if let Some(list) = lists.get(&blob.digest) {
                blob.pieces = Some(*list);
            }
        }
    }

    /// The blob members of a whole bundle: each blob, and right behind it its piece list.
    pub fn members(&self) -> Vec<BlobMember> {
        self.blobs
            .iter()
            .flat_map(|entry| {
                std::iter::once(BlobMember::blob(entry)).chain(BlobMember::piece_list(entry))
            })
            .collect()
    }
}

/// Hashes a member while it streams by: as a whole and, where it has a piece list, piece by piece.
#[derive(Debug)]
pub(crate) struct MemberHasher {
    whole: Hasher,
    pieces: Option<PieceHasher>,
}

impl MemberHasher {
    pub(crate) fn new(member: &BlobMember) -> Self {
        Self {
            whole: Hasher::new(),
            pieces: member.pieces().map(|_digest| PieceHasher::standard()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        if let Some(pieces) = &mut self.pieces {
            pieces.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> (Digest, Option<PieceList>) {
        (self.whole.finish(), self.pieces.map(PieceHasher::finish))
    }
}
