//! Bundles for tests: made from a seed and signed with a key that everybody knows.

use std::collections::BTreeMap;
use std::io;
use std::io::Cursor;
use std::io::Read;

use crate::digest::Digest;
use crate::head::HeadFiles;
use crate::head::UntrustedHead;
use crate::head::VerifiedHead;
use crate::index::BlobEntry;
use crate::index::BlobMember;
use crate::index::BundleIndex;
use crate::index::Image;
use crate::index::IndexType;
use crate::index::MIN_READER;
use crate::index::Stage;
use crate::key::SecretKey;
use crate::limits;
use crate::minisig::Signature;
use crate::pieces::PieceHasher;
use crate::pieces::PieceList;
use crate::read::PayloadSink;
use crate::read::ReadError;
use crate::read::Summary;
use crate::read::read_payload;
use crate::root::KeyAlgorithm;
use crate::root::Role;
use crate::root::RoleName;
use crate::root::Root;
use crate::root::RootKey;
use crate::root::RootType;
use crate::root::TrustedRoot;
use crate::verify::Trust;
use crate::verify::TrustError;
use crate::write::BlobSource;
use crate::write::WriteError;
use crate::write::WriteOptions;
use crate::write::Written;
use crate::write::write_bundle;

pub(crate) const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const PLAIN_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Content of a release under construction; afterwards the source of its blobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    entries: BTreeMap<Digest, BlobEntry>,
    images: Vec<Image>,
}

/// `bytes` bytes that don't compress, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut noise);
    noise
}

/// Noise that looks like a gzip file from its first bytes.
pub(crate) fn gzip_like(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = noise(seed, bytes);
    noise[..2].copy_from_slice(&[0x1f, 0x8b]);
    noise
}

/// `bytes` bytes that compress well, the same for the same seed.
pub(crate) fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let words = noise(seed, bytes.min(16 << 10));
    let words = words.iter().map(|byte| b'a' + byte % 16);
    let words: Vec<u8> = words.collect();
    words.into_iter().cycle().take(bytes).collect()
}

impl Content {
    pub(crate) fn add(&mut self, media_type: &str, stage: Stage, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        let size = u64::try_from(bytes.len()).unwrap();
        let pieces = (size > limits::PIECED_BLOB_BYTES_MIN).then(|| {
            let mut pieces = PieceHasher::standard();
            pieces.update(&bytes);
            let list = pieces.finish().to_bytes();
            let digest = Digest::of(&list);
            self.blobs.insert(digest, list);
            digest
        });
        let entry = BlobEntry {
            digest,
            size,
            media_type: media_type.to_owned(),
            stage,
            pieces,
        };
        self.entries.insert(digest, entry);
        self.blobs.insert(digest, bytes);
        digest
    }

    /// Adds an image of the given layers, with a config that is only told apart by the name.
    pub(crate) fn add_image(&mut self, name: &str, layers: &[(&str, Vec<u8>)]) {
        let config =
            format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"author\":\"{name}\"}}");
        self.add_image_with_config(name, config, layers);
    }

    /// Adds an image: layers, config, manifest.
    pub(crate) fn add_image_with_config(
        &mut self,
        name: &str,
        config: String,
        layers: &[(&str, Vec<u8>)],
    ) {
        let config_type = "application/vnd.oci.image.config.v1+json";
        let config_size = config.len();
        let config = self.add(config_type, Stage::Metadata, config.into_bytes());
        let layers = layers.iter().map(|(media_type, bytes)| {
            let digest = self.add(media_type, Stage::Application, bytes.clone());
            let size = bytes.len();
            format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{size}}}")
        });
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\
             \"config\":{{\"mediaType\":\"{config_type}\",\"digest\":\"{config}\",\"size\":{config_size}}},\
             \"layers\":[{}]}}",
            layers.collect::<Vec<_>>().join(","),
        );
        let digest = self.add(MANIFEST, Stage::Metadata, manifest.into_bytes());
        self.images.push(Image {
            name: name.parse().unwrap(),
            digest,
            platforms: vec!["linux/amd64".parse().unwrap()],
            stage: Stage::Application,
            referrers: Vec::new(),
        });
    }

    pub(crate) fn index(&self) -> BundleIndex {
        let mut index = BundleIndex {
            document_type: IndexType::V1,
            min_reader: MIN_READER,
            vendor: "acme".parse().unwrap(),
            product: "shop".parse().unwrap(),
            channel: "stable".parse().unwrap(),
            version: "1.4.0".parse().unwrap(),
            epoch: 1,
            sequence: 42,
            rollback_floor: 40,
            released_at: "2026-11-01T00:00:00Z".parse().unwrap(),
            platforms: vec!["linux/amd64".parse().unwrap()],
            upgrade_from: None,
            required: false,
            images: self.images.clone(),
            charts: Vec::new(),
            manifests: Vec::new(),
            files: Vec::new(),
            kubernetes: None,
            documents: Vec::new(),
            sboms: Vec::new(),
            licenses: Vec::new(),
            preflights: Vec::new(),
            root_version: 1,
            blobs: self.entries.values().cloned().collect(),
        };
        index.sort_blobs();
        index
    }

    /// The head, signed by the test key.
    pub(crate) fn head(&self) -> HeadFiles {
        sign(&self.index())
    }

    pub(crate) fn write(&self, options: &WriteOptions) -> Vec<u8> {
        self.try_write(options).unwrap().0
    }

    pub(crate) fn try_write(
        &self,
        options: &WriteOptions,
    ) -> Result<(Vec<u8>, Written), WriteError> {
        let mut out = Cursor::new(Vec::new());
        let written = write_bundle(&self.head(), self, &mut out, options, &|_| {})?;
        Ok((out.into_inner(), written))
    }
}

