//! The replication engine: one actor that owns all state. Others work for it and send it what happened.
//!
//! 1. **Observe**: one watch for each peer keeps the picture of what it holds (`observe`, `peer`).
//! 2. **Merge**: records that a peer has and this node lacks are fetched, judged, stored (`records`).
//! 3. **Want**: what accepted records reference and the store lacks (`want`).
//! 4. **Plan**: which pieces to ask of whom (`plan`, pure).
//! 5. **Transfer and land**: bytes come, are verified, written, hashed, published (`transfer`, `landing`).
//! 6. **Tell**: what is published or verified is at once in the log that peers wait at (`holdings`).
//!
//! On a change this takes less than a second; the summary every 10 s finds what was missed; the full pass every hour
//! reads everything again, from disk and from every peer.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::sync::NodeName;
use api::sync::Nudge;
use axum::Router;
use bundle::Digest;
use rand::Rng as _;
use rand::rngs::StdRng;
use store::Fs;
use store::StoreError;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::backoff::jittered;
use crate::contents::Content;
use crate::contents::Judge;
use crate::contents::Refusal;
use crate::env::Net;
use crate::handle::Ask;
use crate::node::Node;
use crate::settings::Settings;

mod copies;
pub(crate) mod event;
mod happen;
mod landing;
mod members;
mod observe;
mod peer;
mod plan;
mod records;
mod rooms;
mod scan;
mod start;
mod tick;
mod transfer;
mod want;

use copies::Waiting;
use event::Event;
use landing::Small;
use peer::Peer;
use plan::Board;
use plan::Request;
use rooms::Rooms;
use scan::Depth;
use scan::Scan;
use transfer::Pulse;
use want::Wanted;

/// Events that may wait for the engine; who has more waits.
const EVENTS: usize = 256;

/// How often the engine looks at what time brings: retries, silence, full passes.
const TICK: Duration = Duration::from_millis(250);

/// The actor.
#[derive(Debug)]
pub(crate) struct Engine<F: Fs, N> {
    settings: Settings,
    node: Arc<Node<F>>,
    net: Arc<N>,
    judge: Arc<dyn Judge>,
    random: StdRng,
    events: mpsc::Sender<Event>,
    /// Everything that works for the engine; it ends with it.
    tasks: JoinSet<()>,
    budget: Arc<Semaphore>,
    small: mpsc::Sender<Small>,
    /// Where the connections of members are.
    rooms: Arc<Rooms>,
    /// What peers may ask beside the protocol of replication.
    routes: Router,

    /// [`Board::sources`] counts in this order; who is gone keeps its place.
    peers: Vec<Peer>,
    /// Accepted records.
    contents: BTreeMap<Digest, Content>,
    /// Records that are not accepted.
    refused: BTreeMap<Digest, Refusal>,
    /// Records that were merged: they are in the store, or newer ones are there in their place.
    merged: BTreeSet<Digest>,
    /// Records of one place with different bytes, and what they are about.
    alarms: BTreeMap<Digest, String>,
    board: Board,
    wanted: BTreeMap<Digest, Wanted>,
    /// Requests under way by (peer, stream).
    flights: BTreeMap<(usize, usize), Flight>,
    waiting: Vec<Waiting>,
    /// Somebody's copies may have changed.
    copies_changed: bool,
    examining: BTreeSet<Digest>,
    scan_trouble: Option<String>,
    scanning: bool,
    scan_next: Option<Depth>,
    full_pass_at: Instant,
    /// When a peer last had news about something wanted, or this node had work of its own.
    news_at: Instant,
}

/// A request under way.
#[derive(Debug)]
struct Flight {
    request: Request,
    pulse: Arc<Pulse>,
}

/// Where the engine hears from.
#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) nudges: mpsc::Receiver<(NodeName, Nudge)>,
}

