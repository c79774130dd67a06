//! Signatures of a bundle: missing, malformed, relabelled, moved, forged, by the wrong key, too few.

use bundle::head::HeadFiles;
use bundle::index::BundleIndex;
use bundle::key::KeyId;
use bundle::key::PublicKey;
use bundle::minisig::Purpose;
use bundle::minisig::Signature;
use bundle::verify::Trust;
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::Signer as _;

use crate::fixtures::BUNDLE_KEY;
use crate::fixtures::BUNDLE_KEY_2;
use crate::fixtures::Forged;
use crate::fixtures::LICENSE_KEY;
use crate::fixtures::OTHER_PRODUCT_KEY;
use crate::fixtures::ROOT_KEYS;
use crate::fixtures::STRANGER;
use crate::fixtures::bundle_role;
use crate::fixtures::head;
use crate::fixtures::index;
use crate::fixtures::pinned;
use crate::fixtures::public;
use crate::fixtures::refused;
use crate::fixtures::root;
use crate::fixtures::secret;
use crate::fixtures::trust;
use crate::fixtures::verify_with;

fn good() -> Forged {
    Forged::of_index(BUNDLE_KEY, &index())
}

#[test]
fn a_bundle_signed_by_its_role_is_accepted() {
    let verified = verify_with(&good().text()).unwrap();
    assert_eq!(verified.signers(), [public(BUNDLE_KEY).id()]);
    assert_eq!(verified.index(), &index());
}

#[test]
fn our_signature_is_the_one_that_minisign_would_make() {
    let ours = head(&index(), &[BUNDLE_KEY]).signature.unwrap();
    let by_hand = Forged {
        untrusted: format!("signature from sealift key {}", public(BUNDLE_KEY).id()),
        ..good()
    };
    assert_eq!(ours, by_hand.text().into_bytes());
}

#[test]
fn without_signature() {
    refused(
        head(&index(), &[]).verify(&trust()),
        "BUNDLE_SIGNATURE_MISSING",
    );
}

#[test]
fn a_real_legacy_signature() {
    let json = index().to_bytes().unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(&[BUNDLE_KEY; 32]);
    let document = key.sign(&json).to_bytes().to_vec();
    let global = [&document, good().comment.as_bytes()].concat();
    let legacy = Forged {
        algorithm: *b"Ed",
        global: key.sign(&global).to_bytes().to_vec(),
        document,
        ..good()
    };
    refused(verify_with(&legacy.text()), "BUNDLE_SIGNATURE_LEGACY");
}

#[test]
fn a_prehashed_signature_relabelled_as_legacy() {
    let relabelled = Forged {
        algorithm: *b"Ed",
        ..good()
    };
    refused(verify_with(&relabelled.text()), "BUNDLE_SIGNATURE_LEGACY");
}

#[test]
fn an_algorithm_that_nobody_knows() {
    let unknown = Forged {
        algorithm: *b"EC",
        ..good()
    };
    refused(verify_with(&unknown.text()), "BUNDLE_SIGNATURE_FORM");
}

#[test]
fn the_global_signature_in_place_of_the_signature() {
    let moved = Forged {
        document: good().global,
        ..good()
    };
    refused(verify_with(&moved.text()), "BUNDLE_SIGNATURE");
}

#[test]
fn a_changed_trusted_comment() {
    for comment in [
        good().comment.replace("seq=42", "seq=43"),
        format!("{} ", good().comment),
        format!(" {}", good().comment),
        good().comment.to_uppercase(),
    ] {
        let changed = Forged { comment, ..good() };
        refused(verify_with(&changed.text()), "BUNDLE_SIGNATURE");
    }
}

#[test]
fn a_control_character_in_a_comment() {
    for odd in ["\r", "\u{1b}[2J", "\u{85}", "\0"] {
        let trusted = Forged::of(
            BUNDLE_KEY,
            &index().to_bytes().unwrap(),
            &format!("{}{odd}", good().comment),
        );
        refused(verify_with(&trusted.text()), "BUNDLE_SIGNATURE_FORM");
        let untrusted = Forged {
            untrusted: odd.to_owned(),
            ..good()
        };
        refused(verify_with(&untrusted.text()), "BUNDLE_SIGNATURE_FORM");
    }
}

