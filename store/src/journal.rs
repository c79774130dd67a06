//! The journal of a partial: which pieces are certainly on the disk, and how far the blob's SHA-256 has come.
//!
//! Append-only. A header of 88 bytes says whose it is; each entry is written after the data that it speaks of was
//! synced. Every checksum covers the one before it, so entries can't be lost, swapped or left over from an older journal.
//!
//! | header | | entry | |
//! |---|---|---|---|
//! | 0..8 | magic `SLJRNL1\n` | 0..4 | length of the payload |
//! | 8..40 | SHA-256 of the blob | 4 | 1 = adds pieces, 2 = replaces all before it |
//! | 40..48 | its length | 5..9 | pieces that are hashed |
//! | 48, 49, 50..52 | log2 of a piece, 1 = has a piece list, zero | 9..113 | state of the SHA-256 after them |
//! | 52..84 | SHA-256 of the piece list, or zero | 113.. | runs of pieces: first, count (4 bytes each) |
//! | 84..88 | CRC32C | last 4 | CRC32C of the previous one, length and payload |
//!
//! What a crash or a bad disk can do: cut the tail, tear it, flip a bit. From the first entry that does not check, the
//! rest counts for nothing; a header that does not check makes the journal unusable. Nothing is ever said to be there
//! that was not journalled.

use std::ops::Range;

use bundle::Digest;
use bundle::Hasher;
use bundle::digest::HASHER_STATE_SIZE;
use bundle::digest::HasherState;
use bundle::pieces::Cut;

use crate::bitmap::Bitmap;
use crate::fs::bytes_u64;

/// Whose journal it is. A partial is continued only when all of it is as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) digest: Digest,
    pub(crate) cut: Cut,
    /// The piece list that every journalled piece was checked against.
    pub(crate) list: Option<Digest>,
}

/// What an entry does to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Its pieces are there too.
    Add,
    /// Its pieces are there and no others.
    Replace,
}

/// The hashed front of a blob, in whole pieces.
#[derive(Clone, Debug)]
pub(crate) struct Frontier {
    pub(crate) pieces: u64,
    pub(crate) hasher: Hasher,
}

/// Everything that a journal says.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) header: Header,
    pub(crate) present: Bitmap,
    pub(crate) frontier: Frontier,
    pub(crate) tail: Tail,
    pub(crate) entries: u64,
}

/// Where the next entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) length: u64,
    checksum: u32,
}

const MAGIC: &[u8; 8] = b"SLJRNL1\n";
const HEADER_BYTES: usize = 88;
const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;
const RUN_BYTES: usize = 8;
/// Piece sizes that a piece list can have.
pub(crate) const PIECE_LOG2: std::ops::RangeInclusive<u8> = 12..=26;
const ADD: u8 = 1;
const REPLACE: u8 = 2;

impl Frontier {
    pub(crate) fn start() -> Self {
        Self {
            pieces: 0,
            hasher: Hasher::new(),
        }
    }
}

impl Header {
    /// Encodes the header, and where the first entry goes.
    pub(crate) fn encode(&self) -> (Vec<u8>, Tail) {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.digest.as_bytes());
        bytes.extend_from_slice(&self.cut.length.to_le_bytes());
        let has_list = u8::from(self.list.is_some());
        bytes.extend_from_slice(&[self.cut.piece_log2, has_list, 0, 0]);
        let list = self.list.map_or([0; 32], |list| *list.as_bytes());
        bytes.extend_from_slice(&list);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        let tail = Tail {
            length: bytes_u64(bytes.len()),
            checksum,
        };
        (bytes, tail)
    }

    fn parse(bytes: &[u8]) -> Option<(Self, Tail)> {
        let mut rest = Rest(bytes.get(MAGIC.len()..)?);
        let digest = Digest::from_bytes(rest.take()?);
        let length = u64::from_le_bytes(rest.take()?);
        let [piece_log2, has_list, _, _] = rest.take()?;
        if !PIECE_LOG2.contains(&piece_log2) {
            return None;
        }
        let list = Digest::from_bytes(rest.take()?);
        let header = Self {
            digest,
            cut: Cut { length, piece_log2 },
            list: (has_list == 1).then_some(list),
        };
        // One encoding for one header: whatever is left of it is checked by writing it again.
        let (encoded, tail) = header.encode();
        bytes.starts_with(&encoded).then_some((header, tail))
    }
}

