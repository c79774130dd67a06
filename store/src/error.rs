//! What can go wrong in a store, and the one place where an error of the disk gets its meaning.

use std::io;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

use crate::fs::Fs;

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A store that can't do what it was asked for. Nothing half-done has a name.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is no store, or not the expected one.
    #[error("{place} is not this cluster's store: {why}")]
    Foreign {
        /// The directory.
        place: String,
        /// What was found.
        why: String,
    },
    /// No room. What is finished stays, what is not can be continued.
    #[error("no space left in {place} for {object}")]
    DiskFull {
        /// The directory of the store.
        place: String,
        /// What was to be written.
        object: String,
        /// Bytes that are needed, the reserve included.
        need: u64,
        /// Bytes that are free.
        have: u64,
    },
    /// Something in the store is not what it was when it was written.
    #[error("{object} is damaged: {why}")]
    Corrupt {
        /// The object.
        object: String,
        /// What is wrong.
        why: String,
    },
    /// The disk did not confirm a write; the file is discarded.
    #[error("{object} could not be made durable")]
    Sync {
        /// The object.
        object: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Any other error of the disk.
    #[error("can't {action} {object}")]
    Io {
        /// A verb.
        action: &'static str,
        /// The object.
        object: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Bytes that don't hash to the name that they were to get.
    #[error("bytes given for blob {expected} have the digest {actual}")]
    Digest {
        /// The blob's name.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// A piece that does not match the piece list.
    #[error("piece {index} of blob {digest} does not match its piece list")]
    Piece {
        /// The blob.
        digest: Digest,
        /// The piece.
        index: u64,
    },
    /// A piece list that is not of this blob, or a length that no blob has.
    #[error("blob {digest} can't be cut like this: {why}")]
    Cut {
        /// The blob.
        digest: Digest,
        /// What does not fit.
        why: String,
    },
    /// A blob or a piece that is not here.
    #[error("{object} is not in the store")]
    Missing {
        /// The object.
        object: String,
    },
    /// Another process works on the same object.
    #[error("{object} is in use by another process")]
    Busy {
        /// The object.
        object: String,
    },
    /// The partial was published or discarded in the meantime.
    #[error("blob {digest} is no longer on its way")]
    Closed {
        /// The blob.
        digest: Digest,
    },
    /// A record that breaks a rule of the store.
    #[error("record can't be taken: {why}")]
    Record {
        /// What is wrong.
        why: String,
    },
    /// Fewer bytes free than wanted is one thing; a file name that can't be used another.
    #[error("{name:?} can't be a name in {place}")]
    Name {
        /// The name.
        name: String,
        /// The directory.
        place: &'static str,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Piece { .. } | Self::Digest { .. } | Self::Missing { .. } => {
                true
            }
            Self::Foreign { .. }
            | Self::DiskFull { .. }
            | Self::Corrupt { .. }
            | Self::Sync { .. }
            | Self::Io { .. }
            | Self::Cut { .. }
            | Self::Closed { .. }
            | Self::Record { .. }
            | Self::Name { .. } => false,
        }
    }
}

impl Fault for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "STORE_FOREIGN",
            Self::DiskFull { .. } => "DISK_FULL",
            Self::Corrupt { .. } => "STORE_CORRUPT",
            Self::Sync { .. } => "STORE_SYNC",
            Self::Io { .. } => "STORE_IO",
            Self::Digest { .. } => "STORE_DIGEST",
            Self::Piece { .. } => "STORE_PIECE",
            Self::Cut { .. } => "STORE_CUT",
            Self::Missing { .. } => "STORE_MISSING",
            Self::Busy { .. } => "STORE_BUSY",
            Self::Closed { .. } => "STORE_CLOSED",
            Self::Record { .. } => "STORE_RECORD",
            Self::Name { .. } => "STORE_NAME",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Foreign { .. }
            | Self::DiskFull { .. }
            | Self::Corrupt { .. }
            | Self::Sync { .. }
            | Self::Io { .. }
            | Self::Busy { .. } => Blame::Machine,
            Self::Digest { .. } | Self::Piece { .. } => Blame::Network,
            Self::Cut { .. } | Self::Record { .. } | Self::Name { .. } => Blame::Input,
            Self::Missing { .. } => Blame::Policy,
            Self::Closed { .. } => Blame::Bug,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::DiskFull { need, have, .. } => vec![
                Fact::new("need", format!("{need} bytes")),
                Fact::new("have", format!("{have} bytes")),
            ],
            Self::Foreign { .. }
            | Self::Corrupt { .. }
            | Self::Sync { .. }
            | Self::Io { .. }
            | Self::Digest { .. }
            | Self::Piece { .. }
            | Self::Cut { .. }
            | Self::Missing { .. }
            | Self::Busy { .. }
            | Self::Closed { .. }
            | Self::Record { .. }
            | Self::Name { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Foreign { .. } => {
                "mount the right disk; if the store was moved to this one on purpose, delete the line \
                 `filesystem …` in its STORE_ID"
            }
            Self::DiskFull { .. } => {
                "free some space and run the same command again: what is finished is kept"
            }
            Self::Sync { .. } => "check the disk (dmesg), then run the same command again",
            Self::Corrupt { .. } => "run `syncd verify`: what is damaged is fetched from a peer",
            Self::Busy { .. } => "wait until the other process is done",
            Self::Io { .. }
            | Self::Digest { .. }
            | Self::Piece { .. }
            | Self::Cut { .. }
            | Self::Missing { .. }
            | Self::Closed { .. }
            | Self::Record { .. }
            | Self::Name { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Gives errors of one object's disk calls their meaning.
#[derive(Debug)]
pub(crate) struct About<'a, F> {
    pub(crate) fs: &'a F,
    pub(crate) object: String,
    /// Bytes that the object needs when the disk is full.
    pub(crate) bytes: u64,
}

impl<'a, F: Fs> About<'a, F> {
    pub(crate) fn new(fs: &'a F, object: impl Into<String>) -> Self {
        Self {
            fs,
            object: object.into(),
            bytes: 0,
        }
    }

    pub(crate) fn needs(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// An error of any call but a sync.
    pub(crate) fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> StoreError + '_ {
        move |source| self.judge(action, source)
    }

    /// An error of a sync: the caller discards what it wanted to sync.
    pub(crate) fn not_durable(&self) -> impl Fn(io::Error) -> StoreError + '_ {
        move |source| {
            if is_full(&source) {
                return self.full();
            }
            StoreError::Sync {
                object: self.object.clone(),
                source,
            }
        }
    }

    /// An error of any call but a sync, as an expression.
    pub(crate) fn judge(&self, action: &'static str, source: io::Error) -> StoreError {
        if is_full(&source) {
            return self.full();
        }
        let object = self.object.clone();
        if source.kind() == io::ErrorKind::NotFound {
            return StoreError::Missing { object };
        }
        StoreError::Io {
            action,
            object,
            source,
        }
    }

    /// No room for the object.
    pub(crate) fn full(&self) -> StoreError {
        StoreError::DiskFull {
            place: self.fs.place(),
            object: self.object.clone(),
            need: self.bytes,
            have: self.fs.space().map_or(0, |space| space.free_bytes),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
