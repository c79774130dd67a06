//! What is known of one peer, and the ends of its streams.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use api::sync::Boot;
use api::sync::Change;
use api::sync::Changes;
use api::sync::Inventory;
use api::sync::Link;
use api::sync::NodeName;
use bundle::Digest;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::contents::Content;
use crate::holdings::summary_digest;
use crate::pieces;
use crate::replicate::observe::Signals;
use crate::replicate::plan::Held;
use crate::replicate::transfer::Job;

/// Unfinished blobs of a peer that are remembered.
const PARTIALS_MAX: usize = 4096;

/// Runs of pieces that are remembered of one of them.
const RUNS_MAX: usize = 65_536;

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    pub(crate) link: Link,
    pub(crate) answered: Option<Instant>,
    /// The boot in which it said what follows.
    boot: Option<Boot>,
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) records: BTreeSet<Digest>,
    partials: BTreeMap<Digest, Vec<(u64, u64)>>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) streams: Vec<mpsc::Sender<Job>>,
    /// Streams that wait for a request.
    pub(crate) idle: Vec<usize>,
    /// Records are being fetched from it.
    pub(crate) merging: bool,
    /// Not to be asked for records before this.
    pub(crate) merge_after: Option<Instant>,
    pub(crate) merge_backoff: Backoff,
    /// Those who watch it and fetch from it.
    pub(crate) tasks: Vec<AbortHandle>,
    /// It is no member any more. Its place stays, so that all others keep theirs.
    is_gone: bool,
}

impl Peer {
    pub(crate) fn new(name: NodeName, merge_backoff: Backoff) -> Self {
        Self {
            name,
            link: Link::Down("not reached since the start".to_owned()),
            answered: None,
            boot: None,
            blobs: BTreeSet::new(),
            records: BTreeSet::new(),
            partials: BTreeMap::new(),
            signals: Arc::default(),
            streams: Vec::new(),
            idle: Vec::new(),
            merging: false,
            merge_after: None,
            merge_backoff,
            tasks: Vec::new(),
            is_gone: false,
        }
    }

    /// Whether it answers.
    pub(crate) fn is_up(&self) -> bool {
        self.link == Link::Up && !self.is_gone
    }

    /// Whether it was taken out of the members.
    pub(crate) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Takes it out of the members: nothing that it said counts, and nobody works for it.
    pub(crate) fn expel(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.is_gone = true;
        self.link = Link::Down("not a member any more".to_owned());
        self.blobs.clear();
        self.records.clear();
        self.partials.clear();
        self.streams.clear();
        self.idle.clear();
    }

    /// Takes everything that it holds. What it said before counts for nothing.
    pub(crate) fn learn(&mut self, inventory: Inventory) {
        self.link = Link::Up;
        self.answered = Some(Instant::now());
        self.boot = Some(inventory.stamp.boot);
        self.blobs = inventory.blobs.into_iter().collect();
        self.records = inventory.records.into_iter().collect();
        let partials = inventory.partials.into_iter().take(PARTIALS_MAX);
        self.partials = partials
            .map(|partial| {
                (
                    partial.blob,
                    partial.runs.into_iter().take(RUNS_MAX).collect(),
                )
            })
            .collect();
    }

    /// Takes what changed; says whether the picture is now what the peer itself sees.
    pub(crate) fn follow(&mut self, changes: &Changes) -> bool {
        self.link = Link::Up;
        self.answered = Some(Instant::now());
        let Some(news) = changes
            .changes
            .as_ref()
            .filter(|_| self.boot == Some(changes.stamp.boot))
        else {
            return true;
        };
        for change in news {
            self.apply(change);
        }
        // More changes may follow; only at the end of the log the digest is the one of this picture.
        !news.is_empty() || changes.digest == summary_digest(&self.blobs, &self.records)
    }

    /// Notes that it can't be reached.
    pub(crate) fn lose(&mut self, why: String) {
        self.link = Link::Down(why);
    }

    /// What it holds of a blob.
    pub(crate) fn held(&self, blob: &Digest, piece_count: u64) -> Held {
        if self.blobs.contains(blob) {
            return Held::All;
        }
        let runs = self.partials.get(blob);
        runs.map_or(Held::Nothing, |runs| {
            Held::Some(pieces::from_runs(piece_count, runs))
        })
    }

    /// Blobs of a content that it has not published, and their bytes.
    pub(crate) fn lacks(&self, content: &Content) -> (u64, u64) {
        lacks(&self.blobs, content)
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Published(blob) => {
                self.partials.remove(blob);
                self.blobs.insert(*blob);
            }
            Change::Pieces { blob, first, count } => {
                if self.partials.len() < PARTIALS_MAX || self.partials.contains_key(blob) {
                    let runs = self.partials.entry(*blob).or_default();
                    add_run(runs, (*first, *count));
                }
            }
            Change::Record(record) => {
                self.records.insert(*record);
            }
            Change::Gone(digest) => {
                self.partials.remove(digest);
                self.blobs.remove(digest);
                self.records.remove(digest);
            }
        }
    }
}

/// Blobs of a content that are not among `blobs`, and their bytes.
pub(crate) fn lacks(blobs: &BTreeSet<Digest>, content: &Content) -> (u64, u64) {
    let missing = content
        .blobs
        .iter()
        .filter(|blob| !blobs.contains(&blob.digest));
    missing.fold((0, 0), |(count, bytes), blob| {
        (count + 1, bytes + blob.cut.length)
    })
}

/// Adds a run, at the end of the last one when it touches it.
fn add_run(runs: &mut Vec<(u64, u64)>, (first, count): (u64, u64)) {
    if let Some(last) = runs.last_mut()
        && last.0.checked_add(last.1) == Some(first)
    {
        last.1 = last.1.saturating_add(count);
    } else if runs.len() < RUNS_MAX {
        runs.push((first, count));
    }
}
