//! What a build remembers of its last result, so that a rebuild with nothing changed is over at once.
//!
//! Kept in the cache, one small file for each bundle. It is believed only when the bundle's size, mtime and inode are
//! those of its record and all inputs are the same; else the bundle is written again, which gives the same bytes.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use serde::Deserialize;
use serde::Serialize;

/// A record is one line; anything longer is none.
const MEMO_BYTES_MAX: usize = 4 << 10;

/// The place of one bundle's record.
#[derive(Debug)]
pub(super) struct Memo {
    path: PathBuf,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    inputs: Digest,
    bundle: Digest,
    size: u64,
    mtime: i64,
    mtime_nanoseconds: i64,
    inode: u64,
}

impl Memo {
    /// The record of the bundle `target` in the cache folder `cache`.
    pub(super) fn of(cache: &Path, target: &Path) -> Self {
        let target = std::path::absolute(target).unwrap_or_else(|_error| target.to_path_buf());
        let name = Digest::of(target.as_os_str().as_bytes()).to_hex();
        Self {
            path: cache.join("builds").join(name),
        }
    }

    /// Gives the bundle's id when `target` is what these inputs gave before.
    pub(super) fn recall(&self, target: &Path, inputs: &Digest) -> Option<Digest> {
        let bytes = crate::durable::read_capped(&self.path, MEMO_BYTES_MAX).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let bundle = record.bundle;
        (Some(record) == Record::of(target, inputs, &bundle)).then_some(bundle)
    }

    /// Remembers that these inputs gave `target`. It only saves time, so a failure is none of the build's.
    pub(super) fn keep(&self, target: &Path, inputs: &Digest, bundle: &Digest) {
        let record = Record::of(target, inputs, bundle);
        let text = serde_json::to_vec(&record).unwrap_or_default();
        let _saved = fs::create_dir_all(crate::durable::parent(&self.path))
            .and_then(|()| fs::write(&self.path, text));
    }
}

impl Record {
    fn of(target: &Path, inputs: &Digest, bundle: &Digest) -> Option<Self> {
        let metadata = target.metadata().ok()?;
        Some(Self {
            inputs: *inputs,
            bundle: *bundle,
            size: metadata.size(),
            mtime: metadata.mtime(),
            mtime_nanoseconds: metadata.mtime_nsec(),
            inode: metadata.ino(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_file_from_the_same_inputs_is_vouched_for() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("shop.airgap");
        let (inputs, others) = (Digest::of(b"1"), Digest::of(b"2"));
        let bundle = Digest::of(b"bundle");
        let memo = Memo::of(folder.path(), &target);
        fs::write(&target, b"bundle").unwrap();
        assert_eq!(memo.recall(&target, &inputs), None);
        memo.keep(&target, &inputs, &bundle);
        assert_eq!(memo.recall(&target, &inputs), Some(bundle));
        assert_eq!(memo.recall(&target, &others), None);
        fs::write(folder.path().join("other"), b"bundle").unwrap();
        fs::rename(folder.path().join("other"), &target).unwrap();
        assert_eq!(memo.recall(&target, &inputs), None);
        fs::remove_file(&target).unwrap();
        assert_eq!(memo.recall(&target, &inputs), None);
    }
}
