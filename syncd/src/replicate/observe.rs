//! Watches one peer: reads its inventory, then waits at its log of changes. What it learns goes to the engine.
//!
//! 1. Connect; read the inventory.
//! 2. Wait at `GET /v1/have?…` for changes, at most the summary interval; an empty answer is the heartbeat.
//! 3. Whatever fails, and whatever the peer can't tell any more, leads back to 1, after a pause when it failed.
//!    A nudge ends the pause.

use std::sync::Arc;
use std::time::Duration;

use api::sync::Changes;
use api::sync::Inventory;
use api::sync::NodeName;
use api::sync::Nudge;
use tokio::sync::Notify;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::env::Net;
use crate::replicate::event::Event;
use crate::settings::Timing;
use crate::wire::client::Connection;
use crate::wire::client::WireError;

/// What was learnt of a peer.
#[derive(Debug)]
pub(crate) enum Observed {
    /// Everything that it holds.
    Inventory(Inventory),
    /// What changed since.
    Changes(Changes),
    /// It can't be reached, or does not answer as it should.
    Lost(WireError),
}

/// What a watch of one peer needs.
#[derive(Debug)]
pub(crate) struct Watch<N> {
    pub(crate) net: Arc<N>,
    pub(crate) peer: NodeName,
    /// Index of the peer.
    pub(crate) source: usize,
    pub(crate) timing: Timing,
    pub(crate) signals: Arc<Signals>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) backoff: Backoff,
}

/// What the engine can tell a watch.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Ends a pause.
    pub(crate) wake: Notify,
    /// What is believed of the peer may be wrong: read the inventory again.
    pub(crate) reread: Notify,
}

impl<N: Net> Watch<N> {
    /// Watches until the engine is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let Err(error) = self.follow().await else {
                return;
            };
            if self.tell(Observed::Lost(error)).await.is_none() {
                return;
            }
            let pause = self.backoff.fail();
            // Both ways the peer is tried again.
            let _woken = tokio::time::timeout(pause, self.signals.wake.notified()).await;
        }
    }

    /// Follows one connection; ends with `Ok` when the engine is gone.
    async fn follow(&mut self) -> Result<(), WireError> {
        let mut connection = Connection::open(&*self.net, &self.peer, self.timing.idle).await?;
        loop {
            let inventory = connection.inventory().await?;
            self.backoff.succeed();
            let boot = inventory.stamp.boot;
            let mut at = inventory.stamp.at;
            if self.tell(Observed::Inventory(inventory)).await.is_none() {
                return Ok(());
            }
            loop {
                let wait = self.timing.summary;
                let changes = tokio::select! {
                    biased;
                    () = self.signals.reread.notified() => {
                        // The request under way would answer into nothing.
                        connection =
                            Connection::open(&*self.net, &self.peer, self.timing.idle).await?;
                        break;
                    }
                    changes = connection.changes(boot, at, wait) => changes?,
                };
                let reread = changes.changes.is_none() || changes.stamp.boot != boot;
                at = changes.stamp.at;
                if self.tell(Observed::Changes(changes)).await.is_none() {
                    return Ok(());
                }
                if reread {
                    break;
                }
            }
        }
    }

    async fn tell(&self, observed: Observed) -> Option<()> {
        let event = Event::Observed {
            source: self.source,
            observed,
        };
        self.events.send(event).await.ok()
    }
}

/// Tells a peer to come and look now; when it can't be reached it will look by itself.
pub(crate) async fn nudge<N: Net>(net: Arc<N>, peer: NodeName, idle: Duration, nudge: Nudge) {
    let told = async {
        let mut connection = Connection::open(&*net, &peer, idle).await?;
        connection.nudge(&nudge).await
    };
    if let Err(error) = told.await {
        tracing::debug!(%peer, %error, "a nudge did not arrive");
    }
}
