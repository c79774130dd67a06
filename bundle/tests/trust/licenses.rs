//! Licenses: edited, moved, for something else, ended, too small, and files that are none.

use std::time::Duration;

use bundle::Digest;
use bundle::clock::ClockFloor;
use bundle::head::HeadFiles;
use bundle::index::BundleIndex;
use bundle::index::CarriedLicense;
use bundle::license::Action;
use bundle::license::Bind;
use bundle::license::Feature;
use bundle::license::Features;
use bundle::license::License;
use bundle::license::LicenseError;
use bundle::license::Limits;
use bundle::license::Standing;
use bundle::license::VerifiedLicense;
use bundle::minisig::Purpose;
use bundle::minisig::Signature;
use bundle::timestamp::Timestamp;

use crate::fixtures::BUNDLE_KEY;
use crate::fixtures::Forged;
use crate::fixtures::LICENSE_KEY;
use crate::fixtures::OTHER_PRODUCT_KEY;
use crate::fixtures::STRANGER;
use crate::fixtures::index;
use crate::fixtures::license;
use crate::fixtures::license_file;
use crate::fixtures::refused;
use crate::fixtures::secret;
use crate::fixtures::trust;
use crate::fixtures::verified_license;

fn verify(file: Vec<u8>) -> Result<VerifiedLicense, LicenseError> {
    VerifiedLicense::verify(file, &trust())
}

/// Signs any bytes as if they were the fixture's license.
fn signed_text(json: &str) -> Vec<u8> {
    let signature = Signature::sign(&secret(LICENSE_KEY), json.as_bytes(), &license().purpose());
    [signature.to_file().as_bytes(), json.as_bytes()].concat()
}

fn text() -> String {
    String::from_utf8(license().to_bytes().unwrap()).unwrap()
}

/// Edits the signed text before it is signed, and requires that nobody reads it.
#[track_caller]
fn unreadable(from: &str, to: &str) {
    let edited = text().replacen(from, to, 1);
    assert_ne!(edited, text(), "{from} is not in the fixture");
    refused(verify(signed_text(&edited)), "LICENSE_FORM");
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn trial() -> VerifiedLicense {
    verified_license(&License {
        kind: bundle::license::LicenseKind::Trial,
        expires_at: Some(time("2026-12-31T00:00:00Z")),
        grace_days: 14,
        ..license()
    })
}

#[test]
fn a_license_is_accepted_and_kept_byte_for_byte() {
    let file = license_file(&license());
    let verified = verify(file.clone()).unwrap();
    assert_eq!(verified.license(), &license());
    assert_eq!(verified.file(), file);
    assert_eq!(verified.digest(), Digest::of(text().as_bytes()));
}

/// `tail -n +5` cuts the document off, so the first four lines are a signature file of it.
#[test]
fn the_file_is_a_signature_file_and_its_document() {
    let file = license_file(&license());
    let lines: Vec<_> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let key = crate::fixtures::public(LICENSE_KEY).to_base64();
    let key = minisign_verify::PublicKey::from_base64(&key).unwrap();
    let signature = std::str::from_utf8(&file).unwrap();
    let signature = minisign_verify::Signature::decode(signature).unwrap();
    key.verify(&lines[4..].concat(), &signature, false).unwrap();
}

#[test]
fn any_edited_field() {
    let file = String::from_utf8(license_file(&license())).unwrap();
    for (from, to) in [
        ("\"nodes\":10", "\"nodes\":11"),
        ("\"sequence\":7", "\"sequence\":8"),
        ("Harbor", "Marbor"),
        ("2027-06-30", "2028-06-30"),
        ("\"ha\":true", "\"ha\":null"),
        ("H-0193\",\"limits", "H-0194\",\"limits"),
    ] {
        let edited = file.replace(from, to);
        assert_ne!(edited, file, "{from}");
        refused(verify(edited.into_bytes()), "LICENSE_SIGNATURE");
    }
}

#[test]
fn any_flipped_bit_behind_the_first_line() {
    let trust = trust();
    let file = license_file(&license());
    let first_line = file.iter().position(|byte| *byte == b'\n').unwrap();
    for bit in first_line * 8..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(
            VerifiedLicense::verify(flipped, &trust).is_err(),
            "bit {bit}"
        );
    }
}

