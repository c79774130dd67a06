//! Import: the one pass from a bundle file into the store. Blobs first, the record last; rerunnable at any byte.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::head::VerifiedHead;
use bundle::read::ReadError;
use bundle::read::ReadEvent;

use crate::error::StoreError;
use crate::fs::Fs;
use crate::record::Order;
use crate::record::Record;
use crate::records::Put;
use crate::staging::Stage;
use crate::store::Store;

mod sink;
mod writer;

use sink::Feed;
use sink::Sink;
use writer::Shared;
use writer::Writer;

/// Who imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// This node's name, for the record.
    pub origin: String,
}

/// What an import does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportEvent {
    /// How much there is to do.
    Planned {
        /// Blobs, piece lists included, that are not here yet.
        missing_blobs: u64,
        /// Their bytes.
        missing_bytes: u64,
        /// Blobs in all.
        blobs: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// So many of the payload's plain bytes are read and checked.
    Progress {
        /// Plain bytes so far.
        plain_bytes: u64,
        /// Plain bytes of the whole payload.
        plain_bytes_total: u64,
    },
    /// So many of the missing blobs are durable under their names.
    Published {
        /// Blobs so far.
        blobs: u64,
    },
}

/// What an import has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportSummary {
    /// The bundle's id.
    pub id: bundle::Digest,
    /// Blobs that were written.
    pub written_blobs: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Blobs that were here.
    pub skipped_blobs: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
    /// What became of the record.
    pub record: Put,
}

/// An import that failed; what is published stays, the record is not written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error(transparent)]
    Bundle(#[from] ReadError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Fault for ImportError {
    fn code(&self) -> &'static str {
        match self {
            Self::Bundle(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Bundle(error) => error.blame(),
            Self::Store(error) => error.blame(),
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Bundle(error) => error.facts(),
            Self::Store(error) => error.facts(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Imports the payload that `reader` holds behind the verified head. Reads it once; it may be a pipe.
///
/// 1. Free space for exactly what is missing.
/// 2. Each missing blob is written while it is read; it gets its name after its SHA-256 and piece list were found right.
/// 3. When all blobs are durable, the record.
///
/// Whether the bundle is accepted (product, order, license) is the caller's to judge before.
pub fn import<F: Fs>(
    store: &Store<F>,
    head: &VerifiedHead,
    reader: impl Read + Send,
    options: &ImportOptions,
    events: &mut dyn FnMut(ImportEvent),
) -> Result<ImportSummary, ImportError> {
    // What a killed import has left takes the space that this one needs.
    store.sweep()?;
    let plan = Plan::of(store, head)?;
    events(plan.event());
    store.require_space(&format!("bundle {}", head.id()), plan.space_bytes)?;
    let shared = Arc::new(Shared::default());
    let stage = Arc::new(Stage::open(store.fs())?);
    let writer = Writer::new(store, &stage, &shared);
    let read = std::thread::scope(|scope| {
        let feed = Feed::start(scope, writer, &shared);
        let mut sink = Sink::new(store, plan.missing, feed);
        let mut told = 0;
        let read = bundle::read::read_payload(head, reader, &mut sink, &mut |event| {
            let published = shared.published();
            if published > told {
                told = published;
                events(ImportEvent::Published { blobs: told });
            }
            events(event.into());
        });
        // Also after an error: what is complete is kept for the next try.
        sink.finish();
        read
    });
    if let Some(failure) = shared.take_failure() {
        return Err(failure.into());
    }
    read?;
    // Also what was here before: another process may have named it a moment ago.
    store.sync_names()?;
    events(ImportEvent::Published {
        blobs: shared.published(),
    });
    let record = put_record(store, head, options)?;
    store.write_oci_index()?;
    Ok(ImportSummary {
        id: head.id(),
        written_blobs: plan.missing_blobs,
        written_bytes: plan.missing_bytes,
        skipped_blobs: plan.blobs - plan.missing_blobs,
        skipped_bytes: plan.bytes - plan.missing_bytes,
        record,
    })
}

fn put_record<F: Fs>(
    store: &Store<F>,
    head: &VerifiedHead,
    options: &ImportOptions,
) -> Result<Put, StoreError> {
    let order = Order {
        epoch: head.index().epoch,
        sequence: head.index().sequence,
    };
    let counter = store.next_counter(&options.origin)?;
    let (files, incarnation) = (head.head_files(), store.incarnation());
    let record = Record::of_bundle(files, order, incarnation, &options.origin, counter).map_err(
        |error| StoreError::Record {
            why: error.to_string(),
        },
    )?;
    store.put_record(&record)
}

/// What an import has to do.
struct Plan {
    missing: BTreeSet<Digest>,
    missing_blobs: u64,
    missing_bytes: u64,
    blobs: u64,
    bytes: u64,
    /// What the missing blobs take on this disk.
    space_bytes: u64,
}

impl Plan {
    fn of<F: Fs>(store: &Store<F>, head: &VerifiedHead) -> Result<Self, StoreError> {
        let block = store.space()?.block_bytes;
        let mut plan = Self {
            missing: BTreeSet::new(),
            missing_blobs: 0,
            missing_bytes: 0,
            blobs: 0,
            bytes: 0,
            space_bytes: 0,
        };
        for member in head.packing().carried(head.index()) {
            plan.blobs += 1;
            plan.bytes += member.size;
            if !store.has(&member.digest)? {
                plan.missing_blobs += 1;
                plan.missing_bytes += member.size;
                plan.space_bytes += member.size.next_multiple_of(block);
                plan.missing.insert(member.digest);
            }
        }
        Ok(plan)
    }

    const fn event(&self) -> ImportEvent {
        ImportEvent::Planned {
            missing_blobs: self.missing_blobs,
            missing_bytes: self.missing_bytes,
            blobs: self.blobs,
            bytes: self.bytes,
        }
    }
}

impl From<ReadEvent> for ImportEvent {
    fn from(event: ReadEvent) -> Self {
        match event {
            ReadEvent::Progress {
                plain_bytes,
                plain_bytes_total,
            } => Self::Progress {
                plain_bytes,
                plain_bytes_total,
            },
        }
    }
}
