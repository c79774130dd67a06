//! The content-addressed cache: every blob once, by its SHA-256, kept from build to build.
//!
//! ```text
//! DIR/sealift-cache      one line, so that no foreign directory is taken for a cache
//! DIR/blobs/<hex>        whole blobs; a name appears only after its SHA-256 was right
//! DIR/records/<hex>      what was known of the file when it was right, and its piece list
//! DIR/partial/<hex>      a blob under way, locked by the one process that writes it
//! ```
//!
//! **What is believed.** A cached blob is used without reading it again only when size, mtime and inode are those of its
//! record, and the record was made since this machine started or has outlived a start of it. Anything else is hashed
//! again, and what is wrong is removed and fetched anew.
//!
//! **Why nothing here is synced.** A bundle has to be durable, a cache only has to be right. Syncing it would write each
//! byte to the disk twice before a build could end; instead a blob that was not yet on the disk when the power went is
//! found by the rule above: after a restart every record of the time before it counts for nothing until the blob has
//! been hashed once. That costs one reading at hashing speed, once a start, only for blobs that are used.

mod error;
mod partial;
mod record;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::Hasher;
use bundle::limits;
use bundle::pieces::PieceHasher;
use bundle::pieces::PieceList;

pub use self::error::CacheError;
pub(crate) use self::partial::Claim;
pub(crate) use self::partial::Intake;
pub(crate) use self::partial::Partial;
pub(crate) use self::partial::Published;
use self::record::Record;

const MARKER: &str = "sealift-cache";
const MARKER_TEXT: &str = "1\n";

/// What is read at once: large enough for the disk and the hash, small beside the memory of a build.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// A cache in a directory of its own; any number of processes may use it at once.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    boot: String,
}

/// A whole blob in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its piece list, when it is larger than [`limits::PIECED_BLOB_BYTES_MIN`].
    pub pieces: Option<PieceList>,
}

impl Cache {
    /// Opens the cache in `root`, or begins one there when the directory is absent or empty.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        fs::create_dir_all(root).map_err(CacheError::io("open", root))?;
        let marker = root.join(MARKER);
        match fs::read(&marker) {
            Ok(text) if text == MARKER_TEXT.as_bytes() => {}
            Ok(_other) => {
                return Err(CacheError::Foreign {
                    path: root.to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::read_dir(root)
                    .map_err(CacheError::io("open", root))?
                    .next()
                    .is_some()
                {
                    return Err(CacheError::Foreign {
                        path: root.to_owned(),
                    });
                }
                fs::write(&marker, MARKER_TEXT).map_err(CacheError::io("open", &marker))?;
            }
            Err(error) => return Err(CacheError::io("open", &marker)(error)),
        }
        let cache = Self {
            root: root.to_owned(),
            boot: boot_id(),
        };
        for part in ["blobs", "records", "partial"] {
            let directory = root.join(part);
            fs::create_dir_all(&directory).map_err(CacheError::io("open", &directory))?;
        }
        Ok(cache)
    }

    /// Opens a whole blob for reading; whoever reads it checks its digest.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.blob_path(digest))
    }

    /// Gives a blob that is there and right; one that is there and wrong is removed.
    ///
    /// Reads the whole blob when its record does not vouch for it.
    pub fn get(&self, digest: &Digest) -> Result<Option<CachedBlob>, CacheError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CacheError::io("open", &path)(error)),
        };
        let metadata = file.metadata().map_err(CacheError::io("look at", &path))?;
        let record = Record::load(&self.record_path(digest));
        if let Some(record) = &record
            && record.vouches_for(&metadata, &self.boot)
        {
            return Ok(Some(CachedBlob {
                digest: *digest,
                size: metadata.len(),
                pieces: record.pieces.clone(),
            }));
        }
        let (hasher, pieces) = hash(file).map_err(CacheError::io("read", &path))?;
        if hasher.finish() != *digest {
            self.evict(digest)?;
            return Ok(None);
        }
        let blob = CachedBlob {
            digest: *digest,
            size: metadata.len(),
            pieces: keep_pieces(pieces),
        };
        let outlived = record.is_some_and(|record| record.is_outlived(&metadata, &self.boot));
        self.write_record(&blob, &metadata, outlived)?;
        Ok(Some(blob))
    }

    /// Reads a small blob that [`Cache::get`] gave, at most `bytes_max` of it, and checks it again.
    pub(crate) fn read(
        &self,
        digest: &Digest,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, CacheError> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(bytes_max).read_to_end(&mut bytes)) {
            Ok(_count) if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            Ok(_wrong_or_too_long) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CacheError::io("read", &path)(error)),
        }
    }

    /// Keeps a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<CachedBlob, CacheError> {
        let digest = Digest::of(bytes);
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match self.claim(&digest, size)? {
            Claim::Present(blob) => Ok(blob),
            Claim::Mine(mut partial) => {
                partial.restart()?;
                partial.append(bytes)?;
                match partial.publish()? {
                    Published::Right(blob) => Ok(blob),
                    Published::Wrong { partial, .. } => Err(partial.changed_underneath()),
                }
            }
        }
    }

    /// Forgets a blob, as when it was found to be wrong.
    pub fn evict(&self, digest: &Digest) -> Result<(), CacheError> {
        for path in [self.record_path(digest), self.blob_path(digest)] {
            remove(&path)?;
        }
        Ok(())
    }

    /// Bytes that the disk below the cache has left for us.
    pub fn free_bytes(&self) -> Result<u64, CacheError> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|error| CacheError::io("look at", &self.root)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The error of a disk that has too little left.
    pub(crate) fn full(&self, need: u64, have: u64) -> CacheError {
        CacheError::Full {
            path: self.root.clone(),
            need,
            have,
        }
    }

    fn write_record(
        &self,
        blob: &CachedBlob,
        metadata: &fs::Metadata,
        outlived: bool,
    ) -> Result<(), CacheError> {
        let record = Record::of(blob, metadata, &self.boot, outlived);
        record.write(&self.record_path(&blob.digest))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.to_hex())
    }

    fn record_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("records").join(digest.to_hex())
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.to_hex())
    }
}

/// Hashes what is left of a file in both ways at once.
fn hash(mut file: impl io::Read) -> io::Result<(Hasher, PieceHasher)> {
    let mut hasher = Hasher::new();
    let mut pieces = PieceHasher::standard();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher, pieces)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        pieces.update(bytes);
    }
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(CacheError::io("use", "the cache".as_ref())(
            io::Error::other(error),
        ))
    })
}

fn keep_pieces(pieces: PieceHasher) -> Option<PieceList> {
    let list = pieces.finish();
    (list.cut().length > limits::PIECED_BLOB_BYTES_MIN).then_some(list)
}

fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Names this start of the machine; no two are equal. Empty, so never believed, where the kernel does not tell.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
