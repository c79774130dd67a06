//! The bundles of format version 1 in `testdata/golden/1`: made from seeds, never changed, read by every later version.
//!
//! `SEALIFT_WRITE_GOLDEN=1 cargo test -p bundle --test golden` writes them. They may change only while this format
//! version is not released; afterwards a difference means that a reader or writer broke a promise.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's own helpers may end the test"
)]

use std::io::Cursor;
use std::path::PathBuf;

use bundle::Digest;
use bundle::digest;
use bundle::head;
use bundle::index;
use bundle::key;
use bundle::limits;
use bundle::minisig;
use bundle::pieces;
use bundle::read;
use bundle::root;
use bundle::verify;
use bundle::write;

use bundle::head::HeadFiles;
use bundle::head::SignedFile;
use bundle::head::UntrustedHead;
use bundle::index::BundleIndex;
use bundle::index::Document;
use bundle::index::FileMode;
use bundle::index::FileRole;
use bundle::index::NodeFile;
use bundle::index::Stage;
use bundle::key::SecretKey;
use bundle::minisig::Signature;
use bundle::packing::Base;
use bundle::packing::BaseKind;
use bundle::revocations::Revocations;
use bundle::revocations::RevocationsType;
use bundle::root::TrustedRoot;
use bundle::tar;
use bundle::verify::Trust;
use bundle::write::WriteOptions;
use bundle::write::write_bundle;

#[expect(dead_code, reason = "the unit tests use the rest")]
#[path = "../src/testing.rs"]
mod testing;

use testing::Content;
use testing::GZIP_LAYER;
use testing::MemorySink;
use testing::PLAIN_LAYER;
use testing::noise;
use testing::secret_key;
use testing::text;

/// A bundle of version 1, what it was made from, and its file.
struct Golden {
    name: &'static str,
    content: Content,
    head: HeadFiles,
    options: WriteOptions,
}

#[test]
fn this_version_writes_the_golden_bundles() {
    for golden in all() {
        let mut out = Cursor::new(Vec::new());
        write_bundle(
            &golden.head,
            &golden.content,
            &mut out,
            &golden.options,
            &|_| {},
        )
        .unwrap();
        compare_or_write(golden.name, &out.into_inner());
    }
    compare_or_write("root.json", &testing::root().to_bytes().unwrap());
}

#[test]
fn this_version_reads_the_golden_bundles() {
    for golden in all() {
        let file = std::fs::read(path(golden.name)).unwrap();
        let mut payload = &file[..];
        let head = UntrustedHead::read(&mut payload)
            .unwrap()
            .verify(&trust())
            .unwrap();
        assert_eq!(head.head_files(), &golden.head);
        assert_eq!(head.signers().len(), 2);
        assert_eq!(head.verified().trust().root().root().version, 2);
        let mut sink = MemorySink::default();
        sink.here.extend(
            head.packing()
                .left_out(head.index())
                .iter()
                .map(|blob| blob.digest),
        );
        read::read_payload(&head, payload, &mut sink, &mut |_| {}).unwrap();
        let left_out = sink.here.iter();
        let mut expected = golden.content.blobs.clone();
        left_out.for_each(|digest| drop(expected.remove(digest)));
        assert_eq!(sink.blobs, expected, "{}", golden.name);
    }
}

fn compare_or_write(name: &str, bytes: &[u8]) {
    if std::env::var_os("SEALIFT_WRITE_GOLDEN").is_some() {
        std::fs::write(path(name), bytes).unwrap();
    }
    assert!(
        std::fs::read(path(name)).unwrap() == bytes,
        "{name} differs from what this version writes"
    );
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../testdata/golden/1", name]
        .iter()
        .collect()
}

/// What a site trusts that was given `root.json`, by whatever way.
fn trust() -> Trust {
    let json = std::fs::read(path("root.json")).unwrap();
    let fingerprint = Digest::of(&json);
    Trust::new(TrustedRoot::pin(json, &fingerprint).unwrap())
}

