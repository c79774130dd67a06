//! Bundles into the store and out of it again.

use std::io::Cursor;
use std::io::Read;

use bundle::fault::Fault as _;
use bundle::head::UntrustedHead;
use bundle::head::VerifiedHead;
use bundle::limits as bundle_limits;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;

use super::*;
use crate::RealFs;
use crate::StoreError;
use crate::fs::Fs;
use crate::fs::sim::Op;
use crate::import::ImportError;
use crate::import::ImportEvent;
use crate::import::ImportOptions;
use crate::import::ImportSummary;
use crate::import::import;
use crate::records::Put;

const SMALL: &[u8] = include_bytes!("../../../testdata/golden/1/small.airgap");
const LARGE: &[u8] = include_bytes!("../../../testdata/golden/1/large.airgap");
const DELTA: &[u8] = include_bytes!("../../../testdata/golden/1/delta.airgap");
const ROOT: &[u8] = include_bytes!("../../../testdata/golden/1/root.json");

fn open(bundle: &[u8]) -> (VerifiedHead, Cursor<&[u8]>) {
    let mut reader = Cursor::new(bundle);
    let head = UntrustedHead::read(&mut reader).unwrap();
    let root = TrustedRoot::pin(ROOT.to_vec(), &Digest::of(ROOT)).unwrap();
    (head.verify(&Trust::new(root)).unwrap(), reader)
}

fn take<F: Fs>(store: &Store<F>, bundle: &[u8]) -> std::result::Result<ImportSummary, ImportError> {
    take_and(store, bundle, &mut |_| {})
}

fn take_and<F: Fs>(
    store: &Store<F>,
    bundle: &[u8],
    events: &mut dyn FnMut(ImportEvent),
) -> std::result::Result<ImportSummary, ImportError> {
    let (head, payload) = open(bundle);
    let options = ImportOptions {
        origin: "m1".to_owned(),
    };
    import(store, &head, payload, &options, events)
}

fn assert_whole<F: Fs>(store: &Store<F>, bundle: &[u8]) {
    let (head, _) = open(bundle);
    for member in head.index().members() {
        let digest = member.digest;
        assert_eq!(store.size(&digest).unwrap(), Some(member.size), "{digest}");
        assert_eq!(store.digest_of(&digest, &mut |_| {}).unwrap(), digest);
    }
    let records = store.records().unwrap();
    let files: Vec<_> = records
        .iter()
        .map(|one| one.head_files().unwrap())
        .collect();
    assert!(files.contains(head.head_files()));
}

#[test]
fn index_json_names_what_is_here_and_is_mended_when_it_is_gone() {
    let (fs, store) = new_store();
    take(&store, SMALL).unwrap();
    let expected = bundle::oci::oci_index_bytes(open(SMALL).0.index()).unwrap();
    let read = || {
        let file = fs.open("index.json", crate::fs::Access::Read).unwrap();
        let mut bytes = vec![0; expected.len() + 1];
        let count = crate::fs::FsFile::read_at(&file, &mut bytes, 0).unwrap();
        bytes.truncate(count);
        bytes
    };
    assert_eq!(read(), expected);
    assert!(!store.write_oci_index().unwrap());
    fs.remove_file("index.json").unwrap();
    assert!(store.write_oci_index().unwrap());
    assert_eq!(read(), expected);
}

/// An import as a step of a crash story.
fn story(fs: &SimFs, acknowledged: &Acknowledged, bundle: &[u8]) -> Result<()> {
    let store = Store::open(fs.clone(), None)?;
    let taken = take(&store, bundle).map_err(|error| match error {
        ImportError::Store(error) => error,
        ImportError::Bundle(error) => panic!("the file is good: {error}"),
    })?;
    assert!(taken.written_blobs + taken.skipped_blobs > 0);
    let mut told = acknowledged.blobs.borrow_mut();
    told.extend(
        open(bundle)
            .0
            .index()
            .members()
            .iter()
            .map(|one| one.digest),
    );
    let records = store.records()?;
    acknowledged
        .records
        .borrow_mut()
        .extend(records.iter().map(|record| record.digest()));
    Ok(())
}

#[test]
fn a_small_bundle_comes_in_whatever_call_loses_the_power() {
    crash_everywhere(
        |fs| drop(Store::create(fs.clone(), CLUSTER).unwrap()),
        |fs, acknowledged| story(fs, acknowledged, SMALL),
        |store| assert_whole(store, SMALL),
    );
}

