//! Honest documents, to begin mutating from. Made from fixed keys, so they are the same everywhere.

use std::collections::BTreeMap;
use std::io;
use std::io::Cursor;
use std::io::Read;
use std::sync::OnceLock;

use bundle::Digest;
use bundle::head::HeadFiles;
use bundle::head::UntrustedHead;
use bundle::index::BlobEntry;
use bundle::index::BundleIndex;
use bundle::index::Stage;
use bundle::key::SecretKey;
use bundle::license::License;
use bundle::license::VerifiedLicense;
use bundle::minisig::Signature;
use bundle::pieces::PieceHasher;
use bundle::root::Root;
use bundle::root::TrustedRoot;
use bundle::state::Replace;
use bundle::state::Site;
use bundle::state::TrustState;
use bundle::tar;
use bundle::verify::Trust;
use bundle::write::BlobSource;
use bundle::write::WriteOptions;
use store::record::Order;
use store::record::Record;

/// Honest inputs by target.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let head_bytes = usize::try_from(untrusted_head().frame_bytes()).expect("a small head");
    let mut pieces = PieceHasher::standard();
    pieces.update(&[7; 9000]);
    vec![
        ("minisig", signature()),
        ("public_key", key().public().to_file().into_bytes()),
        (
            "secret_key",
            key()
                .to_file(None)
                .expect("a key is written")
                .as_bytes()
                .to_vec(),
        ),
        ("root", root_json()),
        ("license", license().to_bytes().expect("an honest license")),
        ("license", license_file()),
        ("revocations", REVOCATIONS.to_vec()),
        ("state", state().to_bytes().expect("an honest state")),
        ("index", index_json()),
        ("packing", untrusted_head().packing_json().to_vec()),
        ("pieces", pieces.finish().to_bytes()),
        ("head", bundle()[..head_bytes].to_vec()),
        (
            "tar_header",
            tar::header("bundle.json", 812).expect("a header").to_vec(),
        ),
        ("bundle", Vec::new()),
        ("bundle", vec![0, 9, 1, 3, 200, 255]),
        ("proof", files().proof().expect("an honest head")),
        ("record", record()),
        ("store_id", STORE_ID.to_vec()),
        (
            "names",
            b"registry.acme.example:5000/shop/web:1.4.0".to_vec(),
        ),
        ("names", b"bundle:shop".to_vec()),
        ("names", b"2026-11-01T00:00:00Z".to_vec()),
    ]
}

const REVOCATIONS: &[u8] = br#"{"_type":"sealift/revocations/v1","issued_at":"2026-02-01T00:00:00Z","licenses":{"H-0001":"unpaid"},"sequence":3,"vendor":"acme"}
"#;

const STORE_ID: &[u8] =
    b"sealift-store 1\nincarnation 000102030405060708090a0b0c0d0e0f\nfilesystem 00000000000000ff\n";

const LICENSE: &[u8] = br#"{"_type":"sealift/license/v1","bind":{"cluster_id":null},"channels":["stable"],"customer":{"id":"hch","name":"Harbor City Hospital"},"entitlements":{"seats":{"title":"Seats","type":"integer","value":5}},"expires_at":null,"features":{"airgap":true,"ha":true,"multi_node":true},"grace_days":30,"issued_at":"2026-06-30T00:00:00Z","kind":"production","license_id":"H-0193","limits":{"masters":3,"nodes":10},"product":"shop","sequence":7,"updates_until":"2027-06-30T00:00:00Z","vendor":"acme"}
"#;