#[test]
fn a_license_by_the_wrong_key() {
    for seed in [STRANGER, BUNDLE_KEY, 1, OTHER_PRODUCT_KEY] {
        let file = license().to_file(&secret(seed)).unwrap();
        refused(verify(file), "LICENSE_UNTRUSTED_KEY");
    }
}

#[test]
fn a_signature_that_was_made_for_another_license() {
    let json = text();
    let (vendor, product) = ("acme", "shop");
    for purpose in [
        Purpose::License {
            vendor,
            product,
            id: "H-0194",
            sequence: 7,
        },
        Purpose::License {
            vendor,
            product,
            id: "H-0193",
            sequence: 8,
        },
        Purpose::License {
            vendor,
            product: "till",
            id: "H-0193",
            sequence: 7,
        },
        Purpose::Revocations {
            vendor,
            sequence: 7,
        },
    ] {
        let signature = Signature::sign(&secret(LICENSE_KEY), json.as_bytes(), &purpose);
        let file = [signature.to_file().as_bytes(), json.as_bytes()].concat();
        refused(verify(file), "LICENSE_SIGNATURE");
    }
}

#[test]
fn a_legacy_signature_or_two_of_them() {
    let comment = license().purpose().comment(&Digest::of(text().as_bytes()));
    let good = Forged::of(LICENSE_KEY, text().as_bytes(), &comment);
    let legacy = Forged {
        algorithm: *b"Ed",
        ..Forged::of(LICENSE_KEY, text().as_bytes(), &comment)
    };
    let file = |signature: &str| [signature.as_bytes(), text().as_bytes()].concat();
    assert!(verify(file(&good.text())).is_ok());
    refused(verify(file(&legacy.text())), "LICENSE_SIGNATURE_LEGACY");
    let twice = format!("{}{}", good.text(), good.text());
    refused(verify(file(&twice)), "LICENSE_SIGNATURE");
    refused(
        verify(file(&good.text().replace('\n', "\r\n"))),
        "LICENSE_SIGNATURE_FORM",
    );
}

#[test]
fn files_that_are_no_license() {
    for (given, named) in [
        ("PK\u{3}\u{4}x", "a zip archive"),
        ("-----BEGIN LICENSE FILE-----\n", "a keygen license file"),
        ("-----BEGIN PRIVATE KEY-----\n", "a PEM file"),
        (
            "apiVersion: kots.io/v1beta1\nkind: License\n",
            "a Replicated license",
        ),
        ("{\"_type\":1}", "JSON without a signature"),
        ("hello", "something else"),
        ("", "an empty file"),
    ] {
        let error = refused(verify(given.as_bytes().to_vec()), "LICENSE_FORM");
        assert!(error.to_string().ends_with(named), "{error}");
    }
}

#[test]
fn a_license_without_document_or_with_a_huge_one() {
    let file = license_file(&license());
    let lines: Vec<_> = file.split_inclusive(|byte| *byte == b'\n').collect();
    for count in 1..=4 {
        refused(verify(lines[..count].concat()), "LICENSE_FORM");
    }
    refused(verify(signed_text(&" ".repeat(300 << 10))), "LICENSE_FORM");
    let mut huge = license();
    huge.customer.name = "x".repeat(60 << 10);
    huge.supersedes = (0..5000)
        .map(|n| format!("{n:060}").parse().unwrap())
        .collect();
    refused(huge.to_file(&secret(LICENSE_KEY)), "LICENSE_FORM");
}

#[test]
fn a_signed_document_in_any_other_spelling() {
    refused(verify(signed_text("not json")), "LICENSE_FORM");
    refused(
        verify(signed_text(&text().replace('\n', "\r\n"))),
        "LICENSE_FORM",
    );
    refused(
        verify(signed_text(&format!("{}\n", text()))),
        "LICENSE_FORM",
    );
    unreadable("\"nodes\":10", "\"nodes\": 10");
    unreadable("\"nodes\":10", "\"nodes\":10,\"nodes\":10");
    unreadable("\"vendor\"", "\"note\":1,\"vendor\"");
    unreadable("license/v1", "license/v2");
    unreadable("license/v1", "bundle/v1");
}

#[test]
fn limits_that_are_no_numbers() {
    for wrong in [
        "-1",
        "0",
        "9223372036854775808",
        "4294967296",
        "1.5",
        "\"10\"",
    ] {
        unreadable("\"nodes\":10", &format!("\"nodes\":{wrong}"));
    }
}

