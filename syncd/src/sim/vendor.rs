//! A vendor whose releases are small and cut into small pieces, signed for real.

use std::collections::BTreeMap;
use std::sync::Arc;

use bundle::Digest;
use bundle::head::HeadFiles;
use bundle::index::BlobEntry;
use bundle::index::BundleIndex;
use bundle::index::IndexType;
use bundle::index::MIN_READER;
use bundle::index::Stage;
use bundle::key::SecretKey;
use bundle::minisig::Signature;
use bundle::pieces::Cut;
use bundle::pieces::PieceHasher;
use bundle::root::KeyAlgorithm;
use bundle::root::Role;
use bundle::root::RoleName;
use bundle::root::Root;
use bundle::root::RootKey;
use bundle::root::RootType;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;
use rand::Rng as _;
use rand::RngExt as _;
use rand::rngs::StdRng;
use store::Incarnation;
use store::Record;
use store::SimFs;
use store::record::Order;

use crate::contents::Content;
use crate::contents::ContentBlob;
use crate::contents::Judge;
use crate::contents::Refusal;
use crate::contents::TrustJudge;

/// log2 of a piece: 4 KiB.
const PIECE_LOG2: u8 = 12;

/// Blobs above this have a piece list here; in a real bundle it is 8 MiB.
const PIECED_ABOVE: usize = 8 << 10;

/// Piece lists by the blobs that they describe.
type Lists = BTreeMap<Digest, (Digest, Cut)>;

/// A vendor and everything that it has released.
#[derive(Debug)]
pub(super) struct Vendor {
    key: SecretKey,
    pub(super) trust: Trust,
    pub(super) releases: Vec<Release>,
    pub(super) lists: Arc<Lists>,
}

/// One release.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) head: HeadFiles,
    pub(super) order: Order,
    /// Everything that it references, piece lists included, in the order of import.
    pub(super) blobs: Vec<ContentBlob>,
    /// Their bytes.
    pub(super) bytes: BTreeMap<Digest, Vec<u8>>,
}

impl Vendor {
    /// Makes a vendor with so many releases; neighbours share some blobs.
    pub(super) fn new(random: &mut StdRng, releases: u64) -> Self {
        let key = SecretKey::from_seed(&[7; 32]);
        let mut lists = Lists::new();
        let mut shared: Vec<Vec<u8>> = (0..3).map(|_| noise(random, 100..60_000)).collect();
        let mut made = Vec::new();
        for sequence in 1..=releases {
            let mut blobs = shared.clone();
            blobs.extend((0..6).map(|_| noise(random, 1..4000)));
            blobs.extend((0..3).map(|_| noise(random, 20_000..150_000)));
            shared.truncate(2);
            shared.extend(blobs.last().cloned());
            made.push(Release::new(&key, sequence, blobs, &mut lists));
        }
        Self {
            trust: trust(&key),
            key,
            releases: made,
            lists: Arc::new(lists),
        }
    }

    /// A release that somebody else has signed.
    pub(super) fn forge(&self, random: &mut StdRng) -> Release {
        let forger = SecretKey::from_seed(&[8; 32]);
        assert_ne!(forger.public().id(), self.key.public().id());
        Release::new(&forger, 99, vec![noise(random, 10..100)], &mut Lists::new())
    }
}

impl Release {
    fn new(key: &SecretKey, sequence: u64, blobs: Vec<Vec<u8>>, lists: &mut Lists) -> Self {
        let mut entries = Vec::new();
        let mut bytes = BTreeMap::new();
        for blob in blobs {
            let digest = Digest::of(&blob);
            entries.push(BlobEntry {
                digest,
                size: u64::try_from(blob.len()).unwrap(),
                media_type: "application/octet-stream".to_owned(),
                stage: Stage::Application,
                pieces: None,
            });
            if blob.len() > PIECED_ABOVE {
                let mut hasher = PieceHasher::new(PIECE_LOG2);
                hasher.update(&blob);
                let list = hasher.finish();
                let encoded = list.to_bytes();
                let list_digest = Digest::of(&encoded);
                lists.insert(digest, (list_digest, list.cut()));
                bytes.insert(list_digest, encoded);
            }
            bytes.insert(digest, blob);
        }
        let mut index = index(sequence, entries);
        index.sort_blobs();
        let listed = index.blobs.iter().map(|entry| ContentBlob {
            digest: entry.digest,
            cut: Cut::standard(entry.size),
            list: None,
        });
        let blobs = cut_small(listed.collect(), lists);
        let bundle_json = index.to_bytes().unwrap();
        let signature = Signature::sign(key, &bundle_json, &index.purpose());
        let head = HeadFiles {
            bundle_json,
            signature: Some(signature.to_file().into_bytes()),
            ..HeadFiles::default()
        };
        Self {
            head,
            order: Order { epoch: 1, sequence },
            blobs,
            bytes,
        }
    }

