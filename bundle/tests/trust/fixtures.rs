//! A vendor with keys from seeds, and documents that are accepted.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::Digest as _;
use bundle::Digest;
use bundle::fault::Fault;
use bundle::head::HeadFiles;
use bundle::head::SignedFile;
use bundle::index::BundleIndex;
use bundle::key::PublicKey;
use bundle::key::SecretKey;
use bundle::license::License;
use bundle::license::VerifiedLicense;
use bundle::minisig::Purpose;
use bundle::minisig::Signature;
use bundle::revocations::Revocations;
use bundle::root::KeyAlgorithm;
use bundle::root::Role;
use bundle::root::RoleName;
use bundle::root::Root;
use bundle::root::RootKey;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;
use bundle::verify::TrustError;
use bundle::verify::VerifiedIndex;
use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;

pub(crate) const ROOT_KEYS: [u8; 3] = [1, 2, 3];
pub(crate) const BUNDLE_KEY: u8 = 4;
pub(crate) const BUNDLE_KEY_2: u8 = 5;
pub(crate) const OTHER_PRODUCT_KEY: u8 = 6;
pub(crate) const LICENSE_KEY: u8 = 7;
pub(crate) const STRANGER: u8 = 99;

/// The key of a seed.
pub(crate) fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> PublicKey {
    secret(seed).public()
}

pub(crate) fn root() -> Root {
    let seeds = [1, 2, 3, 4, 5, 6, 7];
    let keys = seeds.map(|seed| {
        let public = public(seed);
        let alg = KeyAlgorithm::MinisignPrehashed;
        (public.id(), RootKey { alg, public })
    });
    let roles = [
        ("root", role(&ROOT_KEYS, 2)),
        ("bundle:shop", role(&[BUNDLE_KEY, BUNDLE_KEY_2], 1)),
        ("bundle:till", role(&[OTHER_PRODUCT_KEY], 1)),
        ("license:shop", role(&[LICENSE_KEY], 1)),
        ("license:till", role(&[OTHER_PRODUCT_KEY], 1)),
    ];
    Root {
        document_type: bundle::root::RootType::V1,
        vendor: "acme".parse().unwrap(),
        version: 1,
        epoch: 1,
        issued_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        keys: BTreeMap::from(keys),
        roles: roles
            .map(|(name, role)| (name.parse().unwrap(), role))
            .into(),
    }
}

pub(crate) fn role(seeds: &[u8], threshold: u32) -> Role {
    let keys = seeds.iter().map(|seed| public(*seed).id());
    Role {
        keys: keys.collect(),
        threshold,
    }
}

/// Lets `seeds` sign bundles of shop, `threshold` of them.
pub(crate) fn bundle_role(root: &mut Root, seeds: &[u8], threshold: u32) {
    let name: RoleName = "bundle:shop".parse().unwrap();
    root.roles.insert(name, role(seeds, threshold));
}

/// The next root, signed by keys of both.
pub(crate) fn next_root(version: u32) -> Root {
    Root { version, ..root() }
}

pub(crate) fn signed_root(root: &Root, seeds: &[u8]) -> SignedFile {
    signed(root.to_bytes().unwrap(), &root.purpose(), seeds)
}

pub(crate) fn signed(json: Vec<u8>, purpose: &Purpose<'_>, seeds: &[u8]) -> SignedFile {
    let signatures = seeds.iter().map(|seed| {
        let signature = Signature::sign(&secret(*seed), &json, purpose);
        (signature.key_id(), signature.to_file().into_bytes())
    });
    let signatures = signatures.collect();
    SignedFile { json, signatures }
}

pub(crate) fn pinned(root: &Root) -> TrustedRoot {
    let json = root.to_bytes().unwrap();
    let fingerprint = Digest::of(&json);
    TrustedRoot::pin(json, &fingerprint).unwrap()
}

/// What a site trusts that has pinned root 1.
pub(crate) fn trust() -> Trust {
    Trust::new(pinned(&root()))
}

pub(crate) fn revocations(sequence: u64) -> Revocations {
    Revocations {
        document_type: bundle::revocations::RevocationsType::V1,
        vendor: "acme".parse().unwrap(),
        sequence,
        issued_at: "2026-02-01T00:00:00Z".parse().unwrap(),
        keys: Vec::new(),
        bundles: BTreeMap::new(),
        licenses: BTreeMap::new(),
        keep: BTreeSet::new(),
    }
}

