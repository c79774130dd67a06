//! Blobs that arrive in pieces, with every kind of interruption.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Partial;
use crate::StoreError;
use crate::fs::sim::Op;
use crate::partial::Published;
use crate::store::Have;

fn open(store: &Store<SimFs>, sample: &Sample) -> Arc<Partial<SimFs>> {
    let list = Some(sample.list.clone());
    let partial = store.partial(&sample.digest, sample.cut, list).unwrap();
    partial.expect("the blob is not complete")
}

/// Receives what is missing in an odd order, with a checkpoint after every second piece.
fn receive(store: &Store<SimFs>, sample: &Sample) -> Result<u64> {
    let list = Some(sample.list.clone());
    let Some(partial) = store.partial(&sample.digest, sample.cut, list)? else {
        return Ok(0);
    };
    let mut fetched = 0;
    let count = sample.cut.count();
    for index in (0..count).map(|turn| turn * 3 % count).chain(0..count) {
        if !partial.pieces().contains(index) {
            partial.write_piece(index, sample.piece(index))?;
            fetched += 1;
            partial.advance(1)?;
            if fetched % 2 == 0 {
                partial.checkpoint()?;
            }
        }
    }
    partial.publish()?;
    Ok(fetched)
}

#[test]
fn a_blob_is_received_whatever_call_loses_the_power() {
    let sample = Sample::new(1, 7);
    crash_everywhere(
        |fs| drop(Store::create(fs.clone(), CLUSTER).unwrap()),
        |fs, acknowledged| {
            let store = Store::open(fs.clone(), None)?;
            receive(&store, &sample)?;
            acknowledged.blobs.borrow_mut().insert(sample.digest);
            Ok(())
        },
        |store| {
            assert_eq!(store.have(&sample.digest).unwrap(), Have::Complete);
            assert_eq!(
                store.partials().unwrap(),
                [],
                "nothing is left in incoming/"
            );
        },
    );
}

#[test]
fn a_disk_that_fails_while_a_partial_is_resumed_is_told_and_holds_nobody_up() {
    let sample = Sample::new(1, 8);
    let (fs, store) = new_store();
    let partial = open(&store, &sample);
    partial.write_piece(0, sample.piece(0)).unwrap();
    drop(partial);
    // Without its journal the partial is read piece by piece, and what is right is made durable at once.
    let journal = crate::layout::partial_journal(&sample.digest);
    crate::fs::Fs::remove_file(&fs, &journal).unwrap();
    drop(store);

    fs.set_rates(crate::fs::sim::Rates {
        sync: 1,
        ..Default::default()
    });
    let store = Store::open(fs.clone(), None).unwrap();
    let list = Some(sample.list.clone());
    let failed = store.partial(&sample.digest, sample.cut, list);
    assert!(matches!(failed.err(), Some(StoreError::Sync { .. })));
    fs.set_rates(crate::fs::sim::Rates::default());
    receive(&store, &sample).unwrap();
    assert!(store.has(&sample.digest).unwrap());
}

#[test]
fn what_a_checkpoint_covers_is_not_fetched_again() {
    let sample = Sample::new(1, 8);
    for survival in [Survival::Nothing, Survival::Everything, Survival::Some(5)] {
        let (fs, store) = new_store();
        let partial = open(&store, &sample);
        for index in 0..4 {
            partial.write_piece(index, sample.piece(index)).unwrap();
        }
        partial.advance(u64::MAX).unwrap();
        partial.checkpoint().unwrap();
        partial.write_piece(6, sample.piece(6)).unwrap();
        drop((partial, store));
        fs.crash(survival);
        let store = Store::open(fs.clone(), None).unwrap();
        let partial = open(&store, &sample);
        let pieces = partial.pieces();
        assert!((0..4).all(|index| pieces.contains(index)), "{pieces:?}");
        assert!(!pieces.contains(6), "it was not journalled");
        assert_eq!(partial.hashed(), 4, "and the front is not hashed again");
        assert_eq!(receive(&store, &sample).unwrap(), 4);
        assert_names_true(&fs);
    }
}

