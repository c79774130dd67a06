//! Revocations: old lists, two lists, lists about themselves, and what a list takes back.

use bundle::Digest;
use bundle::head::HeadFiles;
use bundle::license::VerifiedLicense;
use bundle::minisig::Purpose;
use bundle::revocations::Revocations;
use bundle::revocations::RevokedKey;
use bundle::revocations::TrustedRevocations;
use bundle::root::RoleName;
use bundle::verify::Trust;

use crate::fixtures::BUNDLE_KEY;
use crate::fixtures::BUNDLE_KEY_2;
use crate::fixtures::LICENSE_KEY;
use crate::fixtures::ROOT_KEYS;
use crate::fixtures::bundle_role;
use crate::fixtures::head;
use crate::fixtures::index;
use crate::fixtures::license;
use crate::fixtures::license_file;
use crate::fixtures::next_root;
use crate::fixtures::pinned;
use crate::fixtures::public;
use crate::fixtures::refused;
use crate::fixtures::release;
use crate::fixtures::revocations;
use crate::fixtures::role;
use crate::fixtures::root;
use crate::fixtures::signed;
use crate::fixtures::signed_list;
use crate::fixtures::signed_root;
use crate::fixtures::trust;

const TWO: [u8; 2] = [1, 3];

fn revoking_key(sequence: u64, seeds: &[u8]) -> Revocations {
    let keys = seeds.iter().map(|seed| RevokedKey {
        public: public(*seed),
        reason: "stolen".to_owned(),
    });
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|key| *key.public.raw());
    Revocations {
        keys,
        ..revocations(sequence)
    }
}

fn trust_with(list: &Revocations) -> Trust {
    trust()
        .advance_revocations(&signed_list(list, &TWO))
        .unwrap()
}

fn carrying(list: &Revocations, signers: &[u8]) -> HeadFiles {
    HeadFiles {
        revocations: Some(signed_list(list, signers)),
        ..head(&index(), &[BUNDLE_KEY])
    }
}

#[test]
fn a_list_is_signed_by_the_root_role() {
    let list = revocations(1);
    trust_with(&list);
    refused(
        trust().advance_revocations(&signed_list(&list, &[1])),
        "REVOCATIONS_THRESHOLD",
    );
    refused(
        trust().advance_revocations(&signed_list(&list, &[])),
        "REVOCATIONS_SIGNATURE_MISSING",
    );
    let others = [BUNDLE_KEY, BUNDLE_KEY_2];
    refused(
        trust().advance_revocations(&signed_list(&list, &others)),
        "REVOCATIONS_UNTRUSTED_KEY",
    );
    let purpose = Purpose::Root {
        vendor: "acme",
        version: 1,
    };
    let moved = signed(list.to_bytes().unwrap(), &purpose, &TWO);
    refused(trust().advance_revocations(&moved), "REVOCATIONS_SIGNATURE");
    let mut edited = signed_list(&list, &TWO);
    edited.json = revocations(2).to_bytes().unwrap();
    refused(
        trust().advance_revocations(&edited),
        "REVOCATIONS_SIGNATURE",
    );
}

#[test]
fn an_older_list_alone() {
    let newer = trust_with(&revocations(5));
    refused(
        newer.advance_revocations(&signed_list(&revocations(4), &TWO)),
        "REVOCATIONS_ROLLBACK",
    );
    assert_eq!(
        newer
            .advance_revocations(&signed_list(&revocations(5), &TWO))
            .unwrap(),
        newer
    );
}

#[test]
fn two_lists_with_one_sequence() {
    let known = trust_with(&revocations(5));
    let other = signed_list(&revoking_key(5, &[BUNDLE_KEY]), &TWO);
    refused(
        known.advance_revocations(&other),
        "REVOCATIONS_EQUIVOCATION",
    );
    let mut files = head(&index(), &[BUNDLE_KEY]);
    files.revocations = Some(other);
    refused(files.verify(&known), "REVOCATIONS_EQUIVOCATION");
}

#[test]
fn a_list_of_another_vendor() {
    let foreign = Revocations {
        vendor: "acne".parse().unwrap(),
        ..revocations(1)
    };
    refused(
        trust().advance_revocations(&signed_list(&foreign, &TWO)),
        "REVOCATIONS_VENDOR",
    );
}

#[test]
fn a_list_that_names_its_own_signers() {
    for seed in ROOT_KEYS {
        let list = signed_list(&revoking_key(1, &[seed]), &TWO);
        refused(trust().advance_revocations(&list), "REVOCATIONS_FORM");
    }
}

#[test]
fn a_bundle_that_is_kept_and_revoked() {
    let id = Digest::of(b"bundle");
    let both = Revocations {
        bundles: [(id, "bad".to_owned())].into(),
        keep: [id].into(),
        ..revocations(1)
    };
    refused(both.to_bytes(), "REVOCATIONS_FORM");
    let json = bundle::json::encode(&both).unwrap();
    refused(Revocations::parse(&json), "REVOCATIONS_FORM");
}

#[test]
fn keys_twice_or_out_of_order() {
    let mut list = revoking_key(1, &[BUNDLE_KEY, BUNDLE_KEY_2]);
    list.keys.reverse();
    refused(list.to_bytes(), "REVOCATIONS_FORM");
    list.keys.dedup_by_key(|_| ());
    list.keys.push(list.keys[0].clone());
    let json = bundle::json::encode(&list).unwrap();
    refused(Revocations::parse(&json), "REVOCATIONS_FORM");
}

