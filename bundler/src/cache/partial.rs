//! A blob under way into the cache: one writer, both hashes in the same pass, resumable at any byte.
//!
//! 1. [`Cache::claim`] locks `partial/<hex>`; a second process waits there and then finds the blob done.
//! 2. What is already in the file is hashed once; a later try of the same process goes on from the state in memory.
//! 3. [`Intake`] takes bytes as they come: SHA-256 on one thread, BLAKE3 and the file on another.
//! 4. [`Partial::publish`] renames it to `blobs/<hex>` when the digest is right. When it is wrong nothing is kept: bytes
//!    that another run left may have been lost with the power, so the caller fetches all of it once more.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use bundle::Digest;
use bundle::Hasher;
use bundle::pieces::PieceHasher;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Cache;
use super::CacheError;
use super::CachedBlob;
use super::hash;
use super::keep_pieces;

/// Chunks on their way to each of the two threads. A chunk of hyper is at most 408 KiB, so a blob under way takes at
/// most about 3 MiB, and 25 of them 80 MiB.
const CHUNKS_UNDER_WAY: usize = 6;

/// What became of wanting to write a blob.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Somebody has written it.
    Present(CachedBlob),
    /// Nobody else writes it until this is dropped.
    Mine(Partial),
}

/// What became of the last step.
#[derive(Debug)]
pub(crate) enum Published {
    /// The blob is in the cache.
    Right(CachedBlob),
    /// The bytes were others; the partial is empty again.
    Wrong {
        /// Their digest.
        actual: Digest,
        /// The same claim, at byte 0.
        partial: Partial,
    },
}

/// A blob under way, locked.
#[derive(Debug)]
pub(crate) struct Partial {
    cache: Cache,
    path: PathBuf,
    file: File,
    digest: Digest,
    size: u64,
    length: u64,
    hasher: Hasher,
    pieces: Box<PieceHasher>,
    is_of_another_run: bool,
}

impl Cache {
    /// Gives the blob, or the sole right to write it; waits while another process does.
    ///
    /// Blocks: on the lock, and for hashing what is there.
    pub(crate) fn claim(&self, digest: &Digest, size: u64) -> Result<Claim, CacheError> {
        if let Some(blob) = self.get(digest)? {
            return Ok(Claim::Present(blob));
        }
        let path = self.partial_path(digest);
        loop {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            let file = options.open(&path).map_err(CacheError::io("open", &path))?;
            file.lock().map_err(CacheError::io("lock", &path))?;
            // While we waited, its writer may have renamed it away: then it is a blob, and no longer ours to touch.
            if let Some(blob) = self.get(digest)? {
                return Ok(Claim::Present(blob));
            }
            let mine = file.metadata().map_err(CacheError::io("look at", &path))?;
            if fs::metadata(&path)
                .is_ok_and(|named| (named.dev(), named.ino()) == (mine.dev(), mine.ino()))
            {
                return Partial::resume(self, file, path, *digest, size).map(Claim::Mine);
            }
        }
    }
}

impl Partial {
    fn resume(
        cache: &Cache,
        file: File,
        path: PathBuf,
        digest: Digest,
        size: u64,
    ) -> Result<Self, CacheError> {
        let length = file
            .metadata()
            .map_err(CacheError::io("look at", &path))?
            .len();
        let mut partial = Self {
            cache: cache.clone(),
            path,
            file,
            digest,
            size,
            length,
            hasher: Hasher::new(),
            pieces: Box::new(PieceHasher::standard()),
            is_of_another_run: length > 0,
        };
        if length > size {
            partial.restart()?;
        } else if length > 0 {
            // Reads to the end, so the file's own position is where the next byte belongs.
            (partial.hasher, *partial.pieces) =
                hash(&partial.file).map_err(CacheError::io("read", &partial.path))?;
        }
        Ok(partial)
    }

    /// Bytes that are there.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that the blob shall have.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether some of its bytes were written by another run, so that they may be wrong without a registry's fault.
    pub(crate) const fn is_of_another_run(&self) -> bool {
        self.is_of_another_run
    }

