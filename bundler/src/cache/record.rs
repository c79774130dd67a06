//! The record beside a cached blob: what its file looked like when its SHA-256 was right, and its piece list.
//!
//! One line of JSON, and the bytes of the piece list behind it. A record that is torn or odd is as good as none: the
//! blob is hashed again. It is written without sync, for the reason that the module above gives.

use std::fs;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bundle::Digest;
use bundle::pieces::PieceList;
use serde::Deserialize;
use serde::Serialize;

use super::CacheError;
use super::CachedBlob;

/// What is remembered of one cached blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    line: Line,
    /// The piece list, when the blob has one.
    pub(super) pieces: Option<PieceList>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    size: u64,
    mtime: i64,
    mtime_nanoseconds: i64,
    inode: u64,
    boot: String,
    /// The blob was found right after a later start, so it is on the disk.
    outlived: bool,
    /// The digest of the piece list that follows.
    pieces: Option<Digest>,
}

impl Record {
    /// Describes a blob whose file was found right just now.
    pub(super) fn of(blob: &CachedBlob, metadata: &Metadata, boot: &str, outlived: bool) -> Self {
        let pieces = blob.pieces.as_ref().map(PieceList::to_bytes);
        Self {
            line: Line {
                size: metadata.len(),
                mtime: metadata.mtime(),
                mtime_nanoseconds: metadata.mtime_nsec(),
                inode: metadata.ino(),
                boot: boot.to_owned(),
                outlived,
                pieces: pieces.as_deref().map(Digest::of),
            },
            pieces: blob.pieces.clone(),
        }
    }

    /// Reads a record; `None` when there is none that can be read.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = bytes.split_at(end);
        let line: Line = serde_json::from_slice(line).ok()?;
        let pieces = match &line.pieces {
            Some(digest) => {
                let list = rest.get(1..).filter(|list| Digest::of(list) == *digest)?;
                Some(PieceList::parse(list).ok()?)
            }
            None => None,
        };
        Some(Self { line, pieces })
    }

    /// Whether the file is the one that was found right, and can't have lost bytes since.
    pub(super) fn vouches_for(&self, metadata: &Metadata, boot: &str) -> bool {
        self.is_of(metadata) && !boot.is_empty() && (self.line.outlived || self.line.boot == boot)
    }

    /// Whether it was made of this very file, before the last start: found right now, its bytes are on the disk.
    pub(super) fn is_outlived(&self, metadata: &Metadata, boot: &str) -> bool {
        self.is_of(metadata) && !self.line.boot.is_empty() && self.line.boot != boot
    }

    fn is_of(&self, metadata: &Metadata) -> bool {
        let line = &self.line;
        line.size == metadata.len()
            && line.mtime == metadata.mtime()
            && line.mtime_nanoseconds == metadata.mtime_nsec()
            && line.inode == metadata.ino()
    }

    /// Replaces the record at `path`.
    pub(super) fn write(&self, path: &Path) -> Result<(), CacheError> {
        let failed = CacheError::io("write", path);
        let mut bytes = serde_json::to_vec(&self.line).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        if let Some(pieces) = &self.pieces {
            bytes.extend(pieces.to_bytes());
        }
        let directory = path.parent().unwrap_or(path);
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(&failed)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(&failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}
