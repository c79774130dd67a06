//! One stream of blobs from one peer: takes a request, reads its bytes, and lets them land while the next ones arrive.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::sync::NodeName;
use bundle::pieces::Cut;
use bytes::Bytes;
use store::Fs;
use store::StoreError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::env::Net;
use crate::node::Landing;
use crate::node::Node;
use crate::replicate::event::Event;
use crate::replicate::event::Outcome;
use crate::replicate::landing::Small;
use crate::replicate::plan::Request;
use crate::wire::client::Connection;
use crate::wire::client::Flow;
use crate::wire::client::WireError;

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream<F: Fs, N> {
    pub(crate) node: Arc<Node<F>>,
    pub(crate) net: Arc<N>,
    pub(crate) peer: NodeName,
    /// Index of the peer.
    pub(crate) source: usize,
    /// Index of the stream at the peer.
    pub(crate) number: usize,
    pub(crate) idle: Duration,
    pub(crate) budget: Arc<Semaphore>,
    /// All units of the budget.
    pub(crate) budget_units: u32,
    pub(crate) small: mpsc::Sender<Small>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) backoff: Backoff,
}

/// One request to fulfil.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) cut: Cut,
    /// The blob is asked for as a whole and kept in memory.
    pub(crate) whole: bool,
    pub(crate) pulse: Arc<Pulse>,
}

/// When bytes last came, as milliseconds of uptime.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU64);

/// Budget is counted in units of this many bytes, so that it fits a semaphore.
const ROOM_UNIT: usize = 1024;

/// A piece that is being verified and written: gives its buffer back.
type Landed = JoinHandle<(Vec<u8>, Result<(), StoreError>)>;

impl<F: Fs, N: Net> Stream<F, N> {
    /// Fulfils requests until the engine is gone.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut connection = None;
        while let Some(job) = jobs.recv().await {
            let request = job.request;
            let outcome = match self.fulfil(&mut connection, &job).await {
                Ok(()) if job.whole => None,
                Ok(()) => Some(Outcome::Done),
                Err(outcome) => Some(outcome),
            };
            let pause = match &outcome {
                None | Some(Outcome::Done) => {
                    self.backoff.succeed();
                    None
                }
                Some(Outcome::Failed(WireError::Refused { .. }) | Outcome::Disk(_)) => {
                    connection = None;
                    None
                }
                Some(Outcome::Failed(_) | Outcome::Wrong) => {
                    connection = None;
                    Some(self.backoff.fail())
                }
            };
            if let Some(outcome) = outcome {
                self.tell(Event::Settled { request, outcome }).await;
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let (source, stream) = (self.source, self.number);
            self.tell(Event::Idle { source, stream }).await;
        }
    }

    async fn fulfil(&self, connection: &mut Option<Connection>, job: &Job) -> Result<(), Outcome> {
        let first = job.cut.range(job.request.first).start;
        let range = if job.whole {
            0..job.cut.length
        } else {
            let last = job.request.pieces().end.saturating_sub(1);
            first..job.cut.range(last).end
        };
        if range.is_empty() {
            return self.keep(job, Vec::new(), self.room(0).await).await;
        }
        let landing = self.node.landing(&job.request.blob);
        if landing.is_none() && !job.whole {
            // Closed in between: there is nothing to land in any more.
            return Ok(());
        }
        let connection = match connection {
            Some(connection) => connection,
            empty @ None => {
                let opened = Connection::open(&*self.net, &self.peer, self.idle).await;
                empty.insert(opened.map_err(Outcome::Failed)?)
            }
        };
        job.pulse.beat(self.node.uptime());
        let flow = connection.blob(&job.request.blob, &range).await;
        let mut inflow = Inflow {
            flow: flow.map_err(Outcome::Failed)?,
            rest: Bytes::new(),
            pulse: job.pulse.clone(),
        };
        if let Some(landing) = landing.filter(|_landing| !job.whole) {
            self.land(job, &landing, &mut inflow).await
        } else {
            let room = self.room(range.end).await;
            let mut bytes = Vec::new();
            self.fill(&mut inflow, &mut bytes, range.end).await?;
            self.keep(job, bytes, room).await
        }
    }

