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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bundle::head::HeadFiles;
    use bundle::index::BlobEntry;
    use bundle::index::Image;
    use bundle::index::IndexType;
    use bundle::index::MIN_READER;
    use bundle::index::Stage;
    use store::Incarnation;
    use store::RealFs;

    use super::*;

    const CLUSTER: Incarnation = Incarnation::from_bytes([7; 16]);

    /// A store with one image a release, all called `docker.io/acme/shop:1`, and a license in each bundle.
    struct Site {
        _directory: tempfile::TempDir,
        store: Store<RealFs>,
    }

    fn entry(bytes: &[u8]) -> BlobEntry {
        BlobEntry {
            digest: Digest::of(bytes),
            size: u64::try_from(bytes.len()).unwrap(),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            stage: Stage::Metadata,
            pieces: None,
        }
    }

    fn index(sequence: u64, manifest: &[u8]) -> BundleIndex {
        BundleIndex {
            document_type: IndexType::V1,
            min_reader: MIN_READER,
            vendor: "acme".parse().unwrap(),
            product: "shop".parse().unwrap(),
            channel: "stable".parse().unwrap(),
            version: format!("1.{sequence}.0").parse().unwrap(),
            epoch: 1,
            sequence,
            rollback_floor: 1,
            released_at: "2026-11-01T00:00:00Z".parse().unwrap(),
            platforms: vec!["linux/amd64".parse().unwrap()],
            upgrade_from: None,
            required: false,
            images: vec![Image {
                name: "docker.io/acme/shop:1".parse().unwrap(),
                digest: Digest::of(manifest),
                platforms: vec!["linux/amd64".parse().unwrap()],
                stage: Stage::Metadata,
                referrers: Vec::new(),
            }],
            charts: Vec::new(),
            manifests: Vec::new(),
            files: Vec::new(),
            kubernetes: None,
            documents: Vec::new(),
            sboms: Vec::new(),
            licenses: Vec::new(),
            preflights: Vec::new(),
            root_version: 1,
            blobs: vec![entry(manifest)],
        }
    }

    impl Site {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let disk = RealFs::open(directory.path()).unwrap();
            Self {
                store: Store::create(disk, CLUSTER).unwrap(),
                _directory: directory,
            }
        }

        fn release(&self, sequence: u64, manifest: &[u8]) {
            let head = HeadFiles {
                bundle_json: index(sequence, manifest).to_bytes().unwrap(),
                signature: Some(b"verified before it came here\n".to_vec()),
                more_signatures: BTreeMap::new(),
                roots: BTreeMap::new(),
                revocations: None,
            };
            let order = Order { epoch: 1, sequence };
            let record = Record::of_bundle(&head, order, CLUSTER, "m1", sequence).unwrap();
            self.put(manifest);
            self.store.put_record(&record).unwrap();
        }

        fn put(&self, bytes: &[u8]) -> Digest {
            let digest = Digest::of(bytes);
            let stored = self.store.put_batch([(digest, bytes.to_vec())]).unwrap();
            assert_eq!(stored.refused, []);
            digest
        }

        fn images(&self) -> StoredImages<RealFs> {
            StoredImages::new(self.store.clone())
        }
    }

    fn shop() -> Repository {
        Repository::parse("acme/shop", Some("docker.io")).unwrap()
    }

    #[test]
    fn the_later_release_counts_and_the_earlier_image_stays_reachable_by_digest() {
        let site = Site::new();
        site.release(42, b"new");
        site.release(41, b"old");
        let images = site.images();
        assert_eq!(images.tags(&shop()).unwrap(), Some(vec!["1".to_owned()]));
        assert_eq!(
            images.resolve(&shop(), "1").unwrap(),
            Some(Digest::of(b"new"))
        );

        let mut old = Vec::new();
        let content = images.open(&shop(), &Digest::of(b"old")).unwrap().unwrap();
        { content.reader }.read_to_end(&mut old).unwrap();
        assert_eq!(old, b"old");
    }

    #[test]
    fn a_release_that_comes_later_is_served_too() {
        let site = Site::new();
        let images = site.images();
        assert_eq!(images.resolve(&shop(), "1").unwrap(), None);
        site.release(41, b"old");
        assert_eq!(
            images.resolve(&shop(), "1").unwrap(),
            Some(Digest::of(b"old"))
        );
    }

    #[test]
    fn what_no_image_of_the_repository_brings_is_not_given_out() {
        let site = Site::new();
        site.release(41, b"old");
        let license = site.put(b"a license");
        let images = site.images();
        assert!(images.open(&shop(), &license).unwrap().is_none());
        let other = Repository::parse("acme/other", Some("docker.io")).unwrap();
        assert!(images.open(&other, &Digest::of(b"old")).unwrap().is_none());
    }
}
