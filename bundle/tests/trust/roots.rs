//! Trust roots: the first one, every step to the next, and roots that contradict themselves.

use std::collections::BTreeMap;

use bundle::Digest;
use bundle::head::HeadFiles;
use bundle::head::SignedFile;
use bundle::index::BundleIndex;
use bundle::key::KeyId;
use bundle::key::PublicKey;
use bundle::minisig::Purpose;
use bundle::root::KeyAlgorithm;
use bundle::root::Role;
use bundle::root::RoleName;
use bundle::root::Root;
use bundle::root::RootKey;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;

use crate::fixtures::BUNDLE_KEY;
use crate::fixtures::BUNDLE_KEY_2;
use crate::fixtures::ROOT_KEYS;
use crate::fixtures::STRANGER;
use crate::fixtures::bundle_role;
use crate::fixtures::head;
use crate::fixtures::index;
use crate::fixtures::next_root;
use crate::fixtures::pinned;
use crate::fixtures::public;
use crate::fixtures::refused;
use crate::fixtures::role;
use crate::fixtures::root;
use crate::fixtures::signed;
use crate::fixtures::signed_root;
use crate::fixtures::trust;

/// A root with new root keys 11, 12, 13, of which two must sign.
fn rotated(version: u32) -> Root {
    let mut rotated = next_root(version);
    for seed in [11, 12, 13] {
        let public = public(seed);
        let alg = KeyAlgorithm::MinisignPrehashed;
        rotated.keys.insert(public.id(), RootKey { alg, public });
    }
    rotated.roles.insert(RoleName::Root, role(&[11, 12, 13], 2));
    rotated
}

fn advance(next: &SignedFile) -> Result<TrustedRoot, bundle::root::RootError> {
    pinned(&root()).advance(next)
}

/// Changes the fixture and requires that nobody reads the result.
#[track_caller]
fn contradiction(change: impl FnOnce(&mut Root)) {
    let mut changed = root();
    change(&mut changed);
    let json = bundle::json::encode(&changed).unwrap();
    refused(Root::parse(&json), "ROOT_FORM");
    refused(changed.to_bytes(), "ROOT_FORM");
}

fn set_role(root: &mut Root, keys: &[u8], threshold: u32) {
    bundle_role(root, keys, threshold);
}

#[test]
fn the_first_root_is_the_one_of_the_fingerprint() {
    let json = root().to_bytes().unwrap();
    let fingerprint = Digest::of(&json);
    let trusted = TrustedRoot::pin(json.clone(), &fingerprint).unwrap();
    assert_eq!(trusted.fingerprint(), fingerprint);
    assert_eq!(TrustedRoot::restore(json).unwrap(), trusted);
    let other = Root { epoch: 2, ..root() };
    let other = other.to_bytes().unwrap();
    let error = refused(TrustedRoot::pin(other, &fingerprint), "TRUST_FINGERPRINT");
    assert_eq!(bundle::fault::Fault::facts(&error).len(), 2);
}

#[test]
fn any_flipped_bit_of_a_pinned_root() {
    let json = root().to_bytes().unwrap();
    let fingerprint = Digest::of(&json);
    for byte in 0..json.len() {
        let mut flipped = json.clone();
        flipped[byte] ^= 1;
        refused(TrustedRoot::pin(flipped, &fingerprint), "TRUST_FINGERPRINT");
    }
}

#[test]
fn the_next_root_is_signed_by_enough_keys_of_both() {
    let next = advance(&signed_root(&rotated(2), &[1, 2, 11, 12])).unwrap();
    assert_eq!(next.root().version, 2);
    let third = Root {
        version: 3,
        ..rotated(3)
    };
    let third = next.advance(&signed_root(&third, &[12, 13])).unwrap();
    assert_eq!(third.root().version, 3);
}

#[test]
fn a_root_signed_by_the_old_keys_only() {
    refused(
        advance(&signed_root(&rotated(2), &[1, 2])),
        "ROOT_UNTRUSTED_KEY",
    );
    refused(
        advance(&signed_root(&rotated(2), &[1, 2, 11])),
        "ROOT_THRESHOLD",
    );
}

#[test]
fn a_root_signed_by_the_new_keys_only() {
    refused(
        advance(&signed_root(&rotated(2), &[11, 12])),
        "ROOT_UNTRUSTED_KEY",
    );
    refused(
        advance(&signed_root(&rotated(2), &[1, 11, 12])),
        "ROOT_THRESHOLD",
    );
}

#[test]
fn a_root_signed_by_keys_of_other_roles() {
    let signers = [BUNDLE_KEY, BUNDLE_KEY_2, 7];
    refused(
        advance(&signed_root(&next_root(2), &signers)),
        "ROOT_UNTRUSTED_KEY",
    );
}

#[test]
fn a_root_without_signature() {
    refused(
        advance(&signed_root(&next_root(2), &[])),
        "ROOT_SIGNATURE_MISSING",
    );
}

