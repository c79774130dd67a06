//! Bytes and events since this boot.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use api::sync::Counters;
use api::sync::NodeName;

/// The counters, to count with.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<Counters>);

impl Counting {
    /// The figures now.
    pub(crate) fn snapshot(&self) -> Counters {
        self.lock().clone()
    }

    /// Bytes of blobs went out to `peer`.
    pub(crate) fn sent(&self, peer: &NodeName, bytes: usize) {
        add(
            self.lock().sent_bytes.entry(peer.clone()).or_default(),
            bytes,
        );
    }

    /// Bytes of blobs came in from `peer`.
    pub(crate) fn received(&self, peer: &NodeName, bytes: usize) {
        add(
            self.lock().received_bytes.entry(peer.clone()).or_default(),
            bytes,
        );
    }

    /// A piece or blob from `peer` had a wrong hash.
    pub(crate) fn refused(&self, peer: &NodeName) {
        add(
            self.lock().refused_pieces.entry(peer.clone()).or_default(),
            1,
        );
    }

    /// A partial was found with so many verified bytes.
    pub(crate) fn resumed(&self, bytes: u64) {
        let mut counters = self.lock();
        counters.resumed_bytes = counters.resumed_bytes.saturating_add(bytes);
    }

    /// Blobs were published.
    pub(crate) fn published(&self, blobs: usize) {
        add(&mut self.lock().published_blobs, blobs);
    }

    /// A published blob was found damaged.
    pub(crate) fn damaged(&self) {
        add(&mut self.lock().damaged_blobs, 1);
    }

    /// A full pass was made.
    pub(crate) fn full_pass(&self) {
        add(&mut self.lock().full_passes, 1);
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(counter: &mut u64, more: usize) {
    *counter = counter.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
}