fn all() -> [Golden; 3] {
    let options = WriteOptions::default();
    let small = small();
    let index = add_document(small.index(), &small);
    let small_head = sign(&index);

    let mut large = self::small();
    let kubelet = text(9, (9 << 20) + 123);
    let kubelet = large.add("application/octet-stream", Stage::Node, kubelet);
    let mut index = add_document(large.index(), &large);
    index.files = vec![NodeFile {
        path: "kubelet".parse().unwrap(),
        role: FileRole::Kubelet,
        mode: FileMode::Program,
        digest: kubelet,
        platform: Some("linux/amd64".parse().unwrap()),
    }];
    let large_head = sign(&index);
    let delta = WriteOptions {
        omitted: [kubelet].into(),
        base: Some(Base {
            kind: BaseKind::Bundle,
            id: small_head.id(),
        }),
        ..options.clone()
    };
    [
        Golden {
            name: "small.airgap",
            content: small,
            head: small_head,
            options: options.clone(),
        },
        Golden {
            name: "large.airgap",
            content: large.clone(),
            head: large_head.clone(),
            options,
        },
        Golden {
            name: "delta.airgap",
            content: large,
            head: large_head,
            options: delta,
        },
    ]
}

/// Two real images that share a gzip layer, and a text.
fn small() -> Content {
    let mut content = Content::default();
    let base = archive("etc/base", &noise(1, 4000));
    let shared = (GZIP_LAYER, gzip(&base));
    for (name, seed) in [("web", 2), ("db", 3)] {
        let own = archive(&format!("usr/bin/{name}"), &text(seed, 3000));
        let config = format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Cmd\":[\"/usr/bin/{name}\"]}},\
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{}\",\"{}\"]}}}}",
            Digest::of(&base),
            Digest::of(&own),
        );
        let name = format!("registry.example/shop/{name}:1.4.0");
        content.add_image_with_config(&name, config, &[shared.clone(), (PLAIN_LAYER, own)]);
    }
    content.add("text/markdown", Stage::Documents, text(4, 1500));
    content
}

fn add_document(mut index: BundleIndex, content: &Content) -> BundleIndex {
    let document = index
        .blobs
        .iter()
        .find(|blob| blob.media_type == "text/markdown")
        .unwrap();
    assert!(content.blobs.contains_key(&document.digest));
    index.documents = vec![Document {
        path: "EULA.md".parse().unwrap(),
        digest: document.digest,
        accept: true,
    }];
    index.root_version = 2;
    index
}

/// Signs with two keys of root 2, and carries that root and a list of revocations.
fn sign(index: &BundleIndex) -> HeadFiles {
    let second = SecretKey::from_seed(&[8; 32]);
    let mut root = testing::root();
    root.version = 2;
    let listed = root::RootKey {
        alg: root::KeyAlgorithm::MinisignPrehashed,
        public: second.public(),
    };
    root.keys.insert(second.public().id(), listed);
    let role = root
        .roles
        .get_mut(&root::RoleName::Bundle(index.product.clone()))
        .unwrap();
    role.keys.insert(second.public().id());
    role.threshold = 2;
    let revocations = Revocations {
        document_type: RevocationsType::V1,
        vendor: index.vendor.clone(),
        sequence: 1,
        issued_at: index.released_at,
        keys: Vec::new(),
        bundles: [(Digest::of(b"a bad release"), "lost data".to_owned())].into(),
        licenses: [].into(),
        keep: [].into(),
    };
    let signature = |json: &[u8], purpose: &minisig::Purpose<'_>, key: &SecretKey| {
        Signature::sign(key, json, purpose).to_file().into_bytes()
    };
    let signed = |json: Vec<u8>, purpose: &minisig::Purpose<'_>| SignedFile {
        signatures: [(
            secret_key().public().id(),
            signature(&json, purpose, &secret_key()),
        )]
        .into(),
        json,
    };
    let mut head = testing::sign(index);
    let extra = signature(&head.bundle_json, &index.purpose(), &second);
    head.more_signatures.insert(second.public().id(), extra);
    head.roots
        .insert(2, signed(root.to_bytes().unwrap(), &root.purpose()));
    head.revocations = Some(signed(
        revocations.to_bytes().unwrap(),
        &revocations.purpose(),
    ));
    head
}

/// A tar with one file.
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut archive = tar::header(name, u64::try_from(bytes.len()).unwrap())
        .unwrap()
        .to_vec();
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

/// A gzip file of one stored block (RFC 1951, 1952), so that no compressor's version is in the golden bytes.
fn gzip(plain: &[u8]) -> Vec<u8> {
    let length = u16::try_from(plain.len()).unwrap();
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(!length).to_le_bytes());
    bytes.extend_from_slice(plain);
    bytes.extend_from_slice(&crc32(plain).to_le_bytes());
    bytes.extend_from_slice(&u32::from(length).to_le_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