    /// Lets the pieces of a request land, each while the next one arrives.
    async fn land(
        &self,
        job: &Job,
        landing: &Landing<F>,
        inflow: &mut Inflow,
    ) -> Result<(), Outcome> {
        let mut spare = Vec::new();
        let mut under_way: Option<Landed> = None;
        for piece in job.request.pieces() {
            let range = job.cut.range(piece);
            let length = range.end - range.start;
            let room = self.room(length).await;
            let mut bytes = std::mem::take(&mut spare);
            let filled = self.fill(inflow, &mut bytes, length).await;
            if let Some(landed) = under_way.take() {
                spare = finish(landed).await?;
            }
            filled?;
            let land = land_piece(
                self.node.clone(),
                landing.clone(),
                piece,
                bytes,
                room,
                self.events.clone(),
            );
            under_way = Some(tokio::spawn(land));
        }
        if let Some(landed) = under_way {
            finish(landed).await?;
        }
        Ok(())
    }

    /// Fills a buffer with exactly the next `length` bytes.
    async fn fill(
        &self,
        inflow: &mut Inflow,
        bytes: &mut Vec<u8>,
        length: u64,
    ) -> Result<(), Outcome> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        bytes.clear();
        bytes.reserve_exact(length);
        while bytes.len() < length {
            if inflow.rest.is_empty() {
                let next = inflow.flow.next().await.map_err(Outcome::Failed)?;
                let Some(chunk) = next else {
                    return Err(Outcome::Failed(WireError::Cut));
                };
                self.node.limits.receive(&self.peer, chunk.len()).await;
                self.node.counters.received(&self.peer, chunk.len());
                inflow.pulse.beat(self.node.uptime());
                inflow.rest = chunk;
            }
            let take = inflow.rest.len().min(length - bytes.len());
            bytes.extend_from_slice(&inflow.rest.split_to(take));
        }
        Ok(())
    }

    /// Hands a small blob on to be stored.
    async fn keep(
        &self,
        job: &Job,
        bytes: Vec<u8>,
        room: OwnedSemaphorePermit,
    ) -> Result<(), Outcome> {
        let small = Small {
            request: job.request,
            bytes,
            room,
        };
        // When nobody stores any more, the engine is gone, and this stream with it.
        let _engine_gone = self.small.send(small).await;
        Ok(())
    }

    /// Waits for room in the budget of bytes that are not written yet.
    async fn room(&self, bytes: u64) -> OwnedSemaphorePermit {
        // What is larger than the whole budget gets all of it.
        let units = room_units(usize::try_from(bytes).unwrap_or(usize::MAX)).min(self.budget_units);
        match self.budget.clone().acquire_many_owned(units).await {
            Ok(permit) => permit,
            // The budget is never closed.
            Err(_closed) => std::future::pending().await,
        }
    }

    async fn tell(&self, event: Event) {
        let _engine_gone = self.events.send(event).await;
    }
}

/// The units that so many bytes take of a budget.
pub(crate) fn room_units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX)
}

/// Verifies and writes a piece, and lets everybody know.
async fn land_piece<F: Fs>(
    node: Arc<Node<F>>,
    landing: Landing<F>,
    piece: u64,
    bytes: Vec<u8>,
    room: OwnedSemaphorePermit,
    events: mpsc::Sender<Event>,
) -> (Vec<u8>, Result<(), StoreError>) {
    let partial = landing.partial.clone();
    let write = move || {
        let written = partial.write_piece(piece, &bytes);
        (bytes, written)
    };
    let (bytes, written) = node.offload.run(write).await;
    drop(room);
    match written {
        Ok(true) => {}
        // Another request brought it first, and tells.
        Ok(false) => return (bytes, Ok(())),
        Err(error) => return (bytes, Err(error)),
    }
    let blob = landing.partial.digest();
    let pieces = landing.partial.cut().count();
    if node.landing(&blob).is_some() {
        node.holdings.verify_piece(blob, pieces, piece);
    }
    landing.wrote.notify_one();
    let _engine_gone = events.send(Event::Landed { blob, piece }).await;
    (bytes, Ok(()))
}

/// Waits for a piece to have landed; gives its buffer back.
async fn finish(landed: Landed) -> Result<Vec<u8>, Outcome> {
    match landed.await {
        Ok((bytes, Ok(()))) => Ok(bytes),
        Ok((_bytes, Err(StoreError::Piece { .. }))) => Err(Outcome::Wrong),
        Ok((_bytes, Err(error))) => Err(Outcome::Disk(Arc::new(error))),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// Bytes on their way, cut by the network as it likes.
#[derive(Debug)]
struct Inflow {
    flow: Flow,
    rest: Bytes,
    pulse: Arc<Pulse>,
}

impl Pulse {
    /// Bytes have come.
    pub(crate) fn beat(&self, uptime: Duration) {
        let millis = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    /// How long nothing has come.
    pub(crate) fn silence(&self, uptime: Duration) -> Duration {
        uptime.saturating_sub(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}
