//! The invariants, looked at from outside after every step.
//!
//! | | what | how |
//! |---|---|---|
//! | I1 | a name equals its bytes | every new name in `blobs/` is hashed; all of them again after a crash |
//! | I2 | only what is published or verified is advertised | each promise is compared with the disk, byte for byte |
//! | I3 | a visible record is verified | only records that the vendor signed are ever promised |
//! | I4 | an acknowledged import survives | whole on as many disks as were promised, whatever crashed since |
//! | I5 | a crash costs what was not due for a checkpoint | older pieces are in the journal after it |
//! | I7 | absence never propagates | what a node has promised once stays on its disk |

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bundle::Digest;
use store::Have;
use store::Store;

use super::cluster::Acknowledged;
use super::cluster::Cluster;
use super::vendor::INCARNATION;

/// A piece is due for a checkpoint after 2 s, and somebody looks every half second; one step for each of both.
const DUE: Duration = Duration::from_millis(2600);

/// What was seen of each machine so far.
#[derive(Debug, Default)]
pub(super) struct Checker {
    machines: Vec<Seen>,
    acknowledged: Vec<(Acknowledged, usize)>,
    /// Digests of all records that the vendor's releases may have.
    pub(super) signed: BTreeSet<Digest>,
}

#[derive(Debug, Default)]
struct Seen {
    changes: Option<u64>,
    at: Option<u64>,
    /// Names whose bytes were hashed.
    names: BTreeSet<String>,
    /// Records on the disk, by name.
    records: BTreeMap<String, Digest>,
    /// What the node has promised since it got its disk.
    promised: BTreeSet<Digest>,
    /// When pieces were first promised in this boot.
    pieces: BTreeMap<Digest, BTreeMap<u64, Duration>>,
    /// Blobs whose bits were flipped.
    rotten: BTreeSet<Digest>,
    /// The disk has failed in this boot: partials may have been given up.
    disk_failed: bool,
    /// The disk has failed at some time: blobs that could not be read may be in quarantine.
    disk_failed_once: bool,
    /// Blobs in quarantine.
    quarantined: BTreeSet<String>,
}

impl Checker {
    pub(super) fn new(machines: usize) -> Self {
        Self {
            machines: (0..machines).map(|_| Seen::default()).collect(),
            ..Self::default()
        }
    }

    /// Checks everything that may have changed in the last step.
    pub(super) fn check(&mut self, cluster: &Cluster) {
        for at in 0..cluster.machines.len() {
            self.check_disk(cluster, at);
            self.check_promises(cluster, at);
        }
        let new = cluster.acknowledged.lock().unwrap();
        for acknowledged in new.iter().skip(self.acknowledged.len()) {
            self.acknowledged.push((*acknowledged, 2));
        }
        drop(new);
        for (acknowledged, disks) in &self.acknowledged {
            let whole = self.whole_copies(cluster, &acknowledged.release);
            assert!(
                whole >= *disks,
                "I4: {} was acknowledged and is whole on {whole} disks",
                acknowledged.release
            );
        }
    }

    /// A machine has lost its power: what it had promised must be there.
    pub(super) fn crashed(&mut self, cluster: &Cluster, at: usize) {
        let now = cluster.sim.elapsed();
        let machine = &cluster.machines[at];
        let seen = &mut self.machines[at];
        seen.names.clear();
        seen.records.clear();
        seen.changes = None;
        seen.at = None;
        let pieces = std::mem::take(&mut seen.pieces);
        if std::mem::take(&mut seen.disk_failed) {
            return;
        }
        let store = Store::open(machine.fs(), Some(INCARNATION)).unwrap();
        for (blob, times) in pieces {
            let due = times.iter().filter(|(_, since)| **since + DUE < now);
            let due: Vec<u64> = due.map(|(piece, _)| *piece).collect();
            let kept = match store.have(&blob).unwrap() {
                Have::Complete => continue,
                Have::Partial(kept) => due.iter().all(|piece| kept.contains(*piece)),
                Have::Nothing => due.is_empty(),
            };
            assert!(
                kept,
                "I5: {} lost pieces of {blob} that were due",
                machine.name
            );
        }
    }

    /// A machine got an empty disk.
    pub(super) fn replaced(&mut self, cluster: &Cluster, at: usize) {
        self.machines[at] = Seen::default();
        let copies: Vec<usize> = self
            .acknowledged
            .iter()
            .map(|(acknowledged, _)| self.whole_copies(cluster, &acknowledged.release))
            .collect();
        for ((_, disks), copies) in self.acknowledged.iter_mut().zip(copies) {
            *disks = (*disks).min(copies.max(1));
        }
    }

    /// Bits of a blob were flipped.
    pub(super) fn rotted(&mut self, at: usize, blob: Digest) {
        self.machines[at].rotten.insert(blob);
    }

