//! Blobs from the vendor's own disk: node files, manifests, documents, values, licenses, packed charts.
//!
//! A file is hashed where it lies and read again when the bundle is written; should it change in between, the writer
//! finds another digest and refuses.

use std::fs::File;
use std::io;
use std::io::Cursor;
use std::io::Read;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::Hasher;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::limits;
use bundle::name::EntryPath;
use bundle::name::NameError;
use bundle::pieces::PieceHasher;
use bundle::pieces::PieceList;

use crate::durable::FileError;
use crate::failure::Outcome;

/// What is read at once: large enough for the disk and the hashes, small beside the memory of a build.
const READ_BYTES: usize = 1 << 20;

/// A blob that is not an image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: &'static str,
    /// Its piece list, when it is large.
    pub pieces: Option<PieceList>,
    /// Where its bytes are.
    pub content: Content,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In a file of the vendor's.
    File(PathBuf),
    /// Made by this build.
    Memory(Vec<u8>),
}

/// An entry of the release file that leads to no usable file.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nothing matches.
    #[error("{key}: nothing matches {pattern:?}")]
    NoMatch {
        /// The key of the release file.
        key: &'static str,
        /// The pattern.
        pattern: String,
    },
    /// A pattern that is none.
    #[error("{key}: {pattern:?} is not a pattern")]
    Pattern {
        /// The key of the release file.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// A path that can't be a name inside the bundle.
    #[error("{} can't be named inside the bundle", path.display())]
    Name {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        source: NameError,
    },
    /// A path outside of the release folder.
    #[error("{} is not below the folder of the release file", path.display())]
    Outside {
        /// The path.
        path: PathBuf,
    },
    /// Other bytes than the release file says.
    #[error("{} has another digest than the release file says", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What it is.
        actual: Digest,
        /// What it should be.
        expected: Digest,
    },
}

impl LocalBlob {
    /// Takes a file; its media type follows from its first bytes when `media_type` is not given.
    pub fn of_file(path: &Path, media_type: Option<&'static str>) -> Outcome<Self> {
        let failed = |source| FileError::new("read", path, source);
        let mut file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()).into());
        }
        let hashed = hash(&mut file).map_err(failed)?;
        Ok(Self {
            digest: hashed.digest,
            size: hashed.pieces.cut().length,
            media_type: media_type.unwrap_or_else(|| sniff(&hashed.start)),
            pieces: keep(hashed.pieces),
            content: Content::File(path.to_path_buf()),
        })
    }

    /// Takes bytes that this build made.
    pub fn of_bytes(bytes: Vec<u8>, media_type: &'static str) -> Self {
        let mut pieces = PieceHasher::standard();
        pieces.update(&bytes);
        let pieces = pieces.finish();
        Self {
            digest: Digest::of(&bytes),
            size: pieces.cut().length,
            media_type,
            pieces: keep(pieces),
            content: Content::Memory(bytes),
        }
    }

    /// Requires a digest.
    pub fn require(&self, expected: Option<Digest>) -> Result<(), LocalError> {
        match (&self.content, expected) {
            (Content::File(path), Some(expected)) if expected != self.digest => {
                Err(LocalError::Digest {
                    path: path.clone(),
                    actual: self.digest,
                    expected,
                })
            }
            _same_or_any => Ok(()),
        }
    }
}

impl Content {
    /// Opens the bytes for reading.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::File(path) => Ok(Box::new(File::open(path)?)),
            Self::Memory(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
        }
    }
}

/// A path of the release file, as seen from here.
pub fn at(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path).components().collect()
}

/// The files that a pattern below `folder` matches, in the order of their bytes; at least one.
pub fn expand(folder: &Path, key: &'static str, pattern: &str) -> Outcome<Vec<PathBuf>> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let folder = glob::Pattern::escape(&folder.to_string_lossy());
    let relative = pattern.trim_start_matches("./");
    let whole = format!("{folder}/{relative}");
    let matches = glob::glob_with(&whole, options).map_err(|source| LocalError::Pattern {
        key,
        pattern: pattern.to_owned(),
        source,
    })?;
    let mut paths = Vec::new();
    for found in matches {
        let path = found.map_err(|error| {
            let path = error.path().to_path_buf();
            FileError::new("read", &path, error.into())
        })?;
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        let pattern = pattern.to_owned();
        return Err(LocalError::NoMatch { key, pattern }.into());
    }
    Ok(paths)
}