#[test]
fn a_list_beyond_the_limit() {
    let mut file = signed_list(&revocations(1), &TWO);
    file.json = vec![b' '; bundle::limits::REVOCATIONS_BYTES_MAX + 1];
    refused(trust().advance_revocations(&file), "REVOCATIONS_FORM");
}

#[test]
fn a_bundle_by_a_revoked_key() {
    let trust = trust_with(&revoking_key(1, &[BUNDLE_KEY]));
    refused(
        head(&index(), &[BUNDLE_KEY]).verify(&trust),
        "BUNDLE_KEY_REVOKED",
    );
    let both = head(&index(), &[BUNDLE_KEY, BUNDLE_KEY_2])
        .verify(&trust)
        .unwrap();
    assert_eq!(both.signers(), [public(BUNDLE_KEY_2).id()]);
}

#[test]
fn a_revoked_key_does_not_fill_the_threshold() {
    let mut strict = root();
    bundle_role(&mut strict, &[BUNDLE_KEY, BUNDLE_KEY_2], 2);
    let list = signed_list(&revoking_key(1, &[BUNDLE_KEY]), &TWO);
    let trust = Trust::new(pinned(&strict))
        .advance_revocations(&list)
        .unwrap();
    refused(
        head(&index(), &[BUNDLE_KEY, BUNDLE_KEY_2]).verify(&trust),
        "BUNDLE_KEY_REVOKED",
    );
}

#[test]
fn a_kept_bundle_stays_good_although_its_key_is_revoked() {
    let kept = head(&index(), &[BUNDLE_KEY]);
    let list = Revocations {
        keep: [kept.id()].into(),
        ..revoking_key(1, &[BUNDLE_KEY])
    };
    let trust = trust_with(&list);
    assert!(kept.verify(&trust).is_ok());
    refused(
        head(&release(43), &[BUNDLE_KEY]).verify(&trust),
        "BUNDLE_KEY_REVOKED",
    );
}

#[test]
fn a_revoked_bundle() {
    let files = head(&index(), &[BUNDLE_KEY]);
    let list = Revocations {
        bundles: [(files.id(), "deletes data".to_owned())].into(),
        ..revocations(1)
    };
    let trust = trust_with(&list);
    refused(files.verify(&trust), "BUNDLE_REVOKED");
    assert_eq!(trust.bundle_revoked(&files.id()), Some("deletes data"));
}

#[test]
fn a_revoked_license_or_its_key() {
    let file = license_file(&license());
    let list = Revocations {
        licenses: [("H-0193".parse().unwrap(), "unpaid".to_owned())].into(),
        ..revocations(1)
    };
    refused(
        VerifiedLicense::verify(file.clone(), &trust_with(&list)),
        "LICENSE_REVOKED",
    );
    let by_key = trust_with(&revoking_key(1, &[LICENSE_KEY]));
    refused(
        VerifiedLicense::verify(file, &by_key),
        "LICENSE_KEY_REVOKED",
    );
}

#[test]
fn a_newer_list_in_a_bundle_counts_for_that_bundle_already() {
    let list = revoking_key(2, &[BUNDLE_KEY]);
    refused(carrying(&list, &TWO).verify(&trust()), "BUNDLE_KEY_REVOKED");
    let good = carrying(&revoking_key(2, &[BUNDLE_KEY_2]), &TWO);
    let learnt = good.verify(&trust_with(&revocations(1))).unwrap();
    assert_eq!(learnt.trust().revocations().unwrap().list().sequence, 2);
}

#[test]
fn an_older_list_in_a_bundle_does_not_replace_the_newer_one() {
    let newer = trust_with(&revoking_key(5, &[BUNDLE_KEY_2]));
    let verified = carrying(&revocations(4), &TWO).verify(&newer).unwrap();
    assert_eq!(verified.trust(), &newer);
}

#[test]
fn a_bundle_without_list_does_not_make_the_site_forget_its_own() {
    let known = trust_with(&revoking_key(5, &[BUNDLE_KEY]));
    refused(
        head(&index(), &[BUNDLE_KEY]).verify(&known),
        "BUNDLE_KEY_REVOKED",
    );
}

#[test]
fn a_carried_list_by_strangers_is_passed_over_and_a_broken_one_is_not() {
    let list = revoking_key(9, &[BUNDLE_KEY]);
    let verified = carrying(&list, &[98, 99]).verify(&trust()).unwrap();
    assert_eq!(verified.trust().revocations(), None);
    let mut broken = carrying(&list, &TWO);
    broken.revocations.as_mut().unwrap().json[5] ^= 1;
    refused(broken.verify(&trust()), "REVOCATIONS_SIGNATURE");
}

#[test]
fn a_stored_list_outlives_the_root_keys_that_signed_it() {
    let known = trust_with(&revoking_key(5, &[BUNDLE_KEY]));
    let file = known.revocations().unwrap().file().clone();
    let mut next = next_root(2);
    next.roles
        .insert(RoleName::Root, role(&[2, BUNDLE_KEY_2], 2));
    let next = pinned(&root())
        .advance(&signed_root(&next, &[1, 2, BUNDLE_KEY_2]))
        .unwrap();
    refused(
        TrustedRevocations::verify(&file, &next),
        "REVOCATIONS_UNTRUSTED_KEY",
    );
    let restored = TrustedRevocations::restore(file).unwrap();
    let trust = Trust::new(next).with_revocations(Some(restored));
    refused(
        head(&index(), &[BUNDLE_KEY]).verify(&trust),
        "BUNDLE_KEY_REVOKED",
    );
}