    /// The disk of a machine fails for a while.
    pub(super) fn disk_fails(&mut self, at: usize) {
        self.machines[at].disk_failed = true;
        self.machines[at].disk_failed_once = true;
    }

    /// Blobs of a machine that rot has touched and nobody has repaired.
    pub(super) fn rotten(&self, at: usize) -> Vec<Digest> {
        self.machines[at].rotten.iter().copied().collect()
    }

    /// Whether a machine has a blob that rot has not touched.
    pub(super) fn is_sound_at(&self, at: usize, blob: &Digest) -> bool {
        let seen = &self.machines[at];
        !seen.rotten.contains(blob) && seen.names.contains(&blob.to_hex())
    }

    fn check_disk(&mut self, cluster: &Cluster, at: usize) {
        let machine = &cluster.machines[at];
        let seen = &mut self.machines[at];
        let changes = machine.fs().changes();
        if seen.changes.replace(changes) == Some(changes) {
            return;
        }
        let mut names = BTreeSet::new();
        seen.quarantined.clear();
        let mut records = BTreeMap::new();
        for (path, _size) in machine.fs().files() {
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                let digest = Digest::from_hex(hex).unwrap();
                let known = seen.names.contains(hex);
                if !known {
                    let actual = Digest::of(&machine.fs().peek(&path).unwrap());
                    if actual == digest {
                        seen.rotten.remove(&digest);
                    }
                    let rotten = seen.rotten.contains(&digest);
                    assert!(
                        actual == digest || rotten,
                        "I1: {} has {path} as {actual}",
                        machine.name
                    );
                }
                names.insert(hex.to_owned());
            } else if let Some(hex) = path.strip_prefix("quarantine/") {
                seen.quarantined.insert(hex.to_owned());
            } else if path.starts_with("records/") {
                let known = seen.records.get(&path).copied();
                let digest =
                    known.unwrap_or_else(|| Digest::of(&machine.fs().peek(&path).unwrap()));
                records.insert(path, digest);
            }
        }
        seen.names = names;
        seen.records = records;
        for blob in &seen.promised {
            assert!(
                seen.has(blob),
                "I7: {} had promised {blob} and has it no more",
                machine.name
            );
        }
    }

    fn check_promises(&mut self, cluster: &Cluster, at: usize) {
        let machine = &cluster.machines[at];
        let probe = machine.probe.lock().unwrap();
        let Some(probe) = probe.as_ref() else {
            return;
        };
        let seen = &mut self.machines[at];
        let inventory = probe.node.holdings.inventory();
        if seen.at.replace(inventory.stamp.at) == Some(inventory.stamp.at) {
            return;
        }
        for blob in inventory.blobs {
            let here = seen.names.contains(&blob.to_hex());
            assert!(here, "I2: {} promises {blob} and has it not", machine.name);
            seen.promised.insert(blob);
            seen.pieces.remove(&blob);
        }
        for record in inventory.records {
            let signed = self.signed.contains(&record);
            assert!(signed, "I3: {} shows the record {record}", machine.name);
            let here = seen.records.values().any(|digest| *digest == record);
            assert!(
                here,
                "I2: {} promises {record} and has it not",
                machine.name
            );
        }
        let now = cluster.sim.elapsed();
        for partial in inventory.partials {
            let known = seen.pieces.entry(partial.blob).or_default();
            let runs = partial.runs.iter();
            for piece in runs.flat_map(|(first, count)| *first..first + count) {
                if known.contains_key(&piece) {
                    continue;
                }
                known.insert(piece, now);
                let same = cluster.piece_is_right(at, &partial.blob, piece);
                assert!(
                    same,
                    "I2: {} promises wrong piece {piece} of {}",
                    machine.name, partial.blob
                );
            }
        }
    }

    /// Disks that hold the record and every blob of a release.
    fn whole_copies(&self, cluster: &Cluster, id: &Digest) -> usize {
        let releases = cluster.vendor.releases.iter();
        let release = releases
            .clone()
            .find(|release| release.id() == *id)
            .unwrap();
        let records = cluster.records_of(release);
        let whole = self.machines.iter().filter(|seen| {
            let record = seen.records.values().any(|digest| records.contains(digest));
            let mut blobs = release.blobs.iter();
            record && blobs.all(|blob| seen.has(&blob.digest))
        });
        whole.count()
    }
}

impl Seen {
    /// Whether a blob is there, or was until the medium damaged it.
    fn has(&self, blob: &Digest) -> bool {
        let hex = blob.to_hex();
        let unreadable = self.disk_failed_once && self.quarantined.contains(&hex);
        self.names.contains(&hex) || self.rotten.contains(blob) || unreadable
    }
}
