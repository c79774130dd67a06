//! Everything that can happen to the engine. Work runs elsewhere; its end comes back as one of these.

use bundle::Digest;
use store::Bitmap;
use store::StoreError;

use crate::replicate::observe::Observed;
use crate::replicate::plan::Request;
use crate::replicate::records::Merged;
use crate::replicate::scan::Scan;
use crate::wire::client::WireError;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer was looked at.
    Observed {
        /// The peer.
        source: usize,
        /// What was seen.
        observed: Observed,
    },
    /// Records were asked of a peer, judged and merged.
    Merged {
        /// The peer.
        source: usize,
        /// What became of them.
        result: Result<Merged, WireError>,
    },
    /// The store was read.
    Scanned(Result<Scan, StoreError>),
    /// A partial was opened.
    Opened {
        /// The blob.
        blob: Digest,
        /// The pieces that are there; nothing when the blob is published already.
        result: Result<Option<Bitmap>, StoreError>,
    },
    /// A piece was verified and written.
    Landed {
        /// The blob.
        blob: Digest,
        /// The piece.
        piece: u64,
    },
    /// A request is off the board, fulfilled or not.
    Settled {
        /// The request.
        request: Request,
        /// How it ended.
        outcome: Outcome,
    },
    /// A stream can take another request.
    Idle {
        /// The peer.
        source: usize,
        /// The stream.
        stream: usize,
    },
    /// A blob is complete; it was published, or could not be.
    Published {
        /// The blob.
        blob: Digest,
        /// Why not.
        result: Result<(), StoreError>,
    },
    /// Hashing or a checkpoint of a partial failed.
    Broken {
        /// The blob.
        blob: Digest,
        /// Why.
        error: StoreError,
    },
    /// A suspect blob was read again.
    Examined {
        /// The blob.
        blob: Digest,
        /// Whether it is sound; it is out of the inventory when not.
        result: Result<bool, StoreError>,
    },
}

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything came and is written.
    Done,
    /// The peer or the network failed.
    Failed(WireError),
    /// The peer sent bytes that don't verify.
    Wrong,
    /// The own disk failed.
    Disk(std::sync::Arc<StoreError>),
}
