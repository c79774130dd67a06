//! What must hold for any bytes: one oracle for each decoder of what comes from outside.
//!
//! No oracle may panic in the code under test; what is accepted must moreover be written back as the same bytes, or be
//! read the same by another implementation. The oracles run under libFuzzer (`fuzz_targets/`) and on stable over
//! mutations of honest documents (`tests/mutations.rs`).

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use bundle::Digest;
use bundle::head::HeadFiles;
use bundle::head::UntrustedHead;
use bundle::index::BlobMember;
use bundle::index::BundleIndex;
use bundle::key::KeyId;
use bundle::key::PublicKey;
use bundle::key::SecretKeyFile;
use bundle::license::License;
use bundle::license::VerifiedLicense;
use bundle::minisig::Signature;
use bundle::packing::Packing;
use bundle::pieces::PieceList;
use bundle::read::PayloadSink;
use bundle::revocations::Revocations;
use bundle::root::Root;
use bundle::state::TrustState;
use bundle::tar;
use store::id::StoreId;
use store::record::Record;

pub mod seeds;

/// An oracle.
pub type Oracle = fn(&[u8]);

/// All oracles, by the names of their targets.
pub const ORACLES: [(&str, Oracle); 17] = [
    ("minisig", minisig),
    ("public_key", public_key),
    ("secret_key", secret_key),
    ("root", root),
    ("license", license),
    ("revocations", revocations),
    ("state", state),
    ("index", index),
    ("packing", packing),
    ("pieces", pieces),
    ("head", head),
    ("tar_header", tar_header),
    ("bundle", whole_bundle),
    ("names", names),
    ("proof", proof),
    ("record", record),
    ("store_id", store_id),
];

/// A signature that we take has one spelling, and another implementation takes it as well.
pub fn minisig(data: &[u8]) {
    let Ok(signature) = Signature::parse(data) else {
        return;
    };
    assert_eq!(signature.to_file().as_bytes(), data);
    let text = std::str::from_utf8(data).expect("a signature is text");
    let theirs = minisign_verify::Signature::decode(text).expect("others read it");
    assert_eq!(theirs.trusted_comment(), signature.trusted_comment());
}

/// A public key that we take has one spelling of its key, and another implementation takes it as well.
pub fn public_key(data: &[u8]) {
    let Ok(key) = PublicKey::parse(data) else {
        return;
    };
    let text = std::str::from_utf8(data).expect("a key file is text");
    assert_eq!(text.lines().nth(1), Some(key.to_base64().as_str()));
    assert!(minisign_verify::PublicKey::decode(text).is_ok());
    let raw = PublicKey::new(key.id(), key.raw()).expect("a key is itself");
    assert_eq!(raw, key);
}

/// A secret key file that opens without password is written back as the same key.
pub fn secret_key(data: &[u8]) {
    let Ok(file) = SecretKeyFile::parse(data) else {
        return;
    };
    if file.is_locked() {
        return; // costs a second by design
    }
    if let Ok(key) = file.open(None) {
        let again = key.to_file(None).expect("a key can be written");
        let again = SecretKeyFile::parse(again.as_bytes()).and_then(|file| file.open(None));
        assert_eq!(
            again.expect("what is written is read").public(),
            key.public()
        );
    }
}

/// What is read is written back byte for byte, and a lax reader sees the same.
fn round_trip<T, E: std::fmt::Debug>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, E>,
    write: impl Fn(&T) -> Result<Vec<u8>, E>,
) {
    if let Ok(document) = parse(data) {
        assert_eq!(write(&document).expect("what is read can be written"), data);
        serde_json::from_slice::<serde_json::Value>(data).expect("it is JSON");
    }
}

/// A trust root is read and written back.
pub fn root(data: &[u8]) {
    round_trip(data, Root::parse, Root::to_bytes);
}

/// A license document is read and written back; a license file is never verified unless the seed's key signed it.
pub fn license(data: &[u8]) {
    round_trip(data, License::parse, License::to_bytes);
    if let Ok(verified) = VerifiedLicense::verify(data.to_vec(), seeds::trust()) {
        assert_eq!(verified.license(), &seeds::license());
    }
}

/// A list of revocations is read and written back.
pub fn revocations(data: &[u8]) {
    round_trip(data, Revocations::parse, Revocations::to_bytes);
}

/// A state is read and written back, and merging it with itself changes nothing.
pub fn state(data: &[u8]) {
    round_trip(data, TrustState::parse, TrustState::to_bytes);
    if let Ok(state) = TrustState::parse(data) {
        assert_eq!(state.clone().merge(&state), state);
    }
}

/// An index is read and written back.
pub fn index(data: &[u8]) {
    round_trip(data, BundleIndex::parse, BundleIndex::to_bytes);
}

/// A packing is read and written back.
pub fn packing(data: &[u8]) {
    let (index, id) = seeds::index();
    if let Ok(packing) = Packing::parse(data, &id, &index) {
        assert_eq!(packing.to_bytes(), data);
    }
}

