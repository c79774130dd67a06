//! Writes a bundle: the payload streams once to its place, the head follows into the room that was kept for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;

use crate::digest::Digest;
use crate::fault::Blame;
use crate::fault::Fault;
use crate::head::HeadError;
use crate::head::HeadFiles;
use crate::index::IndexError;
use crate::packing::Base;
use crate::pieces::PieceList;
use crate::read::ReadError;

mod compress;
mod content;
mod payload;
mod plan;
mod replace;
#[cfg(test)]
mod tests;

/// Where the blobs of a bundle come from: a cache, a store, memory. Piece lists are asked for like blobs.
pub trait BlobSource: Sync {
    /// Opens a blob for reading from its start. What it yields is checked against the index.
    ///
    /// Blobs are opened in the order of the bundle, so a source may still be receiving them, and block.
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>>;

    /// The first bytes of a blob, at most `count`; `None` when they are still to come.
    fn start(&self, digest: &Digest, count: usize) -> io::Result<Option<Vec<u8>>> {
        let mut start = Vec::new();
        let most = u64::try_from(count).unwrap_or(u64::MAX);
        self.open(digest)?.take(most).read_to_end(&mut start)?;
        Ok(Some(start))
    }

    /// The piece list of a blob that was opened, made in the same pass as its SHA-256; [`write_bundle_late`] asks.
    fn piece_list(&self, blob: &Digest) -> io::Result<PieceList> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("no piece list of {blob} is kept"),
        ))
    }
}

/// How a bundle is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How hard to compress what is not compressed yet.
    pub effort: Effort,
    /// Blobs to leave out: a delta.
    pub omitted: BTreeSet<Digest>,
    /// What the delta is made against.
    pub base: Option<Base>,
}

/// How hard to compress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// zstd level 19, for releases.
    #[default]
    Release,
    /// zstd level 3, for trying things out.
    Fast,
}

/// What a writer tells while it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEvent {
    /// So many of the payload's plain bytes are written.
    Progress {
        /// Plain bytes so far.
        plain_bytes: u64,
        /// Plain bytes of the whole payload.
        plain_bytes_total: u64,
    },
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The bundle's id.
    pub id: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// Frames, the head included.
    pub frames: usize,
}

/// A bundle that can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The index itself.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A head that no reader would take.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A blob that can't be had.
    #[error("blob {digest} can't be read")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A blob whose bytes are not those of the index.
    #[error("blob {digest}: {field} is {actual}, the index says {expected}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// What differs.
        field: &'static str,
        /// What it is.
        actual: String,
        /// What it should be.
        expected: String,
    },
    /// A digest to leave out that the index does not list.
    #[error("blob {0} is to be left out, but the index does not list it")]
    Omitted(Digest),
    /// Compression failed.
    #[error("frame {frame} can't be compressed")]
    Compress {
        /// Number of the frame, the head is 0.
        frame: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The output failed.
    #[error("bundle can't be written")]
    Output(#[source] io::Error),
    /// A blob that was still to come is not compressed, as its media type says: the frames are planned wrong.
    #[error("blob {0} is not compressed as its media type says")]
    Mislabelled(Digest),
    /// A head that was completed lists other content than the draft that the payload was written by.
    #[error("the completed head is not that of the payload")]
    Completed,
    /// The bundle whose head is to be replaced can't be read.
    #[error(transparent)]
    Old(#[from] ReadError),
    /// The new head is of another bundle.
    #[error("new head is of bundle {new}, the file holds {old}")]
    OtherBundle {
        /// The bundle of the file.
        old: Digest,
        /// The bundle of the new head.
        new: Digest,
    },
}

impl Fault for WriteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Index(error) => error.code(),
            Self::Head(_) | Self::Omitted(_) | Self::Completed | Self::OtherBundle { .. } => {
                "BUNDLE_HEAD"
            }
            Self::Source { .. } => "BLOB_IO",
            Self::Blob { .. } | Self::Mislabelled(_) => "BLOB_DIGEST",
            Self::Compress { .. } => "BUNDLE_COMPRESS",
            Self::Output(error) if error.kind() == io::ErrorKind::StorageFull => "DISK_FULL",
            Self::Output(_) => "BUNDLE_IO",
            Self::Old(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Index(error) => error.blame(),
            Self::Old(error) => error.blame(),
            Self::Head(_)
            | Self::Omitted(_)
            | Self::Completed
            | Self::Mislabelled(_)
            | Self::OtherBundle { .. }
            | Self::Blob { .. } => Blame::Input,
            Self::Source { .. } | Self::Compress { .. } | Self::Output(_) => Blame::Machine,
        }
    }
}

/// Writes a whole bundle to `out`, which must be empty and stands at its start.
///
/// The bytes depend on the head, the blobs and the options alone. Each blob is read once and checked against the index:
/// by its piece list, which was made of the bytes that its SHA-256 was; by that SHA-256 where it has none. Memory is
/// bounded. `out` is not synced.
pub fn write_bundle(
    head: &HeadFiles,
    source: &dyn BlobSource,
    out: &mut (impl Write + Seek),
    options: &WriteOptions,
    events: &dyn Fn(WriteEvent),
) -> Result<Written, WriteError> {
    payload::write(head, source, out, options, events)
}

/// Writes a whole bundle while its blobs are still coming: [`write_bundle`], with the head's last digests left open.
///
/// `draft` has the final head's length: the same index, with any digest in the place of each piece list's, signed by as
/// many keys. When the payload is written, `complete` gets the digest of each blob's piece list and gives the head.
///
/// How a blob is stored depends on its first bytes. One that is still to come is taken to be what its media type says;
/// [`WriteError::Mislabelled`] tells that it is not, and that the writing has to begin anew now that it is there.
pub fn write_bundle_late<E: From<WriteError>>(
    draft: &HeadFiles,
    source: &dyn BlobSource,
    out: &mut (impl Write + Seek),
    options: &WriteOptions,
    events: &dyn Fn(WriteEvent),
    complete: impl FnOnce(&BTreeMap<Digest, Digest>) -> Result<HeadFiles, E>,
) -> Result<Written, E> {
    payload::write_late(draft, source, out, options, events, complete)
}

/// Copies the bundle `old` to `out` under a new head for the same `bundle.json`, as `bundler sign` does.
pub fn replace_head(
    old: &mut impl Read,
    new: &HeadFiles,
    out: &mut impl Write,
) -> Result<Written, WriteError> {
    replace::replace(old, new, out)
}
