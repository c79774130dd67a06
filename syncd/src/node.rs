//! What all parts of a running engine share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use api::sync::NodeName;
use api::sync::Nudge;
use bundle::Digest;
use store::Fs;
use store::Partial;
use store::Store;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bandwidth::Limits;
use crate::counters::Counting;
use crate::env::Offload;
use crate::handle::Handle;
use crate::holdings::Holdings;

/// The shared parts.
#[derive(Debug)]
pub(crate) struct Node<F: Fs> {
    pub(crate) store: Store<F>,
    pub(crate) holdings: Holdings,
    pub(crate) limits: Limits,
    pub(crate) counters: Counting,
    pub(crate) offload: Offload,
    pub(crate) handle: Handle,
    /// Nudges of peers, to the engine.
    pub(crate) nudges: mpsc::Sender<(NodeName, Nudge)>,
    /// When the engine started.
    pub(crate) start: Instant,
    /// How long a peer may take no bytes.
    pub(crate) idle: Duration,
    open: Mutex<BTreeMap<Digest, Landing<F>>>,
}

/// A partial that pieces land in.
#[derive(Debug)]
pub(crate) struct Landing<F: Fs> {
    pub(crate) partial: Arc<Partial<F>>,
    /// Told after each written piece, to those who hash and checkpoint.
    pub(crate) wrote: Arc<Notify>,
}

impl<F: Fs> Node<F> {
    pub(crate) fn new(
        store: Store<F>,
        holdings: Holdings,
        limits: Limits,
        offload: Offload,
        handle: Handle,
        nudges: mpsc::Sender<(NodeName, Nudge)>,
        idle: Duration,
    ) -> Self {
        Self {
            store,
            holdings,
            limits,
            counters: Counting::default(),
            offload,
            handle,
            nudges,
            start: Instant::now(),
            idle,
            open: Mutex::default(),
        }
    }

    /// Time since the engine started.
    pub(crate) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// The landing of a blob, if it is open.
    pub(crate) fn landing(&self, blob: &Digest) -> Option<Landing<F>> {
        self.open().get(blob).cloned()
    }

    /// All open landings.
    pub(crate) fn landings(&self) -> Vec<Landing<F>> {
        self.open().values().cloned().collect()
    }

    /// Lets pieces land in a partial.
    pub(crate) fn open_landing(&self, partial: Arc<Partial<F>>) -> Landing<F> {
        let landing = Landing {
            partial,
            wrote: Arc::new(Notify::new()),
        };
        let digest = landing.partial.digest();
        self.open().insert(digest, landing.clone());
        landing
    }

    /// Lets no more pieces land.
    pub(crate) fn close_landing(&self, blob: &Digest) {
        self.open().remove(blob);
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Landing<F>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Fs> Clone for Landing<F> {
    fn clone(&self) -> Self {
        Self {
            partial: self.partial.clone(),
            wrote: self.wrote.clone(),
        }
    }
}