#[test]
fn one_root_key_twice_counts_once() {
    let mut once = signed_root(&next_root(2), &[1]);
    let text = once.signatures.values().next().unwrap().clone();
    once.signatures.insert(public(2).id(), text);
    refused(advance(&once), "ROOT_THRESHOLD");
}

#[test]
fn a_skipped_root() {
    refused(
        advance(&signed_root(&next_root(3), &ROOT_KEYS)),
        "ROOT_VERSION",
    );
}

#[test]
fn the_same_root_again() {
    refused(advance(&signed_root(&root(), &ROOT_KEYS)), "ROOT_VERSION");
}

#[test]
fn the_last_root_there_can_be_has_no_next() {
    let last = pinned(&next_root(u32::MAX));
    refused(
        last.advance(&signed_root(&next_root(u32::MAX), &ROOT_KEYS)),
        "ROOT_VERSION",
    );
    refused(
        last.advance(&signed_root(&next_root(1), &ROOT_KEYS)),
        "ROOT_VERSION",
    );
}

#[test]
fn a_lower_epoch() {
    let start = Root { epoch: 5, ..root() };
    let lower = Root {
        epoch: 4,
        ..next_root(2)
    };
    refused(
        pinned(&start).advance(&signed_root(&lower, &ROOT_KEYS)),
        "ROOT_EPOCH",
    );
}

#[test]
fn a_root_of_another_vendor() {
    let foreign = Root {
        vendor: "acne".parse().unwrap(),
        ..next_root(2)
    };
    refused(advance(&signed_root(&foreign, &ROOT_KEYS)), "ROOT_VENDOR");
}

#[test]
fn signatures_of_a_root_that_were_made_for_something_else() {
    let json = next_root(2).to_bytes().unwrap();
    for purpose in [
        Purpose::Root {
            vendor: "acme",
            version: 1,
        },
        Purpose::Revocations {
            vendor: "acme",
            sequence: 2,
        },
    ] {
        let next = signed(json.clone(), &purpose, &ROOT_KEYS);
        refused(advance(&next), "ROOT_SIGNATURE");
    }
}

#[test]
fn a_changed_root() {
    let mut next = signed_root(&next_root(2), &ROOT_KEYS);
    next.json = next_root(3).to_bytes().unwrap();
    refused(advance(&next), "ROOT_SIGNATURE");
}

#[test]
fn a_root_that_is_parsed_only_behind_its_signatures() {
    let next = signed(b"{ not json".to_vec(), &next_root(2).purpose(), &[STRANGER]);
    refused(advance(&next), "ROOT_UNTRUSTED_KEY");
    let next = signed(b"{ not json".to_vec(), &next_root(2).purpose(), &ROOT_KEYS);
    refused(advance(&next), "ROOT_FORM");
}

#[test]
fn a_root_beyond_the_limit() {
    let mut huge = next_root(2);
    for number in 0..3000_u32 {
        let name = format!("bundle:p{number}").parse().unwrap();
        huge.roles.insert(name, role(&[BUNDLE_KEY], 1));
    }
    let json = bundle::json::encode(&huge).unwrap();
    assert!(json.len() > bundle::limits::ROOT_BYTES_MAX);
    refused(huge.to_bytes(), "ROOT_FORM");
    refused(
        advance(&signed(json, &huge.purpose(), &ROOT_KEYS)),
        "ROOT_FORM",
    );
}

#[test]
fn thresholds_that_mean_nothing() {
    contradiction(|root| set_role(root, &[BUNDLE_KEY], 0));
    contradiction(|root| set_role(root, &[BUNDLE_KEY], 2));
    contradiction(|root| set_role(root, &[], 1));
    contradiction(|root| set_role(root, &[], 0));
    contradiction(|root| set_role(root, &[BUNDLE_KEY], u32::MAX));
}

#[test]
fn a_role_for_a_key_that_is_not_listed() {
    contradiction(|root| set_role(root, &[STRANGER], 1));
}

#[test]
fn no_role_root_or_version_zero() {
    contradiction(|root| drop(root.roles.remove(&RoleName::Root)));
    contradiction(|root| root.version = 0);
}

#[test]
fn one_key_under_two_ids() {
    let twin = PublicKey::new(KeyId::from_bytes([9; 8]), public(BUNDLE_KEY).raw()).unwrap();
    contradiction(|root| {
        let alg = KeyAlgorithm::MinisignPrehashed;
        root.keys.insert(twin.id(), RootKey { alg, public: twin });
        let name: RoleName = "bundle:shop".parse().unwrap();
        let keys = [twin.id(), public(BUNDLE_KEY).id()].into();
        root.roles.insert(name, Role { keys, threshold: 2 });
    });
}

#[test]
fn a_key_under_an_id_that_is_not_its_own() {
    contradiction(|root| {
        let alg = KeyAlgorithm::MinisignPrehashed;
        let public = public(STRANGER);
        root.keys
            .insert(KeyId::from_bytes([9; 8]), RootKey { alg, public });
    });
}

