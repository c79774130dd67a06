//! From what was fetched and gathered to the index: pure, so that the same inputs are the same bundle.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::io::Read;

use bundle::Digest;
use bundle::index::BlobEntry;
use bundle::index::BundleIndex;
use bundle::index::Image;
use bundle::index::IndexType;
use bundle::index::MIN_READER;
use bundle::index::Stage;
use bundle::name::Platform;
use bundle::pieces::PieceList;
use bundle::timestamp::Timestamp;
use bundle::write::BlobSource;

use crate::cache::Cache;
use crate::cache::CacheError;
use crate::fetch::FetchedImage;
use crate::gather::Gathered;
use crate::local::Content;
use crate::release::Release;

/// What the release file leaves open or the command line overrides.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The sequence.
    pub sequence: u64,
    /// The time of the release.
    pub released_at: Timestamp,
    /// What it runs on, sorted.
    pub platforms: Vec<Platform>,
    /// The version of the trust root.
    pub root_version: u32,
}

/// Where the bytes of every blob are.
#[derive(Debug)]
pub struct Blobs<'a> {
    cache: &'a Cache,
    local: BTreeMap<Digest, Content>,
}

/// Composes the index and says where its bytes are.
pub fn plan<'a>(
    release: &Release,
    decided: Decided,
    images: &[FetchedImage],
    gathered: Gathered,
    cache: &'a Cache,
) -> Result<(BundleIndex, Blobs<'a>), CacheError> {
    let mut table = Table::default();
    for blob in images.iter().flat_map(|image| &image.blobs) {
        let entry = entry(blob.digest, blob.size, &blob.media_type, blob.stage);
        // The fetch has put it there; if it was lost since, the writer says so.
        let cached = cache.get(&blob.digest)?;
        let pieces = cached.as_ref().and_then(|cached| cached.pieces.as_ref());
        table.add(entry, pieces, None);
    }
    for (blob, stage) in gathered.blobs {
        let entry = entry(blob.digest, blob.size, blob.media_type, stage);
        table.add(entry, blob.pieces.as_ref(), Some(blob.content));
    }
    let mut index = BundleIndex {
        document_type: IndexType::V1,
        min_reader: MIN_READER,
        vendor: release.vendor.clone(),
        product: release.product.clone(),
        channel: release.channel.clone(),
        version: release.version.clone(),
        epoch: release.epoch,
        sequence: decided.sequence,
        rollback_floor: release.rollback_floor,
        released_at: decided.released_at,
        upgrade_from: release.upgrade_from.clone(),
        required: release.required,
        images: index_images(release, &decided.platforms, images),
        platforms: decided.platforms,
        charts: gathered.charts,
        manifests: gathered.manifests,
        files: gathered.files,
        kubernetes: release.kubernetes.clone(),
        documents: gathered.documents,
        sboms: Vec::new(),
        licenses: gathered.licenses,
        preflights: gathered.preflights,
        root_version: decided.root_version,
        blobs: table.entries.into_values().collect(),
    };
    index.sort_blobs();
    let blobs = Blobs {
        cache,
        local: table.local,
    };
    Ok((index, blobs))
}

/// Blobs by digest, while they are being collected.
#[derive(Default)]
struct Table {
    entries: BTreeMap<Digest, BlobEntry>,
    local: BTreeMap<Digest, Content>,
}

impl Table {
    /// Adds a blob; one that serves two purposes is carried once, at the earlier stage.
    fn add(&mut self, mut new: BlobEntry, pieces: Option<&PieceList>, content: Option<Content>) {
        if let Some(list) = pieces {
            let bytes = list.to_bytes();
            let digest = Digest::of(&bytes);
            new.pieces = Some(digest);
            self.local.insert(digest, Content::Memory(bytes));
        }
        if let Some(content) = content {
            self.local.insert(new.digest, content);
        }
        match self.entries.entry(new.digest) {
            Entry::Vacant(place) => {
                place.insert(new);
            }
            Entry::Occupied(mut place) => {
                let rank = |blob: &BlobEntry| (blob.stage, blob.media_type.clone());
                if rank(&new) < rank(place.get()) {
                    place.insert(new);
                }
            }
        }
    }
}

fn entry(digest: Digest, size: u64, media_type: &str, stage: Stage) -> BlobEntry {
    BlobEntry {
        digest,
        size,
        media_type: media_type.to_owned(),
        stage,
        pieces: None,
    }
}

/// Images by name, so that the order in which they arrived leaves no trace.
fn index_images(release: &Release, platforms: &[Platform], fetched: &[FetchedImage]) -> Vec<Image> {
    let stages: BTreeMap<_, _> = release
        .images
        .iter()
        .map(|image| (&image.name, image.stage.of_blobs()))
        .collect();
    let mut images: Vec<Image> = fetched
        .iter()
        .map(|image| Image {
            name: image.name.clone(),
            digest: image.digest,
            platforms: platforms.to_vec(),
            stage: stages
                .get(&image.name)
                .copied()
                .unwrap_or(Stage::Application),
            referrers: Vec::new(),
        })
        .collect();
    images.sort_by(|one, other| one.name.cmp(&other.name));
    images
}

impl BlobSource for Blobs<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        match self.local.get(digest) {
            Some(content) => content.open(),
            None => Ok(Box::new(self.cache.open_blob(digest)?)),
        }
    }
}