impl<F: Fs, N: Net> Engine<F, N> {
    /// Works until `shutdown` is over, then makes durable what has arrived.
    pub(crate) async fn run(
        mut self,
        mut ears: Ears,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), StoreError> {
        self.start().await?;
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(event) = ears.events.recv() => self.happen_all(event, &mut ears.events),
                Some(ask) = ears.asks.recv() => self.answer(ask),
                Some((peer, nudge)) = ears.nudges.recv() => self.nudged(&peer, &nudge),
                _now = tick.tick() => self.tick(),
            }
            self.dispatch();
            self.settle_waiting();
        }
        self.stop().await
    }

    /// Takes one event and all that wait behind it, so that plans are made on the whole picture.
    fn happen_all(&mut self, first: Event, more: &mut mpsc::Receiver<Event>) {
        self.happen(first);
        for _ in 0..EVENTS {
            let Ok(event) = more.try_recv() else {
                return;
            };
            self.happen(event);
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Rescan => self.scan(Depth::Changes),
            Ask::Suspect(blob) => self.examine(blob),
            Ask::ReplicateWith { peers, guests } => self.replicate_with(peers, guests),
            Ask::Status(answer) => {
                // Who asked may be gone.
                let _gone = answer.send(self.status());
            }
            Ask::WaitCopies(waiting) => {
                self.waiting.push(Waiting::new(waiting));
                self.copies_changed = true;
            }
        }
    }

    /// A peer wants to be looked at, and doubts some blobs here.
    fn nudged(&mut self, name: &NodeName, nudge: &Nudge) {
        if let Some(peer) = self.others().find(|peer| peer.name == *name) {
            peer.signals.wake.notify_one();
        }
        for blob in nudge.suspects.iter().take(SUSPECTS_MAX) {
            self.examine(*blob);
        }
    }

    /// Reads a published blob again, when there is doubt about it.
    fn examine(&mut self, blob: Digest) {
        if !self.node.holdings.has(&blob) || !self.examining.insert(blob) {
            return;
        }
        let mut up = self.peers.iter().filter(|peer| peer.is_up());
        let elsewhere = up.any(|peer| peer.blobs.contains(&blob));
        let node = self.node.clone();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let from = node.clone();
            let examine = move || examine_blob(&from, blob, elsewhere);
            let result = node.offload.run(examine).await;
            let _engine_gone = events.send(Event::Examined { blob, result }).await;
        });
    }

    /// Reads the store in the background; a deeper wish that comes in between is done afterwards.
    fn scan(&mut self, depth: Depth) {
        if self.scanning {
            let deeper = self.scan_next == Some(Depth::Everything);
            self.scan_next = Some(if deeper { Depth::Everything } else { depth });
            return;
        }
        self.scanning = true;
        let node = self.node.clone();
        let judge = self.judge.clone();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let from = node.clone();
            let read = move || scan::scan(&from.store, &from.holdings, &*judge, depth);
            let result = node.offload.run(read).await;
            let _engine_gone = events.send(Event::Scanned(result)).await;
        });
    }

    /// Takes the store as it was found.
    fn learn(&mut self, scan: Scan) {
        for gone in &scan.lost {
            self.node.holdings.lose(*gone);
        }
        for blob in &scan.blobs {
            self.node.holdings.publish(*blob);
        }
        let mut news = false;
        for record in scan.contents.keys() {
            news |= self.node.holdings.accept(*record);
        }
        self.contents = scan.contents;
        self.refused.extend(scan.refused);
        self.scan_trouble = None;
        self.copies_changed = true;
        self.want_again();
        if news {
            self.note_news();
            self.nudge_all();
        }
    }

    /// Tells every peer whose link is down to come and look; the others wait at the log anyway.
    fn nudge_all(&mut self) {
        let down = self.others().filter(|peer| !peer.is_up());
        let down: Vec<NodeName> = down.map(|peer| peer.name.clone()).collect();
        for peer in down {
            self.nudge(peer, Nudge::default());
        }
    }

    fn nudge(&mut self, peer: NodeName, nudge: Nudge) {
        let idle = self.settings.timing.idle;
        self.tasks
            .spawn(observe::nudge(self.net.clone(), peer, idle, nudge));
    }

    /// Lets peers ask for more than the protocol of replication; to be called before [`Engine::run`].
    pub(crate) fn answer_also(&mut self, routes: Router) {
        self.routes = routes;
    }

    /// Makes a full pass, and says when the next one is due.
    fn full_pass(&mut self) {
        self.node.counters.full_pass();
        let interval = jittered(self.settings.timing.full_pass, self.random.next_u64());
        self.full_pass_at = Instant::now() + interval;
        self.merged.clear();
        self.refused.clear();
        self.scan(Depth::Everything);
        for peer in &self.peers {
            peer.signals.reread.notify_one();
        }
    }

    fn backoff(&mut self) -> Backoff {
        Backoff::new(self.settings.timing.backoff, self.random.next_u64())
    }

    /// Makes durable what has arrived: after a clean stop nothing is fetched twice.
    async fn stop(mut self) -> Result<(), StoreError> {
        self.tasks.shutdown().await;
        for landing in self.node.landings() {
            let checkpoint = move || landing.partial.checkpoint();
            self.node.offload.run(checkpoint).await?;
        }
        Ok(())
    }
}

/// Blobs that one nudge may doubt.
const SUSPECTS_MAX: usize = 64;

/// Reads a blob from the medium; when its bytes are not its name's, it goes into quarantine.
///
/// One that can't be read goes there only when a peer has it: what can't be read today may be the last copy tomorrow.
fn examine_blob<F: Fs>(node: &Node<F>, blob: Digest, elsewhere: bool) -> Result<bool, StoreError> {
    match node.store.digest_of(&blob, &mut |_bytes| {}) {
        Ok(digest) if digest == blob => return Ok(true),
        Ok(_wrong) => {}
        Err(StoreError::Io { .. }) if elsewhere => {}
        Err(error) => return Err(error),
    }
    // Withdrawn first: the name may be gone although the quarantine fails half-way, and nobody may be promised it then.
    node.holdings.lose(blob);
    node.store.quarantine(&blob)?;
    Ok(false)
}