#[test]
fn a_good_signature_that_was_made_for_something_else() {
    let json = index().to_bytes().unwrap();
    let vendor = "acme";
    let (product, channel) = ("shop", "stable");
    let (epoch, sequence) = (1, 42);
    for purpose in [
        Purpose::Root { vendor, version: 1 },
        Purpose::Revocations { vendor, sequence },
        Purpose::License {
            vendor,
            product,
            id: "stable",
            sequence,
        },
        Purpose::Bundle {
            vendor: "acne",
            product,
            channel,
            epoch,
            sequence,
        },
        Purpose::Bundle {
            vendor,
            product: "till",
            channel,
            epoch,
            sequence,
        },
        Purpose::Bundle {
            vendor,
            product,
            channel: "beta",
            epoch,
            sequence,
        },
        Purpose::Bundle {
            vendor,
            product,
            channel,
            epoch: 2,
            sequence,
        },
        Purpose::Bundle {
            vendor,
            product,
            channel,
            epoch,
            sequence: 41,
        },
    ] {
        let signature = Signature::sign(&secret(BUNDLE_KEY), &json, &purpose);
        refused(verify_with(&signature.to_file()), "BUNDLE_SIGNATURE");
    }
    let plain_minisign = Forged::of(BUNDLE_KEY, &json, "timestamp:1795552355\tfile:m\thashed");
    let error = refused(verify_with(&plain_minisign.text()), "BUNDLE_SIGNATURE");
    assert!(
        error.to_string().contains("made for something else"),
        "{error}"
    );
}

#[test]
fn the_untrusted_comment_may_be_anything_and_changes_nothing() {
    let other = Forged {
        untrusted: "who cares \u{202e}".to_owned(),
        ..good()
    };
    let verified = verify_with(&other.text()).unwrap();
    assert_eq!(verified.id(), verify_with(&good().text()).unwrap().id());
}

#[test]
fn more_or_fewer_lines_or_other_line_ends() {
    let text = good().text();
    for wrong in [
        format!("{text}\n"),
        format!("{text}x"),
        format!("{text}{text}"),
        format!("\n{text}"),
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        text.replacen('\n', "\r\n", 1),
        text.trim_end().to_owned(),
        text.split_inclusive('\n').take(3).collect(),
        String::new(),
        text.replacen("untrusted comment: ", "untrusted comment:", 1),
        text.replacen("untrusted", "Untrusted", 1),
        text.replacen("\ntrusted comment: ", "\ntrusted comment ", 1),
        format!(
            "untrusted comment: {}\n{}",
            "x".repeat(1025),
            text.split_once('\n').unwrap().1
        ),
        format!("{text}{}", "\n".repeat(13_000)),
    ] {
        refused(verify_with(&wrong), "BUNDLE_SIGNATURE_FORM");
    }
}

#[test]
fn base64_that_is_not_canonical() {
    let text = good().text();
    let line = good().line_2();
    let global = text.lines().nth(3).unwrap().to_owned();
    let loose_bits = {
        // The last letter before the padding carries 2 bits that must be zero.
        let (body, _padding) = global.split_at(global.len() - 3);
        format!(
            "{body}{}==",
            if global.ends_with("A==") { 'B' } else { 'z' }
        )
    };
    for wrong in [
        text.replace(&global, global.trim_end_matches('=')),
        text.replace(&global, &format!("{global}=")),
        text.replace(&global, &loose_bits),
        text.replace(&line, &format!(" {line}")),
        text.replace(&line, &format!("{line} ")),
        text.replace(&line, &line[4..]),
        text.replace(&line, &format!("{line}AAAA")),
        text.replace(&line, &line.replace('R', "-")),
        text.replace(&line, ""),
    ] {
        refused(verify_with(&wrong), "BUNDLE_SIGNATURE_FORM");
    }
}

#[test]
fn a_known_key_id_over_a_signature_by_another_key() {
    let impostor = Forged {
        key_id: public(BUNDLE_KEY).id().to_bytes(),
        ..Forged::of_index(STRANGER, &index())
    };
    refused(verify_with(&impostor.text()), "BUNDLE_SIGNATURE");
}

#[test]
fn a_good_signature_under_the_id_of_another_known_key() {
    let mislabelled = Forged {
        key_id: public(BUNDLE_KEY_2).id().to_bytes(),
        ..good()
    };
    refused(verify_with(&mislabelled.text()), "BUNDLE_SIGNATURE");
}

#[test]
fn an_unknown_key() {
    refused(
        head(&index(), &[STRANGER]).verify(&trust()),
        "BUNDLE_UNTRUSTED_KEY",
    );
}

#[test]
fn a_key_of_another_role() {
    for seed in [LICENSE_KEY, ROOT_KEYS[0], OTHER_PRODUCT_KEY] {
        refused(
            head(&index(), &[seed]).verify(&trust()),
            "BUNDLE_UNTRUSTED_KEY",
        );
    }
}

