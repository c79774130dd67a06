//! Stories about a store on a disk that forgets and fails.

use std::cell::RefCell;
use std::collections::BTreeSet;

use bundle::Digest;
use bundle::pieces::Cut;
use bundle::pieces::PieceHasher;
use bundle::pieces::PieceList;

use crate::Incarnation;
use crate::Store;
use crate::error::Result;
use crate::fs::SimFs;
use crate::fs::sim::Survival;

mod batches;
mod imports;
mod opening;
mod partials;
mod real;
mod records;

const CLUSTER: Incarnation = Incarnation::from_bytes([7; 16]);
const PIECE_LOG2: u8 = 12;

fn new_store() -> (SimFs, Store<SimFs>) {
    let fs = SimFs::new(1);
    let store = Store::create(fs.clone(), CLUSTER).unwrap();
    (fs, store)
}

/// Bytes that no two seeds share.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A blob with small pieces.
struct Sample {
    bytes: Vec<u8>,
    digest: Digest,
    cut: Cut,
    list: PieceList,
}

impl Sample {
    fn new(seed: u8, pieces: usize) -> Self {
        let bytes = noise(seed, (pieces << PIECE_LOG2) - 100);
        let mut hasher = PieceHasher::new(PIECE_LOG2);
        hasher.update(&bytes);
        let list = hasher.finish();
        Self {
            digest: Digest::of(&bytes),
            cut: list.cut(),
            list,
            bytes,
        }
    }

    fn piece(&self, index: u64) -> &[u8] {
        let range = self.cut.range(index);
        &self.bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
    }
}

/// What a scenario was told to be done; it must be there after any crash.
#[derive(Debug, Default)]
struct Acknowledged {
    blobs: RefCell<BTreeSet<Digest>>,
    records: RefCell<BTreeSet<Digest>>,
}

/// Every name equals its bytes.
fn assert_names_true(fs: &SimFs) {
    for (path, _) in fs.files() {
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            let actual = Digest::of(&fs.peek(&path).unwrap()).to_hex();
            assert_eq!(actual, hex, "a name does not equal its bytes");
        }
    }
}

/// Cuts the power in each changing call of `story` in turn, in four ways; checks what is left; runs it again to its end.
fn crash_everywhere(
    prepare: impl Fn(&SimFs),
    story: impl Fn(&SimFs, &Acknowledged) -> Result<()>,
    at_the_end: impl Fn(&Store<SimFs>),
) {
    crash_at_every(1, prepare, story, at_the_end);
}

/// The same for each `step`th call only.
fn crash_at_every(
    step: usize,
    prepare: impl Fn(&SimFs),
    story: impl Fn(&SimFs, &Acknowledged) -> Result<()>,
    at_the_end: impl Fn(&Store<SimFs>),
) {
    let fs = SimFs::new(1);
    prepare(&fs);
    let before = fs.changes();
    story(&fs, &Acknowledged::default()).unwrap();
    let calls = fs.changes() - before;
    assert!(calls > 5, "{calls} calls are no story");
    for call in (0..calls).step_by(step) {
        let ways = [
            Survival::Nothing,
            Survival::Everything,
            Survival::Some(call),
            Survival::Some(call + 1_000_000),
        ];
        for survival in ways {
            let fs = SimFs::new(1);
            prepare(&fs);
            fs.crash_at(call);
            let acknowledged = Acknowledged::default();
            let told = story(&fs, &acknowledged);
            assert!(told.is_err() || fs.is_off(), "call {call}");
            fs.power_on(survival);
            check(&fs, &acknowledged, call, survival);
            story(&fs, &Acknowledged::default())
                .unwrap_or_else(|error| panic!("call {call} {survival:?}: rerun: {error:?}"));
            assert_names_true(&fs);
            at_the_end(&Store::open(fs.clone(), Some(CLUSTER)).unwrap());
        }
    }
}

fn check(fs: &SimFs, acknowledged: &Acknowledged, call: u64, survival: Survival) {
    assert_names_true(fs);
    let blobs = acknowledged.blobs.borrow();
    for digest in blobs.iter() {
        let path = format!("blobs/sha256/{}", digest.to_hex());
        assert!(
            fs.peek(&path).is_some(),
            "call {call} {survival:?}: an acknowledged blob is gone"
        );
    }
    for digest in acknowledged.records.borrow().iter() {
        let store = Store::open(fs.clone(), Some(CLUSTER)).unwrap();
        assert!(
            store.record(digest).unwrap().is_some(),
            "call {call} {survival:?}: an acknowledged record is gone"
        );
    }
}
