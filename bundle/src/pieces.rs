//! The piece list: one BLAKE3 hash for each 4 MiB of a large blob, so that any piece can be checked by itself.
//!
//! Layout (`application/vnd.sealift.pieces.v1`), 24 bytes and then the hashes:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic `SLPIECE1` |
//! | 8 | hash id, 1 = BLAKE3 |
//! | 9 | log2 of the piece size, 22 in format version 1 |
//! | 10..16 | zero |
//! | 16..24 | total length of the blob, little-endian |
//! | 24.. | 32 bytes a piece |
//!
//! The list is itself a blob, pinned by digest in `bundle.json`; it holds no more than is needed and each byte of it is
//! checked, so there is one list for one blob.

use std::ops::Range;

use crate::limits;

/// The media type of a piece list.
pub const MEDIA_TYPE: &str = "application/vnd.sealift.pieces.v1";

/// A BLAKE3 hash of one piece.
pub type PieceHash = [u8; 32];

const MAGIC: &[u8; 8] = b"SLPIECE1";
const HASH_BLAKE3: u8 = 1;
const HEADER_BYTES: usize = 24;
const HASH_BYTES: usize = 32;

/// How a blob is cut: its length and the size of a piece. Shared by everything that counts pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Length of the blob in bytes.
    pub length: u64,
    /// log2 of the piece size.
    pub piece_log2: u8,
}

/// A parsed piece list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceList {
    cut: Cut,
    hashes: Vec<PieceHash>,
}

/// Bytes that are no piece list of format version 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceListError {
    /// Wrong magic or non-zero reserved bytes.
    #[error("not a piece list")]
    Magic,
    /// A hash that this version does not know.
    #[error("piece list uses hash {0}, this version knows 1 (BLAKE3)")]
    Hash(u8),
    /// A piece size outside 2^12..=2^26.
    #[error("piece list uses pieces of 2^{0} bytes, expected 2^12 to 2^26")]
    PieceSize(u8),
    /// The list's length does not follow from the blob's.
    #[error("piece list of a {length} byte blob is {actual} bytes, expected {expected}")]
    Length {
        /// The blob's length as the list says.
        length: u64,
        /// Bytes of the list.
        actual: usize,
        /// Bytes that it should have.
        expected: u64,
    },
}

impl Cut {
    /// Cuts a blob into the pieces of format version 1, 4 MiB each.
    pub const fn standard(length: u64) -> Self {
        Self {
            length,
            piece_log2: limits::PIECE_SIZE_LOG2,
        }
    }

    /// Bytes of a full piece.
    pub const fn piece_bytes(&self) -> u64 {
        1 << self.piece_log2
    }

    /// How many pieces there are; the last may be short, an empty blob has none.
    pub const fn count(&self) -> u64 {
        self.length.div_ceil(self.piece_bytes())
    }

    /// The bytes of piece `index`; empty when there is no such piece.
    pub fn range(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(self.piece_bytes()).min(self.length);
        let end = start.saturating_add(self.piece_bytes()).min(self.length);
        start..end
    }

    /// Bytes of the piece list of a blob cut like this.
    pub const fn list_bytes(&self) -> u64 {
        24 + 32 * self.count()
    }
}

