//! Small blobs, many at a time.

use super::*;
use crate::StoreError;
use crate::fs::sim::Op;

fn blobs(count: u8) -> Vec<(Digest, Vec<u8>)> {
    (0..count)
        .map(|seed| noise(seed, 700 * usize::from(seed)))
        .map(|bytes| (Digest::of(&bytes), bytes))
        .collect()
}

#[test]
fn a_batch_is_whole_and_durable_whatever_call_loses_the_power() {
    crash_everywhere(
        |fs| drop(Store::create(fs.clone(), CLUSTER).unwrap()),
        |fs, acknowledged| {
            let store = Store::open(fs.clone(), None)?;
            for pair in blobs(6).chunks(3) {
                let outcome = store.put_batch(pair.to_vec())?;
                let mut told = acknowledged.blobs.borrow_mut();
                told.extend(outcome.stored);
                told.extend(outcome.present);
            }
            Ok(())
        },
        |store| assert_eq!(store.inventory().unwrap().len(), 6),
    );
}

#[test]
fn a_wrong_blob_delays_no_other() {
    let (fs, store) = new_store();
    let mut blobs = blobs(4);
    blobs[1].1.push(0);
    let outcome = store.put_batch(blobs.clone()).unwrap();
    assert_eq!(outcome.refused, [blobs[1].0]);
    assert_eq!(outcome.stored.len(), 3);
    assert!(!store.has(&blobs[1].0).unwrap());
    assert_names_true(&fs);
    let again = store.put_batch(blobs).unwrap();
    assert_eq!(again.present.len(), 3);
}

#[test]
fn after_a_failed_sync_nothing_gets_a_name() {
    let (fs, store) = new_store();
    fs.fail(Op::Sync, "", 0);
    let error = store.put_batch(blobs(4)).unwrap_err();
    assert!(matches!(error, StoreError::Sync { .. }), "{error}");
    assert_eq!(store.inventory().unwrap(), []);
    assert!(!fs.files().iter().any(|(path, _)| path.contains("stage")));
    store.put_batch(blobs(4)).unwrap();
    fs.crash(Survival::Nothing);
    assert_names_true(&fs);
    let store = Store::open(fs, None).unwrap();
    assert_eq!(store.inventory().unwrap().len(), 4);
}

#[test]
fn a_full_disk_says_so_and_keeps_what_is_finished() {
    let (fs, store) = new_store();
    store.put_batch(blobs(3)).unwrap();
    fs.set_capacity(fs.used() + 5000);
    let error = store.put_batch(blobs(6)).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert_eq!(store.inventory().unwrap().len(), 3);
    fs.set_capacity(u64::MAX);
    store.put_batch(blobs(6)).unwrap();
    assert_eq!(store.inventory().unwrap().len(), 6);
}

#[test]
fn a_name_that_another_process_has_not_synced_yet_is_synced_before_it_is_told() {
    let (fs, store) = new_store();
    let (digest, bytes) = blobs(2).remove(1);
    let other = Store::open(fs.clone(), None).unwrap();
    fs.fail(Op::SyncDir, "blobs/sha256", 0);
    assert!(other.put_batch([(digest, bytes)]).is_err());
    assert!(store.has(&digest).unwrap(), "renamed, and now durable");
    fs.crash(Survival::Nothing);
    let store = Store::open(fs, None).unwrap();
    assert!(store.has(&digest).unwrap());
}

#[test]
fn a_damaged_blob_goes_to_the_quarantine() {
    let (fs, store) = new_store();
    let (digest, bytes) = blobs(3).remove(2);
    store.put_batch([(digest, bytes.clone())]).unwrap();
    assert!(fs.rot(&format!("blobs/sha256/{}", digest.to_hex()), 99, 0x10));
    assert_ne!(store.digest_of(&digest, &mut |_| {}).unwrap(), digest);
    store.quarantine(&digest).unwrap();
    assert!(!store.has(&digest).unwrap());
    store.put_batch([(digest, bytes)]).unwrap();
    assert_eq!(store.digest_of(&digest, &mut |_| {}).unwrap(), digest);
    assert_names_true(&fs);
}
