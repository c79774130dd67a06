//! Import: the one pass from a bundle file into the store. Blobs first, the record last; rerunnable at any byte.

use std::io::Read;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::head::VerifiedHead;
use bundle::read::ReadError;

use crate::error::StoreError;
use crate::fs::Fs;
use crate::records::Put;
use crate::store::Store;

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
/// Whether the bundle is accepted (product, order, license) is the caller's to judge before.
pub fn import<F: Fs>(
    store: &Store<F>,
    head: &VerifiedHead,
    reader: impl Read + Send,
    options: &ImportOptions,
    events: &mut dyn FnMut(ImportEvent),
) -> Result<ImportSummary, ImportError> {
    let _ = (store, head, reader, options, events);
    todo!()
}