impl PieceList {
    /// Parses a list; every byte is checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, PieceListError> {
        let (header, body) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or(PieceListError::Magic)?;
        let (magic, rest) = header.split_at_checked(8).ok_or(PieceListError::Magic)?;
        let &[hash, piece_log2, r0, r1, r2, r3, r4, r5, ref length @ ..] = rest else {
            return Err(PieceListError::Magic);
        };
        let length = <[u8; 8]>::try_from(length).map_err(|_short| PieceListError::Magic)?;
        if magic != MAGIC || [r0, r1, r2, r3, r4, r5] != [0; 6] {
            return Err(PieceListError::Magic);
        }
        if hash != HASH_BLAKE3 {
            return Err(PieceListError::Hash(hash));
        }
        if !(12..=26).contains(&piece_log2) {
            return Err(PieceListError::PieceSize(piece_log2));
        }
        let cut = Cut {
            length: u64::from_le_bytes(length),
            piece_log2,
        };
        if u64::try_from(bytes.len()) != Ok(cut.list_bytes()) || cut.length > limits::BLOB_BYTES_MAX
        {
            return Err(PieceListError::Length {
                length: cut.length,
                actual: bytes.len(),
                expected: cut.list_bytes(),
            });
        }
        let (hashes, _none) = body.as_chunks::<HASH_BYTES>();
        Ok(Self {
            cut,
            hashes: hashes.to_vec(),
        })
    }

    /// Writes the one encoding of this list.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.hashes.len() * HASH_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[HASH_BLAKE3, self.cut.piece_log2, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.cut.length.to_le_bytes());
        bytes.extend(self.hashes.iter().flatten());
        bytes
    }

    /// How the blob is cut.
    pub const fn cut(&self) -> Cut {
        self.cut
    }

    /// Whether `bytes` are exactly piece `index`.
    pub fn matches(&self, index: u64, bytes: &[u8]) -> bool {
        let range = self.cut.range(index);
        let hash = usize::try_from(index)
            .ok()
            .and_then(|index| self.hashes.get(index));
        u64::try_from(bytes.len()) == Ok(range.end - range.start)
            && hash.is_some_and(|hash| blake3::hash(bytes).as_bytes() == hash)
    }
}

/// Makes a piece list while a blob streams by.
#[derive(Clone, Debug)]
pub struct PieceHasher {
    piece_log2: u8,
    length: u64,
    open: blake3::Hasher,
    open_bytes: u64,
    hashes: Vec<PieceHash>,
}

impl PieceHasher {
    /// Begins an empty blob with pieces of `2^piece_log2` bytes.
    pub fn new(piece_log2: u8) -> Self {
        let open = blake3::Hasher::new();
        Self {
            piece_log2,
            length: 0,
            open,
            open_bytes: 0,
            hashes: Vec::new(),
        }
    }

    /// Begins an empty blob with the pieces of format version 1.
    pub fn standard() -> Self {
        Self::new(limits::PIECE_SIZE_LOG2)
    }

    /// Adds the blob's next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (1_u64 << self.piece_log2) - self.open_bytes;
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(take);
            self.open.update(now);
            self.open_bytes += u64::try_from(take).unwrap_or(u64::MAX);
            self.length += u64::try_from(take).unwrap_or(u64::MAX);
            if self.open_bytes == 1 << self.piece_log2 {
                self.close();
            }
            bytes = later;
        }
    }

    /// Ends the blob.
    pub fn finish(mut self) -> PieceList {
        if self.open_bytes > 0 {
            self.close();
        }
        let cut = Cut {
            length: self.length,
            piece_log2: self.piece_log2,
        };
        PieceList {
            cut,
            hashes: self.hashes,
        }
    }

    fn close(&mut self) {
        self.hashes.push(*self.open.finalize().as_bytes());
        self.open.reset();
        self.open_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(bytes: &[u8]) -> PieceList {
        let mut hasher = PieceHasher::new(12);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn each_piece_matches_its_own_bytes_only() {
        let blob: Vec<u8> = (0_u32..10_000).flat_map(u32::to_le_bytes).collect();
        let list = list(&blob);
        assert_eq!(list.cut().count(), 10);
        for index in 0..10 {
            let range = list.cut().range(index);
            let piece =
                &blob[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            assert!(list.matches(index, piece));
            assert!(!list.matches(index + 1, piece));
            assert!(!list.matches(index, &piece[1..]));
        }
        assert!(!list.matches(10, b""));
    }

    #[test]
    fn a_changed_header_or_length_is_refused() {
        let good = list(&[7; 5000]).to_bytes();
        for at in 0..16 {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(PieceList::parse(&bad).is_err(), "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(PieceList::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(PieceList::parse(&[&good[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn writing_in_any_portions_gives_one_list(
            blob in proptest::collection::vec(any::<u8>(), 0..20_000),
            cut in 0_usize..20_000,
        ) {
            let (first, second) = blob.split_at(cut.min(blob.len()));
            let mut hasher = PieceHasher::new(12);
            hasher.update(first);
            hasher.update(second);
            let portions = hasher.finish();
            prop_assert_eq!(&portions, &list(&blob));
            prop_assert_eq!(PieceList::parse(&portions.to_bytes()), Ok(portions));
        }
    }
}
