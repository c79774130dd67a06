//! The records of a store: one file each, merged by rules that know no clock and no order of arrival.

use std::sync::Arc;

use bundle::Digest;

use crate::error::Result;
use crate::fs::Fs;
use crate::record::Record;
use crate::store::Store;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in force and durable.
    New,
    /// It was there already.
    Known,
    /// One of a higher order is there; it was not kept.
    Superseded,
    /// It is kept beside another one of equal order with other bytes: somebody signed two things. An alarm.
    Conflict,
}

/// Records as they were last read.
#[derive(Debug, Default)]
pub(crate) struct Cache;

impl<F: Fs> Store<F> {
    /// Merges a verified record into the store, durably.
    pub fn put_record(&self, record: &Record) -> Result<Put> {
        let _ = record;
        todo!()
    }

    /// Every record in force, by kind, id and digest.
    pub fn records(&self) -> Result<Vec<Arc<Record>>> {
        todo!()
    }

    /// The record with this digest.
    pub fn record(&self, digest: &Digest) -> Result<Option<Arc<Record>>> {
        let _ = digest;
        todo!()
    }
}
