//! The index: what can be said, and what is refused.

use crate::fault::Fault as _;
use crate::index::BlobEntry;
use crate::index::BundleIndex;
use crate::index::Document;
use crate::index::IndexError;
use crate::index::MemberKind;
use crate::index::Problem;
use crate::index::Stage;
use crate::oci;
use crate::testing::Content;
use crate::testing::GZIP_LAYER;
use crate::testing::gzip_like;

fn content() -> Content {
    let mut content = Content::default();
    content.add_image(
        "registry.example/shop/web:1",
        &[(GZIP_LAYER, gzip_like(1, 100))],
    );
    content.add(GZIP_LAYER, Stage::Cluster, gzip_like(2, 9 << 20));
    content
}

fn parse_changed(from: &str, to: &str) -> Result<BundleIndex, IndexError> {
    let text = String::from_utf8(content().index().to_bytes().unwrap()).unwrap();
    assert!(text.contains(from), "{text}");
    BundleIndex::parse(text.replacen(from, to, 1).as_bytes())
}

fn problems_of(change: impl FnOnce(&mut BundleIndex)) -> Vec<Problem> {
    let mut index = content().index();
    change(&mut index);
    index.validate()
}

#[test]
fn parsing_and_writing_give_the_same_bytes() {
    let index = content().index();
    let bytes = index.to_bytes().unwrap();
    let parsed = BundleIndex::parse(&bytes).unwrap();
    assert_eq!(parsed, index);
    assert_eq!(parsed.to_bytes().unwrap(), bytes);
}

#[test]
fn a_later_bundle_says_which_version_it_needs() {
    for (from, to) in [
        (
            "\"min_reader\":\"0.1.0\"",
            "\"min_reader\":\"7.2.0\",\"news\":[1]",
        ),
        ("sealift/bundle/v1", "sealift/bundle/v2"),
    ] {
        let error = parse_changed(from, to).unwrap_err();
        assert_eq!(error.code(), "BUNDLE_TOO_NEW", "{error}");
        assert!(error.hint().unwrap().contains("or later"));
    }
}

#[test]
fn another_text_for_the_same_index_is_refused() {
    for (from, to) in [
        ("{\"_type\"", "{ \"_type\""),
        ("\"vendor\":\"acme\"", "\"vendor\":\"\\u0061cme\""),
        ("\"epoch\":1", "\"epoch\":1,\"epoch\":1"),
        ("\"epoch\":1", "\"epoch\":1,\"required\":false"),
        ("\"epoch\":1", "\"epoch\":1,\"unknown\":1"),
        ("\"epoch\":1", "\"epoch\":1.0"),
        ("sealift/bundle/v1", "other/bundle/v1"),
        ("\"stage\":0", "\"stage\":5"),
        ("\"vendor\":\"acme\"", "\"vendor\":\"ac;me\""),
        ("sha256:", "sha512:"),
    ] {
        let error = parse_changed(from, to).unwrap_err();
        assert_eq!(error.code(), "BUNDLE_FORMAT", "{to}: {error}");
    }
}

#[test]
fn every_contradiction_is_found() {
    let digest = crate::Digest::of(b"not listed");
    assert_eq!(problems_of(|_| {}), []);
    let problems = problems_of(|index| {
        index.platforms.clear();
        index.rollback_floor = 43;
        index.root_version = 0;
        index.images[0].digest = digest;
        index.documents = vec![
            Document {
                path: "EULA.md".parse().unwrap(),
                digest,
                accept: true
            };
            2
        ];
    });
    assert_eq!(problems.len(), 7, "{problems:?}");
    assert!(problems.contains(&Problem::NoPlatform));
    assert!(problems.contains(&Problem::RootVersion));
    assert!(problems.contains(&Problem::Floor {
        floor: 43,
        sequence: 42
    }));
}

#[test]
fn blobs_out_of_order_or_twice_are_refused() {
    assert!(matches!(
        problems_of(|index| index.blobs.reverse())[..],
        [Problem::Order(_), ..]
    ));
    let twice = problems_of(|index| {
        let mut blob = index.blobs[0].clone();
        blob.stage = Stage::Documents;
        index.blobs.push(blob);
    });
    assert!(matches!(twice[..], [Problem::Twice(_)]), "{twice:?}");
    let list_as_blob = problems_of(|index| {
        let pieces = index.blobs.iter().find_map(|blob| blob.pieces).unwrap();
        index.blobs.push(BlobEntry {
            digest: pieces,
            size: 1,
            media_type: "text/plain".to_owned(),
            stage: Stage::Documents,
            pieces: None,
        });
    });
    assert!(
        matches!(list_as_blob[..], [Problem::Twice(_)]),
        "{list_as_blob:?}"
    );
}

#[test]
fn a_blob_has_a_piece_list_exactly_when_it_is_large() {
    let with = problems_of(|index| index.blobs[0].pieces = Some(crate::Digest::of(b"list")));
    assert!(
        matches!(with[..], [Problem::Pieces { listed: true, .. }]),
        "{with:?}"
    );
    let without = problems_of(|index| index.blobs.iter_mut().for_each(|blob| blob.pieces = None));
    assert!(
        matches!(without[..], [Problem::Pieces { listed: false, .. }]),
        "{without:?}"
    );
    let huge = problems_of(|index| index.blobs.iter_mut().for_each(|blob| blob.size = u64::MAX));
    assert!(
        huge.iter().any(|it| matches!(it, Problem::BlobSize { .. })),
        "{huge:?}"
    );
}

#[test]
fn a_blob_has_a_media_type_and_an_image_that_of_an_image() {
    for bad in [
        "",
        "text",
        "text/",
        "text/pl ain",
        "a/b/c",
        "text/plain\n",
        crate::pieces::MEDIA_TYPE,
    ] {
        let problems = problems_of(|index| index.blobs[2].media_type = bad.to_owned());
        assert!(
            problems
                .iter()
                .any(|it| matches!(it, Problem::MediaType { .. })),
            "{bad}"
        );
    }
    let layer = problems_of(|index| index.images[0].digest = index.blobs[2].digest);
    assert!(
        matches!(layer[..], [Problem::NotAnImage { .. }]),
        "{layer:?}"
    );
    let twice = problems_of(|index| index.images.push(index.images[0].clone()));
    assert!(matches!(twice[..], [Problem::ImageTwice(_)]), "{twice:?}");
}

#[test]
fn a_piece_list_follows_its_blob() {
    let members = content().index().members();
    assert_eq!(members.len(), 5);
    let list = members
        .iter()
        .position(|it| matches!(it.kind, MemberKind::PieceList { .. }))
        .unwrap();
    assert_eq!(
        members[list].kind,
        MemberKind::PieceList {
            of: members[list - 1].digest
        }
    );
    assert_eq!(
        members[list - 1].kind,
        MemberKind::Blob {
            pieces: Some(members[list].digest)
        }
    );
    assert_eq!(members[list].size, 24 + 3 * 32);
    assert!(
        members
            .windows(2)
            .all(|pair| pair[0].stage <= pair[1].stage)
    );
}

#[test]
fn the_layout_names_each_image_in_full() {
    let index = content().index();
    let layout: serde_json::Value =
        serde_json::from_slice(&oci::oci_index_bytes(&index).unwrap()).unwrap();
    let manifest = &layout["manifests"][0];
    assert_eq!(layout["schemaVersion"], 2);
    assert_eq!(manifest["digest"], index.images[0].digest.to_string());
    assert_eq!(
        manifest["annotations"]["org.opencontainers.image.ref.name"],
        "registry.example/shop/web:1",
    );
}
