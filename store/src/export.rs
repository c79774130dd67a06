//! Export: the bundle file again, from the store's record and blobs; its signed head is the one that came in.

use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;

use bundle::Digest;
use bundle::write::BlobSource;
use bundle::write::WriteError;
use bundle::write::WriteEvent;
use bundle::write::WriteOptions;
use bundle::write::Written;

use crate::fs::Fs;
use crate::record::Record;
use crate::store::Store;

impl<F: Fs> BlobSource for Store<F> {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send>> {
        let blob = self.open_blob(digest).map_err(io::Error::other)?;
        Ok(Box::new(blob))
    }
}

/// Writes the bundle of `record` to `out`, which is empty and not synced afterwards.
pub fn export<F: Fs>(
    store: &Store<F>,
    record: &Record,
    out: &mut (impl Write + Seek),
    options: &WriteOptions,
    events: &dyn Fn(WriteEvent),
) -> Result<Written, WriteError> {
    let files = record
        .head_files()
        .map_err(|error| WriteError::Output(io::Error::other(error)))?;
    bundle::write::write_bundle(&files, store, out, options, events)
}