#[test]
fn times_that_are_no_times() {
    for wrong in [
        "\"0001-01-01T00:00:00Z\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"2026-12-31T23:59:60Z\"",
        "\"2026-12-31T00:00:00+14:00\"",
        "\"2026-12-31t00:00:00z\"",
        "\"2026-12-31\"",
        "1798675200",
    ] {
        unreadable("\"expires_at\":null", &format!("\"expires_at\":{wrong}"));
    }
    unreadable("\"expires_at\":null,", "");
}

#[test]
fn licenses_that_contradict_themselves() {
    unreadable("\"channels\":[\"stable\"]", "\"channels\":[]");
    unreadable("production", "trial");
    unreadable(
        "\"updates_until\"",
        "\"supersedes\":[\"H-0193\"],\"updates_until\"",
    );
}

#[test]
fn an_entitlement_whose_value_is_of_another_type() {
    let entitled = |value_type: &str, value: &str| {
        let entry = format!(
            r#""entitlements":{{"seats":{{"title":"Seats","type":"{value_type}","value":{value}}}}},"expires_at""#
        );
        verify(signed_text(&text().replace("\"expires_at\"", &entry)))
    };
    assert!(entitled("integer", "5").is_ok());
    assert!(entitled("boolean", "true").is_ok());
    assert!(entitled("string", "\"5\"").is_ok());
    for (value_type, value) in [
        ("integer", "true"),
        ("integer", "\"5\""),
        ("integer", "9223372036854775808"),
        ("boolean", "1"),
        ("string", "5"),
        ("string", "null"),
        ("string", "[\"5\"]"),
        ("number", "5"),
    ] {
        refused(entitled(value_type, value), "LICENSE_FORM");
    }
}

#[test]
fn a_license_of_another_vendor() {
    let foreign = License {
        vendor: "acne".parse().unwrap(),
        ..license()
    };
    refused(verify(license_file(&foreign)), "LICENSE_VENDOR");
    let foreign = BundleIndex {
        vendor: "acne".parse().unwrap(),
        ..index()
    };
    refused(
        verified_license(&license()).allows_release(&foreign),
        "LICENSE_VENDOR",
    );
}

#[test]
fn a_license_for_another_product() {
    let unknown = License {
        product: "casino".parse().unwrap(),
        ..license()
    };
    refused(verify(license_file(&unknown)), "LICENSE_PRODUCT");
    let other = License {
        product: "till".parse().unwrap(),
        ..license()
    };
    refused(verify(license_file(&other)), "LICENSE_UNTRUSTED_KEY");
    let by_its_key = other.to_file(&secret(OTHER_PRODUCT_KEY)).unwrap();
    let verified = verify(by_its_key).unwrap();
    refused(verified.allows_release(&index()), "LICENSE_PRODUCT");
}

#[test]
fn a_release_of_another_channel() {
    let beta = BundleIndex {
        channel: "beta".parse().unwrap(),
        ..index()
    };
    refused(
        verified_license(&license()).allows_release(&beta),
        "LICENSE_CHANNEL",
    );
}

#[test]
fn a_release_from_after_the_end_of_updates() {
    let release = |released_at: &str| BundleIndex {
        released_at: time(released_at),
        ..index()
    };
    let license = verified_license(&license());
    assert!(
        license
            .allows_release(&release("2027-06-30T00:00:00Z"))
            .is_ok()
    );
    let late = license.allows_release(&release("2027-06-30T00:00:01Z"));
    refused(late, "LICENSE_UPDATES_ENDED");
}

#[test]
fn an_ended_license_blocks_growth_and_never_what_runs() {
    let now = time("2027-01-14T00:00:00Z");
    for action in [Action::Install, Action::Upgrade, Action::Grow] {
        refused(trial().allows_action(action, now), "LICENSE_EXPIRED");
    }
    for action in [Action::Replace, Action::Recover, Action::Run] {
        let standing = trial().allows_action(action, now).unwrap();
        let since = time("2026-12-31T00:00:00Z");
        assert_eq!(standing, Standing::Expired { since });
    }
}

#[test]
fn a_license_stands_valid_then_in_grace_then_expired() {
    let at = |now: &str| trial().standing(time(now));
    let (until, grace) = (time("2026-12-31T00:00:00Z"), time("2027-01-14T00:00:00Z"));
    assert_eq!(at("2026-12-30T23:59:59Z"), Standing::Valid { until });
    assert_eq!(at("2026-12-31T00:00:00Z"), Standing::Grace { until: grace });
    assert_eq!(at("2027-01-13T23:59:59Z"), Standing::Grace { until: grace });
    assert_eq!(
        at("2027-01-14T00:00:00Z"),
        Standing::Expired { since: until }
    );
    let endless = verified_license(&license()).standing(time("2500-01-01T00:00:00Z"));
    assert_eq!(endless, Standing::Endless);
}