    /// Adds bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        self.file
            .write_all(bytes)
            .map_err(CacheError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.pieces.update(bytes);
        self.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<(), CacheError> {
        let failed = CacheError::io("empty", &self.path);
        self.file.set_len(0).map_err(&failed)?;
        io::Seek::rewind(&mut self.file).map_err(&failed)?;
        self.length = 0;
        self.hasher = Hasher::new();
        *self.pieces = PieceHasher::standard();
        self.is_of_another_run = false;
        Ok(())
    }

    /// Gives the blob its name when its digest is right; empties the partial when it is not.
    pub(crate) fn publish(mut self) -> Result<Published, CacheError> {
        let actual = self.hasher.clone().finish();
        if actual != self.digest {
            self.restart()?;
            return Ok(Published::Wrong {
                actual,
                partial: self,
            });
        }
        let blob = CachedBlob {
            digest: self.digest,
            size: self.length,
            pieces: keep_pieces(*self.pieces),
        };
        let to = self.cache.blob_path(&self.digest);
        fs::rename(&self.path, &to).map_err(CacheError::io("rename", &self.path))?;
        let metadata = self
            .file
            .metadata()
            .map_err(CacheError::io("look at", &to))?;
        self.cache.write_record(&blob, &metadata, false)?;
        Ok(Published::Right(blob))
    }

    /// Throws the partial away, as after a registry's wrong bytes.
    pub(crate) fn discard(self) -> Result<(), CacheError> {
        super::remove(&self.path)
    }

    /// The error of bytes that changed while only we could write them.
    pub(crate) fn changed_underneath(&self) -> CacheError {
        CacheError::io("keep", &self.path)(io::ErrorKind::InvalidData.into())
    }
}

/// A [`Partial`] that takes bytes from a socket, with a thread for each of the two kinds of work.
///
/// Dropped without [`Intake::finish`], it still writes what it was sent: the next run goes on from there.
#[derive(Debug)]
pub(crate) struct Intake {
    to_hash: mpsc::Sender<Bytes>,
    to_write: mpsc::Sender<Bytes>,
    hashed: JoinHandle<Hasher>,
    written: JoinHandle<Result<Partial, CacheError>>,
}

impl Intake {
    /// Starts both threads.
    pub(crate) fn start(partial: Partial) -> Self {
        let (to_hash, chunks_to_hash) = mpsc::channel(CHUNKS_UNDER_WAY);
        let (to_write, chunks_to_write) = mpsc::channel(CHUNKS_UNDER_WAY);
        let hasher = partial.hasher.clone();
        Self {
            to_hash,
            to_write,
            hashed: tokio::task::spawn_blocking(move || hash_chunks(hasher, chunks_to_hash)),
            written: tokio::task::spawn_blocking(move || write_chunks(partial, chunks_to_write)),
        }
    }

    /// Takes the next bytes; `false` when they can't be written, which [`Intake::finish`] explains.
    pub(crate) async fn send(&self, bytes: Bytes) -> bool {
        self.to_hash.send(bytes.clone()).await.is_ok() && self.to_write.send(bytes).await.is_ok()
    }

    /// Ends the input and gives the partial back, with all that was sent in it.
    pub(crate) async fn finish(self) -> Result<Partial, CacheError> {
        drop((self.to_hash, self.to_write));
        let joined = (self.hashed.await, self.written.await);
        let lost =
            || CacheError::io("write", "the cache".as_ref())(io::ErrorKind::Interrupted.into());
        let (Ok(hasher), Ok(partial)) = joined else {
            return Err(lost());
        };
        let mut partial = partial?;
        partial.hasher = hasher;
        Ok(partial)
    }
}

fn hash_chunks(mut hasher: Hasher, mut chunks: mpsc::Receiver<Bytes>) -> Hasher {
    while let Some(bytes) = chunks.blocking_recv() {
        hasher.update(&bytes);
    }
    hasher
}

fn write_chunks(
    mut partial: Partial,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<Partial, CacheError> {
    while let Some(bytes) = chunks.blocking_recv() {
        partial
            .file
            .write_all(&bytes)
            .map_err(CacheError::io("write", &partial.path))?;
        partial.pieces.update(&bytes);
        partial.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
    Ok(partial)
}