/// The key that may sign everything.
pub fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn root_json() -> Vec<u8> {
    let (id, public) = (key().public().id(), key().public().to_base64());
    let role = format!(r#"{{"keys":["{id}"],"threshold":1}}"#);
    let json = format!(
        r#"{{"_type":"sealift/root/v1","epoch":1,"issued_at":"2026-01-01T00:00:00Z","keys":{{"{id}":{{"alg":"minisign-ED","public":"{public}"}}}},"roles":{{"bundle:shop":{role},"license:shop":{role},"root":{role}}},"vendor":"acme","version":1}}"#
    );
    Root::parse(format!("{json}\n").as_bytes())
        .and_then(|root| root.to_bytes())
        .expect("an honest root")
}

/// What a site trusts that has pinned the root.
pub fn trust() -> &'static Trust {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    TRUST.get_or_init(|| {
        let root = TrustedRoot::restore(root_json()).expect("an honest root");
        Trust::new(root)
    })
}

/// The license that the key has signed.
pub fn license() -> License {
    License::parse(LICENSE).expect("an honest license")
}

fn license_file() -> Vec<u8> {
    license().to_file(&key()).expect("an honest license")
}

fn state() -> TrustState {
    let mut state = TrustState::default();
    let head = untrusted_head().verify(trust()).expect("an honest bundle");
    let license = VerifiedLicense::verify(license_file(), trust()).expect("an honest license");
    let bundle = state.accept_bundle(head.verified(), &Site::default());
    bundle.expect("the first release");
    let license = state.accept_license(&license, Replace::BySupersedes);
    license.expect("the first license");
    state
}

/// Blobs from memory.
struct Blobs(BTreeMap<Digest, Vec<u8>>);

impl BlobSource for Blobs {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.0.get(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

fn blobs() -> Blobs {
    let blobs = [
        b"hello ".repeat(400),
        vec![0x1f, 0x8b, 8, 0, 1, 2, 3],
        Vec::new(),
    ];
    Blobs(
        blobs
            .into_iter()
            .map(|bytes| (Digest::of(&bytes), bytes))
            .collect(),
    )
}

fn index_json() -> Vec<u8> {
    let json = br#"{"_type":"sealift/bundle/v1","channel":"stable","epoch":1,"min_reader":"0.1.0","platforms":["linux/amd64"],"product":"shop","released_at":"2026-11-01T00:00:00Z","rollback_floor":40,"root_version":1,"sequence":42,"vendor":"acme","version":"1.4.0"}
"#;
    let mut index = BundleIndex::parse(json).expect("an honest index");
    index.blobs = blobs()
        .0
        .iter()
        .map(|(digest, bytes)| BlobEntry {
            digest: *digest,
            size: u64::try_from(bytes.len()).expect("a small blob"),
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            stage: Stage::Application,
            pieces: None,
        })
        .collect();
    index.to_bytes().expect("an honest index")
}

/// The index of the bundle, and its id.
pub fn index() -> (BundleIndex, Digest) {
    let json = index_json();
    (
        BundleIndex::parse(&json).expect("an honest index"),
        Digest::of(&json),
    )
}

fn signature() -> Vec<u8> {
    let signature = Signature::sign(&key(), &index_json(), &index().0.purpose());
    signature.to_file().into_bytes()
}

fn files() -> HeadFiles {
    let mut files = HeadFiles {
        bundle_json: index_json(),
        ..HeadFiles::default()
    };
    files.sign(&key()).expect("an honest index");
    files
}

fn record() -> Vec<u8> {
    let life = "000102030405060708090a0b0c0d0e0f".parse();
    let order = Order {
        epoch: 1,
        sequence: 42,
    };
    let life = life.expect("an incarnation");
    let record = Record::of_bundle(&files(), order, life, "m1", 7);
    record.expect("an honest head").to_bytes()
}

/// A whole small bundle.
pub fn bundle() -> &'static [u8] {
    static BUNDLE: OnceLock<Vec<u8>> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let mut out = Cursor::new(Vec::new());
        let options = WriteOptions::default();
        bundle::write::write_bundle(&files(), &blobs(), &mut out, &options, &|_event| {})
            .expect("an honest bundle");
        out.into_inner()
    })
}

fn untrusted_head() -> UntrustedHead {
    UntrustedHead::read(&mut bundle()).expect("an honest bundle")
}