impl BlobSource for Content {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.blobs.get(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

/// Keeps what it is given, by digest, from `end` on.
#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    pub(crate) open: Vec<u8>,
    /// Complete members.
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    /// Members that are said to be here already.
    pub(crate) here: Vec<Digest>,
    /// Piece lists as given at the end of their blobs.
    pub(crate) lists: BTreeMap<Digest, PieceList>,
}

impl PayloadSink for MemorySink {
    fn has_already(&mut self, blob: &BlobMember) -> io::Result<bool> {
        Ok(self.here.contains(&blob.digest))
    }

    fn wants(&mut self, blob: &BlobMember) -> io::Result<bool> {
        self.open.clear();
        Ok(!self.here.contains(&blob.digest))
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, blob: &BlobMember, pieces: Option<&PieceList>) -> io::Result<()> {
        self.blobs
            .insert(blob.digest, std::mem::take(&mut self.open));
        if let Some(list) = pieces {
            self.lists.insert(blob.digest, list.clone());
        }
        Ok(())
    }
}

/// A head for an index, signed by the test key.
pub(crate) fn sign(index: &BundleIndex) -> HeadFiles {
    let bundle_json = index.to_bytes().unwrap();
    let signature = Signature::sign(&secret_key(), &bundle_json, &index.purpose());
    HeadFiles {
        bundle_json,
        signature: Some(signature.to_file().into_bytes()),
        ..HeadFiles::default()
    }
}

pub(crate) fn secret_key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

/// The first root, in which the test key may sign everything.
pub(crate) fn root() -> Root {
    let public = secret_key().public();
    let role = Role {
        keys: [public.id()].into(),
        threshold: 1,
    };
    let key = RootKey {
        alg: KeyAlgorithm::MinisignPrehashed,
        public,
    };
    Root {
        document_type: RootType::V1,
        vendor: "acme".parse().unwrap(),
        version: 1,
        epoch: 1,
        issued_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        keys: [(public.id(), key)].into(),
        roles: [
            (RoleName::Root, role.clone()),
            (RoleName::Bundle("shop".parse().unwrap()), role),
        ]
        .into(),
    }
}

/// Trusts [`root`].
pub(crate) fn trust() -> Trust {
    let json = root().to_bytes().unwrap();
    let fingerprint = Digest::of(&json);
    Trust::new(TrustedRoot::pin(json, &fingerprint).unwrap())
}

/// Reads a bundle of the test key from its first byte to its last.
pub(crate) fn read(bytes: &[u8], sink: &mut MemorySink) -> Result<Summary, ReadError> {
    let mut reader = bytes;
    let head = read_head(&mut reader)?;
    read_payload(&head, reader, sink, &mut |_| {})
}

/// Reads and verifies a head; only errors of the format are expected.
pub(crate) fn read_head(reader: &mut impl Read) -> Result<VerifiedHead, ReadError> {
    match UntrustedHead::read(reader)?.verify(&trust()) {
        Ok(head) => Ok(head),
        Err(TrustError::Packing(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}
