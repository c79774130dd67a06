//! A blob on its way: pieces in any order, resumable after a crash at any instruction.
//!
//! ```text
//! write_piece   BLAKE3 equals the list's → written at its place → counts as present (it may be served)
//! advance       SHA-256 of the gapless front, on a thread of its own
//! checkpoint    data synced → entry appended → journal synced: what a crash can't take any more
//! publish       all present → data synced → SHA-256 equals the name → read-only → renamed → directory synced
//! ```
//! One process owns a partial, by the lock of its directory; within it all threads share one [`Partial`].
//! After a failed sync the kernel has forgotten what it could not write, so the whole partial is discarded.

use std::sync::Mutex;
use std::time::Duration;

use bundle::Digest;
use bundle::pieces::Cut;
use bundle::pieces::PieceList;

use crate::bitmap::Bitmap;
use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::RealFs;
use crate::fs::bytes_u64;
use crate::fs::read_exact_at;
use crate::journal::Frontier;
use crate::journal::Header;
use crate::journal::Tail;
use crate::store::Store;
use crate::store::lock;

mod checkpoint;
mod open;
mod publish;

/// An unfinished blob.
#[derive(Debug)]
pub struct Partial<F: Fs = RealFs> {
    store: Store<F>,
    header: Header,
    list: Option<PieceList>,
    data: F::File,
    pieces: Mutex<Pieces>,
    frontier: Mutex<Frontier>,
    journal: Mutex<Journal<F>>,
    /// Held as long as the partial is: nobody else writes here.
    _lock: F::File,
}

/// How a finished blob got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// By this call.
    New,
    /// It was there already: another process was first.
    Present,
}

#[derive(Debug)]
struct Pieces {
    /// Written and verified.
    present: Bitmap,
    /// Present, or being written by somebody: nobody else may touch them.
    claimed: Bitmap,
    /// Bytes that no checkpoint covers yet.
    fresh_bytes: u64,
    /// When `fresh_bytes` was first seen above zero.
    fresh_since: Option<Duration>,
    closed: bool,
}

#[derive(Debug)]
struct Journal<F: Fs> {
    file: F::File,
    tail: Tail,
    /// Length after the last rewrite.
    base: u64,
    recorded: Bitmap,
    recorded_front: u64,
    /// Whether the names of the partial's files are durable.
    named: bool,
}

impl<F: Fs> Partial<F> {
    /// The blob.
    pub const fn digest(&self) -> Digest {
        self.header.digest
    }

    /// How it is cut.
    pub const fn cut(&self) -> Cut {
        self.header.cut
    }

    /// The piece list that every piece is verified against.
    pub const fn list(&self) -> Option<&PieceList> {
        self.list.as_ref()
    }

    /// The pieces that are written, each verified when there is a piece list.
    pub fn pieces(&self) -> Bitmap {
        lock(&self.pieces).present.clone()
    }

    /// Bytes that are written.
    pub fn present_bytes(&self) -> u64 {
        let pieces = lock(&self.pieces);
        let last = self.cut().count().saturating_sub(1);
        let full = pieces.present.count() * self.cut().piece_bytes();
        if pieces.present.contains(last) {
            let range = self.cut().range(last);
            return full - self.cut().piece_bytes() + (range.end - range.start);
        }
        full
    }

    /// Verifies a piece and writes it; false when it is there already or another thread is writing it.
    pub fn write_piece(&self, index: u64, bytes: &[u8]) -> Result<bool> {
        let range = self.cut().range(index);
        let right = match &self.list {
            Some(list) => list.matches(index, bytes),
            None => !range.is_empty() && bytes_u64(bytes.len()) == range.end - range.start,
        };
        if !right {
            return Err(self.bad_piece(index));
        }
        {
            let mut pieces = self.open_pieces()?;
            if !pieces.claimed.insert(index) {
                return Ok(false);
            }
        }
        let written = self.data.write_at(bytes, range.start);
        let mut pieces = lock(&self.pieces);
        if let Err(error) = written {
            pieces.claimed.remove(index);
            drop(pieces);
            return Err(self.about().judge("write", error));
        }
        pieces.present.insert(index);
        pieces.fresh_bytes += bytes_u64(bytes.len());
        Ok(true)
    }

    /// Reads a piece, to serve it. Verified again when there is a list; without one there is nothing to serve.
    pub fn read_piece(&self, index: u64) -> Result<Vec<u8>> {
        let list = self.list.as_ref().ok_or_else(|| self.missing(index))?;
        if !self.open_pieces()?.present.contains(index) {
            return Err(self.missing(index));
        }
        let bytes = self.read(index)?;
        if list.matches(index, &bytes) {
            return Ok(bytes);
        }
        self.drop_pieces(&mut lock(&self.journal), &[index])?;
        Err(self.bad_piece(index))
    }

    /// Hashes at most `pieces_max` further pieces of the gapless front; tells how many it were.
    pub fn advance(&self, pieces_max: u64) -> Result<u64> {
        let mut frontier = lock(&self.frontier);
        let mut done = 0;
        while done < pieces_max && lock(&self.pieces).present.contains(frontier.pieces) {
            let bytes = self.read(frontier.pieces)?;
            frontier.hasher.update(&bytes);
            frontier.pieces += 1;
            done += 1;
        }
        Ok(done)
    }

    /// How many pieces of the front are hashed.
    pub fn hashed(&self) -> u64 {
        lock(&self.frontier).pieces
    }

    fn read(&self, index: u64) -> Result<Vec<u8>> {
        read_piece_of(
            self.store.fs(),
            &self.data,
            self.cut(),
            self.digest(),
            index,
        )
    }

    fn open_pieces(&self) -> Result<std::sync::MutexGuard<'_, Pieces>> {
        let pieces = lock(&self.pieces);
        if pieces.closed {
            return Err(StoreError::Closed {
                digest: self.digest(),
            });
        }
        Ok(pieces)
    }

    fn about(&self) -> About<'_, F> {
        About::new(self.store.fs(), format!("blob {}", self.digest())).needs(self.cut().length)
    }

    fn missing(&self, index: u64) -> StoreError {
        missing_piece(&self.digest(), index)
    }

    const fn bad_piece(&self, index: u64) -> StoreError {
        StoreError::Piece {
            digest: self.digest(),
            index,
        }
    }
}

fn missing_piece(digest: &Digest, index: u64) -> StoreError {
    StoreError::Missing {
        object: format!("piece {index} of blob {digest}"),
    }
}

fn read_piece_of<F: Fs>(
    fs: &F,
    data: &F::File,
    cut: Cut,
    digest: Digest,
    index: u64,
) -> Result<Vec<u8>> {
    let range = cut.range(index);
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let about = About::new(fs, format!("piece {index} of blob {digest}"));
    read_exact_at(data, &mut bytes, range.start).map_err(about.failed("read"))?;
    Ok(bytes)
}
