//! A blob on its way: pieces in any order, resumable after a crash at any instruction.

use std::time::Duration;

use bundle::Digest;
use bundle::pieces::Cut;
use bundle::pieces::PieceList;

use crate::bitmap::Bitmap;
use crate::error::Result;
use crate::fs::Fs;
use crate::fs::RealFs;
use crate::store::Store;

/// An unfinished blob. Shared by all threads that write or serve it.
#[derive(Debug)]
pub struct Partial<F: Fs = RealFs> {
    digest: Digest,
    store: Store<F>,
}

/// How a finished blob got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// By this call.
    New,
    /// It was there already: another process was first.
    Present,
}

impl<F: Fs> Partial<F> {
    /// The blob.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How it is cut.
    pub fn cut(&self) -> Cut {
        todo!()
    }

    /// The pieces that are written, and verified when there is a piece list.
    pub fn pieces(&self) -> Bitmap {
        todo!()
    }

    /// Verifies a piece against the list and writes it; false when it was there already.
    pub fn write_piece(&self, index: u64, bytes: &[u8]) -> Result<bool> {
        let _ = (index, bytes, &self.store);
        todo!()
    }

    /// Reads a verified piece, to serve it.
    pub fn read_piece(&self, index: u64) -> Result<Vec<u8>> {
        let _ = index;
        todo!()
    }

    /// Hashes at most `pieces_max` further pieces of the gapless front; how many it were. For a thread of its own.
    pub fn advance(&self, pieces_max: u64) -> Result<u64> {
        let _ = pieces_max;
        todo!()
    }

    /// Makes all pieces so far durable and journals them. After a failed sync the partial is discarded.
    pub fn checkpoint(&self) -> Result<()> {
        todo!()
    }

    /// Makes a checkpoint when 64 MiB or 2 s are due. `now` is time since any fixed moment.
    pub fn checkpoint_if_due(&self, now: Duration) -> Result<bool> {
        let _ = now;
        todo!()
    }

    /// Gives a complete blob its name: durable, hashed, read-only, renamed, directory synced.
    pub fn publish(&self) -> Result<Published> {
        todo!()
    }

    /// Removes the partial.
    pub fn discard(&self) -> Result<()> {
        todo!()
    }
}

impl<F: Fs> Store<F> {
    /// Opens the partial of a blob, new or where an earlier run stopped; every caller in this process shares it.
    pub fn partial(
        &self,
        digest: &Digest,
        cut: Cut,
        list: Option<PieceList>,
    ) -> Result<std::sync::Arc<Partial<F>>> {
        let _ = (digest, cut, list);
        todo!()
    }
}