/// Encodes the next entry, and where the one after it goes.
pub(crate) fn encode_entry(
    tail: Tail,
    effect: Effect,
    pieces: &Bitmap,
    frontier: &Frontier,
) -> (Vec<u8>, Tail) {
    let runs = pieces.runs();
    let mut payload = Vec::with_capacity(5 + HASHER_STATE_SIZE + RUN_BYTES * runs.len());
    payload.push(match effect {
        Effect::Add => ADD,
        Effect::Replace => REPLACE,
    });
    payload.extend_from_slice(&number(frontier.pieces));
    payload.extend_from_slice(&frontier.hasher.state());
    for run in runs {
        payload.extend_from_slice(&number(run.start));
        payload.extend_from_slice(&number(run.end - run.start));
    }
    let length = number(bytes_u64(payload.len()));
    let checksum = checksum_of(tail, &length, &payload);
    let bytes = [&length[..], &payload[..], &checksum.to_le_bytes()[..]].concat();
    let tail = Tail {
        length: tail.length.saturating_add(bytes_u64(bytes.len())),
        checksum,
    };
    (bytes, tail)
}

/// Reads a journal; `None` when it is unusable from its header on.
pub(crate) fn replay(bytes: &[u8]) -> Option<Replay> {
    let (header, tail) = Header::parse(bytes)?;
    if header.cut.count() > crate::limits::PIECES_MAX {
        return None;
    }
    let mut replay = Replay {
        present: Bitmap::new(header.cut.count()),
        frontier: Frontier::start(),
        header,
        tail,
        entries: 0,
    };
    while let Some((entry, tail)) = next_entry(bytes, replay.tail, header.cut.count()) {
        if entry.effect == Effect::Replace {
            replay.present = Bitmap::new(header.cut.count());
        }
        for index in entry.runs.into_iter().flatten() {
            replay.present.insert(index);
        }
        replay.frontier = entry.frontier;
        replay.tail = tail;
        replay.entries += 1;
    }
    if replay.frontier.pieces > replay.present.prefix() {
        replay.frontier = Frontier::start();
    }
    Some(replay)
}

struct Entry {
    effect: Effect,
    frontier: Frontier,
    runs: Vec<Range<u64>>,
}

fn next_entry(bytes: &[u8], tail: Tail, pieces: u64) -> Option<(Entry, Tail)> {
    let rest = bytes.get(usize::try_from(tail.length).ok()?..)?;
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let payload_bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(payload_bytes)?;
    let stored = rest.first_chunk::<CHECKSUM_BYTES>()?;
    let checksum = checksum_of(tail, length, payload);
    if u32::from_le_bytes(*stored) != checksum {
        return None;
    }
    let whole = LENGTH_BYTES + payload_bytes + CHECKSUM_BYTES;
    let tail = Tail {
        length: tail.length.saturating_add(bytes_u64(whole)),
        checksum,
    };
    Some((parse_payload(payload, pieces)?, tail))
}

fn parse_payload(payload: &[u8], pieces: u64) -> Option<Entry> {
    let mut rest = Rest(payload);
    let effect = match rest.take()? {
        [ADD] => Effect::Add,
        [REPLACE] => Effect::Replace,
        [_unknown] => return None,
    };
    let hashed = u64::from(u32::from_le_bytes(rest.take()?));
    let state: HasherState = rest.take()?;
    let (runs, []) = rest.0.as_chunks::<RUN_BYTES>() else {
        return None;
    };
    let runs: Vec<Range<u64>> = runs.iter().copied().map(parse_run).collect();
    let fits = runs.iter().all(|run| run.end <= pieces) && hashed <= pieces;
    fits.then_some(Entry {
        effect,
        frontier: Frontier {
            pieces: hashed,
            hasher: Hasher::from_state(&state)?,
        },
        runs,
    })
}

fn parse_run(bytes: [u8; RUN_BYTES]) -> Range<u64> {
    let mut rest = Rest(&bytes);
    let mut next = || u64::from(u32::from_le_bytes(rest.take().unwrap_or_default()));
    let (start, count) = (next(), next());
    start..start + count
}

fn checksum_of(tail: Tail, length: &[u8], payload: &[u8]) -> u32 {
    let chained = crc32c::crc32c(&tail.checksum.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(chained, length), payload)
}

