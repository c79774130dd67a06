//! Fetching from registries that behave, and from registries that do not.

mod access;
mod documents;
mod hostile;
mod transfer;

use std::fs;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bundle::Digest;
use bundle::fault::Fault as _;
use bundle::index::Stage;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

use self::hostile::Hostile;
use super::Events;
use super::FetchError;
use super::FetchEvent;
use super::FetchOptions;
use super::FetchedImage;
use super::fetch_images;
use crate::cache::Cache;
use crate::source::ImageRequest;
use crate::source::Origin;
use crate::source::registry::CredentialStore;
use crate::source::registry::Pause;
use crate::source::registry::RegistryOptions;

/// A vendor's machine: a cache, options for some registries, and what happened.
struct Bench {
    directory: TempDir,
    cache: Cache,
    options: FetchOptions,
    waits: Arc<Waits>,
    events: Arc<Mutex<Vec<FetchEvent>>>,
}

/// Remembers waits in place of waiting.
#[derive(Debug, Default)]
struct Waits(Mutex<Vec<Duration>>);

impl Pause for Waits {
    fn pause(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.0.lock().unwrap().push(wait);
        Box::pin(async {})
    }
}

impl Bench {
    /// A machine that may speak to these registries without TLS.
    fn new(registries: &[&Hostile]) -> Self {
        let directory = TempDir::new().unwrap();
        let waits = Arc::new(Waits::default());
        let options = FetchOptions {
            registry: RegistryOptions {
                insecure: registries
                    .iter()
                    .map(|registry| registry.host.clone())
                    .collect(),
                credentials: CredentialStore::default(),
                tries_max: 3,
                use_proxies: false,
                pause: waits.clone(),
                ..RegistryOptions::default()
            },
            ..FetchOptions::default()
        };
        Self {
            cache: Cache::open(&directory.path().join("cache")).unwrap(),
            directory,
            options,
            waits,
            events: Arc::default(),
        }
    }

    fn with_login(mut self, host: &str, auth: &str) -> Self {
        let file = self.directory.path().join("config.json");
        fs::write(&file, format!(r#"{{"auths": {{"{host}": {auth}}}}}"#)).unwrap();
        self.options.registry.credentials.files = vec![file];
        self
    }

    fn fetch(&self, requests: &[ImageRequest]) -> Result<Vec<FetchedImage>, FetchError> {
        let events = Arc::clone(&self.events);
        let events = Events::to(move |event| events.lock().unwrap().push(event));
        fetch_images(requests, &self.cache, self.options.clone(), events)
    }

    /// Fetches `shop/web:1` of a registry for linux/amd64.
    fn fetch_web(&self, registry: &Hostile) -> Result<FetchedImage, FetchError> {
        self.fetch(&[web(registry)])
            .map(|mut images| images.remove(0))
    }

    /// The code of the failure to fetch `shop/web:1`.
    fn code(&self, registry: &Hostile) -> &'static str {
        self.fetch_web(registry).unwrap_err().code()
    }

    fn has(&self, bytes: &[u8]) -> bool {
        let found = self.cache.get(&Digest::of(bytes)).unwrap();
        found.is_some_and(|blob| blob.size == u64::try_from(bytes.len()).unwrap())
    }

    fn partials(&self) -> usize {
        fs::read_dir(self.directory.path().join("cache/partial"))
            .unwrap()
            .count()
    }

    fn waits(&self) -> Vec<u64> {
        self.waits
            .0
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_secs)
            .collect()
    }
}

fn request(registry: &Hostile, rest: &str) -> ImageRequest {
    ImageRequest {
        name: format!("{}/{rest}", registry.host).parse().unwrap(),
        digest: None,
        from: Origin::Registry,
        platforms: vec!["linux/amd64".parse().unwrap()],
        stage: Stage::Application,
    }
}

fn web(registry: &Hostile) -> ImageRequest {
    request(registry, "shop/web:1")
}

/// Bytes that no two blobs of a test share.
fn bytes(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..count).map(step).collect()
}
