//! Heads: one encoding, and what is refused in another.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::fault::Fault as _;
use crate::head::HeadError;
use crate::head::HeadFiles;
use crate::head::SignedFile;
use crate::head::UntrustedHead;
use crate::head::members::decode;
use crate::head::members::encode;
use crate::key::KeyId;
use crate::limits;
use crate::read::ReadError;
use crate::tar;

fn key(number: u8) -> KeyId {
    KeyId::from_bytes([number; 8])
}

fn signed(json: &[u8], keys: &[u8]) -> SignedFile {
    SignedFile {
        json: json.to_vec(),
        signatures: keys
            .iter()
            .map(|number| (key(*number), vec![*number; 300]))
            .collect(),
    }
}

/// A head with everything in it.
fn full() -> HeadFiles {
    HeadFiles {
        bundle_json: b"{}\n".to_vec(),
        signature: Some(vec![b's'; 512]),
        more_signatures: signed(b"", &[1, 2]).signatures,
        roots: (2..5)
            .map(|version| (version, signed(b"root", &[3, 4])))
            .collect(),
        revocations: Some(signed(b"list", &[5])),
    }
}

fn member(name: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = tar::header(name, u64::try_from(body.len()).unwrap())
        .unwrap()
        .to_vec();
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn a_full_head_and_an_empty_one_are_read_back() {
    for files in [full(), HeadFiles::default()] {
        let plain = encode(&files, b"packing").unwrap();
        assert_eq!(decode(&plain).unwrap(), (files, b"packing".to_vec()));
    }
}

#[test]
fn every_changed_byte_of_a_header_or_padding_is_refused() {
    let files = full();
    let plain = encode(&files, b"packing").unwrap();
    let mut refused = 0;
    for at in 0..plain.len() {
        let mut bad = plain.clone();
        bad[at] ^= 1;
        match decode(&bad) {
            Err(_) => refused += 1,
            Ok((changed, packing)) => {
                assert!(changed != files || packing != b"packing", "byte {at}");
            }
        }
    }
    // Only the documents themselves may differ: they are checked by their signatures.
    let documents = 3 + 512 + 2 * 300 + 3 * (4 + 2 * 300) + 4 + 300 + 7;
    assert_eq!(refused, plain.len() - documents);
}

/// Heads whose members are each fine, but not together.
fn odd_heads() -> Vec<(&'static str, Vec<u8>)> {
    let index = member("bundle.json", b"{}\n");
    let packing = member("packing.json", b"packing");
    let signature = member("bundle.json.minisig", b"x");
    let root = |version: &str| member(&format!("trust/{version}.root.json"), b"root");
    let root_signature = member("trust/2.root.json.0101010101010101.minisig", b"x");
    let good = [
        &index[..],
        &signature,
        &root("2"),
        &root_signature,
        &packing,
    ]
    .concat();
    assert!(decode(&good).is_ok());
    vec![
        ("nothing", vec![]),
        ("no index", packing.clone()),
        ("index twice", [&index[..], &index, &packing].concat()),
        ("packing first", [&packing[..], &index].concat()),
        ("packing twice", [&index[..], &packing, &packing].concat()),
        (
            "a signature of nothing",
            [&index[..], &root_signature, &packing].concat(),
        ),
        (
            "a root signature before its root",
            [&index[..], &root_signature, &root("2"), &packing].concat(),
        ),
        (
            "a gap in the roots",
            [&index[..], &root("3"), &packing].concat(),
        ),
        ("root 1", [&index[..], &root("1"), &packing].concat()),
        ("root 02", [&index[..], &root("02"), &packing].concat()),
        ("root +2", [&index[..], &root("+2"), &packing].concat()),
        (
            "a second signature without the first",
            [
                &index[..],
                &member("sig/bundle.json.0101010101010101.minisig", b"x"),
                &packing,
            ]
            .concat(),
        ),
        (
            "a key in small letters",
            [
                &index[..],
                &signature,
                &member("sig/bundle.json.abababababababab.minisig", b"x"),
                &packing,
            ]
            .concat(),
        ),
        (
            "a blob",
            [&index[..], &member("blobs/sha256/00", b"x"), &packing].concat(),
        ),
        (
            "an escape",
            [&index[..], &member("../../etc/passwd", b"x"), &packing].concat(),
        ),
        (
            "an absolute name",
            [&index[..], &member("/etc/passwd", b"x"), &packing].concat(),
        ),
        ("an end", [&good[..], &[0; 1024]].concat()),
        ("a cut body", good[..good.len() - 512].to_vec()),
    ]
}

#[test]
fn a_head_needs_its_index_and_its_packing_and_whole_blocks() {
    let index = member("bundle.json", b"{}\n");
    let packing = member("packing.json", b"packing");
    assert_eq!(decode(&packing), Err(HeadError::Missing("bundle.json")));
    assert_eq!(decode(&index), Err(HeadError::Missing("packing.json")));
    let good = [index, packing].concat();
    assert!(decode(&good).is_ok());
    for cut in 1..512 {
        assert!(decode(&good[..good.len() - cut]).is_err(), "{cut}");
    }
}

#[test]
fn members_twice_unknown_or_out_of_order_are_refused() {
    for (name, bad) in odd_heads() {
        assert!(decode(&bad).is_err(), "{name}");
    }
}

#[test]
fn limits_hold_when_writing_and_so_when_reading() {
    type Change = fn(&mut HeadFiles);
    let too_large: [Change; 6] = [
        |files| files.bundle_json = vec![b'x'; limits::INDEX_BYTES_MAX + 1],
        |files| files.signature = Some(vec![b'x'; limits::SIGNATURE_BYTES_MAX + 1]),
        |files| {
            files.roots =
                BTreeMap::from([(2, signed(&vec![b'x'; limits::ROOT_BYTES_MAX + 1], &[]))]);
        },
        |files| {
            files.roots = (2..1027)
                .map(|version| (version, SignedFile::default()))
                .collect();
        },
        |files| {
            files.revocations = Some(signed(&vec![b'x'; limits::REVOCATIONS_BYTES_MAX + 1], &[]));
        },
        |files| files.more_signatures = signed(b"", &(0..16).collect::<Vec<u8>>()).signatures,
    ];
    for change in too_large {
        let mut files = full();
        change(&mut files);
        let error = encode(&files, b"packing").unwrap_err();
        assert!(matches!(error, HeadError::Limit { .. }), "{error}");
    }
    let packing = vec![b'x'; limits::PACKING_BYTES_MAX + 1];
    assert!(matches!(
        encode(&full(), &packing),
        Err(HeadError::Limit { .. })
    ));
}

#[test]
fn a_head_is_read_without_a_byte_of_what_follows() {
    let plain = encode(&full(), b"packing").unwrap();
    let mut file = Vec::new();
    crate::frame::write_raw(&plain, &mut file).unwrap();
    let head_bytes = file.len();
    file.extend_from_slice(b"payload");
    let mut reader = &file[..];
    let head = UntrustedHead::read(&mut reader).unwrap();
    assert_eq!(reader, b"payload");
    assert_eq!(usize::try_from(head.frame_bytes()), Ok(head_bytes));
    assert_eq!(head.head_files(), &full());
    for cut in 0..head_bytes {
        let error = UntrustedHead::read(&mut &file[..cut]).unwrap_err();
        assert!(matches!(error, ReadError::Truncated { .. }), "{error}");
        assert_eq!(error.code(), "BUNDLE_TRUNCATED");
    }
}

proptest! {
    #[test]
    fn whatever_is_accepted_has_one_encoding(
        order in proptest::collection::vec((0_usize..9, 0_usize..3), 0..8),
        edit in proptest::option::of((0_usize..4000, any::<u8>())),
    ) {
        let names = [
            "bundle.json", "bundle.json.minisig", "sig/bundle.json.0101010101010101.minisig", "trust/2.root.json",
            "trust/2.root.json.0101010101010101.minisig", "trust/3.root.json", "trust/revocations.json",
            "trust/revocations.json.0101010101010101.minisig", "packing.json",
        ];
        let bodies: [&[u8]; 3] = [b"", b"x", &[b'y'; 512]];
        let members = order.iter().map(|(name, body)| member(names[*name], bodies[*body]));
        let mut plain = members.collect::<Vec<_>>().concat();
        if let Some((at, byte)) = edit
            && let Some(place) = plain.get_mut(at)
        {
            *place = byte;
        }
        if let Ok((files, packing)) = decode(&plain) {
            prop_assert_eq!(encode(&files, &packing).unwrap(), plain);
        }
    }
}

#[test]
fn a_proof_and_its_index_make_the_head_again() {
    let head = full();
    let proof = head.proof().unwrap();
    let again = HeadFiles::from_proof(head.bundle_json.clone(), &proof).unwrap();
    assert_eq!(again, head);
    let whole = super::members::encode(&head, b"{}").unwrap();
    assert!(HeadFiles::from_proof(Vec::new(), &whole).is_err());
    for cut in (0..proof.len()).step_by(97) {
        assert!(HeadFiles::from_proof(Vec::new(), &proof[..cut]).is_err());
    }
}
