//! The simulated disk forgets what a disk forgets.

use super::*;

fn write(fs: &SimFs, path: &str, bytes: &[u8]) -> SimFile {
    let file = fs.open(path, Access::Create).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

#[test]
fn what_is_not_synced_is_lost() {
    let fs = SimFs::new(0);
    let file = write(&fs, "a", b"one");
    file.sync_data().unwrap();
    fs.sync_dir("").unwrap();
    file.write_at(b"two!", 0).unwrap();
    write(&fs, "b", b"new").sync_data().unwrap();
    fs.crash(Survival::Nothing);
    assert_eq!(fs.peek("a").unwrap(), b"one");
    assert_eq!(fs.peek("b"), None, "synced bytes without a durable name");
    assert!(
        file.write_at(b"x", 0).is_err(),
        "a handle does not outlive the crash"
    );
}

#[test]
fn a_killed_process_loses_nothing() {
    let fs = SimFs::new(0);
    write(&fs, "a", b"one");
    fs.crash(Survival::Everything);
    assert_eq!(fs.peek("a").unwrap(), b"one");
}

#[test]
fn the_halves_of_a_rename_can_be_durable_apart() {
    let outcomes: std::collections::BTreeSet<(bool, bool)> = (0..64)
        .map(|seed| {
            let fs = SimFs::new(0);
            fs.create_dir("d").unwrap();
            write(&fs, "a", b"one").sync_data().unwrap();
            fs.sync_dir("").unwrap();
            fs.rename("a", "d/b", Target::MustBeNew).unwrap();
            fs.crash(Survival::Some(seed));
            (fs.peek("a").is_some(), fs.peek("d/b").is_some())
        })
        .collect();
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn a_torn_write_leaves_whole_sectors() {
    let torn = (0..64)
        .filter(|seed| {
            let fs = SimFs::new(0);
            let file = write(&fs, "a", &[1; 4096]);
            file.sync_data().unwrap();
            fs.sync_dir("").unwrap();
            file.write_at(&[2; 4096], 0).unwrap();
            fs.crash(Survival::Some(*seed));
            let bytes = fs.peek("a").unwrap();
            assert!(
                bytes
                    .chunks(512)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
            bytes.contains(&1) && bytes.contains(&2)
        })
        .count();
    assert!(torn > 4, "{torn}");
}

#[test]
fn a_failed_sync_is_never_made_good() {
    let fs = SimFs::new(0);
    let file = write(&fs, "a", b"one");
    fs.sync_dir("").unwrap();
    fs.fail(Op::Sync, "a", 0);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    fs.crash(Survival::Nothing);
    assert_eq!(fs.peek("a").unwrap(), b"");
}

#[test]
fn what_another_sync_has_lost_is_told_to_each_file_and_each_handle_once() {
    let fs = SimFs::new(0);
    let handle = fs.open_dir("").unwrap();
    let mine = write(&fs, "a", b"mine");
    let other = fs.open_dir("").unwrap();
    fs.sync_dir("").unwrap();
    fs.fail(Op::Sync, "", 0);
    assert!(other.sync_filesystem().is_err());
    assert!(mine.sync_data().is_err(), "the file was hit");
    assert!(mine.sync_data().is_ok(), "told once");
    assert!(handle.sync_filesystem().is_err(), "opened before the loss");
    assert!(handle.sync_filesystem().is_ok(), "told once");
    assert!(fs.open_dir("").unwrap().sync_filesystem().is_ok());
}

#[test]
fn a_full_disk_refuses_and_a_removed_file_gives_room() {
    let fs = SimFs::new(0);
    fs.set_capacity(8192);
    write(&fs, "a", &[1; 8192]);
    let file = fs.open("b", Access::CreateNew).unwrap();
    assert_eq!(
        file.allocate(1).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    fs.remove_file("a").unwrap();
    file.allocate(8192).unwrap();
    assert_eq!(fs.space().unwrap().free_bytes, 0);
}

#[test]
fn the_power_goes_in_the_chosen_call() {
    let fs = SimFs::new(0);
    fs.crash_at(1);
    let file = fs.open("a", Access::CreateNew).unwrap();
    assert!(file.write_at(b"one", 0).is_err());
    assert!(fs.is_off());
    assert!(fs.list("").is_err());
    fs.power_on(Survival::Everything);
    assert_eq!(
        fs.peek("a").unwrap(),
        b"one",
        "the call itself had its effect"
    );
}