#[test]
fn an_unknown_key_beside_a_good_one_is_passed_over() {
    let both = head(&index(), &[STRANGER, BUNDLE_KEY]);
    let verified = both.verify(&trust()).unwrap();
    assert_eq!(verified.signers(), [public(BUNDLE_KEY).id()]);
}

#[test]
fn a_broken_signature_beside_a_good_one_refuses_the_bundle() {
    let mut files = head(&index(), &[BUNDLE_KEY]);
    let other = head(
        &BundleIndex {
            sequence: 41,
            ..index()
        },
        &[BUNDLE_KEY_2],
    );
    files
        .more_signatures
        .insert(public(BUNDLE_KEY_2).id(), other.signature.unwrap());
    refused(files.verify(&trust()), "BUNDLE_SIGNATURE");
    files
        .more_signatures
        .insert(public(BUNDLE_KEY_2).id(), b"garbage".to_vec());
    refused(files.verify(&trust()), "BUNDLE_SIGNATURE_FORM");
}

#[test]
fn too_few_keys_for_the_threshold() {
    let mut strict = root();
    bundle_role(&mut strict, &[BUNDLE_KEY, BUNDLE_KEY_2], 2);
    let trust = Trust::new(pinned(&strict));
    refused(
        head(&index(), &[BUNDLE_KEY]).verify(&trust),
        "BUNDLE_THRESHOLD",
    );
    let both = head(&index(), &[BUNDLE_KEY, BUNDLE_KEY_2]);
    assert_eq!(both.verify(&trust).unwrap().signers().len(), 2);
}

#[test]
fn one_key_twice_counts_once() {
    let mut strict = root();
    bundle_role(&mut strict, &[BUNDLE_KEY, BUNDLE_KEY_2], 2);
    let trust = Trust::new(pinned(&strict));
    let once = head(&index(), &[BUNDLE_KEY]);
    for name in [public(BUNDLE_KEY).id(), public(BUNDLE_KEY_2).id()] {
        let mut twice = once.clone();
        twice
            .more_signatures
            .insert(name, once.signature.clone().unwrap());
        refused(twice.verify(&trust), "BUNDLE_THRESHOLD");
    }
}

#[test]
fn a_key_of_another_role_does_not_fill_the_threshold() {
    let mut strict = root();
    bundle_role(&mut strict, &[BUNDLE_KEY, BUNDLE_KEY_2], 2);
    let trust = Trust::new(pinned(&strict));
    let mixed = head(&index(), &[BUNDLE_KEY, OTHER_PRODUCT_KEY, LICENSE_KEY]);
    refused(mixed.verify(&trust), "BUNDLE_THRESHOLD");
}

#[test]
fn more_signatures_than_anybody_needs() {
    let mut files = head(&index(), &[BUNDLE_KEY]);
    let text = files.signature.clone().unwrap();
    for number in 0..16 {
        files
            .more_signatures
            .insert(KeyId::from_bytes([number; 8]), text.clone());
    }
    refused(files.verify(&trust()), "BUNDLE_SIGNATURE_FORM");
}

#[test]
fn any_flipped_bit_of_the_index_or_its_signature() {
    let trust = trust();
    let files = head(&index(), &[BUNDLE_KEY]);
    for bit in 0..files.bundle_json.len() * 8 {
        let mut flipped = files.clone();
        flipped.bundle_json[bit / 8] ^= 1 << (bit % 8);
        refused(flipped.verify(&trust), "BUNDLE_SIGNATURE");
    }
    let text = files.signature.clone().unwrap();
    let first_line = text.iter().position(|byte| *byte == b'\n').unwrap();
    for bit in first_line * 8..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let flipped = HeadFiles {
            signature: Some(flipped),
            ..files.clone()
        };
        assert!(flipped.verify(&trust).is_err(), "bit {bit}");
    }
}

#[test]
fn every_cut_of_a_signature() {
    let text = good().text();
    for end in 0..text.len() {
        refused(verify_with(&text[..end]), "BUNDLE_SIGNATURE_FORM");
    }
}

