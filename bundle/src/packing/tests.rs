//! Packings: every number follows, or is refused.

use proptest::prelude::*;

use crate::digest::Digest;
use crate::fault::Fault as _;
use crate::index::BundleIndex;
use crate::index::Stage;
use crate::packing::Codec;
use crate::packing::Frame;
use crate::packing::Packing;
use crate::packing::PackingError;
use crate::read::ReadError;
use crate::testing::Content;
use crate::testing::GZIP_LAYER;
use crate::testing::gzip_like;
use crate::testing::read_head;
use crate::testing::text;
use crate::write::Effort;
use crate::write::WriteOptions;

/// Three members in frames of all kinds: compressed, stored, and one member over two frames.
fn good() -> (Packing, BundleIndex) {
    let mut content = Content::default();
    content.add("text/plain", Stage::Metadata, text(1, 17 << 20));
    content.add(GZIP_LAYER, Stage::Cluster, gzip_like(2, 1000));
    content.add("text/plain", Stage::Documents, text(3, 1000));
    packed(&content)
}

/// One member.
fn small() -> (Packing, BundleIndex) {
    let mut content = Content::default();
    content.add("text/plain", Stage::Metadata, text(1, 100));
    packed(&content)
}

fn packed(content: &Content) -> (Packing, BundleIndex) {
    let options = WriteOptions {
        effort: Effort::Fast,
        ..WriteOptions::default()
    };
    let head = read_head(&mut &content.write(&options)[..]).unwrap();
    (head.packing().clone(), head.index().clone())
}

fn parse(packing: &Packing, index: &BundleIndex) -> Result<Packing, PackingError> {
    let id = Digest::of(&index.to_bytes().unwrap());
    Packing::parse(&packing.to_bytes(), &id, index)
}

#[test]
fn first_and_count_say_which_members_a_frame_touches() {
    let (packing, index) = good();
    let table: Vec<_> = packing
        .frames
        .iter()
        .map(|frame| (frame.codec, frame.first, frame.count))
        .collect();
    assert_eq!(
        table,
        [
            (Codec::Zstd, 0, 2), // oci-layout, index.json
            (Codec::Zstd, 2, 1), // 16 MiB of the large text
            (Codec::Zstd, 2, 1), // the rest of it
            (Codec::Raw, 3, 2),  // its piece list, the layer
            (Codec::Zstd, 5, 1), // the small text
            (Codec::Raw, 6, 0),  // the end
        ],
    );
    assert_eq!(parse(&packing, &index).unwrap(), packing);
}

#[test]
fn the_length_depends_only_on_the_number_of_frames() {
    let (packing, _) = good();
    let mut other = packing.clone();
    other.total_size = (1 << 56) - 1;
    for frame in &mut other.frames {
        frame.offset = 1 << 56;
        frame.size = 67_200_000;
        frame.plain_size = 64 << 20;
        frame.codec = Codec::Raw;
        frame.first = 65_535;
        frame.count = 65_535;
    }
    assert_eq!(other.to_bytes().len(), packing.to_bytes().len());
}

#[test]
fn every_number_follows_from_the_others() {
    let (packing, index) = good();
    for frame in 0..packing.frames.len() {
        let changes: [fn(&mut Frame); 10] = [
            |frame| frame.offset += 1,
            |frame| frame.plain_size += 1,
            |frame| frame.plain_size -= 1,
            |frame| frame.plain_size = 0,
            |frame| frame.first += 1,
            |frame| frame.count += 1,
            |frame| frame.size = 0,
            |frame| frame.size = 99_999_999,
            |frame| frame.size += 1,
            |frame| frame.offset = u64::MAX,
        ];
        for change in changes {
            let mut bad = packing.clone();
            change(&mut bad.frames[frame]);
            assert!(parse(&bad, &index).is_err(), "{:?}", bad.frames[frame]);
        }
    }
}

#[test]
fn frames_missing_swapped_or_twice_are_refused() {
    let (packing, index) = good();
    let changes: [fn(&mut Packing); 10] = [
        |packing| packing.frames.truncate(5),
        |packing| {
            packing.frames.remove(0);
        },
        |packing| packing.frames.swap(1, 3),
        |packing| packing.frames.insert(2, packing.frames[2]),
        |packing| packing.frames.push(packing.frames[5]),
        |packing| packing.frames.clear(),
        |packing| packing.total_size += 1,
        |packing| packing.bundle = Digest::of(b"another"),
        |packing| {
            packing.omitted.insert(Digest::of(b"unknown"));
        },
        |packing| {
            packing.omitted.insert(packing.bundle);
        },
    ];
    for change in changes {
        let mut bad = packing.clone();
        change(&mut bad);
        assert!(parse(&bad, &index).is_err());
    }
}

#[test]
fn an_omission_that_the_frames_do_not_know_is_refused() {
    let (mut packing, index) = good();
    packing.omitted.insert(index.blobs[1].digest);
    assert!(parse(&packing, &index).is_err());
}

#[test]
fn a_codec_of_the_future_has_its_own_code() {
    let (packing, index) = good();
    let text = String::from_utf8(packing.to_bytes()).unwrap();
    let text = text.replacen("\"zstd\"", "\"tokens/1\"", 1);
    let error = Packing::parse(text.as_bytes(), &packing.bundle, &index).unwrap_err();
    assert!(
        matches!(error, PackingError::Codec { frame: 1, .. }),
        "{error}"
    );
    assert_eq!(ReadError::Packing(error).code(), "BUNDLE_CODEC");
}

#[test]
fn another_text_for_the_same_packing_is_refused() {
    let (packing, index) = good();
    let good = String::from_utf8(packing.to_bytes()).unwrap();
    for (from, to) in [
        ("\"first\":    0", "\"first\":0    "),
        ("\"first\":    0", "\"first\":   0"),
        ("\"base\":null", "\"base\": null"),
        ("]}\n", "]}"),
        ("\"omitted\":[]", "\"omitted\":[],\"more\":1"),
        ("packing/v1", "packing/v2"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(
            Packing::parse(bad.as_bytes(), &packing.bundle, &index).is_err(),
            "{to}"
        );
    }
}

proptest! {
    #[test]
    fn only_the_written_text_is_read(edits in proptest::collection::vec((0_usize..1700, any::<u8>()), 1..3)) {
        let (packing, index) = small();
        let mut bytes = packing.to_bytes();
        for (at, byte) in edits {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Ok(parsed) = Packing::parse(&bytes, &packing.bundle, &index) {
            prop_assert_eq!(parsed.to_bytes(), bytes);
        }
    }
}
