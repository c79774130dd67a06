//! Fetches images whole: first everything that says what they are, then the blobs, many at once.
//!
//! 1. [`Fetcher::resolve`] pulls each image's index, manifests and config, chooses the platforms, and thereby knows
//!    every blob and its size. All problems of all images are found before the first layer is asked for.
//! 2. [`Fetcher::begin`] pulls what the cache has not yet: each digest once, in the order in which a bundle carries
//!    them, so that the bundle can be written meanwhile: [`Fetching::arrivals`] tells what is there.
//!
//! An index stays as it is, byte for byte, with only the chosen platforms' children beside it (a sparse index): its
//! digest still resolves. The result depends on the requests and the sources only, never on which answer came first.

mod arrivals;
mod error;
mod event;
mod resolve;
mod sources;
mod transfer;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bundle::Digest;
use bundle::index::Stage;
use bundle::name::ImageName;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub use self::arrivals::Arrivals;
pub use self::error::FetchError;
pub use self::event::Events;
pub use self::event::FetchEvent;
use self::sources::Place;
use self::sources::Sources;
use crate::cache::Cache;
use crate::cache::CacheError;
use crate::source::ImageRequest;
use crate::source::SourceError;
use crate::source::registry::RegistryOptions;

/// How much is done at once, and how registries are spoken to.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Images that are looked up at once.
    pub images_at_once: NonZeroUsize,
    /// Blobs that are always under way at once. Of small ones there are more, up to the product of both numbers.
    pub layers_at_once: NonZeroUsize,
    /// How registries are spoken to.
    pub registry: RegistryOptions,
    /// For each registry the ones to ask before it, in this order.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// Images and layers at once by default: what the best of the mirroring tools measured as their best, and what public
/// registries put up with.
const AT_ONCE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            images_at_once: AT_ONCE,
            layers_at_once: AT_ONCE,
            registry: RegistryOptions::default(),
            mirrors: BTreeMap::new(),
        }
    }
}

/// One image with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedImage {
    /// The name that it has at the site.
    pub name: ImageName,
    /// What the name means: the digest of an index or of a manifest.
    pub digest: Digest,
    /// The media type of that.
    pub media_type: String,
    /// Every blob that belongs to it, itself included, each once: documents as they are found, then layers.
    pub blobs: Vec<BlobDescriptor>,
    /// Where it came from, best place first.
    places: Vec<Place>,
}

/// One blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobDescriptor {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
    /// When a site needs it.
    pub stage: Stage,
}

/// Fetches into one cache.
#[derive(Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
    runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    cache: Cache,
    options: FetchOptions,
    sources: Sources,
    events: Events,
}

/// A fetch under way; it is given up when this is dropped, and what came is kept.
#[derive(Debug)]
pub struct Fetching<'a> {
    runtime: &'a Runtime,
    arrivals: Arc<Arrivals>,
    task: JoinHandle<Vec<SourceError>>,
}

/// Fetches images whole into `cache`: [`Fetcher::resolve`] and [`Fetcher::begin`] in one.
pub fn fetch_images(
    requests: &[ImageRequest],
    cache: &Cache,
    options: FetchOptions,
    events: Events,
) -> Result<Vec<FetchedImage>, FetchError> {
    let fetcher = Fetcher::new(cache, options, events)?;
    let images = fetcher.resolve(requests)?;
    fetcher.begin(&images)?.finish()?;
    Ok(images)
}

impl Fetcher {
    /// Makes a fetcher with threads of its own. It must not be used from inside an async runtime.
    pub fn new(cache: &Cache, options: FetchOptions, events: Events) -> Result<Self, FetchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("fetch")
            .build()
            .map_err(no_threads)?;
        let shared = Shared {
            cache: cache.clone(),
            sources: Sources::new(&options),
            options,
            events,
        };
        Ok(Self {
            shared: Arc::new(shared),
            runtime,
        })
    }

    /// Finds out what the images are made of. Gives them in the order of the requests, or every problem.
    pub fn resolve(&self, requests: &[ImageRequest]) -> Result<Vec<FetchedImage>, FetchError> {
        let all = stream::iter(requests.iter().cloned().map(|request| {
            let shared = Arc::clone(&self.shared);
            async move { shared.resolve(request).await }
        }));
        let all = all
            .buffered(self.shared.options.images_at_once.get())
            .collect::<Vec<_>>();
        let (images, problems) = split(self.runtime.block_on(all));
        FetchError::check(problems)?;
        let conflicts = transfer::conflicts(&images);
        FetchError::check(conflicts)?;
        Ok(images)
    }

    /// Bytes that [`Fetcher::begin`] has still to pull for these images, at most.
    pub fn bytes_missing(&self, images: &[FetchedImage]) -> Result<u64, FetchError> {
        let wanted = transfer::wanted(images);
        Ok(self
            .runtime
            .block_on(Arc::clone(&self.shared).missing(wanted))?
            .bytes())
    }

    /// Begins to pull every blob of these images that the cache has not, by stage and then by digest.
    pub fn begin(&self, images: &[FetchedImage]) -> Result<Fetching<'_>, FetchError> {
        let wanted = transfer::wanted(images);
        let missing = self
            .runtime
            .block_on(Arc::clone(&self.shared).missing(wanted))?;
        let have = self.shared.cache.free_bytes()?;
        if missing.bytes() > have {
            return Err(self.shared.cache.full(missing.bytes(), have).into());
        }
        let arrivals = Arc::new(Arrivals::of(missing.digests()));
        let pulling = Arc::clone(&self.shared).fetch(missing, Arc::clone(&arrivals));
        Ok(Fetching {
            runtime: &self.runtime,
            arrivals,
            task: self.runtime.spawn(pulling),
        })
    }
}

impl Fetching<'_> {
    /// What is there, for whoever uses the blobs meanwhile.
    pub fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    /// Waits for the end. After a failure no further blob is begun, and those under way are finished.
    pub fn finish(mut self) -> Result<(), FetchError> {
        let problems = self.runtime.block_on(&mut self.task);
        let problems = problems.map_err(transfer::ended)?;
        FetchError::check(problems)
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FetchOptions {
    /// Blobs under way at once.
    fn blobs_at_once(&self) -> usize {
        self.images_at_once
            .saturating_mul(self.layers_at_once)
            .get()
    }
}

fn split<T>(results: Vec<Result<T, SourceError>>) -> (Vec<T>, Vec<SourceError>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(error) => bad.push(error),
        }
    }
    (good, bad)
}

fn no_threads(error: io::Error) -> CacheError {
    CacheError::io("start threads for", "the cache".as_ref())(error)
}

#[cfg(test)]
mod tests;