pub(crate) fn signed_list(list: &Revocations, seeds: &[u8]) -> SignedFile {
    signed(list.to_bytes().unwrap(), &list.purpose(), seeds)
}

/// A bundle with nothing in it.
pub(crate) fn index() -> BundleIndex {
    let json = r#"{"_type":"sealift/bundle/v1","channel":"stable","epoch":1,"min_reader":"0.1.0","platforms":["linux/amd64"],"product":"shop","released_at":"2026-11-01T00:00:00Z","rollback_floor":0,"root_version":1,"sequence":42,"vendor":"acme","version":"1.4.0"}"#;
    BundleIndex::parse(format!("{json}\n").as_bytes()).unwrap()
}

pub(crate) fn release(sequence: u64) -> BundleIndex {
    BundleIndex {
        sequence,
        ..index()
    }
}

pub(crate) fn head(index: &BundleIndex, seeds: &[u8]) -> HeadFiles {
    let mut files = HeadFiles {
        bundle_json: index.to_bytes().unwrap(),
        ..HeadFiles::default()
    };
    for seed in seeds {
        files.sign(&secret(*seed)).unwrap();
    }
    files
}

/// A release that is signed and verified under root 1.
pub(crate) fn verified(index: &BundleIndex) -> VerifiedIndex {
    head(index, &[BUNDLE_KEY]).verify(&trust()).unwrap()
}

pub(crate) fn license() -> License {
    let json = r#"{"_type":"sealift/license/v1","bind":{"cluster_id":null},"channels":["stable"],"customer":{"id":"hch","name":"Harbor City Hospital"},"expires_at":null,"features":{"airgap":true,"ha":true,"multi_node":true},"grace_days":30,"issued_at":"2026-06-30T00:00:00Z","kind":"production","license_id":"H-0193","limits":{"masters":3,"nodes":10},"product":"shop","sequence":7,"updates_until":"2027-06-30T00:00:00Z","vendor":"acme"}"#;
    License::parse(format!("{json}\n").as_bytes()).unwrap()
}

pub(crate) fn license_file(license: &License) -> Vec<u8> {
    license.to_file(&secret(LICENSE_KEY)).unwrap()
}

pub(crate) fn verified_license(license: &License) -> VerifiedLicense {
    VerifiedLicense::verify(license_file(license), &trust()).unwrap()
}

/// A minisign signature by hand, with whatever is wrong in it.
pub(crate) struct Forged {
    pub(crate) untrusted: String,
    pub(crate) algorithm: [u8; 2],
    pub(crate) key_id: [u8; 8],
    pub(crate) document: Vec<u8>,
    pub(crate) comment: String,
    pub(crate) global: Vec<u8>,
}

impl Forged {
    /// The good signature that the others are made from.
    pub(crate) fn of(seed: u8, document: &[u8], comment: &str) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let prehash = blake2::Blake2b512::digest(document);
        let signature = key.sign(&prehash).to_bytes().to_vec();
        let global = key.sign(&[&signature, comment.as_bytes()].concat());
        Self {
            untrusted: "signature".to_owned(),
            algorithm: *b"ED",
            key_id: public(seed).id().to_bytes(),
            document: signature,
            comment: comment.to_owned(),
            global: global.to_bytes().to_vec(),
        }
    }

    /// A good signature of an index.
    pub(crate) fn of_index(seed: u8, index: &BundleIndex) -> Self {
        let json = index.to_bytes().unwrap();
        Self::of(seed, &json, &index.purpose().comment(&Digest::of(&json)))
    }

    pub(crate) fn line_2(&self) -> String {
        STANDARD.encode([&self.algorithm[..], &self.key_id, &self.document].concat())
    }

    pub(crate) fn text(&self) -> String {
        format!(
            "untrusted comment: {}\n{}\ntrusted comment: {}\n{}\n",
            self.untrusted,
            self.line_2(),
            self.comment,
            STANDARD.encode(&self.global)
        )
    }
}

/// Verifies the fixture's index with a signature file as it is given.
pub(crate) fn verify_with(signature: &str) -> Result<VerifiedIndex, TrustError> {
    let files = HeadFiles {
        signature: Some(signature.as_bytes().to_vec()),
        ..head(&index(), &[])
    };
    files.verify(&trust())
}

/// Requires a refusal with a code, and that it tells what to do.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug, E: Fault>(result: Result<T, E>, code: &str) -> E {
    let error = result.expect_err(code);
    assert_eq!(error.code(), code, "{error}: {:?}", error.facts());
    assert!(error.hint().is_some(), "{code} has no hint");
    error
}
