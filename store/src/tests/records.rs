//! Records: one encoding, a merge without clocks, and files that survive.

use std::collections::BTreeMap;
use std::sync::Arc;

use bundle::head::HeadFiles;
use proptest::prelude::*;

use super::*;
use crate::Record;
use crate::StoreError;
use crate::fs::Fs as _;
use crate::fs::sim::Op;
use crate::record::Kind;
use crate::record::Order;
use crate::records::Put;
use crate::records::in_force;

fn record(id: u8, sequence: u64, payload: u8) -> Record {
    Record {
        kind: Kind::License,
        id: format!("acme/shop/{id}"),
        incarnation: CLUSTER,
        origin: "m1".to_owned(),
        counter: 1,
        order: Order { epoch: 0, sequence },
        payload: vec![payload; 300],
        proof: vec![1, 2],
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let origins = prop_oneof![Just("m1"), Just("m2")];
    (0..2_u8, 0..3_u64, 0..2_u8, origins, 0..3_u64).prop_map(
        |(id, sequence, payload, origin, counter)| Record {
            origin: origin.to_owned(),
            counter,
            ..record(id, sequence, payload)
        },
    )
}

type Set = BTreeMap<Digest, Arc<Record>>;

fn set(records: &[Record]) -> Set {
    let pairs = records
        .iter()
        .map(|one| (one.digest(), Arc::new(one.clone())));
    pairs.collect()
}

fn merged(sets: &[&Set]) -> Set {
    let mut union = Set::new();
    for set in sets {
        union.extend(set.iter().map(|(digest, one)| (*digest, Arc::clone(one))));
    }
    let kept = in_force(&union);
    kept.into_iter()
        .map(|(digest, one)| (*digest, Arc::clone(one)))
        .collect()
}

fn sets() -> impl Strategy<Value = Set> {
    proptest::collection::vec(any_record(), 0..8).prop_map(|records| set(&records))
}

proptest! {
    #[test]
    fn a_merge_is_commutative_associative_and_idempotent(a in sets(), b in sets(), c in sets()) {
        let (a, b, c) = (merged(&[&a]), merged(&[&b]), merged(&[&c]));
        prop_assert_eq!(merged(&[&a, &b]), merged(&[&b, &a]));
        let left = merged(&[&merged(&[&a, &b]), &c]);
        prop_assert_eq!(&left, &merged(&[&a, &merged(&[&b, &c])]));
        prop_assert_eq!(merged(&[&a, &a]), a.clone());
        prop_assert_eq!(merged(&[&left, &a]), left);
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(
        records in proptest::collection::vec(any_record(), 0..8).prop_shuffle(),
    ) {
        let (_, first) = new_store();
        let (_, second) = new_store();
        for one in &records {
            first.put_record(one).unwrap();
        }
        for one in records.iter().rev() {
            second.put_record(one).unwrap();
        }
        prop_assert_eq!(first.record_digests().unwrap(), second.record_digests().unwrap());
        prop_assert_eq!(first.record_digests().unwrap().len(), merged(&[&set(&records)]).len());
    }

    #[test]
    fn there_is_one_encoding(one in any_record(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = one.to_bytes();
        prop_assert_eq!(&Record::parse(&bytes).unwrap(), &one);
        let at = at.index(bytes.len());
        prop_assert!(Record::parse(&bytes[..at]).is_err());
        bytes[at] ^= flip;
        if let Ok(other) = Record::parse(&bytes) {
            prop_assert_eq!(other.to_bytes(), bytes);
            prop_assert_ne!(other, one);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Record::parse(&bytes).is_err());
        let bytes = [&b"SLREC01\n\x01"[..], &bytes].concat();
        if let Ok(record) = Record::parse(&bytes) {
            prop_assert_eq!(record.to_bytes(), bytes);
        }
    }
}

#[test]
fn the_higher_order_wins_and_the_lower_never_comes_back() {
    let (fs, store) = new_store();
    assert_eq!(store.put_record(&record(1, 2, 0)).unwrap(), Put::New);
    assert_eq!(store.put_record(&record(1, 2, 0)).unwrap(), Put::Known);
    assert_eq!(store.put_record(&record(1, 1, 9)).unwrap(), Put::Superseded);
    assert_eq!(store.put_record(&record(1, 3, 0)).unwrap(), Put::New);
    assert_eq!(store.records().unwrap(), [Arc::new(record(1, 3, 0))]);
    assert_eq!(fs.list("records").unwrap().len(), 1);
    let higher = Record {
        order: Order {
            epoch: 1,
            sequence: 0,
        },
        ..record(1, 0, 0)
    };
    assert_eq!(
        store.put_record(&higher).unwrap(),
        Put::New,
        "the epoch outranks"
    );
}

#[test]
fn two_statements_in_one_place_are_an_alarm_and_both_are_kept() {
    let (_, store) = new_store();
    store.put_record(&record(1, 2, 0)).unwrap();
    assert_eq!(store.put_record(&record(1, 2, 7)).unwrap(), Put::Conflict);
    let records = store.records().unwrap();
    assert_eq!(records.len(), 2);
    assert!(records[0].conflicts_with(&records[1]));
}

#[test]
fn the_same_statement_brought_in_by_two_masters_is_one_record() {
    let other = Record {
        origin: "m2".to_owned(),
        counter: 77,
        ..record(1, 2, 0)
    };
    let (_, first) = new_store();
    let (_, second) = new_store();
    for one in [record(1, 2, 0), other.clone()] {
        first.put_record(&one).unwrap();
    }
    for one in [other, record(1, 2, 0)] {
        second.put_record(&one).unwrap();
    }
    assert_eq!(first.records().unwrap(), second.records().unwrap());
    assert_eq!(first.records().unwrap().len(), 1);
}

#[test]
fn a_record_of_another_life_of_the_cluster_is_refused() {
    let (_, store) = new_store();
    let foreign = Record {
        incarnation: Incarnation::from_bytes([9; 16]),
        ..record(1, 1, 1)
    };
    let error = store.put_record(&foreign).unwrap_err();
    assert!(matches!(error, StoreError::Record { .. }), "{error}");
}

#[test]
fn a_name_that_does_not_fit_is_refused() {
    let (_, store) = new_store();
    for id in ["", "a b", "a\n", "ä", &"x".repeat(256)] {
        let bad = Record {
            id: id.to_owned(),
            ..record(1, 1, 1)
        };
        assert!(store.put_record(&bad).is_err(), "{id:?}");
    }
}

#[test]
fn records_survive_whatever_call_loses_the_power() {
    crash_everywhere(
        |fs| drop(Store::create(fs.clone(), CLUSTER).unwrap()),
        |fs, acknowledged| {
            let store = Store::open(fs.clone(), None)?;
            for one in [record(1, 1, 0), record(2, 1, 0), record(1, 2, 0)] {
                // It may be replaced from the moment on in which the newer one is under way.
                if one.order.sequence == 2 {
                    let older = record(1, 1, 0).digest();
                    acknowledged.records.borrow_mut().remove(&older);
                }
                store.put_record(&one)?;
                acknowledged.records.borrow_mut().insert(one.digest());
            }
            Ok(())
        },
        |store| assert_eq!(store.records().unwrap().len(), 2),
    );
}

#[test]
fn a_damaged_record_is_moved_away_and_can_be_put_again() {
    let (fs, store) = new_store();
    store.put_record(&record(1, 1, 0)).unwrap();
    store.put_record(&record(2, 1, 0)).unwrap();
    let name = fs.list("records").unwrap().remove(0);
    assert!(fs.rot(&format!("records/{name}"), 70, 2));
    store.forget();
    assert_eq!(store.records().unwrap().len(), 1);
    assert_eq!(fs.list("quarantine").unwrap(), [name]);
    store.put_record(&record(1, 1, 0)).unwrap();
    store.put_record(&record(2, 1, 0)).unwrap();
    assert_eq!(store.records().unwrap().len(), 2);
}

#[test]
fn a_record_that_could_not_be_synced_is_not_told_as_done() {
    for (op, path) in [(Op::Sync, "stage"), (Op::SyncDir, "records")] {
        let (fs, store) = new_store();
        store.records().unwrap();
        fs.fail(op, path, 0);
        let error = store.put_record(&record(1, 1, 0)).unwrap_err();
        assert!(matches!(error, StoreError::Sync { .. }), "{error}");
        drop(store);
        fs.crash(Survival::Nothing);
        let store = Store::open(fs, None).unwrap();
        assert_eq!(store.put_record(&record(1, 1, 0)).unwrap(), Put::New);
    }
}

#[test]
fn the_record_of_a_bundle_gives_its_head_back() {
    let head = HeadFiles {
        bundle_json: b"{\"any\":1}\n".to_vec(),
        signature: Some(vec![65; 300]),
        ..HeadFiles::default()
    };
    let order = Order {
        epoch: 1,
        sequence: 4,
    };
    let mut record = Record::of_bundle(&head, order, CLUSTER, "m1", 1).unwrap();
    assert_eq!(record.head_files().unwrap(), head);
    record.payload.push(b' ');
    assert!(record.head_files().is_err(), "the id is not its own");
}