#[test]
fn a_root_in_any_other_spelling() {
    let text = String::from_utf8(root().to_bytes().unwrap()).unwrap();
    let key = public(BUNDLE_KEY).to_base64();
    let weak = "RWQBAQEBAQEBAQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let first_role = r#""keys":[""#;
    let role_at = text.find(first_role).unwrap() + first_role.len();
    let id = &text[role_at..role_at + 16];
    for wrong in [
        text.replace("sealift/root/v1", "sealift/root/v2"),
        text.replace("sealift/root/v1", "sealift/license/v1"),
        text.replace("minisign-ED", "minisign-Ed"),
        text.replace("\"epoch\":1", "\"epoch\":1,\"epoch\":1"),
        text.replace("\"epoch\":1", "\"epoch\":1,\"\\u0065poch\":1"),
        text.replace("\"epoch\":1", "\"epoch\":1.0"),
        text.replace("\"epoch\":1", "\"epoch\":-1"),
        text.replace("\"epoch\":1", "\"epoch\": 1"),
        text.replace("\"epoch\":1", "\"epoch\":1,\"note\":1"),
        text.replace("\"version\":1", "\"version\":4294967297"),
        text.replacen(&format!("[\"{id}\""), &format!("[\"{id}\",\"{id}\""), 1),
        text.replace("license:shop", "licence:shop"),
        text.replace("license:shop", "license:Shop"),
        text.replace(&key, weak),
        text.replace(&key, &key.to_lowercase()),
        text.replace("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00"),
        format!("{text}\n"),
        text.trim_end().to_owned(),
        format!("[{text}]"),
    ] {
        assert_ne!(wrong, text);
        refused(Root::parse(wrong.as_bytes()), "ROOT_FORM");
    }
    assert_eq!(Root::parse(text.as_bytes()).unwrap(), root());
}

/// A bundle that carries roots 2 to `count` + 1, each with the same keys.
fn with_roots(count: u32) -> HeadFiles {
    let roots = (2..=count + 1).map(|version| {
        let next = signed_root(&next_root(version), &ROOT_KEYS[..2]);
        (version, next)
    });
    HeadFiles {
        roots: roots.collect(),
        ..head(&index(), &[BUNDLE_KEY])
    }
}

#[test]
fn a_site_that_skipped_years_walks_the_carried_roots() {
    let mut second = next_root(2);
    bundle_role(&mut second, &[BUNDLE_KEY_2], 1);
    let third = Root {
        epoch: 2,
        ..rotated(3)
    };
    let index = BundleIndex {
        root_version: 3,
        epoch: 2,
        sequence: 1,
        ..index()
    };
    let files = HeadFiles {
        roots: BTreeMap::from([
            (2, signed_root(&second, &[1, 2])),
            (3, signed_root(&third, &[1, 3, 11, 13])),
        ]),
        ..head(&index, &[BUNDLE_KEY])
    };
    let verified = files.verify(&trust()).unwrap();
    assert_eq!(verified.trust().root().root(), &third);
    // The same bundle is taken by a site that is already there, and by one in the middle.
    for known in [second, third.clone()] {
        let trust = Trust::new(pinned(&known));
        assert_eq!(files.verify(&trust).unwrap().trust().root().root(), &third);
    }
}

#[test]
fn a_new_root_takes_the_right_from_the_old_key() {
    let mut second = next_root(2);
    bundle_role(&mut second, &[BUNDLE_KEY_2], 1);
    let files = HeadFiles {
        roots: BTreeMap::from([(2, signed_root(&second, &[1, 2]))]),
        ..head(&index(), &[BUNDLE_KEY])
    };
    refused(files.verify(&trust()), "BUNDLE_UNTRUSTED_KEY");
}

#[test]
fn a_carried_root_that_does_not_hold_refuses_the_bundle() {
    let mut files = with_roots(1);
    files.roots = BTreeMap::from([(2, signed_root(&next_root(2), &[1]))]);
    refused(files.verify(&trust()), "ROOT_THRESHOLD");
}

#[test]
fn a_carried_root_under_the_number_of_another() {
    let mut files = with_roots(2);
    let third = files.roots.remove(&3).unwrap();
    files.roots.insert(2, third);
    refused(files.verify(&trust()), "ROOT_VERSION");
    let mut files = with_roots(1);
    let second = files.roots.remove(&2).unwrap();
    files.roots.insert(7, second);
    refused(files.verify(&trust()), "ROOT_VERSION");
}

#[test]
fn more_roots_than_anybody_walks() {
    assert_eq!(
        with_roots(4)
            .verify(&trust())
            .unwrap()
            .trust()
            .root()
            .root()
            .version,
        5
    );
    let mut files = with_roots(0);
    let same = signed_root(&next_root(2), &ROOT_KEYS);
    files.roots = (2..=1026).map(|version| (version, same.clone())).collect();
    refused(files.verify(&trust()), "TRUST_ROOT_MISSING");
}
