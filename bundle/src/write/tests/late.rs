//! Writing while the blobs are still coming.

use std::collections::BTreeMap;
use std::io;
use std::io::Cursor;
use std::io::Read;

use super::BYTES;
use super::VARIED;
use super::fast;
use crate::digest::Digest;
use crate::head::HeadFiles;
use crate::index::BundleIndex;
use crate::index::Stage;
use crate::pieces::PieceHasher;
use crate::pieces::PieceList;
use crate::testing::Content;
use crate::testing::GZIP_LAYER;
use crate::testing::gzip_like;
use crate::testing::sign;
use crate::testing::text;
use crate::write::BlobSource;
use crate::write::WriteError;
use crate::write::write_bundle_late;

/// Content of which nothing is there before it is opened.
struct Coming<'a> {
    content: &'a Content,
    starts_are_there: bool,
}

impl BlobSource for Coming<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        self.content.open(digest)
    }

    fn start(&self, digest: &Digest, count: usize) -> io::Result<Option<Vec<u8>>> {
        if self.starts_are_there {
            return self.content.start(digest, count);
        }
        Ok(None)
    }

    fn piece_list(&self, blob: &Digest) -> io::Result<PieceList> {
        let mut hasher = PieceHasher::standard();
        hasher.update(&self.content.blobs[blob]);
        Ok(hasher.finish())
    }
}

fn coming(content: &Content) -> Coming<'_> {
    Coming {
        content,
        starts_are_there: false,
    }
}

/// The index with nothing known of its piece lists.
fn draft(index: &BundleIndex) -> HeadFiles {
    let mut draft = index.clone();
    let unknown = |blob: &Digest| Digest::of(&[b"unknown", &blob.as_bytes()[..]].concat());
    let lists: BTreeMap<Digest, Digest> = index
        .blobs
        .iter()
        .filter(|blob| blob.pieces.is_some())
        .map(|blob| (blob.digest, unknown(&blob.digest)))
        .collect();
    draft.set_pieces(&lists);
    sign(&draft)
}

fn write(source: &Coming<'_>, index: &BundleIndex) -> Result<Vec<u8>, WriteError> {
    let mut out = Cursor::new(Vec::new());
    let complete = |lists: &BTreeMap<Digest, Digest>| {
        let mut index = index.clone();
        index.set_pieces(lists);
        Ok::<_, WriteError>(sign(&index))
    };
    write_bundle_late(&draft(index), source, &mut out, &fast(), &|_| {}, complete)?;
    Ok(out.into_inner())
}

#[test]
fn a_bundle_whose_blobs_come_late_is_the_same_bundle() {
    assert!(write(&coming(&VARIED), &VARIED.index()).unwrap() == *BYTES);
}

#[test]
fn a_blob_that_is_not_what_it_is_labelled_is_found_and_stored_right_the_second_time() {
    let mut content = Content::default();
    let blob = content.add(GZIP_LAYER, Stage::Application, text(1, 100_000));
    let mut source = coming(&content);
    let error = write(&source, &content.index()).unwrap_err();
    assert!(matches!(error, WriteError::Mislabelled(digest) if digest == blob));
    source.starts_are_there = true;
    assert!(write(&source, &content.index()).unwrap() == content.write(&fast()));
}

#[test]
fn a_blob_that_changed_behind_its_piece_list_stops_the_writing() {
    struct Changed<'a>(Coming<'a>);
    impl BlobSource for Changed<'_> {
        fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
            let mut bytes = self.0.content.blobs[digest].clone();
            if let Some(byte) = bytes.get_mut(8 << 20) {
                *byte ^= 1;
            }
            Ok(Box::new(Cursor::new(bytes)))
        }

        fn piece_list(&self, blob: &Digest) -> io::Result<PieceList> {
            self.0.piece_list(blob)
        }
    }
    let mut content = Content::default();
    content.add(GZIP_LAYER, Stage::Application, gzip_like(1, 9 << 20));
    let index = content.index();
    let (source, mut out) = (Changed(coming(&content)), Cursor::new(Vec::new()));
    let complete = |_: &BTreeMap<Digest, Digest>| Ok::<_, WriteError>(sign(&index));
    let error = write_bundle_late(
        &draft(&index),
        &source,
        &mut out,
        &fast(),
        &|_| {},
        complete,
    );
    assert!(matches!(
        error,
        Err(WriteError::Blob {
            field: "digest of its piece list",
            ..
        })
    ));
}

#[test]
fn a_head_of_other_content_does_not_complete_a_payload() {
    let index = VARIED.index();
    let mut other = index.clone();
    other.sequence += 1;
    let mut shorter = sign(&index);
    shorter.signature = None;
    for head in [draft(&index), sign(&other), shorter] {
        let mut out = Cursor::new(Vec::new());
        let complete = |_: &BTreeMap<Digest, Digest>| Ok::<_, WriteError>(head);
        let written = write_bundle_late(
            &draft(&index),
            &coming(&VARIED),
            &mut out,
            &fast(),
            &|_| {},
            complete,
        );
        assert!(matches!(written, Err(WriteError::Completed)));
    }
}
