//! Written bundles: the same bytes, whatever the threads and the order of arrival.

mod late;

use std::cell::Cell;
use std::io::Cursor;
use std::io::Read;
use std::sync::LazyLock;

use crate::head::HeadFiles;
use crate::index::Stage;
use crate::key::SecretKey;
use crate::limits;
use crate::minisig::Signature;
use crate::packing::Codec;
use crate::testing::Content;
use crate::testing::GZIP_LAYER;
use crate::testing::MemorySink;
use crate::testing::PLAIN_LAYER;
use crate::testing::gzip_like;
use crate::testing::noise;
use crate::testing::read;
use crate::testing::read_head;
use crate::testing::sign;
use crate::testing::text;
use crate::write::Effort;
use crate::write::WriteError;
use crate::write::WriteEvent;
use crate::write::WriteOptions;
use crate::write::replace_head;
use crate::write::write_bundle;

fn fast() -> WriteOptions {
    WriteOptions {
        effort: Effort::Fast,
        ..WriteOptions::default()
    }
}

/// Members of all kinds and sizes around every cut.
static VARIED: LazyLock<Content> = LazyLock::new(|| {
    let mut content = Content::default();
    content.add_image(
        "registry.example/shop/web:1",
        &[
            (GZIP_LAYER, gzip_like(1, 9 << 20)),
            (PLAIN_LAYER, text(2, 18 << 20)),
            (GZIP_LAYER, gzip_like(3, 511)),
        ],
    );
    content.add_image(
        "registry.example/shop/db:1",
        &[(GZIP_LAYER, gzip_like(4, 128 << 10))],
    );
    for (seed, bytes) in (10..).zip([
        0,
        1,
        511,
        512,
        513,
        (128 << 10) - 512,
        128 << 10,
        (1 << 20) - 512,
    ]) {
        let blob = noise(seed, bytes);
        if bytes > 0 || seed == 10 {
            content.add("application/octet-stream", Stage::Documents, blob);
        }
    }
    content
});

/// [`VARIED`], written once.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| VARIED.write(&fast()));

#[test]
fn what_is_written_is_read_back() {
    let content = &*VARIED;
    let (bytes, written) = content.try_write(&fast()).unwrap();
    assert_eq!(usize::try_from(written.size), Ok(bytes.len()));
    let mut sink = MemorySink::default();
    let summary = read(&bytes, &mut sink).unwrap();
    assert_eq!(sink.blobs, content.blobs);
    assert_eq!(summary.members, summary.wanted);
    assert_eq!(sink.lists.len(), 2);
    let head = read_head(&mut &bytes[..]).unwrap();
    assert_eq!(head.file_bytes(), written.size);
    assert_eq!(head.packing().frames.len() + 1, written.frames);
    assert_eq!(head.id(), written.id);
}

