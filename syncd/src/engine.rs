//! One node's replication, ready to run.

use std::sync::Arc;

use axum::Router;
use store::Fs;
use store::Store;
use store::StoreError;
use tokio::sync::mpsc;

use crate::bandwidth::Limits;
use crate::contents::Judge;
use crate::env::Net;
use crate::env::Offload;
use crate::handle::Handle;
use crate::holdings::Holdings;
use crate::node::Node;
use crate::replicate::Ears;
use crate::replicate::Engine;
use crate::settings::Settings;

/// Nudges that may wait; one is as good as many.
const NUDGES: usize = 64;

/// The replication of one node. It works while [`Syncd::run`] is polled, and ends with it.
#[derive(Debug)]
pub struct Syncd<F: Fs, N: Net> {
    engine: Engine<F, N>,
    ears: Ears,
    handle: Handle,
    #[cfg(test)]
    node: Arc<Node<F>>,
}

impl<F: Fs, N: Net> Syncd<F, N> {
    /// Puts a node together; nothing happens yet. Must be called inside a tokio runtime.
    pub fn new(
        settings: Settings,
        store: Store<F>,
        net: Arc<N>,
        judge: Arc<dyn Judge>,
        offload: Offload,
    ) -> Self {
        let (handle, asks) = Handle::new();
        let (nudges, nudge_inbox) = mpsc::channel(NUDGES);
        let node = Node::new(
            store,
            Holdings::new(settings.node.clone(), settings.boot),
            Limits::new(&settings.bandwidth),
            offload,
            handle.clone(),
            nudges,
            settings.timing.idle,
        );
        let node = Arc::new(node);
        let (engine, events) = Engine::new(settings, Arc::clone(&node), net, judge);
        let ears = Ears {
            events,
            asks,
            nudges: nudge_inbox,
        };
        Self {
            engine,
            ears,
            handle,
            #[cfg(test)]
            node,
        }
    }

    /// Lets peers ask for more than the protocol of replication.
    #[must_use]
    pub fn with_routes(mut self, routes: Router) -> Self {
        self.engine.answer_also(routes);
        self
    }

    /// A line to the engine; many may be taken.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What the parts of the engine share, to look at.
    #[cfg(test)]
    pub(crate) fn node(&self) -> Arc<Node<F>> {
        Arc::clone(&self.node)
    }

    /// Replicates until `shutdown` is over. Fails only when the store can't be read at the start, or not be made durable
    /// at the end; whatever else happens is tried again and shown in the status.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), StoreError> {
        self.engine.run(self.ears, shutdown).await
    }
}