/// The name inside the bundle of a file below `folder`: its path from there.
pub fn entry_path(folder: &Path, path: &Path) -> Result<EntryPath, LocalError> {
    let outside = || LocalError::Outside {
        path: path.to_path_buf(),
    };
    let below = path.strip_prefix(folder).unwrap_or(path);
    let mut parts = Vec::new();
    for component in below.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return Err(outside());
            }
        }
    }
    parts.join("/").parse().map_err(|source| LocalError::Name {
        path: path.to_path_buf(),
        source,
    })
}

struct Hashed {
    digest: Digest,
    pieces: PieceList,
    start: Vec<u8>,
}

fn hash(file: &mut impl Read) -> io::Result<Hashed> {
    let mut hasher = Hasher::new();
    let mut pieces = PieceHasher::standard();
    let mut start = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if start.is_empty() {
            start = bytes.iter().copied().take(8).collect();
        }
        hasher.update(bytes);
        pieces.update(bytes);
    }
    Ok(Hashed {
        digest: hasher.finish(),
        pieces: pieces.finish(),
        start,
    })
}

fn keep(pieces: PieceList) -> Option<PieceList> {
    (pieces.cut().length > limits::PIECED_BLOB_BYTES_MIN).then_some(pieces)
}

/// The media type by magic number, so that what is compressed already is not compressed again.
fn sniff(start: &[u8]) -> &'static str {
    match start {
        [0x1f, 0x8b, ..] => "application/gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/zstd",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "application/x-xz",
        [b'P', b'K', 3, 4, ..] => "application/zip",
        _other => "application/octet-stream",
    }
}

impl Fault for LocalError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoMatch { .. } => "FILE_NOT_FOUND",
            Self::Pattern { .. } | Self::Name { .. } | Self::Outside { .. } => "RELEASE_INVALID",
            Self::Digest { .. } => "FILE_DIGEST",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoMatch { .. }
            | Self::Pattern { .. }
            | Self::Name { .. }
            | Self::Outside { .. } => Blame::Usage,
            Self::Digest { .. } => Blame::Input,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Digest {
                actual, expected, ..
            } => vec![
                Fact::new("file", actual.to_hex()),
                Fact::new("expected", expected.to_hex()),
            ],
            Self::NoMatch { .. }
            | Self::Pattern { .. }
            | Self::Name { .. }
            | Self::Outside { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoMatch { .. } => {
                Some("patterns are relative to the folder of the release file".into())
            }
            Self::Digest { .. } => Some("make sure of the file, then correct its `sha256`".into()),
            Self::Outside { .. } => {
                Some("copy it below that folder: its path is its name inside the bundle".into())
            }
            Self::Pattern { .. } | Self::Name { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_gives_its_files_sorted_and_without_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yaml", ".hidden.yaml", "c.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let found = expand(folder.path(), "manifests", "./*.yaml").unwrap();
        let names: Vec<String> = found
            .iter()
            .map(|path| entry_path(folder.path(), path).unwrap().to_string())
            .collect();
        assert_eq!(names, ["a.yaml", "b.yaml"]);
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error_and_not_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let failure = expand(folder.path(), "licenses", "./licenses/*.lic").unwrap_err();
        assert_eq!(failure.fault().code(), "FILE_NOT_FOUND");
    }

    #[test]
    fn a_name_inside_the_bundle_never_leads_out_of_it() {
        let folder = Path::new("/release");
        for path in ["/release/../x", "/etc/passwd", "../x", "/release/a b"] {
            assert!(entry_path(folder, Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_changed_file_is_refused_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubelet");
        std::fs::write(&path, b"\x1f\x8bx").unwrap();
        let blob = LocalBlob::of_file(&path, None).unwrap();
        assert_eq!((blob.media_type, blob.size), ("application/gzip", 3));
        assert_eq!(blob.digest, Digest::of(b"\x1f\x8bx"));
        assert!(blob.require(Some(Digest::of(b"\x1f\x8bx"))).is_ok());
        assert!(blob.require(Some(Digest::of(b"y"))).is_err());
    }
}
