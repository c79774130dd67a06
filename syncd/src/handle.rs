//! How the rest of the daemon talks to the engine: ask, tell, wait. Cheap to clone; every call survives its caller.

use api::sync::NodeName;
use api::sync::Status;
use api::sync::Wait;
use bundle::Digest;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// A line to a running engine.
#[derive(Clone, Debug)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
}

/// The engine has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("replication has stopped")]
pub struct Stopped;

/// How many members hold everything of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Members that have published and synced everything, this node included.
    pub complete: usize,
    /// Members that were asked for.
    pub wanted: usize,
    /// All members.
    pub members: usize,
}

/// What can be asked of the engine.
#[derive(Debug)]
pub(crate) enum Ask {
    Rescan,
    Suspect(Digest),
    ReplicateWith {
        peers: Vec<NodeName>,
        guests: Vec<NodeName>,
    },
    Status(oneshot::Sender<Status>),
    WaitCopies(WaitCopies),
}

/// A wait for copies.
#[derive(Debug)]
pub(crate) struct WaitCopies {
    pub(crate) content: Digest,
    pub(crate) wait: Wait,
    pub(crate) progress: Option<mpsc::Sender<Copies>>,
    pub(crate) done: oneshot::Sender<Copies>,
}

/// Questions that may wait for the engine at once.
const ASKS: usize = 64;

impl Handle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, inbox) = mpsc::channel(ASKS);
        (Self { asks }, inbox)
    }

    /// Says that the store has changed from outside: an import is done, or files appeared. Peers are told at once.
    pub async fn rescan(&self) -> Result<(), Stopped> {
        self.tell(Ask::Rescan).await
    }

    /// Says that a published blob looks damaged; it is read again, and fetched again when it is.
    pub async fn suspect(&self, blob: Digest) -> Result<(), Stopped> {
        self.tell(Ask::Suspect(blob)).await
    }

    /// Replicates with exactly these others from now on; copies are counted among them and this node.
    ///
    /// Guests may fetch from this node, and are neither asked nor counted.
    pub async fn replicate_with(
        &self,
        peers: Vec<NodeName>,
        guests: Vec<NodeName>,
    ) -> Result<(), Stopped> {
        self.tell(Ask::ReplicateWith { peers, guests }).await
    }

    /// What the node knows of the cluster now.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let (answer, status) = oneshot::channel();
        self.tell(Ask::Status(answer)).await?;
        status.await.map_err(|_dropped| Stopped)
    }

    /// Returns once as many members as `wait` says hold `content` (a bundle id, or a record's digest) durably.
    ///
    /// There is no time-out: drop the future to give up. Each change of the count goes to `progress`, if it listens.
    pub async fn wait_copies(
        &self,
        content: Digest,
        wait: Wait,
        progress: Option<mpsc::Sender<Copies>>,
    ) -> Result<Copies, Stopped> {
        let (done, copies) = oneshot::channel();
        self.tell(Ask::WaitCopies(WaitCopies {
            content,
            wait,
            progress,
            done,
        }))
        .await?;
        copies.await.map_err(|_dropped| Stopped)
    }

    async fn tell(&self, ask: Ask) -> Result<(), Stopped> {
        self.asks.send(ask).await.map_err(|_closed| Stopped)
    }
}
