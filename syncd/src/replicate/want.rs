//! What accepted records reference and the store lacks, and how each of these blobs is doing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use api::sync::ContentKind;
use bundle::Digest;
use bundle::fault::Fault as _;
use store::Bitmap;
use store::Fs;
use store::StoreError;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Engine;
use super::Flight;
use super::landing;
use super::plan::Request;
use super::plan::STRIPE;
use super::plan::Want;
use super::scan::Depth;
use super::transfer::Job;
use super::transfer::Pulse;
use crate::backoff::Backoff;
use crate::contents::Content;
use crate::contents::ContentBlob;
use crate::env::Net;

/// Smaller blobs are not worth dividing among the receivers.
const DIVIDED_BYTES_MIN: u64 = 256 << 10;

/// How a wanted blob is doing.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) blob: ContentBlob,
    pub(super) state: State,
    /// Not before this.
    pub(super) retry_at: Option<Instant>,
    /// Sources that failed it get another chance then.
    banned_until: Option<Instant>,
    backoff: Backoff,
    /// What went wrong last: code and sentence.
    pub(super) trouble: Option<(&'static str, String)>,
    /// Its partial is open and nobody can serve it, since then.
    stuck_since: Option<Instant>,
    /// Those who hash and checkpoint its partial.
    keepers: Vec<AbortHandle>,
}

/// Where a wanted blob stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No partial is open, or the blob needs none.
    Waiting,
    /// The partial is being opened.
    Opening,
    /// Pieces can land.
    Open,
    /// All pieces are there; it is being published.
    Publishing,
}

impl<F: Fs, N: Net> Engine<F, N> {
    /// Reckons anew what is wanted, keeping what is known of blobs that still are.
    pub(super) fn want_again(&mut self) {
        let mut old: BTreeMap<Digest, Want> = std::mem::take(&mut self.board.wants)
            .into_iter()
            .map(|want| (want.blob, want))
            .collect();
        let held = self.node.holdings.blobs();
        let mut wants = Vec::new();
        for (blob, first_stripe) in in_order(&self.contents) {
            if held.contains(&blob.digest) {
                continue;
            }
            let want = match old.remove(&blob.digest) {
                Some(want) => Want {
                    first_stripe,
                    ..want
                },
                None => self.new_want(&blob, first_stripe),
            };
            wants.push(want);
        }
        self.board.wants = wants;
        for digest in old.into_keys() {
            self.forget(&digest);
        }
        let digests: Vec<Digest> = self.wanted.keys().copied().collect();
        for digest in digests {
            self.judge_pause(&digest);
        }
    }

