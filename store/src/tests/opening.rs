//! What may be opened as a store, and what a crash while it is made leaves.

use super::*;
use crate::StoreError;
use crate::fs::Access;
use crate::fs::Fs;

#[test]
fn a_store_is_made_whatever_call_loses_the_power() {
    crash_everywhere(
        |_empty| {},
        |fs, _| Store::create(fs.clone(), CLUSTER).map(drop),
        |store| assert_eq!(store.incarnation(), CLUSTER),
    );
}

#[test]
fn an_empty_mount_point_is_refused() {
    let error = Store::open(SimFs::new(1), None).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn the_store_of_another_cluster_is_refused() {
    let (fs, _) = new_store();
    let other = Incarnation::from_bytes([8; 16]);
    for error in [
        Store::open(fs.clone(), Some(other)).unwrap_err(),
        Store::create(fs, other).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }
}

#[test]
fn a_copy_on_another_filesystem_is_refused_until_its_operator_adopts_it() {
    let (fs, _) = new_store();
    fs.set_filesystem_id(2);
    let error = Store::open(fs.clone(), None).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    let text = String::from_utf8(fs.peek("STORE_ID").unwrap()).unwrap();
    let length = text.find("filesystem").unwrap();
    let file = fs.open("STORE_ID", Access::Write).unwrap();
    crate::fs::FsFile::set_len(&file, u64::try_from(length).unwrap()).unwrap();
    Store::open(fs.clone(), None).unwrap();
    fs.set_filesystem_id(1);
    assert!(Store::open(fs, None).is_err(), "adopted for good");
}

#[test]
fn a_directory_with_other_peoples_files_is_refused() {
    let fs = SimFs::new(1);
    fs.open("thesis.tex", Access::CreateNew).unwrap();
    let error = Store::create(fs, CLUSTER).unwrap_err();
    assert!(error.to_string().contains("thesis.tex"), "{error}");
}

#[test]
fn blobs_without_a_store_id_are_refused() {
    let (fs, store) = new_store();
    let blob = noise(1, 10);
    store.put_batch([(Digest::of(&blob), blob)]).unwrap();
    fs.remove_file("STORE_ID").unwrap();
    assert!(Store::create(fs, CLUSTER).is_err());
}

#[test]
fn opening_sweeps_what_a_crash_left_and_nothing_in_use() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 3);
    let partial = store
        .partial(&sample.digest, sample.cut, Some(sample.list.clone()))
        .unwrap()
        .unwrap();
    let stage = crate::staging::Stage::open(&fs).unwrap();
    stage.write("in-use", b"x").unwrap();
    fs.create_dir("incoming/stage.7").unwrap();
    fs.open("incoming/stage.7/left", Access::CreateNew).unwrap();
    Store::open(fs.clone(), None).unwrap();
    let left: Vec<String> = fs.files().into_iter().map(|(path, _)| path).collect();
    assert!(
        left.contains(&"incoming/stage.0/in-use".to_owned()),
        "{left:?}"
    );
    assert!(
        !left.iter().any(|path| path.contains("stage.7")),
        "{left:?}"
    );
    partial.write_piece(0, sample.piece(0)).unwrap();
}
