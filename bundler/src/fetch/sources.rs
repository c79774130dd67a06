//! The sources of one run, each opened once: registries by host, layouts by directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bundle::Digest;
use bundle::name::ImageName;
use tokio::sync::Mutex;

use super::FetchOptions;
use crate::cache::blocking;
use crate::source::ImageRequest;
use crate::source::Origin;
use crate::source::SourceError;
use crate::source::layout::Layout;
use crate::source::registry::Client;
use crate::source::registry::RegistryOptions;

/// Where an image may be had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A repository of a registry.
    Registry {
        /// The registry's host, as names have it.
        host: String,
        /// The repository.
        repository: String,
    },
    /// A layout directory.
    Layout(PathBuf),
}

/// A source that is ready to be asked.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A repository of a registry.
    Registry(Arc<Client>, String),
    /// A layout directory.
    Layout(Arc<Layout>),
}

/// A document as its source gave it.
#[derive(Clone, Debug)]
pub(super) struct RawDocument {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// What whoever named it calls it.
    pub(super) named: Option<String>,
}

#[derive(Debug)]
pub(super) struct Sources {
    options: Arc<RegistryOptions>,
    mirrors: BTreeMap<String, Vec<String>>,
    // Locked while a registry is opened, which looks up a name and may run a helper: once each, not 25 times.
    registries: Mutex<BTreeMap<String, Arc<Client>>>,
    layouts: Mutex<BTreeMap<PathBuf, Arc<Layout>>>,
}

impl Sources {
    pub(super) fn new(options: &FetchOptions) -> Self {
        let mut registry = options.registry.clone();
        registry
            .listed
            .extend(options.mirrors.values().flatten().cloned());
        Self {
            options: Arc::new(registry),
            mirrors: options.mirrors.clone(),
            registries: Mutex::default(),
            layouts: Mutex::default(),
        }
    }

    /// Every place to ask for an image, in order.
    pub(super) fn places(&self, request: &ImageRequest) -> Vec<Place> {
        let host = request.name.registry();
        match &request.from {
            Origin::Layout(path) => vec![Place::Layout(path.clone())],
            Origin::Registry => {
                let mirrors = self
                    .mirrors
                    .get(host)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let hosts = mirrors.iter().map(String::as_str).chain([host]);
                hosts
                    .map(|host| Place::of_registry(host, &request.name))
                    .collect()
            }
        }
    }

    /// Opens the source at a place, or gives the one that is open.
    pub(super) async fn open(&self, place: &Place) -> Result<Source, SourceError> {
        match place {
            Place::Registry { host, repository } => {
                let mut open = self.registries.lock().await;
                if let Some(client) = open.get(host) {
                    return Ok(Source::Registry(Arc::clone(client), repository.clone()));
                }
                let client = Arc::new(Client::new(host, Arc::clone(&self.options)).await?);
                open.insert(host.clone(), Arc::clone(&client));
                Ok(Source::Registry(client, repository.clone()))
            }
            Place::Layout(path) => {
                let mut open = self.layouts.lock().await;
                if let Some(layout) = open.get(path) {
                    return Ok(Source::Layout(Arc::clone(layout)));
                }
                let layout = Arc::new(Layout::open(path)?);
                open.insert(path.clone(), Arc::clone(&layout));
                Ok(Source::Layout(layout))
            }
        }
    }
}

impl Place {
    fn of_registry(host: &str, name: &ImageName) -> Self {
        Self::Registry {
            host: host.to_owned(),
            repository: name.repository().to_owned(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry { host, .. } => out.write_str(host),
            Self::Layout(path) => write!(out, "{}", path.display()),
        }
    }
}

impl Source {
    /// Gets what the name of an image means.
    pub(super) async fn top(
        &self,
        name: &ImageName,
        digest: Option<&Digest>,
    ) -> Result<RawDocument, SourceError> {
        match self {
            Self::Registry(client, repository) => {
                let by_digest = digest.map(ToString::to_string);
                let reference = by_digest.as_deref().unwrap_or_else(|| name.tag());
                let pulled = client
                    .pull_document(repository, reference, name.as_str())
                    .await?;
                Ok(RawDocument {
                    bytes: pulled.bytes.to_vec(),
                    named: pulled.content_type,
                })
            }
            Self::Layout(layout) => {
                let found = layout.find(name, digest)?;
                let mut document = self
                    .document(&found.digest, found.size, name.as_str())
                    .await?;
                document.named = Some(found.media_type);
                Ok(document)
            }
        }
    }

    /// Gets a document by its digest; size and digest are right.
    pub(super) async fn document(
        &self,
        digest: &Digest,
        size: u64,
        what: &str,
    ) -> Result<RawDocument, SourceError> {
        let (bytes, named) = match self {
            Self::Registry(client, repository) => {
                let pulled = client
                    .pull_document(repository, &digest.to_string(), what)
                    .await?;
                (pulled.bytes.to_vec(), pulled.content_type)
            }
            Self::Layout(layout) => (layout.read_document(digest)?, None),
        };
        self.check(&bytes, digest, size, what)?;
        Ok(RawDocument { bytes, named })
    }

    fn check(
        &self,
        bytes: &[u8],
        expected: &Digest,
        size: u64,
        what: &str,
    ) -> Result<(), SourceError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length != size {
            return Err(SourceError::Size {
                what: what.to_owned(),
                place: self.place(),
                expected: size,
                actual: length,
            });
        }
        let actual = Digest::of(bytes);
        if actual != *expected {
            return Err(SourceError::Digest {
                what: what.to_owned(),
                place: self.place(),
                expected: *expected,
                actual,
            });
        }
        Ok(())
    }

    /// What messages call it.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Registry(client, _repository) => client.place().to_owned(),
            Self::Layout(layout) => layout.place(),
        }
    }
}

/// Keeps a document in the cache.
pub(super) async fn keep(
    cache: &crate::cache::Cache,
    bytes: Vec<u8>,
) -> Result<Digest, SourceError> {
    let cache = cache.clone();
    Ok(blocking(move || cache.put(&bytes)).await?.digest)
}