    fn new_want(&mut self, blob: &ContentBlob, first_stripe: u64) -> Want {
        let backoff = self.backoff();
        self.wanted.insert(
            blob.digest,
            Wanted {
                blob: *blob,
                state: State::Waiting,
                retry_at: None,
                banned_until: None,
                backoff,
                trouble: None,
                stuck_since: None,
                keepers: Vec::new(),
            },
        );
        let peers = self.peers.iter();
        Want {
            blob: blob.digest,
            first_stripe,
            divided: is_divided(blob),
            open: blob.list.is_none(),
            paused: false,
            have: Bitmap::new(blob.pieces()),
            held: peers
                .map(|peer| peer.held(&blob.digest, blob.pieces()))
                .collect(),
            banned: BTreeSet::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Takes what a peer holds over to the board.
    pub(super) fn hold_again(&mut self, source: usize) {
        let Some(peer) = self.peers.get(source) else {
            return;
        };
        for want in &mut self.board.wants {
            if let Some(held) = want.held.get_mut(source) {
                *held = peer.held(&want.blob, want.have.len());
            }
        }
    }

    /// Makes every request that the board has to give.
    pub(super) fn dispatch(&mut self) {
        while let Some(request) = self.board.next() {
            let Some(wanted) = self.wanted.get(&request.blob) else {
                return;
            };
            let blob = wanted.blob;
            if blob.list.is_some() && wanted.state == State::Waiting {
                self.open(&blob);
            } else if !self.ask(request, &blob) {
                return;
            }
        }
    }

    fn open(&mut self, blob: &ContentBlob) {
        self.set_state(&blob.digest, State::Opening);
        self.board.open_room = self.board.open_room.saturating_sub(1);
        self.tasks
            .spawn(landing::open(self.node.clone(), *blob, self.events.clone()));
    }

    /// Gives a request to an idle stream; false when there is none.
    fn ask(&mut self, request: Request, blob: &ContentBlob) -> bool {
        let Some(peer) = self.peers.get_mut(request.source) else {
            return false;
        };
        let Some(stream) = peer.idle.pop() else {
            return false;
        };
        let pulse = Arc::new(Pulse::default());
        pulse.beat(self.node.uptime());
        let job = Job {
            request,
            cut: blob.cut,
            whole: blob.list.is_none(),
            pulse: pulse.clone(),
        };
        let sent = peer
            .streams
            .get(stream)
            .is_some_and(|jobs| jobs.try_send(job).is_ok());
        self.board.ask(request);
        let flight = Flight { request, pulse };
        self.flights.insert((request.source, stream), flight);
        sent
    }

    /// A partial is open: pieces can land.
    pub(super) fn opened(&mut self, digest: &Digest, pieces: Bitmap) {
        let Some(landing) = self.node.landing(digest) else {
            return;
        };
        let Some(wanted) = self.wanted.get_mut(digest) else {
            self.node.close_landing(digest);
            return;
        };
        if wanted.state != State::Opening {
            return;
        }
        let cut = wanted.blob.cut;
        let bytes = |piece| cut.range(piece).end - cut.range(piece).start;
        let resumed: u64 = pieces.iter().map(bytes).sum();
        self.node.counters.resumed(resumed);
        let node = self.node.clone();
        let hash = landing::hash(node.clone(), landing.clone(), self.events.clone());
        let checkpoint = landing::checkpoint(node, landing, self.events.clone());
        wanted.keepers = vec![self.tasks.spawn(hash), self.tasks.spawn(checkpoint)];
        let full = pieces.is_full();
        if let Some(want) = self.board.want_mut(digest) {
            want.have = pieces;
            want.open = true;
        }
        self.set_state(digest, State::Open);
        if full {
            self.publish(digest);
        }
    }

    /// A partial can't be opened. When its piece list is damaged, that one is fetched again first.
    pub(super) fn not_opened(&mut self, digest: &Digest, error: &StoreError) {
        let wanted = self.wanted.get(digest);
        if let (StoreError::Corrupt { .. }, Some(list)) =
            (error, wanted.and_then(|wanted| wanted.blob.list))
        {
            self.examine(list);
        }
        self.disk_failed(digest, error);
    }

    /// A piece is written.
    pub(super) fn landed(&mut self, digest: &Digest, piece: u64) {
        let open = self
            .wanted
            .get(digest)
            .is_some_and(|wanted| wanted.state == State::Open);
        let Some(want) = self.board.want_mut(digest).filter(|_want| open) else {
            return;
        };
        want.have.insert(piece);
        if want.have.is_full() {
            self.publish(digest);
        }
    }

    fn publish(&mut self, digest: &Digest) {
        let Some(landing) = self.node.landing(digest) else {
            return;
        };
        if let Some(wanted) = self.wanted.get_mut(digest) {
            // What is to be hashed and synced still, publishing does.
            for keeper in wanted.keepers.drain(..) {
                keeper.abort();
            }
        }
        tracing::debug!(blob = %digest, "all pieces are there");
        self.set_state(digest, State::Publishing);
        let publish = landing::publish(self.node.clone(), landing, self.events.clone());
        self.tasks.spawn(publish);
    }

    /// A blob is published here: it is not wanted any more, and what waited for it can go on.
    pub(super) fn published(&mut self, digest: &Digest) {
        tracing::debug!(blob = %digest, "published");
        self.node.holdings.publish(*digest);
        self.board.wants.retain(|want| want.blob != *digest);
        self.forget(digest);
        self.copies_changed = true;
        let waiting = self.wanted.values();
        let listed = waiting.filter(|wanted| wanted.blob.list == Some(*digest));
        let listed: Vec<Digest> = listed.map(|wanted| wanted.blob.digest).collect();
        for blob in listed {
            self.judge_pause(&blob);
        }
        if self.wanted.is_empty() {
            // All is here: the store's own index is brought up to date.
            self.scan(Depth::Changes);
        }
    }

    /// The own disk failed a blob: it waits; all others go on.
    pub(super) fn disk_failed(&mut self, digest: &Digest, error: &StoreError) {
        self.close(digest);
        self.pause(digest, error.code(), sentence(error));
    }

    /// Lets a blob wait before it is tried again.
    fn pause(&mut self, digest: &Digest, code: &'static str, text: String) {
        let Some(wanted) = self.wanted.get_mut(digest) else {
            return;
        };
        tracing::warn!(blob = %digest, code, text, "a blob has to wait");
        wanted.retry_at = Some(Instant::now() + wanted.backoff.fail());
        wanted.trouble = Some((code, text));
        self.judge_pause(digest);
    }

    /// Asks a source no more for a blob, for a while.
    pub(super) fn ban(&mut self, request: &Request) {
        let Some(wanted) = self.wanted.get_mut(&request.blob) else {
            return;
        };
        wanted.banned_until = Some(Instant::now() + wanted.backoff.fail());
        if let Some(want) = self.board.want_mut(&request.blob) {
            want.banned.insert(request.source);
        }
    }

    /// Notes what went wrong with a blob, for people.
    pub(super) fn blame(&mut self, digest: &Digest, code: &'static str, text: String) {
        if let Some(wanted) = self.wanted.get_mut(digest) {
            wanted.trouble = Some((code, text));
        }
    }

    /// Lets blobs and sources go on whose time has come.
    pub(super) fn resume_due(&mut self) {
        let now = Instant::now();
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        let mut resumed = Vec::new();
        for (digest, wanted) in &mut self.wanted {
            if due(&mut wanted.banned_until)
                && let Some(want) = self.board.want_mut(digest)
            {
                want.banned.clear();
            }
            if due(&mut wanted.retry_at) {
                resumed.push(*digest);
            }
        }
        for digest in resumed {
            self.judge_pause(&digest);
        }
    }

    /// Closes partials that nobody can serve for a while: others, an import perhaps, may need them or their places.
    pub(super) fn close_stuck(&mut self) {
        let now = Instant::now();
        let patience = self.settings.timing.patience;
        let mut stuck = Vec::new();
        for want in &self.board.wants {
            let Some(wanted) = self.wanted.get_mut(&want.blob) else {
                continue;
            };
            let sources = self.board.sources.iter().enumerate();
            let served = sources
                .filter(|(_, source)| source.reachable)
                .any(|(at, _)| want.holds_any(at));
            if served || !want.asked.is_empty() || wanted.state != State::Open {
                wanted.stuck_since = None;
            } else if *wanted.stuck_since.get_or_insert(now) + patience <= now {
                stuck.push(want.blob);
            }
        }
        for digest in stuck {
            self.shelve(&digest);
        }
    }

    /// Makes durable what is in a partial, and closes it.
    fn shelve(&mut self, digest: &Digest) {
        if let Some(landing) = self.node.landing(digest) {
            let offload = self.node.offload;
            self.tasks.spawn(async move {
                let checkpoint = move || landing.partial.checkpoint();
                if let Err(error) = offload.run(checkpoint).await {
                    tracing::warn!(error = sentence(&error), "a partial is shelved as it was");
                }
            });
        }
        self.close(digest);
        self.judge_pause(digest);
    }

    /// Closes the partial of a blob; what is in it stays on disk.
    fn close(&mut self, digest: &Digest) {
        let Some(wanted) = self.wanted.get_mut(digest) else {
            return;
        };
        for keeper in wanted.keepers.drain(..) {
            keeper.abort();
        }
        if wanted.state != State::Waiting {
            self.board.open_room += 1;
        }
        wanted.state = State::Waiting;
        wanted.stuck_since = None;
        let pieced = wanted.blob.list.is_some();
        self.node.close_landing(digest);
        if pieced {
            self.node.holdings.lose(*digest);
        }
        if let Some(want) = self.board.want_mut(digest).filter(|_want| pieced) {
            want.open = false;
            want.have = Bitmap::new(want.have.len());
        }
    }

    /// Drops a blob that is not wanted any more.
    fn forget(&mut self, digest: &Digest) {
        let Some(mut wanted) = self.wanted.remove(digest) else {
            return;
        };
        for keeper in wanted.keepers.drain(..) {
            keeper.abort();
        }
        if wanted.state != State::Waiting {
            self.board.open_room += 1;
        }
        let landing = self.node.landing(digest);
        self.node.close_landing(digest);
        if let Some(landing) = landing.filter(|_| wanted.state == State::Open)
            && self.node.holdings.has(digest)
        {
            // Somebody else has published it, an import most likely.
            let offload = self.node.offload;
            self.tasks.spawn(async move {
                let discard = move || landing.partial.discard();
                if let Err(error) = offload.run(discard).await {
                    tracing::warn!(error = sentence(&error), "a needless partial stays");
                }
            });
        }
    }

    fn set_state(&mut self, digest: &Digest, state: State) {
        if let Some(wanted) = self.wanted.get_mut(digest) {
            wanted.state = state;
        }
        self.judge_pause(digest);
    }

    /// Decides whether the planner may ask for a blob.
    fn judge_pause(&mut self, digest: &Digest) {
        let Some(wanted) = self.wanted.get(digest) else {
            return;
        };
        let listed = wanted
            .blob
            .list
            .is_none_or(|list| self.node.holdings.has(&list));
        let busy = matches!(wanted.state, State::Opening | State::Publishing);
        let paused = wanted.retry_at.is_some() || busy || !listed;
        if let Some(want) = self.board.want_mut(digest) {
            want.paused = paused;
        }
    }
}

/// All referenced blobs once, in the order in which they should come, each with its first stripe.
///
/// The same at every node that has accepted the same records, whatever it holds already.
fn in_order(contents: &BTreeMap<Digest, Content>) -> Vec<(ContentBlob, u64)> {
    let mut ordered: Vec<&Content> = contents.values().collect();
    ordered.sort_by_key(|content| {
        (
            rank(content.kind),
            std::cmp::Reverse(content.order),
            content.id,
        )
    });
    let mut seen = BTreeSet::new();
    let mut stripe = 0;
    let mut blobs = Vec::new();
    for blob in ordered.into_iter().flat_map(|content| &content.blobs) {
        if !seen.insert(blob.digest) {
            continue;
        }
        blobs.push((*blob, stripe));
        if is_divided(blob) {
            stripe += blob.pieces().div_ceil(STRIPE);
        }
    }
    blobs
}

const fn is_divided(blob: &ContentBlob) -> bool {
    blob.list.is_some() || blob.cut.length >= DIVIDED_BYTES_MIN
}

/// Licenses and trust before bundles.
const fn rank(kind: ContentKind) -> u8 {
    match kind {
        ContentKind::Root | ContentKind::Revocations | ContentKind::Control => 0,
        ContentKind::License => 1,
        ContentKind::Bundle => 2,
    }
}

/// An error and its causes in one line.
pub(super) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
