//! What fetching tells while it runs.

use std::fmt;
use std::sync::Arc;

use bundle::Digest;
use bundle::name::ImageName;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchEvent {
    /// An image is known to the last blob.
    Resolved {
        /// Its name.
        name: ImageName,
        /// What the name means.
        digest: Digest,
        /// Blobs that belong to it.
        blobs: usize,
        /// Bytes of those.
        bytes: u64,
    },
    /// What is to be fetched in all, known before the first byte of it.
    Planned {
        /// Blobs to fetch.
        blobs: usize,
        /// Bytes of those.
        bytes: u64,
        /// Blobs that the cache had already.
        blobs_present: usize,
        /// Bytes of those.
        bytes_present: u64,
    },
    /// Bytes of a blob are there: fetched, or left by an earlier run.
    Received {
        /// The blob.
        digest: Digest,
        /// So many more.
        bytes: u64,
    },
    /// Bytes that were counted as received have to be fetched again.
    Lost {
        /// The blob.
        digest: Digest,
        /// So many.
        bytes: u64,
    },
    /// A blob is whole and right.
    Done {
        /// The blob.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
    /// All that was planned is done.
    Finished,
}

/// Takes events, from any thread.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(FetchEvent) + Send + Sync>);

impl Events {
    /// Calls `take` for each event. It should not block.
    pub fn to(take: impl Fn(FetchEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Drops all events.
    pub fn nowhere() -> Self {
        Self::to(|_event| {})
    }

    pub(super) fn send(&self, event: FetchEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Events")
    }
}
