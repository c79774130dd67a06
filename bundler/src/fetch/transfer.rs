//! Pulls blobs: each digest once, in the order of a bundle, many at once.
//!
//! How many: latency asks for many, whoever waits for the first of them for few. So there is a number that is always
//! under way, and beyond it further ones are begun only while little is outstanding.

use std::collections::BTreeMap;
use std::sync::Arc;

use bundle::Digest;
use bundle::index::Stage;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::task::JoinError;
use tokio::task::JoinSet;

use super::Arrivals;
use super::Events;
use super::FetchEvent;
use super::FetchedImage;
use super::Shared;
use super::arrivals::End;
use super::sources::Place;
use super::sources::Source;
use crate::cache::CacheError;
use crate::cache::Claim;
use crate::cache::blocking;
use crate::source::SourceError;
use crate::source::registry::Progress;

/// Blobs looked at in the cache at once; each may have to be hashed, which keeps one core busy.
const LOOKS_AT_ONCE: usize = 4;

/// Bytes outstanding up to which more blobs are begun: a good second of a fast line.
const OUTSTANDING_BYTES: u64 = 128 << 20;

/// One blob that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// The stage in which it is needed first.
    pub(super) stage: Stage,
    /// Every place that may have it, best first.
    pub(super) places: Vec<Place>,
}

/// What the cache has not.
#[derive(Debug)]
pub(super) struct Missing {
    blobs: Vec<Wanted>,
    blobs_present: usize,
    bytes_present: u64,
}

impl Missing {
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.blobs.iter().map(|blob| blob.digest)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blobs
            .iter()
            .map(|blob| blob.size)
            .fold(0, u64::saturating_add)
    }
}

/// Every blob of these images once, by stage and then by digest.
pub(super) fn wanted(images: &[FetchedImage]) -> Vec<Wanted> {
    let mut all: BTreeMap<Digest, Wanted> = BTreeMap::new();
    for image in images {
        for blob in &image.blobs {
            let wanted = all.entry(blob.digest).or_insert_with(|| Wanted {
                digest: blob.digest,
                size: blob.size,
                stage: blob.stage,
                places: Vec::new(),
            });
            wanted.stage = wanted.stage.min(blob.stage);
            for place in &image.places {
                if !wanted.places.contains(place) {
                    wanted.places.push(place.clone());
                }
            }
        }
    }
    let mut all: Vec<Wanted> = all.into_values().collect();
    all.sort_by_key(|blob| (blob.stage, blob.digest));
    all
}

/// Blobs to which two images give different sizes.
pub(super) fn conflicts(images: &[FetchedImage]) -> Vec<SourceError> {
    let mut sizes: BTreeMap<Digest, (u64, &FetchedImage)> = BTreeMap::new();
    let mut found = Vec::new();
    for image in images {
        for blob in &image.blobs {
            let (size, first) = *sizes.entry(blob.digest).or_insert((blob.size, image));
            if size != blob.size {
                found.push(SourceError::Document {
                    what: image.name.to_string(),
                    place: image
                        .places
                        .first()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    reason: format!(
                        "it says that {} is {} bytes, {} says {size}",
                        blob.digest, blob.size, first.name
                    ),
                });
            }
        }
    }
    found
}

impl Shared {
    /// Finds what the cache has not, hashing what its records do not vouch for.
    pub(super) async fn missing(
        self: Arc<Self>,
        wanted: Vec<Wanted>,
    ) -> Result<Missing, CacheError> {
        let looks = stream::iter(wanted.into_iter().map(|blob| {
            let cache = self.cache.clone();
            blocking(move || Ok((cache.get(&blob.digest)?, blob)))
        }));
        let mut missing = Missing {
            blobs: Vec::new(),
            blobs_present: 0,
            bytes_present: 0,
        };
        for look in looks.buffered(LOOKS_AT_ONCE).collect::<Vec<_>>().await {
            match look? {
                (Some(present), _blob) => {
                    missing.blobs_present += 1;
                    missing.bytes_present += present.size;
                }
                (None, blob) => missing.blobs.push(blob),
            }
        }
        Ok(missing)
    }