    /// The bundle's id.
    pub(super) fn id(&self) -> Digest {
        self.head.id()
    }

    /// The record that an import at `origin` writes.
    pub(super) fn record(&self, origin: &str, counter: u64) -> Record {
        Record::of_bundle(&self.head, self.order, INCARNATION, origin, counter).unwrap()
    }
}

/// The life of the simulated cluster.
pub(super) const INCARNATION: Incarnation = Incarnation::from_bytes([1; 16]);

/// Judges signatures like the real one, then cuts blobs into small pieces.
#[derive(Debug)]
pub(super) struct SimJudge {
    pub(super) real: TrustJudge<SimFs>,
    pub(super) lists: Arc<Lists>,
}

impl Judge for SimJudge {
    fn judge(&self, record: &Record) -> Result<Content, Refusal> {
        let content = self.real.judge(record)?;
        let blobs = cut_small(content.blobs.clone(), &self.lists);
        Ok(Content { blobs, ..content })
    }
}

fn cut_small(blobs: Vec<ContentBlob>, lists: &Lists) -> Vec<ContentBlob> {
    let mut small = Vec::new();
    for blob in blobs {
        let Some(&(list, cut)) = lists.get(&blob.digest) else {
            small.push(blob);
            continue;
        };
        small.push(ContentBlob {
            digest: list,
            cut: Cut::standard(cut.list_bytes()),
            list: None,
        });
        small.push(ContentBlob {
            cut,
            list: Some(list),
            ..blob
        });
    }
    small
}

fn noise(random: &mut StdRng, bytes: std::ops::Range<usize>) -> Vec<u8> {
    let mut noise = vec![0; random.random_range(bytes)];
    random.fill_bytes(&mut noise);
    noise
}

fn index(sequence: u64, blobs: Vec<BlobEntry>) -> BundleIndex {
    BundleIndex {
        document_type: IndexType::V1,
        min_reader: MIN_READER,
        vendor: "acme".parse().unwrap(),
        product: "shop".parse().unwrap(),
        channel: "stable".parse().unwrap(),
        version: format!("1.{sequence}.0").parse().unwrap(),
        epoch: 1,
        sequence,
        rollback_floor: 0,
        released_at: "2026-11-01T00:00:00Z".parse().unwrap(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        upgrade_from: None,
        required: false,
        images: Vec::new(),
        charts: Vec::new(),
        manifests: Vec::new(),
        files: Vec::new(),
        kubernetes: None,
        documents: Vec::new(),
        sboms: Vec::new(),
        licenses: Vec::new(),
        preflights: Vec::new(),
        root_version: 1,
        blobs,
    }
}

fn trust(key: &SecretKey) -> Trust {
    let public = key.public();
    let role = Role {
        keys: [public.id()].into(),
        threshold: 1,
    };
    let id = public.id();
    let key = RootKey {
        alg: KeyAlgorithm::MinisignPrehashed,
        public,
    };
    let root = Root {
        document_type: RootType::V1,
        vendor: "acme".parse().unwrap(),
        version: 1,
        epoch: 1,
        issued_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        keys: [(id, key)].into(),
        roles: [
            (RoleName::Root, role.clone()),
            (RoleName::Bundle("shop".parse().unwrap()), role),
        ]
        .into(),
    };
    let json = root.to_bytes().unwrap();
    let fingerprint = Digest::of(&json);
    Trust::new(TrustedRoot::pin(json, &fingerprint).unwrap())
}
