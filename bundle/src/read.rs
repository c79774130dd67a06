//! Reads the payload of a bundle whose head is verified: once, from front to end, in constant memory.

use std::io;
use std::io::Read;

use crate::digest::Digest;
use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;
use crate::frame::FrameError;
use crate::head::HeadError;
use crate::head::VerifiedHead;
use crate::index::BlobMember;
use crate::packing::PackingError;
use crate::pieces::PieceList;

mod frames;
mod payload;
#[cfg(test)]
mod tests;

/// Takes the blobs of a bundle as they come by.
///
/// The reader calls, for each carried member in order, `wants`, and if that is true `data` any number of times and then
/// `end`. Nothing may get its name before `end`; when the reader fails in the middle, `end` is never called. An error of
/// the sink ends the reading and comes back as [`ReadError::Sink`].
pub trait PayloadSink {
    /// Whether a blob that the file leaves out is here already. Asked for each of them before anything is read.
    fn has_already(&mut self, blob: &BlobMember) -> io::Result<bool> {
        let _ = blob;
        Ok(false)
    }

    /// Whether the member's bytes are wanted. They are checked in either case.
    fn wants(&mut self, blob: &BlobMember) -> io::Result<bool>;

    /// The next bytes of the wanted member. They are not verified yet.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The wanted member is complete: its size, its SHA-256 and its piece list are those of the signed index.
    ///
    /// `pieces` is there for each blob that has a piece list; the list itself follows as a member of its own.
    fn end(&mut self, blob: &BlobMember, pieces: Option<&PieceList>) -> io::Result<()>;
}

/// What a reader tells while it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEvent {
    /// So many of the payload's plain bytes are checked.
    Progress {
        /// Plain bytes so far.
        plain_bytes: u64,
        /// Plain bytes of the whole payload.
        plain_bytes_total: u64,
    },
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blob members in the file, piece lists included.
    pub members: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Members that the sink wanted.
    pub wanted: u64,
    /// Their bytes.
    pub wanted_bytes: u64,
    /// Blob members that the file left out and the sink had.
    pub left_out: u64,
}

/// A bundle that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reading itself failed.
    #[error("bundle can't be read")]
    Io(#[source] io::Error),
    /// The file ends too early.
    #[error("bundle ends in the middle of {part}")]
    Truncated {
        /// What is not complete.
        part: String,
    },
    /// A frame that the format does not allow, or that is damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The head's members.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The packing.
    #[error(transparent)]
    Packing(#[from] PackingError),
    /// Bytes that differ from what the format prescribes at this place.
    #[error("member {name}: {what} is not the canonical one")]
    Member {
        /// The member's path.
        name: String,
        /// Header, padding or content.
        what: &'static str,
    },
    /// Bytes that differ from what the vendor signed.
    #[error("{what} has the digest {actual}, expected {expected}")]
    Digest {
        /// The object.
        what: String,
        /// What its bytes hash to.
        actual: Digest,
        /// What they must hash to.
        expected: Digest,
    },
    /// Bytes behind the last frame.
    #[error("bundle goes on behind its last frame")]
    Trailing,
    /// A delta, and the receiver lacks what it leaves out.
    #[error(
        "bundle leaves out {count} blobs of {bytes} bytes that are not here, the first is {first}"
    )]
    Incomplete {
        /// How many blobs are missing.
        count: u64,
        /// Their bytes.
        bytes: u64,
        /// The first of them.
        first: Digest,
        /// What the delta was made against.
        base: Option<crate::packing::Base>,
    },
    /// The sink failed.
    #[error("blob can't be stored")]
    Sink(#[source] io::Error),
}

impl Fault for ReadError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "BUNDLE_IO",
            Self::Truncated { .. } => "BUNDLE_TRUNCATED",
            Self::Packing(PackingError::Codec { .. }) => "BUNDLE_CODEC",
            Self::Frame(_)
            | Self::Head(_)
            | Self::Packing(_)
            | Self::Member { .. }
            | Self::Trailing => "BUNDLE_FORMAT",
            Self::Digest { .. } => "BUNDLE_DIGEST",
            Self::Incomplete { .. } => "BUNDLE_INCOMPLETE",
            Self::Sink(error) if error.kind() == io::ErrorKind::StorageFull => "DISK_FULL",
            Self::Sink(_) => "BUNDLE_SINK",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Io(_) | Self::Sink(_) => Blame::Machine,
            Self::Incomplete { .. } => Blame::Policy,
            Self::Truncated { .. }
            | Self::Frame(_)
            | Self::Head(_)
            | Self::Packing(_)
            | Self::Member { .. }
            | Self::Digest { .. }
            | Self::Trailing => Blame::Input,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Digest {
                actual, expected, ..
            } => vec![Fact::new("expected", expected), Fact::new("actual", actual)],
            Self::Incomplete {
                bytes, first, base, ..
            } => {
                let base = base.map(|base| Fact::new("made against", base));
                let known = [Fact::new("missing", first), Fact::new("bytes", bytes)];
                known.into_iter().chain(base).collect()
            }
            Self::Io(_)
            | Self::Truncated { .. }
            | Self::Frame(_)
            | Self::Head(_)
            | Self::Packing(_)
            | Self::Member { .. }
            | Self::Trailing
            | Self::Sink(_) => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io(_) => "check the drive, then read the file again",
            Self::Truncated { .. } => "copy the file again and compare its size with the vendor's",
            Self::Packing(PackingError::Codec { .. }) => "use a later version of Sealift",
            Self::Frame(FrameError::NotABundle) => "give the .airgap file that the vendor built",
            Self::Frame(_)
            | Self::Head(_)
            | Self::Packing(_)
            | Self::Member { .. }
            | Self::Digest { .. } => {
                "copy the file again; if it stays like this, ask the vendor for a new one"
            }
            Self::Trailing => "give one bundle as it was built, with nothing behind it",
            Self::Incomplete { .. } => {
                "import the bundle that this delta was made against, or a whole one"
            }
            Self::Sink(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// Reads and checks the whole payload and hands the wanted blobs to `sink`.
///
/// `reader` stands right behind the head, where [`crate::head::UntrustedHead::read`] left it. It may be a pipe. Large
/// reads are made, so it needs no buffer.
/// On an error the call returns as soon as the read that is under way does.
pub fn read_payload(
    head: &VerifiedHead,
    reader: impl Read + Send,
    sink: &mut dyn PayloadSink,
    events: &mut dyn FnMut(ReadEvent),
) -> Result<Summary, ReadError> {
    payload::read(head, reader, sink, events)
}