    /// Pulls all of it; gives every problem. After the first one no further blob is begun.
    pub(super) async fn fetch(
        self: Arc<Self>,
        missing: Missing,
        arrivals: Arc<Arrivals>,
    ) -> Vec<SourceError> {
        let end = End(&arrivals);
        self.events.send(FetchEvent::Planned {
            blobs: missing.blobs.len(),
            bytes: missing.bytes(),
            blobs_present: missing.blobs_present,
            bytes_present: missing.bytes_present,
        });
        let mut problems = Vec::new();
        let mut under_way = JoinSet::new();
        let mut outstanding = 0;
        let mut blobs = missing.blobs.into_iter();
        loop {
            while problems.is_empty() && self.has_room(under_way.len(), outstanding) {
                let Some(blob) = blobs.next() else { break };
                outstanding += blob.size;
                let shared = Arc::clone(&self);
                under_way.spawn(async move {
                    let fetched = shared.fetch_blob(&blob, &shared.events).await;
                    (blob, fetched)
                });
            }
            match under_way.join_next().await {
                None => break,
                Some(Ok((blob, fetched))) => {
                    outstanding -= blob.size;
                    match fetched {
                        Ok(()) => arrivals.arrived(&blob.digest),
                        Err(error) => problems.push(error),
                    }
                }
                Some(Err(error)) => problems.push(ended(error).into()),
            }
        }
        if problems.is_empty() {
            self.events.send(FetchEvent::Finished);
        }
        drop(end);
        problems
    }

    fn has_room(&self, under_way: usize, outstanding: u64) -> bool {
        let options = &self.options;
        under_way < options.layers_at_once.get()
            || (under_way < options.blobs_at_once() && outstanding < OUTSTANDING_BYTES)
    }

    /// Pulls one blob from the first place that gives it.
    pub(super) async fn fetch_blob(
        &self,
        blob: &Wanted,
        events: &Events,
    ) -> Result<(), SourceError> {
        let mut failure = None;
        for place in &blob.places {
            match self.fetch_blob_at(blob, place, events).await {
                Ok(()) => {
                    events.send(FetchEvent::Done {
                        digest: blob.digest,
                        bytes: blob.size,
                    });
                    return Ok(());
                }
                Err(error @ SourceError::Cache(_)) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| SourceError::NotFound {
            what: format!("blob {}", blob.digest),
            place: "any registry".to_owned(),
        }))
    }

    async fn fetch_blob_at(
        &self,
        blob: &Wanted,
        place: &Place,
        events: &Events,
    ) -> Result<(), SourceError> {
        let source = self.sources.open(place).await?;
        let (cache, digest, size) = (self.cache.clone(), blob.digest, blob.size);
        let counter = Counter {
            events: events.clone(),
            digest,
        };
        match source {
            Source::Layout(layout) => {
                let copied = tokio::task::spawn_blocking(move || {
                    layout.copy_blob(&cache, &digest, size, &|bytes| counter.received(bytes))
                });
                let copied = copied.await.map_err(ended)?;
                copied.map(|_blob| ())
            }
            Source::Registry(client, repository) => {
                let partial = match blocking(move || cache.claim(&digest, size)).await? {
                    Claim::Present(_blob) => return Ok(()),
                    Claim::Mine(partial) => partial,
                };
                counter.received(partial.length());
                client
                    .pull_blob(&repository, &digest, partial, &counter)
                    .await
                    .map(|_blob| ())
            }
        }
    }
}

/// The error of a task that was given up, or ended by a panic.
pub(super) fn ended(error: JoinError) -> CacheError {
    CacheError::io("fill", "the cache".as_ref())(std::io::Error::other(error))
}

/// Counts what comes for one blob.
struct Counter {
    events: Events,
    digest: Digest,
}

impl Progress for Counter {
    fn received(&self, bytes: u64) {
        if bytes > 0 {
            self.events.send(FetchEvent::Received {
                digest: self.digest,
                bytes,
            });
        }
    }

    fn lost(&self, bytes: u64) {
        if bytes > 0 {
            self.events.send(FetchEvent::Lost {
                digest: self.digest,
                bytes,
            });
        }
    }
}