/// A piece list is read and written back.
pub fn pieces(data: &[u8]) {
    if let Ok(list) = PieceList::parse(data) {
        assert_eq!(list.to_bytes(), data);
    }
}

/// A head frame is read by zstd as well, as the same bytes; it is verified only when it is the seed's.
pub fn head(data: &[u8]) {
    let mut reader = data;
    let Ok(head) = UntrustedHead::read(&mut reader) else {
        return;
    };
    let taken = data.len() - reader.len();
    assert_eq!(u64::try_from(taken), Ok(head.frame_bytes()));
    let plain = zstd::decode_all(&data[..taken]).expect("others read the frame");
    let json = head.bundle_json();
    assert!(json.is_empty() || plain.windows(json.len()).any(|part| part == json));
    if let Ok(verified) = head.verify(seeds::trust()) {
        assert_eq!(verified.id(), seeds::index().1);
    }
}

/// What proves an index is read and written back.
pub fn proof(data: &[u8]) {
    let (index, _) = seeds::index();
    let json = index.to_bytes().expect("an honest index");
    if let Ok(files) = HeadFiles::from_proof(json, data) {
        assert_eq!(files.proof().expect("what is read can be written"), data);
    }
}

/// A record of a store is read and written back.
pub fn record(data: &[u8]) {
    if let Ok(record) = Record::parse(data) {
        assert_eq!(record.to_bytes(), data);
    }
}

/// The mark of a store is read and written back.
pub fn store_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(id) = StoreId::parse(text) {
        assert_eq!(id.to_text(), text);
    }
}

/// A header of a head member that we take is the one that we would write.
pub fn tar_header(data: &[u8]) {
    let Some(block) = data.first_chunk::<{ tar::BLOCK_BYTES }>() else {
        return;
    };
    if let Some(header) = tar::HeadHeader::parse(block) {
        assert_eq!(tar::header(header.name, header.size).as_ref(), Some(block));
    }
}

/// A bundle that was changed anywhere is refused, or yields the identical tree.
///
/// The input is a list of changes: two bytes of place, one byte of what to flip there.
pub fn whole_bundle(data: &[u8]) {
    let mut bytes = seeds::bundle().to_vec();
    for change in data.chunks_exact(3) {
        let place = usize::from(change[0]) * 256 + usize::from(change[1]);
        let place = place % bytes.len();
        bytes[place] ^= change[2];
    }
    if let Ok(tree) = read(&bytes) {
        assert_eq!(&tree, honest_tree());
    }
}

// The target is called `bundle`, as the crate is.
pub use whole_bundle as bundle;

/// Names that are taken hold nothing that could leave a directory or a comment.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let harmless = |name: &str| !name.contains([';', '\n', '\\', '\0']) && name == text;
    if let Ok(name) = text.parse::<bundle::name::Name>() {
        assert!(harmless(name.as_str()) && !name.as_str().contains('/'));
    }
    if let Ok(id) = text.parse::<bundle::name::LicenseId>() {
        assert!(harmless(id.as_str()) && !id.as_str().contains('/'));
    }
    if let Ok(path) = text.parse::<bundle::name::EntryPath>() {
        let inside = path
            .as_str()
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
        assert!(harmless(path.as_str()) && inside);
    }
    if let Ok(image) = text.parse::<bundle::name::ImageName>() {
        let joined = format!(
            "{}/{}:{}",
            image.registry(),
            image.repository(),
            image.tag()
        );
        assert_eq!(joined, text);
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(time) = text.parse::<bundle::timestamp::Timestamp>() {
        assert_eq!(time.to_string(), text);
    }
    if let Ok(role) = text.parse::<bundle::root::RoleName>() {
        assert_eq!(role.to_string(), text);
    }
}

type Tree = BTreeMap<Digest, Vec<u8>>;

fn honest_tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| read(seeds::bundle()).expect("the seed is honest"))
}

fn read(bytes: &[u8]) -> Result<Tree, Box<dyn std::error::Error>> {
    let mut reader = bytes;
    let head = UntrustedHead::read(&mut reader)?.verify(seeds::trust())?;
    let mut sink = MemorySink::default();
    let rest = reader.to_vec();
    bundle::read::read_payload(&head, rest.as_slice(), &mut sink, &mut |_event| {})?;
    Ok(sink.named)
}

/// Keeps what was named, and lets nothing get a name whose bytes differ.
#[derive(Default)]
struct MemorySink {
    open: Vec<u8>,
    named: Tree,
}

impl PayloadSink for MemorySink {
    fn wants(&mut self, _blob: &BlobMember) -> io::Result<bool> {
        self.open.clear();
        Ok(true)
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, blob: &BlobMember, _pieces: Option<&PieceList>) -> io::Result<()> {
        assert_eq!(Digest::of(&self.open), blob.digest);
        self.named
            .insert(blob.digest, std::mem::take(&mut self.open));
        Ok(())
    }
}
