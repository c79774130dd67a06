//! Reads the store as it is: the directory is the truth, what is remembered is not.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use bundle::Digest;
use bundle::fault::Fault as _;
use store::Fs;
use store::Record;
use store::Store;
use store::StoreError;

use super::want::sentence;
use crate::contents::Content;
use crate::contents::Judge;
use crate::contents::Refusal;
use crate::holdings::Holdings;

/// What is in a store.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Published blobs.
    pub(crate) blobs: BTreeSet<Digest>,
    /// Accepted records.
    pub(crate) contents: BTreeMap<Digest, Content>,
    /// Records that are not accepted (any more): they are kept, and not replicated.
    pub(crate) refused: BTreeMap<Digest, Refusal>,
    /// Blobs and records that were held before, and are not there.
    pub(crate) lost: BTreeSet<Digest>,
}

/// How much is taken on trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What is remembered of unchanged files.
    Changes,
    /// Nothing: every name and every signature is looked at again.
    Everything,
}

/// Reads a store, and holds it against what is promised to peers.
pub(crate) fn scan<F: Fs>(
    store: &Store<F>,
    holdings: &Holdings,
    judge: &dyn Judge,
    depth: Depth,
) -> Result<Scan, StoreError> {
    // Taken first: what is published in between is not missed below.
    let held = holdings.blobs().into_iter().chain(holdings.records());
    let held: BTreeSet<Digest> = held.collect();
    if depth == Depth::Everything {
        store.forget();
        store.sweep()?;
    }
    // Records first: a blob that a record needs may come in between, never go.
    let records = store.records()?;
    let blobs = store.inventory()?;
    let mut scan = Scan {
        blobs: blobs.into_iter().map(|blob| blob.digest).collect(),
        ..Scan::default()
    };
    for record in ordered(records) {
        let digest = record.digest();
        match judge.judge(&record) {
            Ok(content) => drop(scan.contents.insert(digest, content)),
            Err(refusal) => drop(scan.refused.insert(digest, refusal)),
        }
    }
    let gone =
        |digest: &Digest| !scan.blobs.contains(digest) && !scan.contents.contains_key(digest);
    scan.lost = held.into_iter().filter(gone).collect();
    if let Err(error) = store.write_oci_index() {
        // It is for other people's tools; the next look at the store tries again.
        tracing::warn!(
            code = error.code(),
            error = sentence(&error),
            "index.json could not be written"
        );
    }
    Ok(scan)
}

/// Roots and revocations first: others may need them to be judged.
pub(crate) fn ordered(mut records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
    records.sort_by_key(|record| match record.kind {
        store::record::Kind::Root => (0, record.order),
        store::record::Kind::Revocations => (1, record.order),
        store::record::Kind::Bundle
        | store::record::Kind::License
        | store::record::Kind::Membership
        | store::record::Kind::Retention
        | store::record::Kind::Tombstone
        | store::record::Kind::Permit => (2, record.order),
    });
    records
}