#[test]
fn a_piece_is_believed_only_if_it_matches_its_list() {
    let (_, store) = new_store();
    let sample = Sample::new(1, 3);
    let partial = open(&store, &sample);
    let mut bad = sample.piece(1).to_vec();
    bad[0] ^= 1;
    for bytes in [&bad[..], sample.piece(0), &sample.piece(1)[1..], b""] {
        let error = partial.write_piece(1, bytes).unwrap_err();
        assert!(
            matches!(error, StoreError::Piece { index: 1, .. }),
            "{error}"
        );
    }
    assert!(
        partial.write_piece(3, b"").is_err(),
        "there is no fourth piece"
    );
    assert!(partial.pieces().is_empty());
    assert!(partial.write_piece(1, sample.piece(1)).unwrap());
    assert!(!partial.write_piece(1, sample.piece(1)).unwrap());
}

#[test]
fn peers_are_served_from_a_partial() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 5);
    let list = sample.list.to_bytes();
    store.put_batch([(Digest::of(&list), list)]).unwrap();
    assert_eq!(store.have(&sample.digest).unwrap(), Have::Nothing);
    let partial = open(&store, &sample);
    partial.write_piece(3, sample.piece(3)).unwrap();
    let seen = |store: &Store<SimFs>| match store.have(&sample.digest).unwrap() {
        Have::Partial(pieces) => pieces.iter().collect(),
        Have::Complete | Have::Nothing => vec![],
    };
    assert_eq!(seen(&store), [3]);
    let piece = store.read_partial_piece(&sample.digest, 3).unwrap();
    assert_eq!(piece, sample.piece(3));
    assert!(store.read_partial_piece(&sample.digest, 2).is_err());
    partial.checkpoint().unwrap();
    drop((partial, store));
    fs.crash(Survival::Nothing);
    let store = Store::open(fs, None).unwrap();
    assert_eq!(seen(&store), [3], "also when nobody has opened it yet");
    let piece = store.read_partial_piece(&sample.digest, 3).unwrap();
    assert_eq!(piece, sample.piece(3));
}

#[test]
fn pieces_without_a_list_are_never_served() {
    let (_, store) = new_store();
    let sample = Sample::new(1, 2);
    let partial = store.partial(&sample.digest, sample.cut, None).unwrap();
    partial.unwrap().write_piece(0, sample.piece(0)).unwrap();
    assert_eq!(store.have(&sample.digest).unwrap(), Have::Nothing);
    assert!(store.read_partial_piece(&sample.digest, 0).is_err());
}

#[test]
fn wrong_bytes_without_a_list_are_thrown_away_at_the_end() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 2);
    let partial = store.partial(&sample.digest, sample.cut, None).unwrap();
    let partial = partial.unwrap();
    partial.write_piece(0, sample.piece(0)).unwrap();
    let mut bad = sample.piece(1).to_vec();
    bad[7] ^= 1;
    partial.write_piece(1, &bad).unwrap();
    let error = partial.publish().unwrap_err();
    assert!(matches!(error, StoreError::Digest { .. }), "{error}");
    assert_eq!(store.partials().unwrap(), []);
    assert_names_true(&fs);
    receive(&store, &sample).unwrap();
}

#[test]
fn a_rotten_piece_of_a_resumed_partial_is_found_and_fetched_again_alone() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 6);
    let partial = open(&store, &sample);
    for index in [1, 2, 4] {
        partial.write_piece(index, sample.piece(index)).unwrap();
    }
    partial.checkpoint().unwrap();
    drop((partial, store));
    let data = format!("incoming/{}/data", sample.digest.to_hex());
    assert!(fs.rot(&data, 2 << PIECE_LOG2, 4));
    let store = Store::open(fs.clone(), None).unwrap();
    let error = receive(&store, &sample).unwrap_err();
    assert!(matches!(error, StoreError::Digest { .. }), "{error}");
    assert_eq!(receive(&store, &sample).unwrap(), 1);
    assert_names_true(&fs);
}

#[test]
fn an_unusable_journal_costs_a_reading_and_no_fetching() {
    let sample = Sample::new(1, 6);
    let journal = format!("incoming/{}/journal", sample.digest.to_hex());
    let (fs, store) = new_store();
    let partial = open(&store, &sample);
    for index in [0, 3, 5] {
        partial.write_piece(index, sample.piece(index)).unwrap();
    }
    partial.checkpoint().unwrap();
    drop((partial, store));
    assert!(fs.rot(&journal, 3, 1));
    let store = Store::open(fs.clone(), None).unwrap();
    assert_eq!(
        open(&store, &sample).pieces().iter().collect::<Vec<_>>(),
        [0, 3, 5]
    );
    assert_eq!(receive(&store, &sample).unwrap(), 3);
}