#[test]
fn other_tools_read_the_whole_as_one_tar() {
    let (content, bytes) = (&*VARIED, &BYTES[..]);
    let mut plain = Vec::new();
    zstd::stream::read::Decoder::new(bytes)
        .unwrap()
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(plain.len() % 512, 0);
    assert_eq!(plain[plain.len() - 1024..], [0; 1024]);
    let (mut names, mut offset) = (Vec::new(), 0);
    while plain[offset] != 0 {
        let name = String::from_utf8_lossy(&plain[offset..offset + 100]);
        names.push(name.trim_end_matches('\0').to_owned());
        let size = std::str::from_utf8(&plain[offset + 124..offset + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        offset += 512 + size.next_multiple_of(512);
    }
    assert_eq!(offset + 1024, plain.len());
    let head = [
        "bundle.json",
        "bundle.json.minisig",
        "packing.json",
        "oci-layout",
        "index.json",
    ];
    assert_eq!(names[..5], head);
    assert_eq!(names.len(), 5 + content.blobs.len());
}

#[test]
fn compressed_blobs_are_stored_and_others_compressed() {
    let bytes = &BYTES[..];
    let head = read_head(&mut &bytes[..]).unwrap();
    let members = head.packing().carried(head.index());
    for (number, member) in (2..).zip(&members) {
        let stored =
            member.media_type == GZIP_LAYER || member.media_type == crate::pieces::MEDIA_TYPE;
        let frames = head.packing().frames.iter();
        let mut frames =
            frames.filter(|frame| (frame.first..frame.first + frame.count).contains(&number));
        assert!(
            frames.all(|frame| (frame.codec == Codec::Raw) == stored),
            "{member:?}"
        );
    }
    assert!(
        head.packing()
            .frames
            .iter()
            .all(|frame| frame.plain_size <= limits::FRAME_PLAIN_BYTES_MAX)
    );
}

#[test]
fn a_media_type_alone_does_not_store_a_blob() {
    let mut content = Content::default();
    content.add(GZIP_LAYER, Stage::Application, text(1, 100_000));
    assert!(content.write(&fast()).len() < 50_000);
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    assert!(VARIED.write(&fast()) == *BYTES);
}

#[test]
fn a_blob_that_changed_since_it_was_indexed_stops_the_writing() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 3] = [
        ("digest", |blob| blob[5] ^= 1),
        ("size", |blob| blob.push(0)),
        ("size", |blob| blob.truncate(512)),
    ];
    for (field, change) in changes {
        let mut content = VARIED.clone();
        let head = content.head();
        let (digest, _) = content
            .blobs
            .iter()
            .find(|(_, blob)| blob.len() == 513)
            .unwrap();
        change(content.blobs.get_mut(&digest.clone()).unwrap());
        let error = write_bundle(
            &head,
            &content,
            &mut Cursor::new(Vec::new()),
            &fast(),
            &|_| {},
        );
        let error = error.unwrap_err();
        assert!(
            matches!(error, WriteError::Blob { field: found, .. } if found == field),
            "{error}"
        );
    }
}

#[test]
fn a_wrong_piece_list_stops_the_writing() {
    let mut content = Content::default();
    let blob = content.add(GZIP_LAYER, Stage::Application, gzip_like(1, 9 << 20));
    let mut index = content.index();
    index.blobs[0].pieces = Some(crate::Digest::of(b"another list"));
    let head = sign(&index);
    let error = write_bundle(
        &head,
        &content,
        &mut Cursor::new(Vec::new()),
        &fast(),
        &|_| {},
    )
    .unwrap_err();
    assert!(
        matches!(error, WriteError::Blob { digest, field: "digest of its piece list", .. } if digest == blob),
        "{error}",
    );
}

#[test]
fn a_missing_blob_is_named() {
    let mut content = VARIED.clone();
    let head = content.head();
    let digest = *content.blobs.keys().next().unwrap();
    content.blobs.remove(&digest);
    let error = write_bundle(
        &head,
        &content,
        &mut Cursor::new(Vec::new()),
        &fast(),
        &|_| {},
    )
    .unwrap_err();
    assert!(
        matches!(error, WriteError::Source { digest: named, .. } if named == digest),
        "{error}"
    );
}

