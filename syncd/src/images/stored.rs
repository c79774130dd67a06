//! Images of the store: the names of all bundles that are here, by their verified records.
//!
//! Only blobs of bundles that bring the asked repository are given out: licenses and node files are nobody's image. When
//! two releases give one name to two images, the later release counts.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bundle::Digest;
use bundle::index::BundleIndex;
use store::Fs;
use store::Record;
use store::Store;
use store::record::Kind;
use store::record::Order;

use super::Content;
use super::ImageSource;
use super::Repository;
use super::name::split_tag;

/// The store as a source of images.
#[derive(Debug)]
pub struct StoredImages<F: Fs> {
    store: Store<F>,
    /// What was read out of each record, by the record's digest.
    known: Mutex<BTreeMap<Digest, Arc<Images>>>,
}

/// The images of one bundle.
#[derive(Debug)]
struct Images {
    order: Order,
    /// Full name with tag, and the digest of its manifest.
    names: Vec<(String, Digest)>,
    blobs: BTreeSet<Digest>,
}

impl<F: Fs> StoredImages<F> {
    /// Serves a store; bundles that come later are served as well.
    pub fn new(store: Store<F>) -> Self {
        Self {
            store,
            known: Mutex::default(),
        }
    }

    /// The images of every bundle, the earliest release first.
    fn bundles(&self) -> io::Result<Vec<Arc<Images>>> {
        let records = self.store.records().map_err(io::Error::other)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = BTreeMap::new();
        for record in records.iter().filter(|record| record.kind == Kind::Bundle) {
            let digest = record.digest();
            let images = match known.get(&digest) {
                Some(images) => images.clone(),
                None => Arc::new(Images::read(record)?),
            };
            current.insert(digest, images);
        }
        known.clone_from(&current);
        drop(known);
        let mut bundles: Vec<_> = current.into_values().collect();
        bundles.sort_by_key(|images| images.order);
        Ok(bundles)
    }

    fn tagged(&self, repository: &Repository) -> io::Result<BTreeMap<String, Digest>> {
        let bundles = self.bundles()?;
        let names = bundles.iter().flat_map(|images| images.of(repository));
        Ok(names
            .map(|(tag, digest)| (tag.to_owned(), digest))
            .collect())
    }
}

impl Images {
    fn read(record: &Record) -> io::Result<Self> {
        let index = BundleIndex::parse(&record.payload).map_err(io::Error::other)?;
        let names = index
            .images
            .iter()
            .map(|image| (image.name.to_string(), image.digest));
        Ok(Self {
            order: record.order,
            names: names.collect(),
            blobs: index.blobs.iter().map(|blob| blob.digest).collect(),
        })
    }

    /// Tags of a repository and their manifests.
    fn of<'a>(&'a self, repository: &'a Repository) -> impl Iterator<Item = (&'a str, Digest)> {
        self.names.iter().filter_map(|(name, digest)| {
            let (full, tag) = split_tag(name)?;
            repository.is(full).then_some((tag, *digest))
        })
    }
}

impl<F: Fs> ImageSource for StoredImages<F> {
    fn resolve(&self, repository: &Repository, tag: &str) -> io::Result<Option<Digest>> {
        Ok(self.tagged(repository)?.remove(tag))
    }

    fn tags(&self, repository: &Repository) -> io::Result<Option<Vec<String>>> {
        let tagged = self.tagged(repository)?;
        Ok((!tagged.is_empty()).then(|| tagged.into_keys().collect()))
    }

    fn open(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Content>> {
        let brings = |images: &Arc<Images>| {
            images.blobs.contains(digest) && images.of(repository).next().is_some()
        };
        if !self.bundles()?.iter().any(brings)
            || !self.store.has(digest).map_err(io::Error::other)?
        {
            return Ok(None);
        }
        let blob = self.store.open_blob(digest).map_err(io::Error::other)?;
        Ok(Some(Content {
            size: blob.size(),
            reader: Box::new(blob),
        }))
    }
}