#[test]
fn a_failed_sync_discards_the_partial() {
    let sample = Sample::new(1, 4);
    for path in ["data", "journal"] {
        let (fs, store) = new_store();
        let partial = open(&store, &sample);
        partial.write_piece(0, sample.piece(0)).unwrap();
        fs.fail(Op::Sync, path, 0);
        let error = partial.checkpoint().unwrap_err();
        assert!(matches!(error, StoreError::Sync { .. }), "{error}");
        let error = partial.write_piece(1, sample.piece(1)).unwrap_err();
        assert!(matches!(error, StoreError::Closed { .. }), "{error}");
        drop(partial);
        assert_eq!(receive(&store, &sample).unwrap(), 4);
        fs.crash(Survival::Nothing);
        assert_names_true(&fs);
        assert!(Store::open(fs, None).unwrap().has(&sample.digest).unwrap());
    }
}

#[test]
fn a_failed_sync_at_the_end_gives_no_name() {
    let sample = Sample::new(1, 2);
    let (fs, store) = new_store();
    fs.fail(Op::Sync, "data", 1);
    let error = receive(&store, &sample).unwrap_err();
    assert!(matches!(error, StoreError::Sync { .. }), "{error}");
    assert!(!store.has(&sample.digest).unwrap());
    assert_eq!(receive(&store, &sample).unwrap(), 2);
}

#[test]
fn a_name_that_could_not_be_synced_is_not_told_as_done() {
    let sample = Sample::new(1, 2);
    let (fs, store) = new_store();
    fs.fail(Op::SyncDir, "blobs/sha256", 0);
    let error = receive(&store, &sample).unwrap_err();
    assert!(matches!(error, StoreError::Sync { .. }), "{error}");
    fs.crash(Survival::Nothing);
    assert_names_true(&fs);
    receive(&Store::open(fs, None).unwrap(), &sample).unwrap();
}

#[test]
fn a_full_disk_at_the_start_leaves_nothing_behind() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 9);
    let have = crate::limits::RESERVE_BYTES + 8 * 4096;
    fs.set_capacity(fs.used() + have);
    let list = Some(sample.list.clone());
    let error = store.partial(&sample.digest, sample.cut, list).unwrap_err();
    let StoreError::DiskFull {
        need, have: free, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(need, crate::limits::RESERVE_BYTES + sample.cut.length);
    assert_eq!(free, have);
    assert_eq!(store.partials().unwrap(), []);
    let small = Sample::new(2, 7);
    receive(&store, &small).unwrap();
    fs.set_capacity(u64::MAX);
    receive(&store, &sample).unwrap();
}

#[test]
fn a_full_disk_at_the_journal_loses_no_piece() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 40);
    let partial = open(&store, &sample);
    fs.set_capacity(fs.used());
    let mut full = 0;
    // One block of the journal holds about 30 entries; then it needs another one.
    for index in 0..40 {
        partial.write_piece(index, sample.piece(index)).unwrap();
        match partial.checkpoint() {
            Ok(()) => {}
            Err(StoreError::DiskFull { .. }) => full += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(full > 0);
    assert!(partial.pieces().is_full());
    assert_eq!(partial.publish().unwrap(), Published::New);
    assert_names_true(&fs);
}

/// Receives with a checkpoint after every piece, so that the journal is rewritten on the way.
fn receive_by_small_steps(store: &Store<SimFs>, sample: &Sample) -> Result<()> {
    let list = Some(sample.list.clone());
    let Some(partial) = store.partial(&sample.digest, sample.cut, list)? else {
        return Ok(());
    };
    for index in 0..sample.cut.count() {
        partial.write_piece(index, sample.piece(index))?;
        partial.checkpoint()?;
    }
    partial.publish().map(drop)
}

#[test]
fn a_long_journal_is_rewritten() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 60);
    let partial = open(&store, &sample);
    let path = format!("incoming/{}/journal", sample.digest.to_hex());
    let (mut before, mut rewritten) = (0, 0);
    for index in 0..60 {
        partial.write_piece(index, sample.piece(index)).unwrap();
        partial.checkpoint().unwrap();
        let length = fs.peek(&path).unwrap().len();
        rewritten += usize::from(length < before);
        before = length;
    }
    assert!(rewritten >= 2, "{rewritten}");
    drop((partial, store));
    fs.crash(Survival::Nothing);
    let store = Store::open(fs, None).unwrap();
    assert!(open(&store, &sample).pieces().is_full());
}