#[test]
fn a_full_disk_stops_the_writing() {
    struct Small(Cursor<Vec<u8>>);
    impl std::io::Write for Small {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.get_ref().len() > 3 << 20 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl std::io::Seek for Small {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }
    let content = &*VARIED;
    let mut out = Small(Cursor::new(Vec::new()));
    let error = write_bundle(&content.head(), content, &mut out, &fast(), &|_| {}).unwrap_err();
    assert_eq!(crate::fault::Fault::code(&error), "DISK_FULL");
}

#[test]
fn progress_ends_at_the_total() {
    let content = &*VARIED;
    let last = Cell::new((0, 1));
    write_bundle(
        &content.head(),
        content,
        &mut Cursor::new(Vec::new()),
        &fast(),
        &|event| {
            let WriteEvent::Progress {
                plain_bytes,
                plain_bytes_total,
            } = event;
            assert!(plain_bytes > last.get().0);
            last.set((plain_bytes, plain_bytes_total));
        },
    )
    .unwrap();
    assert_eq!(last.get().0, last.get().1);
}

#[test]
fn a_new_head_leaves_the_payload_as_it_is() {
    let content = &*VARIED;
    let mut head = content.head();
    let unsigned = HeadFiles {
        signature: None,
        ..head.clone()
    };
    let mut old = Cursor::new(Vec::new());
    write_bundle(&unsigned, content, &mut old, &fast(), &|_| {}).unwrap();
    let old = old.into_inner();
    let other = SecretKey::from_seed(&[8; 32]);
    let signature = Signature::sign(&other, &head.bundle_json, &content.index().purpose());
    let signature = signature.to_file().into_bytes();
    head.more_signatures.insert(other.public().id(), signature);
    let mut new = Vec::new();
    let written = replace_head(&mut &old[..], &head, &mut new).unwrap();
    assert_eq!(usize::try_from(written.size), Ok(new.len()));
    let mut sink = MemorySink::default();
    read(&new, &mut sink).unwrap();
    assert_eq!(sink.blobs, content.blobs);
    assert_eq!(read_head(&mut &new[..]).unwrap().head_files(), &head);

    let mut direct = Cursor::new(Vec::new());
    write_bundle(&head, content, &mut direct, &fast(), &|_| {}).unwrap();
    assert!(direct.into_inner() == new);

    head.bundle_json.clear();
    let other = replace_head(&mut &old[..], &head, &mut Vec::new()).unwrap_err();
    assert!(matches!(other, WriteError::OtherBundle { .. }), "{other}");
    let cut =
        replace_head(&mut &old[..old.len() - 1], &content.head(), &mut Vec::new()).unwrap_err();
    assert_eq!(crate::fault::Fault::code(&cut), "BUNDLE_TRUNCATED");
}

#[test]
fn a_delta_is_the_same_bundle_without_what_the_receiver_has() {
    let content = &*VARIED;
    let index = content.index();
    let large: Vec<_> = index
        .blobs
        .iter()
        .filter(|blob| blob.pieces.is_some())
        .collect();
    let options = WriteOptions {
        omitted: large.iter().map(|blob| blob.digest).collect(),
        ..fast()
    };
    let (delta, written) = content.try_write(&options).unwrap();
    assert!(delta.len() < 2 << 20);
    assert_eq!(written.id, read_head(&mut &BYTES[..]).unwrap().id());

    let lists = large.iter().filter_map(|blob| blob.pieces);
    let here: Vec<_> = options.omitted.iter().copied().chain(lists).collect();
    let mut sink = MemorySink {
        here: here.clone(),
        ..MemorySink::default()
    };
    let summary = read(&delta, &mut sink).unwrap();
    assert_eq!(summary.left_out, 4);
    assert_eq!(sink.blobs.len() + 4, content.blobs.len());

    let mut lacking = MemorySink {
        here: here[1..].to_vec(),
        ..MemorySink::default()
    };
    let error = read(&delta, &mut lacking).unwrap_err();
    assert_eq!(crate::fault::Fault::code(&error), "BUNDLE_INCOMPLETE");
    assert!(lacking.blobs.is_empty());

    let unknown = WriteOptions {
        omitted: [crate::Digest::of(b"?")].into(),
        ..fast()
    };
    assert!(matches!(
        content.try_write(&unknown).unwrap_err(),
        WriteError::Omitted(_)
    ));
}

#[test]
fn a_delta_of_everything_is_hardly_more_than_its_head() {
    let content = &*VARIED;
    let options = WriteOptions {
        omitted: content
            .index()
            .blobs
            .iter()
            .map(|blob| blob.digest)
            .collect(),
        ..fast()
    };
    let delta = content.write(&options);
    let head = read_head(&mut &delta[..]).unwrap();
    assert_eq!(head.packing().frames.len(), 2);
    assert!(head.packing().total_size < 3000);
}
