//! What of a cache is believed, and what is not.

use std::fs;
use std::fs::File;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;

use bundle::Digest;
use tempfile::TempDir;

use super::Cache;
use super::CacheError;
use super::Claim;
use super::Published;

const BLOB: &[u8] = b"a blob";

fn cache() -> (TempDir, Cache) {
    let directory = TempDir::new().unwrap();
    let mut cache = Cache::open(directory.path()).unwrap();
    "first start".clone_into(&mut cache.boot);
    (directory, cache)
}

/// Replaces bytes and gives the file its old time back, as rot does.
fn rot(cache: &Cache, digest: &Digest, bytes: &[u8]) {
    let path = cache.blob_path(digest);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, bytes).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

#[test]
fn what_was_put_is_there() {
    let (_directory, cache) = cache();
    let blob = cache.put(BLOB).unwrap();
    assert_eq!(blob.digest, Digest::of(BLOB));
    assert_eq!(cache.get(&blob.digest).unwrap(), Some(blob.clone()));
    assert_eq!(
        cache.read(&blob.digest, 100).unwrap().as_deref(),
        Some(BLOB)
    );
    assert_eq!(cache.read(&blob.digest, 3).unwrap(), None);
    assert_eq!(cache.put(BLOB).unwrap(), blob);
}

#[test]
fn a_file_whose_size_or_time_changed_is_hashed_again_and_removed_when_it_is_wrong() {
    let (_directory, cache) = cache();
    let digest = cache.put(BLOB).unwrap().digest;
    let file = File::options()
        .write(true)
        .open(cache.blob_path(&digest))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    assert!(cache.get(&digest).unwrap().is_some());
    fs::write(cache.blob_path(&digest), b"a blot").unwrap();
    assert_eq!(cache.get(&digest).unwrap(), None);
    assert!(!cache.blob_path(&digest).exists());
}

#[test]
fn a_blob_of_an_earlier_start_is_hashed_once_and_then_believed() {
    let (_directory, mut cache) = cache();
    let digest = cache.put(BLOB).unwrap().digest;
    "second start".clone_into(&mut cache.boot);
    assert!(cache.get(&digest).unwrap().is_some());
    // Only a cache that does not read it again can be wrong about this.
    rot(&cache, &digest, b"a blot");
    assert!(cache.get(&digest).unwrap().is_some());
    "third start".clone_into(&mut cache.boot);
    assert!(cache.get(&digest).unwrap().is_some());
}

#[test]
fn bytes_that_were_lost_with_the_power_are_found_at_the_next_start() {
    let (_directory, mut cache) = cache();
    let digest = cache.put(BLOB).unwrap().digest;
    rot(&cache, &digest, &[0; BLOB.len()]);
    "second start".clone_into(&mut cache.boot);
    assert_eq!(cache.get(&digest).unwrap(), None);
}

#[test]
fn a_record_that_is_torn_or_absent_counts_for_nothing() {
    let (_directory, cache) = cache();
    let large = vec![7; 9 << 20];
    let blob = cache.put(&large).unwrap();
    assert!(blob.pieces.is_some());
    let record = cache.record_path(&blob.digest);
    let whole = fs::read(&record).unwrap();
    for torn in [
        &b""[..],
        &whole[..20],
        &whole[..whole.len() - 1],
        &vec![0; whole.len()],
    ] {
        fs::write(&record, torn).unwrap();
        assert_eq!(cache.get(&blob.digest).unwrap(), Some(blob.clone()));
        assert_eq!(fs::read(&record).unwrap(), whole);
    }
}

#[test]
fn a_directory_with_other_things_in_it_is_no_cache() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
    assert!(matches!(
        Cache::open(directory.path()),
        Err(CacheError::Foreign { .. })
    ));
}

#[test]
fn two_writers_of_one_blob_are_one_writer_and_one_who_waits() {
    let (_directory, cache) = cache();
    let digest = Digest::of(BLOB);
    let size = u64::try_from(BLOB.len()).unwrap();
    let Claim::Mine(mut partial) = cache.claim(&digest, size).unwrap() else {
        panic!("nobody has written it");
    };
    let (started, starts) = mpsc::channel();
    let second = thread::spawn({
        let cache = cache.clone();
        move || {
            started.send(()).unwrap();
            cache.claim(&digest, size).unwrap()
        }
    });
    starts.recv().unwrap();
    partial.append(BLOB).unwrap();
    assert!(matches!(partial.publish().unwrap(), Published::Right(_)));
    assert!(matches!(second.join().unwrap(), Claim::Present(_)));
    assert_eq!(cache.read(&digest, 100).unwrap().as_deref(), Some(BLOB));
}
