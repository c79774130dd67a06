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

use std::io;
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
use crate::fs::Target;
use crate::fs::bytes_u64;
use crate::fs::read_exact_at;
use crate::journal;
use crate::journal::Effect;
use crate::journal::Frontier;
use crate::journal::Header;
use crate::journal::Tail;
use crate::layout;
use crate::limits;
use crate::staging;
use crate::store::Store;
use crate::store::lock;

mod open;

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

    /// Makes a checkpoint when 64 MiB or 2 s are due. `now` is the time since any fixed moment.
    pub fn checkpoint_if_due(&self, now: Duration) -> Result<bool> {
        let due = {
            let mut pieces = self.open_pieces()?;
            if pieces.fresh_bytes == 0 {
                return Ok(false);
            }
            let since = *pieces.fresh_since.get_or_insert(now);
            pieces.fresh_bytes >= limits::CHECKPOINT_BYTES
                || now.saturating_sub(since) >= limits::CHECKPOINT_INTERVAL
        };
        if due {
            self.checkpoint()?;
        }
        Ok(due)
    }

    /// Makes all pieces so far durable and journals them.
    ///
    /// When the disk is full the pieces stay, only the journal lags behind. After a failed sync the partial is gone.
    pub fn checkpoint(&self) -> Result<()> {
        let mut journal = lock(&self.journal);
        // The front first: pieces that it covers are present before the pieces are looked at.
        let frontier = lock(&self.frontier).clone();
        let (present, fresh_bytes) = {
            let mut pieces = self.open_pieces()?;
            pieces.fresh_since = None;
            let fresh_bytes = std::mem::take(&mut pieces.fresh_bytes);
            (pieces.present.clone(), fresh_bytes)
        };
        if present == journal.recorded && frontier.pieces == journal.recorded_front {
            return Ok(());
        }
        let done = self.record(&mut journal, &present, &frontier);
        match &done {
            Err(StoreError::Sync { .. }) => self.abandon(),
            Err(_still_whole) => lock(&self.pieces).fresh_bytes += fresh_bytes,
            Ok(()) => {}
        }
        done
    }

    fn record(
        &self,
        journal: &mut Journal<F>,
        present: &Bitmap,
        frontier: &Frontier,
    ) -> Result<()> {
        let about = self.about();
        self.data.sync_data().map_err(about.not_durable())?;
        self.sync_names(journal)?;
        if journal.tail.length > journal.base + limits::JOURNAL_BYTES_MAX {
            self.rewrite(journal, present, frontier)?;
        } else {
            let added = present.without(&journal.recorded);
            self.append(journal, Effect::Add, &added, frontier)?;
        }
        journal.recorded = present.clone();
        journal.recorded_front = frontier.pieces;
        Ok(())
    }

    fn append(
        &self,
        journal: &mut Journal<F>,
        effect: Effect,
        pieces: &Bitmap,
        frontier: &Frontier,
    ) -> Result<()> {
        let about = self.about();
        let (entry, tail) = journal::encode_entry(journal.tail, effect, pieces, frontier);
        journal
            .file
            .write_at(&entry, journal.tail.length)
            .map_err(about.failed("journal"))?;
        journal.file.sync_data().map_err(about.not_durable())?;
        journal.tail = tail;
        Ok(())
    }

    /// Writes the journal anew with one entry that says everything, and puts it in the place of the old one.
    fn rewrite(
        &self,
        journal: &mut Journal<F>,
        present: &Bitmap,
        frontier: &Frontier,
    ) -> Result<()> {
        let (about, fs) = (self.about(), self.store.fs());
        let path = layout::partial_journal_new(&self.digest());
        let _old_try = fs.remove_file(&path);
        let file = fs
            .open(&path, crate::fs::Access::CreateNew)
            .map_err(about.failed("journal"))?;
        let (mut bytes, tail) = self.header.encode();
        let (entry, tail) = journal::encode_entry(tail, Effect::Replace, present, frontier);
        bytes.extend(entry);
        file.write_at(&bytes, 0).map_err(about.failed("journal"))?;
        file.sync_data().map_err(about.not_durable())?;
        let to = layout::partial_journal(&self.digest());
        fs.rename(&path, &to, Target::Replace)
            .map_err(about.failed("journal"))?;
        journal.file = file;
        journal.tail = tail;
        journal.base = tail.length;
        fs.sync_dir(&layout::partial(&self.digest()))
            .map_err(about.not_durable())
    }

    fn sync_names(&self, journal: &mut Journal<F>) -> Result<()> {
        if journal.named {
            return Ok(());
        }
        let about = self.about();
        for directory in [&layout::partial(&self.digest()), layout::INCOMING] {
            self.store
                .fs()
                .sync_dir(directory)
                .map_err(about.not_durable())?;
        }
        journal.named = true;
        Ok(())
    }

    /// Gives a complete blob its name.
    ///
    /// When its bytes don't hash to the name, the pieces that are wrong are dropped and the others stay; without a piece
    /// list nobody can tell which are wrong, and the partial is gone.
    pub fn publish(&self) -> Result<Published> {
        let mut journal = lock(&self.journal);
        let missing = {
            let pieces = self.open_pieces()?;
            (!pieces.present.is_full()).then(|| pieces.present.prefix())
        };
        if let Some(index) = missing {
            return Err(self.missing(index));
        }
        self.advance(u64::MAX)?;
        let actual = lock(&self.frontier).hasher.clone().finish();
        if actual != self.digest() {
            return Err(self.reject(&mut journal, actual)?);
        }
        let about = self.about();
        if let Err(error) = self.data.sync_data() {
            self.abandon();
            return Err(about.not_durable()(error));
        }
        self.data.set_read_only().map_err(about.failed("protect"))?;
        let from = layout::partial_data(&self.digest());
        let to = layout::blob(&self.digest());
        let published = match self.store.fs().rename(&from, &to, Target::MustBeNew) {
            Ok(()) => Published::New,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Published::Present,
            Err(error) => return Err(about.judge("publish", error)),
        };
        self.close();
        self.store.sync_names()?;
        let _swept_later = staging::remove_tree(self.store.fs(), &layout::partial(&self.digest()));
        Ok(published)
    }

    /// Removes the partial with all that it has.
    pub fn discard(&self) -> Result<()> {
        self.close();
        staging::remove_tree(self.store.fs(), &layout::partial(&self.digest()))
            .map_err(self.about().failed("discard"))
    }

    /// The blob is complete and wrong: finds the pieces to blame.
    fn reject(&self, journal: &mut Journal<F>, actual: Digest) -> Result<StoreError> {
        let error = StoreError::Digest {
            expected: self.digest(),
            actual,
        };
        let Some(list) = &self.list else {
            self.abandon();
            return Ok(error);
        };
        let mut bad = Vec::new();
        for index in 0..self.cut().count() {
            if !list.matches(index, &self.read(index)?) {
                bad.push(index);
            }
        }
        if bad.is_empty() {
            self.abandon();
            return Ok(StoreError::Cut {
                digest: self.digest(),
                why: "every piece matches its piece list, and yet the whole does not".to_owned(),
            });
        }
        self.drop_pieces(journal, &bad)?;
        Ok(error)
    }

    /// Takes back that pieces are present, durably.
    fn drop_pieces(&self, journal: &mut Journal<F>, bad: &[u64]) -> Result<()> {
        let mut frontier = lock(&self.frontier);
        *frontier = Frontier::start();
        let present = {
            let mut pieces = self.open_pieces()?;
            for index in bad {
                pieces.present.remove(*index);
                pieces.claimed.remove(*index);
            }
            pieces.present.clone()
        };
        let about = self.about();
        let done = self.data.sync_data().map_err(about.not_durable());
        let done = done.and_then(|()| self.append(journal, Effect::Replace, &present, &frontier));
        if done.is_err() {
            // The journal still claims what is not there: it must not be believed after a crash.
            self.abandon();
            return done;
        }
        journal.recorded = present;
        journal.recorded_front = 0;
        Ok(())
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

    fn close(&self) {
        let was_closed = std::mem::replace(&mut lock(&self.pieces).closed, true);
        if !was_closed {
            lock(&self.store.inner.partials).remove(&self.digest());
        }
    }

    fn abandon(&self) {
        let _best_effort = self.discard();
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
