//! The same on the disk of this machine.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::RealFs;
use crate::fs::Access;
use crate::fs::Fs as _;
use crate::partial::Published;

fn real_store(directory: &tempfile::TempDir) -> Store {
    let fs = RealFs::open_or_create(&directory.path().join("store")).unwrap();
    Store::create(fs, CLUSTER).unwrap()
}

#[test]
fn blobs_and_partials_live_on_a_real_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = real_store(&directory);
    let sample = Sample::new(1, 5);
    let small = noise(2, 1000);
    let list = Some(sample.list.clone());
    store
        .put_batch([(Digest::of(&small), small.clone())])
        .unwrap();
    let partial = store
        .partial(&sample.digest, sample.cut, list.clone())
        .unwrap()
        .unwrap();
    partial.write_piece(2, sample.piece(2)).unwrap();
    partial.checkpoint().unwrap();
    drop((partial, store));
    let store = real_store(&directory);
    let partial = store.partial(&sample.digest, sample.cut, list).unwrap();
    let partial = partial.unwrap();
    assert_eq!(partial.pieces().count(), 1);
    for index in 0..5 {
        partial.write_piece(index, sample.piece(index)).unwrap();
    }
    assert_eq!(partial.publish().unwrap(), Published::New);
    let path = directory.path().join("store/blobs/sha256");
    let path = path.join(sample.digest.to_hex());
    assert_eq!(std::fs::read(&path).unwrap(), sample.bytes);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    assert_eq!(store.inventory().unwrap().len(), 2);
    assert_eq!(
        store.digest_of(&sample.digest, &mut |_| {}).unwrap(),
        sample.digest
    );
    let incoming = std::fs::read_dir(directory.path().join("store/incoming")).unwrap();
    assert_eq!(incoming.count(), 0);
}

#[test]
fn no_path_leaves_the_root_and_no_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let fs = RealFs::open_or_create(&directory.path().join("store")).unwrap();
    std::fs::write(directory.path().join("secret"), "x").unwrap();
    let link = directory.path().join("store/link");
    std::os::unix::fs::symlink("../secret", link).unwrap();
    std::os::unix::fs::symlink("..", directory.path().join("store/up")).unwrap();
    for path in ["../secret", "link", "up/secret", "/etc/hostname"] {
        assert!(fs.open(path, Access::Read).is_err(), "{path}");
        assert!(fs.open(path, Access::Create).is_err(), "{path}");
    }
    assert!(
        fs.rename("link", "../stolen", crate::fs::Target::Replace)
            .is_err()
    );
    assert!(fs.remove_file("up/secret").is_err());
}

#[test]
fn a_pipe_in_the_way_does_not_hang_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let fs = RealFs::open(directory.path()).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(fs.open("pipe", Access::Read).is_err());
}

#[test]
fn another_process_holding_a_lock_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let fs = RealFs::open(directory.path()).unwrap();
    fs.create_dir("d").unwrap();
    let first = crate::staging::lock_dir(&fs, "d").unwrap();
    assert!(first.is_some());
    assert!(crate::staging::lock_dir(&fs, "d").unwrap().is_none());
    drop(first);
    assert!(crate::staging::lock_dir(&fs, "d").unwrap().is_some());
}
