//! What each event does to the engine's state.

use api::sync::Change;
use api::sync::Nudge;
use bundle::Digest;
use bundle::fault::Fault as _;
use store::Fs;
use tokio::time::Instant;

use super::Engine;
use super::event::Event;
use super::event::Outcome;
use super::observe::Observed;
use super::plan::Held;
use super::plan::Request;
use super::records::Fetch;
use super::records::Merged;
use super::scan::Depth;
use super::want::sentence;
use crate::env::Net;
use crate::wire::client::WireError;

/// Records asked for at once.
const RECORDS_AT_ONCE: usize = 256;

impl<F: Fs, N: Net> Engine<F, N> {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Observed { source, observed } => self.observed(source, observed),
            Event::Merged { source, result } => self.merged(source, result),
            Event::Scanned(Ok(scan)) => {
                self.scanning = false;
                self.learn(scan);
            }
            Event::Scanned(Err(error)) => {
                self.scanning = false;
                self.scan_trouble = Some(sentence(&error));
                // Tried again with the next tick after this one; the disk decides.
                self.scan_next = self.scan_next.or(Some(Depth::Changes));
            }
            Event::Opened { blob, result } => match result {
                Ok(Some(pieces)) => self.opened(&blob, pieces),
                Ok(None) => self.published(&blob),
                Err(error) => self.not_opened(&blob, &error),
            },
            Event::Landed { blob, piece } => self.landed(&blob, piece),
            Event::Settled { request, outcome } => self.settled(request, outcome),
            Event::Idle { source, stream } => self.idle(source, stream),
            Event::Published { blob, result } => match result {
                Ok(()) => {
                    self.node.counters.published(1);
                    self.published(&blob);
                }
                Err(error) => self.disk_failed(&blob, &error),
            },
            Event::Broken { blob, error } => self.disk_failed(&blob, &error),
            Event::Examined { blob, result } => self.examined(blob, result),
        }
    }

    fn observed(&mut self, source: usize, observed: Observed) {
        let Some(peer) = self.peers.get_mut(source).filter(|peer| !peer.is_gone()) else {
            return;
        };
        match observed {
            Observed::Inventory(inventory) => {
                peer.learn(inventory);
                self.hold_again(source);
                self.note_news();
            }
            Observed::Changes(changes) => {
                if !peer.follow(&changes) {
                    peer.signals.reread.notify_one();
                }
                for change in changes.changes.iter().flatten() {
                    self.hold(source, change);
                }
            }
            Observed::Lost(error) => {
                tracing::info!(peer = %peer.name, error = sentence(&error), "a peer is not reached");
                peer.lose(sentence(&error));
            }
        }
        let up = self.peers.get(source).is_some_and(super::Peer::is_up);
        if let Some(source) = self.board.sources.get_mut(source) {
            source.reachable = up;
        }
        self.copies_changed = true;
        self.want_records(source);
    }

    /// Takes one change at a peer over to the board.
    fn hold(&mut self, source: usize, change: &Change) {
        let (Change::Published(blob) | Change::Pieces { blob, .. } | Change::Gone(blob)) = change
        else {
            return;
        };
        let Some(peer) = self.peers.get(source) else {
            return;
        };
        let Some(want) = self.board.want_mut(blob) else {
            return;
        };
        let pieces = want.have.len();
        let Some(held) = want.held.get_mut(source) else {
            return;
        };
        match (change, held) {
            (Change::Pieces { first, count, .. }, Held::Some(set)) => {
                for piece in *first..first.saturating_add(*count).min(pieces) {
                    set.insert(piece);
                }
            }
            (_, held) => *held = peer.held(blob, pieces),
        }
        self.note_news();
    }

    /// Asks a peer for the records that it has and this node lacks.
    pub(super) fn want_records(&mut self, source: usize) {
        let here = self.node.holdings.records();
        let now = Instant::now();
        let Some(peer) = self.peers.get_mut(source) else {
            return;
        };
        if peer.merging || !peer.is_up() || peer.merge_after.is_some_and(|at| at > now) {
            return;
        }
        let unknown = |record: &&Digest| {
            !here.contains(record)
                && !self.merged.contains(record)
                && !self.refused.contains_key(record)
        };
        let want = peer.records.iter().filter(unknown).copied();
        let want: Vec<Digest> = want.take(RECORDS_AT_ONCE).collect();
        if want.is_empty() {
            return;
        }
        peer.merging = true;
        let fetch = Fetch {
            node: self.node.clone(),
            net: self.net.clone(),
            judge: self.judge.clone(),
            peer: peer.name.clone(),
            source,
            idle: self.settings.timing.idle,
            events: self.events.clone(),
        };
        self.tasks.spawn(fetch.run(want));
    }

    fn merged(&mut self, source: usize, result: Result<Merged, WireError>) {
        let Some(peer) = self.peers.get_mut(source) else {
            return;
        };
        peer.merging = false;
        peer.merge_after = None;
        let merged = result.unwrap_or_else(|error| {
            tracing::info!(peer = %peer.name, error = sentence(&error), "records did not come");
            Merged::default()
        });
        if merged.settled.is_empty() && merged.refused.is_empty() {
            peer.merge_after = Some(Instant::now() + peer.merge_backoff.fail());
        } else {
            peer.merge_backoff.succeed();
        }
        for (record, refusal) in &merged.refused {
            tracing::warn!(%record, peer = %peer.name, %refusal, "a record is not accepted");
        }
        self.alarms.extend(merged.conflicts);
        self.scan_trouble = merged.failed.as_ref().map(|error| sentence(error));
        let news = !merged.settled.is_empty();
        self.merged.extend(merged.settled);
        self.refused.extend(merged.refused);
        if news {
            self.scan(Depth::Changes);
        }
    }

    fn idle(&mut self, source: usize, stream: usize) {
        self.flights.remove(&(source, stream));
        let Some(peer) = self.peers.get_mut(source).filter(|peer| !peer.is_gone()) else {
            return;
        };
        peer.idle.push(stream);
        if let Some(source) = self.board.sources.get_mut(source) {
            source.idle_streams += 1;
        }
    }

    fn settled(&mut self, request: Request, outcome: Outcome) {
        self.board.settle(request);
        let digest = request.blob;
        match outcome {
            Outcome::Done => {
                if self.node.holdings.has(&digest) {
                    self.published(&digest);
                }
            }
            Outcome::Failed(WireError::Refused { .. }) => {
                // It has not what it was believed to have.
                self.ban(&request);
                if let Some(peer) = self.peers.get(request.source) {
                    peer.signals.reread.notify_one();
                }
            }
            Outcome::Failed(error) => {
                tracing::debug!(blob = %digest, error = sentence(&error), "a request failed");
            }
            Outcome::Wrong => self.wrong(&request),
            Outcome::Disk(error) => self.disk_failed(&digest, &error),
        }
    }

    /// A source sent bytes that don't verify: it is not asked for this blob again, and told to look at its copy.
    fn wrong(&mut self, request: &Request) {
        let digest = request.blob;
        let Some(peer) = self.peers.get(request.source) else {
            return;
        };
        let name = peer.name.clone();
        self.node.counters.refused(&name);
        tracing::warn!(blob = %digest, peer = %name, "bytes did not verify");
        self.ban(request);
        self.blame(
            &digest,
            "BLOB_DAMAGED",
            format!("{name} sent bytes that do not verify"),
        );
        let nudge = Nudge {
            suspects: vec![digest],
        };
        self.nudge(name, nudge);
    }

    fn examined(&mut self, blob: Digest, result: Result<bool, store::StoreError>) {
        self.examining.remove(&blob);
        match result {
            Ok(true) => tracing::info!(%blob, "a doubted blob is sound"),
            Ok(false) => {
                tracing::warn!(%blob, "a damaged blob is in quarantine and fetched again");
                self.node.counters.damaged();
                self.copies_changed = true;
                self.want_again();
            }
            Err(error) => {
                tracing::warn!(%blob, code = error.code(), error = sentence(&error), "a doubted blob can't be read, or not be put into quarantine");
                if !self.node.holdings.has(&blob) {
                    // Withdrawn, and here or gone: the store tells.
                    self.copies_changed = true;
                    self.scan(Depth::Changes);
                }
            }
        }
    }
}