#[test]
fn setting_the_clock_back_does_not_bring_a_license_back() {
    let floor = ClockFloor::at(time("2027-01-14T00:00:00Z"));
    for clock in [
        "1970-01-01T00:00:00Z",
        "2026-12-01T00:00:00Z",
        "2027-01-13T23:59:59Z",
    ] {
        let now = floor.now(time(clock));
        refused(
            trial().allows_action(Action::Install, now),
            "LICENSE_EXPIRED",
        );
    }
}

#[test]
fn one_bad_bios_date_does_not_burn_a_license() {
    let floor = ClockFloor::at(time("2026-11-24T00:00:00Z"));
    let after = floor.after(Duration::from_mins(10), time("2099-01-01T00:00:00Z"));
    let now = after.now(time("2026-11-25T00:00:00Z"));
    assert!(trial().allows_action(Action::Install, now).is_ok());
}

#[test]
fn a_cluster_at_its_limit_does_not_grow() {
    let license = verified_license(&license());
    assert!(license.allows_size(3, 10).is_ok());
    refused(license.allows_size(4, 10), "LICENSE_LIMIT");
    refused(license.allows_size(3, 11), "LICENSE_LIMIT");
    let unlimited = verified_license(&License {
        limits: Limits {
            masters: None,
            nodes: None,
        },
        ..crate::fixtures::license()
    });
    assert!(unlimited.allows_size(u32::MAX, u32::MAX).is_ok());
}

#[test]
fn features_that_it_does_not_hold() {
    for (feature, features) in [
        (Feature::Airgap, (false, true, true)),
        (Feature::Ha, (true, false, true)),
        (Feature::MultiNode, (true, true, false)),
    ] {
        let (airgap, ha, multi_node) = features;
        let license = verified_license(&License {
            features: Features {
                airgap,
                ha,
                multi_node,
            },
            ..license()
        });
        refused(license.allows_feature(feature), "LICENSE_FEATURE");
        assert!(
            verified_license(&crate::fixtures::license())
                .allows_feature(feature)
                .is_ok()
        );
    }
}

#[test]
fn a_license_that_is_bound_to_another_cluster() {
    let cluster_id = Some("6f9a".to_owned());
    let bound = verified_license(&License {
        bind: Bind { cluster_id },
        ..license()
    });
    assert!(bound.allows_cluster("6f9a").is_ok());
    refused(bound.allows_cluster("6f9b"), "LICENSE_CLUSTER");
    assert!(verified_license(&license()).allows_cluster("6f9b").is_ok());
}

/// An index that carries a license file.
fn carrying(file: &[u8], id: &str) -> (BundleIndex, CarriedLicense) {
    let entry = CarriedLicense {
        id: id.parse().unwrap(),
        digest: Digest::of(file),
    };
    (index(), entry)
}

#[test]
fn a_license_inside_a_bundle() {
    let file = license_file(&license());
    let (index, entry) = carrying(&file, "H-0193");
    let carried = |file: &[u8], entry: &CarriedLicense, index: &BundleIndex| {
        VerifiedLicense::verify_carried(file.to_vec(), entry, index, &trust())
    };
    assert!(carried(&file, &entry, &index).is_ok());
    let (_, other_name) = carrying(&file, "H-0194");
    refused(carried(&file, &other_name, &index), "LICENSE_ID");
    let other_file = license_file(&License {
        sequence: 8,
        ..license()
    });
    refused(carried(&other_file, &entry, &index), "LICENSE_DIGEST");
    let other_product = BundleIndex {
        product: "till".parse().unwrap(),
        ..index
    };
    refused(carried(&file, &entry, &other_product), "LICENSE_PRODUCT");
}

#[test]
fn a_license_is_no_bundle() {
    let json = text().into_bytes();
    let files = HeadFiles {
        signature: Some(license_file(&license())[..text().len()].to_vec()),
        bundle_json: json,
        ..HeadFiles::default()
    };
    refused(files.verify(&trust()), "BUNDLE_SIGNATURE_FORM");
}