/// s + L is the same scalar in another spelling; RFC 8032 5.1.7 wants it refused.
#[test]
fn a_signature_with_an_unreduced_scalar() {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut forged = good();
    let mut carry = 0;
    for (byte, order) in forged.document[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    refused(verify_with(&forged.text()), "BUNDLE_SIGNATURE");
}

/// With the identity as key, `R = s·B` makes a signature of any message that a lax verifier takes.
#[test]
fn a_key_of_low_order_is_no_key() {
    for point in EIGHT_TORSION {
        let raw = point.compress().to_bytes();
        assert!(
            PublicKey::new(KeyId::from_bytes([1; 8]), &raw).is_err(),
            "{raw:x?}"
        );
    }
}

#[test]
fn a_key_in_a_second_spelling_is_no_key() {
    // y = 1 + p and y = p, and the identity with the sign bit set: encodings that RFC 8032 5.1.3 refuses.
    let mut y_is_p = [0xff; 32];
    (y_is_p[0], y_is_p[31]) = (0xed, 0x7f);
    let mut y_is_p_and_one = y_is_p;
    y_is_p_and_one[0] = 0xee;
    let mut negative_zero = [0; 32];
    (negative_zero[0], negative_zero[31]) = (1, 0x80);
    for raw in [y_is_p, y_is_p_and_one, negative_zero, [0xff; 32], [0; 32]] {
        assert!(
            PublicKey::new(KeyId::from_bytes([1; 8]), &raw).is_err(),
            "{raw:x?}"
        );
    }
}

/// y and y + p are one point; 19 values have such a second spelling.
#[test]
fn no_key_in_any_spelling_beyond_the_field_is_taken() {
    for above in 0..19_u8 {
        for sign in [0x7f, 0xff] {
            let mut raw = [0xff; 32];
            (raw[0], raw[31]) = (0xed + above, sign);
            assert!(
                PublicKey::new(KeyId::from_bytes([1; 8]), &raw).is_err(),
                "p + {above}"
            );
        }
    }
}

#[test]
fn a_key_with_a_part_of_low_order_is_no_key() {
    let honest = ed25519_dalek::SigningKey::from_bytes(&[BUNDLE_KEY; 32]);
    let point = honest.verifying_key().to_edwards();
    assert!(PublicKey::new(KeyId::from_bytes([1; 8]), &point.compress().to_bytes()).is_ok());
    for torsion in EIGHT_TORSION.into_iter().skip(1) {
        let raw = (point + torsion).compress().to_bytes();
        assert!(
            PublicKey::new(KeyId::from_bytes([1; 8]), &raw).is_err(),
            "{raw:x?}"
        );
    }
}

#[test]
fn a_bundle_of_another_vendor() {
    let foreign = BundleIndex {
        vendor: "acne".parse().unwrap(),
        ..index()
    };
    refused(
        head(&foreign, &[BUNDLE_KEY]).verify(&trust()),
        "BUNDLE_VENDOR",
    );
}

#[test]
fn a_product_that_the_root_does_not_name() {
    let unknown = BundleIndex {
        product: "casino".parse().unwrap(),
        ..index()
    };
    refused(
        head(&unknown, &[BUNDLE_KEY]).verify(&trust()),
        "BUNDLE_PRODUCT",
    );
}

#[test]
fn a_bundle_for_a_root_that_nobody_has() {
    let later = BundleIndex {
        root_version: 2,
        ..index()
    };
    refused(
        head(&later, &[BUNDLE_KEY]).verify(&trust()),
        "TRUST_ROOT_MISSING",
    );
}

#[test]
fn an_epoch_that_no_root_allows() {
    let later = BundleIndex {
        epoch: 2,
        ..index()
    };
    refused(head(&later, &[BUNDLE_KEY]).verify(&trust()), "BUNDLE_EPOCH");
}

#[test]
fn the_index_is_parsed_only_behind_its_signature() {
    let files = HeadFiles {
        bundle_json: b"{ not json".to_vec(),
        ..head(&index(), &[BUNDLE_KEY])
    };
    refused(files.verify(&trust()), "BUNDLE_SIGNATURE");
    let signed_garbage = HeadFiles {
        signature: Some(
            Forged::of(BUNDLE_KEY, b"{ not json", "x")
                .text()
                .into_bytes(),
        ),
        ..files
    };
    refused(signed_garbage.verify(&trust()), "BUNDLE_FORMAT");
}

#[test]
fn signing_twice_with_one_key_leaves_one_signature() {
    let files = head(
        &index(),
        &[BUNDLE_KEY, BUNDLE_KEY_2, BUNDLE_KEY, BUNDLE_KEY_2],
    );
    assert_eq!(files, head(&index(), &[BUNDLE_KEY, BUNDLE_KEY_2]));
    assert_eq!(files.signatures().count(), 2);
}
