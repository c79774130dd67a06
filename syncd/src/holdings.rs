//! What this node can give to others, and the log of how that changed. Every answer to a peer is read from here.
//!
//! Only what is published, or verified piece by piece, ever gets in: whoever reads this may promise it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use api::sync::Boot;
use api::sync::Change;
use api::sync::Changes;
use api::sync::Have;
use api::sync::Inventory;
use api::sync::NodeName;
use api::sync::PROTOCOL;
use api::sync::Pieces;
use api::sync::Stamp;
use api::sync::Summary;
use bundle::Digest;
use bundle::Hasher;
use store::Bitmap;
use tokio::sync::Notify;

use crate::pieces;

/// Changes that are remembered: all pieces of 64 GiB. Who is further behind reads the inventory.
const LOG_CHANGES_MAX: usize = 16_384;

/// Changes in one answer: about 400 KiB of JSON.
const ANSWER_CHANGES_MAX: usize = 4096;

/// The shared state; cheap to lock, never locked across an await.
#[derive(Debug)]
pub(crate) struct Holdings {
    node: NodeName,
    boot: Boot,
    inner: Mutex<Inner>,
    /// Wakes those who wait for a change, in the order in which they came (a `watch` would draw lots).
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: BTreeSet<Digest>,
    records: BTreeSet<Digest>,
    partials: BTreeMap<Digest, Bitmap>,
    log: VecDeque<Change>,
    /// Number of the last change; the log holds the ones before it.
    at: u64,
    summary: Option<Digest>,
}

impl Holdings {
    pub(crate) fn new(node: NodeName, boot: Boot) -> Self {
        Self {
            node,
            boot,
            inner: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Takes a blob as published; it is durable. Says whether that is news.
    pub(crate) fn publish(&self, blob: Digest) -> bool {
        self.change(|inner| {
            inner.partials.remove(&blob);
            inner.blobs.insert(blob).then_some(Change::Published(blob))
        })
    }

    /// Takes one verified piece of a blob with `pieces` pieces. Says whether that is news.
    pub(crate) fn verify_piece(&self, blob: Digest, pieces: u64, piece: u64) -> bool {
        self.change(|inner| {
            let empty = || Bitmap::new(pieces);
            let set = inner.partials.entry(blob).or_insert_with(empty);
            set.insert(piece).then_some(Change::Pieces {
                blob,
                first: piece,
                count: 1,
            })
        })
    }

    /// Takes a record as accepted; it is durable. Says whether that is news.
    pub(crate) fn accept(&self, record: Digest) -> bool {
        self.change(|inner| {
            inner
                .records
                .insert(record)
                .then_some(Change::Record(record))
        })
    }

    /// Takes a blob, a partial or a record away. Says whether it was there.
    pub(crate) fn lose(&self, gone: Digest) -> bool {
        self.change(|inner| {
            let partial = inner.partials.remove(&gone).is_some();
            let published = inner.blobs.remove(&gone);
            let record = inner.records.remove(&gone);
            (partial || published || record).then_some(Change::Gone(gone))
        })
    }

    /// Whether a blob is published.
    pub(crate) fn has(&self, blob: &Digest) -> bool {
        self.lock().blobs.contains(blob)
    }

    /// Published blobs.
    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        self.lock().blobs.clone()
    }

    /// Accepted records.
    pub(crate) fn records(&self) -> BTreeSet<Digest> {
        self.lock().records.clone()
    }

    /// The verified pieces of an unfinished blob.
    pub(crate) fn partial(&self, blob: &Digest) -> Option<Bitmap> {
        self.lock().partials.get(blob).cloned()
    }

    /// `GET /v1/summary`.
    pub(crate) fn summary(&self) -> Summary {
        let mut inner = self.lock();
        Summary {
            stamp: self.stamp(&inner),
            digest: inner.summary(),
        }
    }

    /// `GET /v1/inventory`.
    pub(crate) fn inventory(&self) -> Inventory {
        let inner = self.lock();
        let partials = inner.partials.iter();
        Inventory {
            stamp: self.stamp(&inner),
            blobs: inner.blobs.iter().copied().collect(),
            partials: partials
                .map(|(blob, set)| Pieces {
                    blob: *blob,
                    runs: pieces::to_runs(set),
                })
                .collect(),
            records: inner.records.iter().copied().collect(),
        }
    }

    /// `GET /v1/have/{hex}`.
    pub(crate) fn have(&self, blob: Digest) -> Have {
        let inner = self.lock();
        let runs = inner.partials.get(&blob).map(pieces::to_runs);
        Have {
            stamp: self.stamp(&inner),
            published: inner.blobs.contains(&blob),
            pieces: Pieces {
                blob,
                runs: runs.unwrap_or_default(),
            },
        }
    }

    /// `GET /v1/have?…`: the changes after number `after` of `boot`, as soon as there are any, or after `wait`.
    pub(crate) async fn changes(&self, boot: Boot, after: u64, wait: Duration) -> Changes {
        if boot == self.boot {
            // Both outcomes are answered the same way, from the log.
            let _in_time = tokio::time::timeout(wait, self.news(after)).await.is_ok();
        }
        let mut inner = self.lock();
        let changes = (boot == self.boot).then(|| inner.since(after)).flatten();
        let digest = inner.summary();
        let mut stamp = self.stamp(&inner);
        if let Some(changes) = &changes {
            let count = u64::try_from(changes.len()).unwrap_or(0);
            stamp.at = after.saturating_add(count);
        }
        Changes {
            stamp,
            digest,
            changes,
        }
    }

    /// Waits until the last change is another one than number `after`.
    async fn news(&self, after: u64) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.lock().at != after {
                return;
            }
            changed.await;
        }
    }

    fn stamp(&self, inner: &Inner) -> Stamp {
        Stamp {
            protocol: PROTOCOL,
            node: self.node.clone(),
            boot: self.boot,
            at: inner.at,
        }
    }

    fn change(&self, act: impl FnOnce(&mut Inner) -> Option<Change>) -> bool {
        let mut inner = self.lock();
        let Some(change) = act(&mut inner) else {
            return false;
        };
        inner.log.push_back(change);
        if inner.log.len() > LOG_CHANGES_MAX {
            inner.log.pop_front();
        }
        inner.at += 1;
        inner.summary = None;
        drop(inner);
        self.changed.notify_waiters();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The changes after number `after`; `None` when the log does not reach back that far.
    fn since(&self, after: u64) -> Option<Vec<Change>> {
        let behind = usize::try_from(self.at.checked_sub(after)?).ok()?;
        let skip = self.log.len().checked_sub(behind)?;
        let news = self.log.iter().skip(skip).take(ANSWER_CHANGES_MAX);
        Some(news.cloned().collect())
    }

    fn summary(&mut self) -> Digest {
        if let Some(digest) = self.summary {
            return digest;
        }
        let digest = summary_digest(&self.blobs, &self.records);
        self.summary = Some(digest);
        digest
    }
}