#[test]
fn a_large_bundle_comes_in_whatever_call_loses_the_power() {
    crash_at_every(
        23,
        |fs| drop(Store::create(fs.clone(), CLUSTER).unwrap()),
        |fs, acknowledged| story(fs, acknowledged, LARGE),
        |store| assert_whole(store, LARGE),
    );
}

#[test]
fn a_record_is_there_only_when_all_blobs_are() {
    let (fs, store) = new_store();
    let before = fs.changes();
    take(&store, SMALL).unwrap();
    let calls = fs.changes() - before;
    for call in 0..calls {
        let (fs, store) = new_store();
        fs.crash_at(call);
        let _may_fail = take(&store, SMALL);
        drop(store);
        fs.power_off();
        fs.power_on(Survival::Some(call));
        let store = Store::open(fs, None).unwrap();
        if !store.records().unwrap().is_empty() {
            assert_whole(&store, SMALL);
        }
    }
}

#[test]
fn on_a_real_disk_it_comes_in_by_threads() {
    let directory = tempfile::tempdir().unwrap();
    let fs = RealFs::open(directory.path()).unwrap();
    let store = Store::create(fs, CLUSTER).unwrap();
    let mut planned = None;
    let mut published = 0;
    let summary = take_and(&store, LARGE, &mut |event| match event {
        ImportEvent::Planned { missing_bytes, .. } => planned = Some(missing_bytes),
        ImportEvent::Published { blobs } => published = blobs,
        ImportEvent::Progress { .. } => {}
    });
    let summary = summary.unwrap();
    assert_eq!(planned, Some(summary.written_bytes));
    assert_eq!(published, summary.written_blobs);
    assert!(summary.written_bytes > bundle_limits::PIECED_BLOB_BYTES_MIN);
    assert_whole(&store, LARGE);
    let left = std::fs::read_dir(directory.path().join("incoming")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_here_is_skipped() {
    let (_, store) = new_store();
    let first = take(&store, SMALL).unwrap();
    assert_eq!((first.skipped_blobs, first.record), (0, Put::New));
    let second = take(&store, LARGE).unwrap();
    assert!(second.skipped_blobs > 0);
    assert!(second.written_blobs < first.written_blobs);
    let again = take(&store, SMALL).unwrap();
    assert_eq!((again.written_blobs, again.record), (0, Put::Known));
}

#[test]
fn a_delta_needs_its_base() {
    let (fs, store) = new_store();
    let error = take(&store, DELTA).unwrap_err();
    assert_eq!(error.code(), "BUNDLE_INCOMPLETE", "{error}");
    assert_names_true(&fs);
    assert!(store.records().unwrap().is_empty());
    take(&store, LARGE).unwrap();
    take(&store, DELTA).unwrap();
}

#[test]
fn a_cut_file_leaves_what_was_complete_and_no_record() {
    let (fs, store) = new_store();
    let error = take(&store, &LARGE[..LARGE.len() - 2000]).unwrap_err();
    assert_eq!(error.code(), "BUNDLE_TRUNCATED", "{error}");
    assert_names_true(&fs);
    assert!(!store.inventory().unwrap().is_empty());
    assert!(store.records().unwrap().is_empty());
    assert!(
        !fs.files()
            .iter()
            .any(|(path, _)| path.starts_with("incoming/"))
    );
    let summary = take(&store, LARGE).unwrap();
    assert!(summary.skipped_blobs > 0);
}

#[test]
fn room_is_looked_for_before_anything_is_written() {
    let (head, _) = open(LARGE);
    let need: u64 = head
        .index()
        .members()
        .iter()
        .map(|member| member.size.next_multiple_of(4096))
        .sum();
    let need = need + crate::limits::RESERVE_BYTES;
    let (fs, store) = new_store();
    fs.set_capacity(fs.used() + need - 4096);
    let error = take(&store, LARGE).unwrap_err();
    let ImportError::Store(StoreError::DiskFull {
        need: told, have, ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*told, *have), (need, need - 4096));
    assert_eq!(error.code(), "DISK_FULL");
    assert_eq!(store.inventory().unwrap(), []);
    fs.set_capacity(fs.used() + need);
    take(&store, LARGE).unwrap();
}

#[test]
fn a_disk_that_fills_up_on_the_way_can_be_continued() {
    let (fs, store) = new_store();
    let error = take_and(&store, LARGE, &mut |event| {
        if matches!(event, ImportEvent::Planned { .. }) {
            fs.set_capacity(fs.used() + (16 << 20));
        } else {
            fs.set_capacity(fs.used().max(5 << 20));
        }
    });
    let error = error.unwrap_err();
    assert_eq!(error.code(), "DISK_FULL", "{error}");
    assert_names_true(&fs);
    fs.set_capacity(u64::MAX);
    take(&store, LARGE).unwrap();
    assert_whole(&store, LARGE);
}

#[test]
fn an_error_of_the_disk_ends_the_import_and_names_nothing_wrong() {
    for (op, path) in [
        (Op::Write, "incoming/stage"),
        (Op::Sync, "incoming/stage"),
        (Op::Sync, ""),
        (Op::SyncDir, "blobs/sha256"),
        (Op::Name, "blobs/sha256"),
    ] {
        let (fs, store) = new_store();
        fs.fail(op, path, 1);
        let error = take(&store, LARGE).unwrap_err();
        assert!(error.code().starts_with("STORE_"), "{op:?}: {error}");
        assert!(store.records().unwrap().is_empty());
        drop(store);
        fs.crash(Survival::Nothing);
        assert_names_true(&fs);
        let store = Store::open(fs, None).unwrap();
        take(&store, LARGE).unwrap();
        assert_whole(&store, LARGE);
    }
}

#[test]
fn a_bundle_that_is_exported_is_the_bundle_that_came_in() {
    let (_, store) = new_store();
    take(&store, LARGE).unwrap();
    let record = store.records().unwrap().remove(0);
    let mut out = Cursor::new(Vec::new());
    let options = bundle::write::WriteOptions::default();
    crate::export::export(&store, &record, &mut out, &options, &|_| {}).unwrap();
    let exported = out.into_inner();
    let (head, _) = open(&exported);
    assert_eq!(head.head_files(), open(LARGE).0.head_files());
    let (_, other) = new_store();
    take(&other, &exported).unwrap();
    assert_eq!(other.inventory().unwrap(), store.inventory().unwrap());
}

#[test]
fn a_reader_that_fails_ends_the_import() {
    struct Failing<'a>(Cursor<&'a [u8]>);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("the stick was pulled out")),
                count => Ok(count),
            }
        }
    }
    let (_, store) = new_store();
    let (head, payload) = open(&LARGE[..LARGE.len() - 2000]);
    let options = ImportOptions {
        origin: "m1".to_owned(),
    };
    let error = import(&store, &head, Failing(payload), &options, &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "BUNDLE_IO", "{error}");
    assert!(store.records().unwrap().is_empty());
}

