//! The end of a partial: a name, or nothing.

use std::io;

use bundle::Digest;

use super::Journal;
use super::Partial;
use super::Published;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Target;
use crate::layout;
use crate::staging;
use crate::store::lock;

impl<F: Fs> Partial<F> {
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

    fn close(&self) {
        let was_closed = std::mem::replace(&mut lock(&self.pieces).closed, true);
        if !was_closed {
            lock(&self.store.inner.partials).remove(&self.digest());
        }
    }

    /// Discards after an error that is told anyway.
    pub(super) fn abandon(&self) {
        let _best_effort = self.discard();
    }
}
