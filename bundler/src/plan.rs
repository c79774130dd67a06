//! From what was fetched and gathered to the index: pure, so that the same inputs are the same bundle.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::io::Read;
use std::sync::Arc;

use bundle::Digest;
use bundle::index::BlobEntry;
use bundle::index::BundleIndex;
use bundle::index::Image;
use bundle::index::IndexType;
use bundle::index::MIN_READER;
use bundle::index::Stage;
use bundle::limits;
use bundle::name::Platform;
use bundle::pieces::PieceList;
use bundle::timestamp::Timestamp;
use bundle::write::BlobSource;

use crate::cache::Cache;
use crate::fetch::Arrivals;
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

/// Where the bytes of every blob are, or will be.
#[derive(Debug)]
pub struct Blobs<'a> {
    cache: &'a Cache,
    arrivals: Option<Arc<Arrivals>>,
    local: BTreeMap<Digest, LocalContent>,
}

/// A blob that is not an image's.
#[derive(Debug)]
struct LocalContent {
    content: Content,
    pieces: Option<PieceList>,
}

/// Composes the index and says where its bytes are.
///
/// Nothing has to be fetched yet, so the piece lists of fetched blobs are not known: in their place stand digests that
/// follow from the blobs' own. The index is a draft for `write_bundle_late`, and as good as the final one to tell
/// whether anything has changed.
pub fn plan<'a>(
    release: &Release,
    decided: Decided,
    images: &[FetchedImage],
    gathered: Gathered,
    cache: &'a Cache,
) -> (BundleIndex, Blobs<'a>) {
    let mut table = Table::default();
    for blob in images.iter().flat_map(|image| &image.blobs) {
        table.add(
            entry(blob.digest, blob.size, &blob.media_type, blob.stage),
            None,
        );
    }
    for (blob, stage) in gathered.blobs {
        let entry = entry(blob.digest, blob.size, blob.media_type, stage);
        let local = LocalContent {
            content: blob.content,
            pieces: blob.pieces,
        };
        table.add(entry, Some(local));
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
        arrivals: None,
        local: table.local,
    };
    (index, blobs)
}

/// Blobs by digest, while they are being collected.
#[derive(Default)]
struct Table {
    entries: BTreeMap<Digest, BlobEntry>,
    local: BTreeMap<Digest, LocalContent>,
}

impl Table {
    /// Adds a blob; one that serves two purposes is carried once, at the earlier stage.
    fn add(&mut self, new: BlobEntry, local: Option<LocalContent>) {
        if let Some(local) = local {
            self.local.insert(new.digest, local);
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
        pieces: (size > limits::PIECED_BLOB_BYTES_MIN).then(|| open_pieces(&digest)),
    }
}

/// What stands for the digest of a piece list that is not known yet.
fn open_pieces(blob: &Digest) -> Digest {
    Digest::of(format!("the piece list of {blob}").as_bytes())
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

impl Blobs<'_> {
    /// Waits from now on for blobs that are being fetched.
    pub fn follow(&mut self, arrivals: Arc<Arrivals>) {
        self.arrivals = Some(arrivals);
    }
}

impl BlobSource for Blobs<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        if let Some(local) = self.local.get(digest) {
            return local.content.open();
        }
        if let Some(arrivals) = &self.arrivals {
            arrivals.wait_for(digest)?;
        }
        Ok(Box::new(self.cache.open_blob(digest)?))
    }

    fn start(&self, digest: &Digest, count: usize) -> io::Result<Option<Vec<u8>>> {
        let arrivals = self.arrivals.as_ref();
        if !self.local.contains_key(digest) && arrivals.is_some_and(|it| !it.has(digest)) {
            return Ok(None);
        }
        let mut start = Vec::new();
        let most = u64::try_from(count).unwrap_or(u64::MAX);
        self.open(digest)?.take(most).read_to_end(&mut start)?;
        Ok(Some(start))
    }

    fn piece_list(&self, blob: &Digest) -> io::Result<PieceList> {
        let pieces = if let Some(local) = self.local.get(blob) {
            local.pieces.clone()
        } else {
            let cached = self.cache.get(blob).map_err(io::Error::other)?;
            cached.and_then(|cached| cached.pieces)
        };
        pieces.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no piece list"))
    }
}