#[test]
fn two_processes_may_import_the_same_bundle_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let fs = RealFs::open(directory.path()).unwrap();
    let first = Store::create(fs.clone(), CLUSTER).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let store = Store::open(fs.clone(), None).unwrap();
            scope.spawn(move || take(&store, LARGE).unwrap());
        }
    });
    assert_whole(&first, LARGE);
    assert_eq!(first.records().unwrap().len(), 1);
    let left = std::fs::read_dir(directory.path().join("incoming")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn what_a_killed_import_left_makes_room_for_the_next() {
    let (fs, store) = new_store();
    let before = fs.changes();
    take(&store, LARGE).unwrap();
    let calls = fs.changes() - before;
    let (fs, store) = new_store();
    fs.crash_at(calls / 2);
    take(&store, LARGE).unwrap_err();
    drop(store);
    fs.power_on(Survival::Everything);
    let store = Store::open(fs.clone(), None).unwrap();
    let inventory = store.inventory().unwrap();
    let kept: u64 = inventory
        .iter()
        .map(|blob| blob.size.next_multiple_of(4096))
        .sum();
    let (head, _) = open(LARGE);
    let whole: u64 = head
        .index()
        .members()
        .iter()
        .map(|member| member.size.next_multiple_of(4096))
        .sum();
    fs.set_capacity(fs.used() - kept + whole + crate::limits::RESERVE_BYTES);
    take(&store, LARGE).unwrap();
}