/// The digest of everything a node holds: SHA-256 over the count of blobs, the blobs and the records, all sorted.
pub(crate) fn summary_digest(blobs: &BTreeSet<Digest>, records: &BTreeSet<Digest>) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&u64::try_from(blobs.len()).unwrap_or(u64::MAX).to_be_bytes());
    for digest in blobs.iter().chain(records) {
        hasher.update(digest.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Boot = Boot::new(7);

    fn holdings() -> Holdings {
        Holdings::new("m1".parse().unwrap(), BOOT)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_at_once_to_who_waits_for_it() {
        let holdings = holdings();
        let blob = Digest::of(b"1");
        let (changes, ()) =
            tokio::join!(holdings.changes(BOOT, 0, Duration::from_secs(10)), async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(holdings.verify_piece(blob, 3, 1));
                assert!(!holdings.verify_piece(blob, 3, 1));
            });
        let piece = Change::Pieces {
            blob,
            first: 1,
            count: 1,
        };
        assert_eq!(changes.changes, Some(vec![piece]));
        assert_eq!(changes.stamp.at, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_change_the_answer_is_a_heartbeat() {
        let start = tokio::time::Instant::now();
        let changes = holdings().changes(BOOT, 0, Duration::from_secs(10)).await;
        assert_eq!(changes.changes, Some(Vec::new()));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn another_boot_or_a_lost_place_means_read_the_inventory() {
        let holdings = holdings();
        let wait = Duration::from_secs(10);
        assert_eq!(holdings.changes(Boot::new(8), 0, wait).await.changes, None);
        for number in 0..=LOG_CHANGES_MAX {
            holdings.publish(Digest::of(&number.to_be_bytes()));
        }
        assert_eq!(holdings.changes(BOOT, 0, wait).await.changes, None);
        assert_eq!(holdings.changes(BOOT, u64::MAX, wait).await.changes, None);
        let some = holdings.changes(BOOT, 1, wait).await;
        assert_eq!(some.changes.unwrap().len(), ANSWER_CHANGES_MAX);
        assert_eq!(
            some.stamp.at,
            1 + u64::try_from(ANSWER_CHANGES_MAX).unwrap()
        );
    }

    #[test]
    fn equal_contents_have_equal_summaries_whatever_the_order() {
        let digests: Vec<Digest> = (0_u8..4).map(|number| Digest::of(&[number])).collect();
        let (first, second) = (holdings(), holdings());
        for digest in &digests {
            first.publish(*digest);
        }
        for digest in digests.iter().rev() {
            second.publish(*digest);
        }
        assert_eq!(first.summary().digest, second.summary().digest);
        second.lose(digests[0]);
        assert_ne!(first.summary().digest, second.summary().digest);
        second.accept(digests[0]);
        assert_ne!(first.summary().digest, second.summary().digest);
    }

    #[test]
    fn a_published_blob_is_no_partial_any_more() {
        let holdings = holdings();
        let blob = Digest::of(b"1");
        holdings.verify_piece(blob, 2, 0);
        holdings.publish(blob);
        assert!(holdings.have(blob).published);
        assert_eq!(holdings.inventory().partials, []);
    }
}
