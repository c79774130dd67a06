//! The records of a store: one file each, merged by rules that know no clock and no order of arrival.
//!
//! A file is called `<kind>-<digest in hex>` and holds the record's encoding, so a damaged one is seen when it is read.
//! The directory may hold more than what is in force: a record that was replaced is removed after the newer one is
//! durable, and comes back when power is lost in between; it is left out again by the same rules.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bundle::Digest;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Target;
use crate::fs::read_exact_at;
use crate::layout;
use crate::limits;
use crate::record::Kind;
use crate::record::Record;
use crate::record::Relation;
use crate::staging;
use crate::store::Store;
use crate::store::lock;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in force and durable.
    New,
    /// It, or the same statement, was there already.
    Known,
    /// One of a higher order is there; it was not kept.
    Superseded,
    /// It is kept beside another one of equal order with other bytes: somebody signed two things. An alarm.
    Conflict,
}

/// Records as they were last read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    files: BTreeMap<Digest, Arc<Record>>,
    /// Whether all these names are durable.
    durable: bool,
}

impl<F: Fs> Store<F> {
    /// Merges a verified record into the store; what this returns is durable.
    pub fn put_record(&self, record: &Record) -> Result<Put> {
        record.check()?;
        if record.incarnation != self.incarnation() {
            return Err(StoreError::Record {
                why: format!("it is of cluster incarnation {}", record.incarnation),
            });
        }
        let in_force = self.records()?;
        let mut put = Put::New;
        for other in &in_force {
            match other.relation(record) {
                Relation::First if other.order == record.order => return Ok(Put::Known),
                Relation::First => return Ok(Put::Superseded),
                Relation::Apart if record.conflicts_with(other) => put = Put::Conflict,
                Relation::Second | Relation::Apart => {}
            }
        }
        if in_force.len() >= limits::RECORDS_MAX {
            return Err(StoreError::Record {
                why: format!("the store holds {} records already", in_force.len()),
            });
        }
        let bytes = record.to_bytes();
        staging::write_durably(
            self.fs(),
            layout::RECORDS,
            &file_name(record.kind, &Digest::of(&bytes)),
            &bytes,
            Target::MustBeNew,
        )?;
        self.remove_replaced()?;
        Ok(put)
    }

    /// Every record in force, by kind, id and digest; each is durable.
    pub fn records(&self) -> Result<Vec<Arc<Record>>> {
        let cache = self.read_records()?;
        let kept = in_force(&cache.files);
        Ok(kept.iter().map(|(_, record)| Arc::clone(record)).collect())
    }

    /// The digests of all records in force, sorted.
    pub fn record_digests(&self) -> Result<Vec<Digest>> {
        let cache = self.read_records()?;
        let mut digests: Vec<Digest> = in_force(&cache.files)
            .iter()
            .map(|(digest, _)| **digest)
            .collect();
        digests.sort_unstable();
        Ok(digests)
    }

    /// The record in force with this digest.
    pub fn record(&self, digest: &Digest) -> Result<Option<Arc<Record>>> {
        let cache = self.read_records()?;
        let kept = in_force(&cache.files);
        let found = kept.iter().find(|(name, _)| *name == digest);
        Ok(found.map(|(_, record)| Arc::clone(record)))
    }

    /// Reads files that are new in the directory, forgets those that are gone, and moves damaged ones away.
    fn read_records(&self) -> Result<Cache> {
        let about = About::new(self.fs(), layout::RECORDS);
        let names = self.fs().list(layout::RECORDS);
        let names = names.map_err(about.failed("list"))?;
        let known = lock(&self.inner.records).clone();
        let mut now = Cache {
            files: BTreeMap::new(),
            durable: known.durable,
        };
        for name in names {
            let Some(digest) = digest_in(&name) else {
                continue;
            };
            let record = if let Some(record) = known.files.get(&digest) {
                Some(Arc::clone(record))
            } else {
                now.durable = false;
                self.read_record(&name)?.map(Arc::new)
            };
            if let Some(record) = record {
                now.files.insert(digest, record);
            }
        }
        // Another process may have named one and not synced it yet.
        if !now.durable {
            self.fs()
                .sync_dir(layout::RECORDS)
                .map_err(about.not_durable())?;
            now.durable = true;
        }
        *lock(&self.inner.records) = now.clone();
        Ok(now)
    }

    fn read_record(&self, name: &str) -> Result<Option<Record>> {
        let path = staging::join(layout::RECORDS, name);
        let about = About::new(self.fs(), &path);
        let file = match self.fs().open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about.judge("open", error)),
        };
        let size = file.metadata().map_err(about.failed("look at"))?.size;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let mut record = None;
        if length <= limits::RECORD_BYTES_MAX {
            let mut bytes = vec![0; length];
            read_exact_at(&file, &mut bytes, 0).map_err(about.failed("read"))?;
            record = Record::parse(&bytes)
                .ok()
                .filter(|record| file_name(record.kind, &Digest::of(&bytes)) == name);
        }
        if record.is_none() {
            let to = staging::join(layout::QUARANTINE, name);
            self.fs()
                .rename(&path, &to, Target::Replace)
                .map_err(about.failed("quarantine"))?;
        }
        Ok(record.filter(|record| record.incarnation == self.incarnation()))
    }

    /// Removes what is not in force any more. Its absence needs no sync: if it comes back, it is left out again.
    fn remove_replaced(&self) -> Result<()> {
        let cache = self.read_records()?;
        let kept = in_force(&cache.files);
        for (digest, record) in &cache.files {
            if !kept.iter().any(|(name, _)| *name == digest) {
                let name = file_name(record.kind, digest);
                let _comes_back = self
                    .fs()
                    .remove_file(&staging::join(layout::RECORDS, &name));
            }
        }
        Ok(())
    }
}

/// What of these records stays. Union, then the rules of [`Record::relation`]: the order of the input does not matter.
pub(crate) fn in_force(records: &BTreeMap<Digest, Arc<Record>>) -> Vec<(&Digest, &Arc<Record>)> {
    let mut groups: BTreeMap<_, Vec<(&Digest, &Arc<Record>)>> = BTreeMap::new();
    for (digest, record) in records {
        let group = groups.entry((record.kind, record.id.as_str())).or_default();
        let relation = |other: &Record| other.relation(record);
        if group
            .iter()
            .all(|(_, other)| relation(other) != Relation::First)
        {
            group.retain(|(_, other)| relation(other) != Relation::Second);
            group.push((digest, record));
        }
    }
    groups.into_values().flatten().collect()
}

fn file_name(kind: Kind, digest: &Digest) -> String {
    format!("{}-{}", kind.name(), digest.to_hex())
}

fn digest_in(name: &str) -> Option<Digest> {
    Digest::from_hex(name.rsplit_once('-')?.1).ok()
}