/// Piece numbers and lengths are below [`crate::limits::PIECES_MAX`] by construction.
fn number(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECES: u64 = 40;

    fn header() -> Header {
        Header {
            digest: Digest::of(b"blob"),
            cut: Cut {
                length: PIECES << 12,
                piece_log2: 12,
            },
            list: Some(Digest::of(b"list")),
        }
    }

    fn pieces(of: &[u64]) -> Bitmap {
        let mut pieces = Bitmap::new(PIECES);
        for index in of {
            pieces.insert(*index);
        }
        pieces
    }

    fn frontier(pieces: u64) -> Frontier {
        let mut hasher = Hasher::new();
        hasher.update(&vec![7; usize::try_from(pieces).unwrap()]);
        Frontier { pieces, hasher }
    }

    /// A journal of these entries and what is true after each of them.
    fn journal(entries: &[(Effect, Vec<u64>)]) -> (Vec<u8>, Vec<(u64, Bitmap)>) {
        let (mut bytes, mut tail) = header().encode();
        let mut truth = Bitmap::new(PIECES);
        let mut steps = vec![(tail.length, truth.clone())];
        for (effect, added) in entries {
            if *effect == Effect::Replace {
                truth = Bitmap::new(PIECES);
            }
            for index in added {
                truth.insert(*index);
            }
            let front = frontier(truth.prefix());
            let (entry, next) = encode_entry(tail, *effect, &pieces(added), &front);
            bytes.extend(entry);
            tail = next;
            steps.push((tail.length, truth.clone()));
        }
        (bytes, steps)
    }

    fn entries() -> impl Strategy<Value = Vec<(Effect, Vec<u64>)>> {
        let effect = prop_oneof![4 => Just(Effect::Add), 1 => Just(Effect::Replace)];
        let added = proptest::collection::vec(0..PIECES, 0..12);
        proptest::collection::vec((effect, added), 0..8)
    }

    #[test]
    fn a_whole_journal_says_what_was_written() {
        let (bytes, steps) = journal(&[(Effect::Add, vec![0, 1, 5]), (Effect::Add, vec![2, 39])]);
        let replay = replay(&bytes).unwrap();
        assert_eq!(replay.header, header());
        assert_eq!(replay.present, steps[2].1);
        assert_eq!(replay.frontier.pieces, 3);
        assert_eq!(replay.frontier.hasher.state(), frontier(3).hasher.state());
        assert_eq!(replay.tail.length, bytes_u64(bytes.len()));
    }

    #[test]
    fn a_front_beyond_the_pieces_is_not_believed() {
        let (mut bytes, tail) = header().encode();
        bytes.extend(encode_entry(tail, Effect::Add, &pieces(&[0, 2]), &frontier(2)).0);
        assert_eq!(replay(&bytes).unwrap().frontier.pieces, 0);
    }

    #[test]
    fn an_entry_of_another_journal_is_not_believed() {
        let (own, _) = journal(&[(Effect::Add, vec![1])]);
        let (other, steps) = journal(&[(Effect::Add, vec![2]), (Effect::Add, vec![3])]);
        let second = usize::try_from(steps[1].0).unwrap();
        let spliced = [&own[..], &other[second..]].concat();
        assert_eq!(replay(&spliced).unwrap().present, pieces(&[1]));
    }

    #[test]
    fn every_flip_of_every_bit_of_the_header_makes_it_unusable() {
        let (bytes, _) = header().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(replay(&bad).is_none(), "byte {at} bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_cut_journal_says_what_was_true_at_an_earlier_entry(
            entries in entries(),
            cut in any::<prop::sample::Index>(),
            garbage in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let (bytes, steps) = journal(&entries);
            let cut = cut.index(bytes.len() + 1);
            let torn = [&bytes[..cut], &garbage[..]].concat();
            let whole = steps.iter().rfind(|(end, _)| *end <= bytes_u64(cut));
            match (replay(&torn), whole) {
                (Some(replay), Some((end, truth))) => {
                    prop_assert_eq!(&replay.present, truth);
                    prop_assert_eq!(replay.tail.length, *end);
                }
                (None, None) => {}
                (got, expected) => prop_assert!(false, "{:?} {:?}", got, expected),
            }
        }

        #[test]
        fn a_flipped_journal_says_what_was_true_at_an_earlier_entry(
            entries in entries(),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let (mut bytes, steps) = journal(&entries);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Some(replay) = replay(&bytes) {
                let truth = steps.iter().rfind(|(end, _)| *end <= bytes_u64(at)).unwrap();
                prop_assert_eq!(&replay.present, &truth.1);
                prop_assert!(replay.frontier.pieces <= truth.1.prefix());
            } else {
                prop_assert!(at < HEADER_BYTES);
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(replay(&bytes).is_none());
        }
    }
}