#[test]
fn a_journal_is_rewritten_whatever_call_loses_the_power() {
    let sample = Sample::new(1, 20);
    crash_everywhere(
        |fs| drop(Store::create(fs.clone(), CLUSTER).unwrap()),
        |fs, acknowledged| {
            let store = Store::open(fs.clone(), None)?;
            receive_by_small_steps(&store, &sample)?;
            acknowledged.blobs.borrow_mut().insert(sample.digest);
            Ok(())
        },
        |store| assert_eq!(store.partials().unwrap(), []),
    );
}

#[test]
fn a_checkpoint_is_due_by_bytes_or_by_time() {
    let (_, store) = new_store();
    let sample = Sample::new(1, 4);
    let partial = open(&store, &sample);
    let at = Duration::from_secs;
    assert!(
        !partial.checkpoint_if_due(at(100)).unwrap(),
        "nothing is new"
    );
    partial.write_piece(0, sample.piece(0)).unwrap();
    assert!(!partial.checkpoint_if_due(at(200)).unwrap());
    assert!(!partial.checkpoint_if_due(at(201)).unwrap());
    assert!(partial.checkpoint_if_due(at(202)).unwrap());
    assert!(
        !partial.checkpoint_if_due(at(300)).unwrap(),
        "nothing is new"
    );
}

#[test]
fn one_process_owns_a_partial_and_its_threads_share_it() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 4);
    let first = open(&store, &sample);
    let second = open(&store.clone(), &sample);
    assert!(Arc::ptr_eq(&first, &second));
    let other = Store::open(fs, None).unwrap();
    let list = Some(sample.list.clone());
    let error = other.partial(&sample.digest, sample.cut, list).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    drop((first, second));
    open(&other, &sample);
}

#[test]
fn two_processes_may_finish_the_same_blob() {
    let (fs, store) = new_store();
    let sample = Sample::new(1, 3);
    let partial = open(&store, &sample);
    for index in 0..3 {
        partial.write_piece(index, sample.piece(index)).unwrap();
    }
    let other = Store::open(fs.clone(), None).unwrap();
    other
        .put_batch([(sample.digest, sample.bytes.clone())])
        .unwrap();
    assert_eq!(partial.publish().unwrap(), Published::Present);
    assert_eq!(store.partials().unwrap(), []);
    assert_names_true(&fs);
}

#[test]
fn unwanted_partials_can_be_discarded() {
    let (_, store) = new_store();
    let (wanted, unwanted, in_use) = (Sample::new(1, 2), Sample::new(2, 2), Sample::new(3, 2));
    drop((open(&store, &wanted), open(&store, &unwanted)));
    let _open = open(&store, &in_use);
    let gone = store.discard_partials(|digest| *digest == wanted.digest);
    assert_eq!(gone.unwrap(), [unwanted.digest]);
    assert_eq!(store.partials().unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, a name equals its bytes, nothing that was journalled is lost, and the end is reached.
    #[test]
    fn random_errors_and_crashes_end_in_the_blob(
        seed in any::<u64>(),
        crashes in proptest::collection::vec((0_u64..60, 0_u64..3, any::<u64>()), 0..6),
    ) {
        let (fs, store) = new_store();
        drop(store);
        let sample = Sample::new(1, 9);
        fs.set_rates(crate::fs::sim::Rates { read: 40, write: 40, sync: 25 });
        for (call, way, survival_seed) in crashes {
            fs.crash_at(call);
            if let Ok(store) = Store::open(fs.clone(), None) {
                for _ in 0..3 {
                    let _may_fail = receive(&store, &sample);
                }
            }
            fs.power_off();
            fs.power_on(match way {
                0 => Survival::Nothing,
                1 => Survival::Everything,
                _ => Survival::Some(survival_seed ^ seed),
            });
            assert_names_true(&fs);
        }
        fs.set_rates(crate::fs::sim::Rates::default());
        let store = Store::open(fs.clone(), None).unwrap();
        receive(&store, &sample).unwrap();
        prop_assert!(store.has(&sample.digest).unwrap());
        assert_names_true(&fs);
    }
}
