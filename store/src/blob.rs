//! Reading complete blobs.

use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;

use bundle::Digest;
use bundle::Hasher;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::RealFs;
use crate::fs::bytes_u64;
use crate::fs::read_exact_at;
use crate::layout;
use crate::limits;
use crate::store::Store;

/// A complete blob, open for reading.
#[derive(Debug)]
pub struct Blob<F: Fs = RealFs> {
    digest: Digest,
    size: u64,
    file: F::File,
    position: u64,
}

impl<F: Fs> Store<F> {
    /// Reads a part of a complete blob; fewer bytes than asked for mean its end.
    pub fn read_at(&self, digest: &Digest, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.open_blob(digest)?.read_at(buffer, offset)
    }

    /// Opens a complete blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob<F>> {
        let path = layout::blob(digest);
        let about = About::new(self.fs(), format!("blob {digest}"));
        let file = self
            .fs()
            .open(&path, Access::Read)
            .map_err(about.failed("open"))?;
        let size = file.metadata().map_err(about.failed("look at"))?.size;
        Ok(Blob {
            digest: *digest,
            size,
            file,
            position: 0,
        })
    }

    /// Reads a whole small blob of at most `bytes_max` bytes.
    pub fn read_blob(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
        let blob = self.open_blob(digest)?;
        let length = usize::try_from(blob.size.min(bytes_max)).unwrap_or(0);
        if blob.size > bytes_max {
            return Err(StoreError::Corrupt {
                object: format!("blob {digest}"),
                why: format!(
                    "it is {} bytes, at most {bytes_max} were expected",
                    blob.size
                ),
            });
        }
        let mut bytes = vec![0; length];
        read_exact_at(&blob.file, &mut bytes, 0)
            .map_err(About::new(self.fs(), format!("blob {digest}")).failed("read"))?;
        Ok(bytes)
    }

    /// Reads a whole blob from the medium; what its bytes hash to now. `progress` gets the bytes of each step.
    pub fn digest_of(&self, digest: &Digest, progress: &mut dyn FnMut(u64)) -> Result<Digest> {
        let blob = self.open_blob(digest)?;
        blob.file.forget_cache();
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; limits::IO_BYTES];
        let mut offset = 0;
        loop {
            let count = blob.read_at(&mut buffer, offset)?;
            if count == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            offset += bytes_u64(count);
            progress(bytes_u64(count));
        }
    }
}

impl<F: Fs> Blob<F> {
    /// Its name.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Reads from any place; fewer bytes than asked for mean the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file
            .read_at(buffer, offset)
            .map_err(|source| StoreError::Io {
                action: "read",
                object: format!("blob {}", self.digest),
                source,
            })
    }
}

impl<F: Fs> Read for Blob<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position = self.position.saturating_add(bytes_u64(count));
        Ok(count)
    }
}

impl<F: Fs> Seek for Blob<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
