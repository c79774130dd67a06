//! What makes pieces survive a crash: data synced, then journalled, then the journal synced.

use std::time::Duration;

use super::Journal;
use super::Partial;
use crate::bitmap::Bitmap;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Target;
use crate::journal;
use crate::journal::Effect;
use crate::journal::Frontier;
use crate::layout;
use crate::limits;
use crate::store::lock;

/// Growth of the journal after which it is rewritten; tests get there within a few entries.
const REWRITE_BYTES: u64 = if cfg!(test) {
    2 << 10
} else {
    limits::JOURNAL_BYTES_MAX
};

impl<F: Fs> Partial<F> {
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
        if journal.tail.length > journal.base + REWRITE_BYTES {
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
            .open(&path, Access::CreateNew)
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

    /// Takes back that pieces are present, durably.
    pub(super) fn drop_pieces(&self, journal: &mut Journal<F>, bad: &[u64]) -> Result<()> {
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
}
