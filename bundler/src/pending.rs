//! A bundle under way: written beside its final name, which it gets only when it is whole and on the disk.
//!
//! The name under way follows from the final one, so a killed run leaves at most one such file and the next run takes
//! it over. A lock keeps two runs from writing it at once.

mod direct;

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

pub use self::direct::DirectFile;
use crate::durable;
use crate::durable::FileError;
use crate::failure::Outcome;

/// A file that has not got its name yet; it goes away when it is dropped.
#[derive(Debug)]
pub struct Pending {
    file: DirectFile,
    temporary: PathBuf,
    target: PathBuf,
    is_published: bool,
}

/// Why a bundle can't be written where it should be.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    /// Another process writes it.
    #[error("another run is writing {}", target.display())]
    Busy {
        /// The bundle.
        target: PathBuf,
    },
    /// The disk is too small, known before anything is written.
    #[error("the disk of {} is too small", folder.display())]
    DiskFull {
        /// The folder.
        folder: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        have: u64,
    },
}

impl Pending {
    /// Begins an empty file for `target`.
    pub fn begin(target: &Path) -> Outcome<Self> {
        let folder = durable::parent(target);
        let failed = |source| FileError::new("make folder", folder, source);
        fs::create_dir_all(folder).map_err(failed)?;
        let temporary = temporary_name(target);
        let file = lock(&temporary, target)?;
        let failed = |source| FileError::new("write", &temporary, source);
        file.set_len(0).map_err(failed)?;
        let file = DirectFile::new(file, &temporary).map_err(failed)?;
        Ok(Self {
            file,
            temporary,
            target: target.to_path_buf(),
            is_published: false,
        })
    }

    /// Where the bytes go.
    pub const fn file(&mut self) -> &mut DirectFile {
        &mut self.file
    }

    /// Throws away what was written.
    pub fn restart(&mut self) -> Result<(), FileError> {
        let failed = |source| FileError::new("write", &self.temporary, source);
        self.file.restart().map_err(failed)
    }

    /// Makes the bytes durable and gives them their name; whatever had it is replaced at once.
    pub fn publish(mut self) -> Result<(), FileError> {
        let failed = |source| FileError::new("write", &self.target, source);
        self.file.sync().map_err(failed)?;
        fs::rename(&self.temporary, &self.target).map_err(failed)?;
        self.is_published = true;
        durable::sync_parent(&self.target)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_published {
            // It is only in the way; the next run would take it over.
            let _gone = fs::remove_file(&self.temporary);
        }
    }
}

/// Requires room for `need` more bytes in the folder of `target`.
pub fn require_space(target: &Path, need: u64) -> Outcome {
    let folder = nearest_folder(target);
    let stat = rustix::fs::statvfs(folder)
        .map_err(|error| FileError::new("look at", folder, error.into()))?;
    let have = stat.f_bavail.saturating_mul(stat.f_frsize);
    if have >= need {
        return Ok(());
    }
    let folder = folder.to_path_buf();
    Err(PendingError::DiskFull { folder, need, have }.into())
}

/// Whether two paths are, or will be, on one disk.
pub fn share_disk(one: &Path, other: &Path) -> bool {
    let disk = |path| {
        nearest_folder(path)
            .metadata()
            .map(|found| found.dev())
            .ok()
    };
    disk(one) == disk(other)
}

/// The folder of a path, or the nearest one above that is there already.
fn nearest_folder(path: &Path) -> &Path {
    let mut folder = durable::parent(path);
    while !folder.is_dir() && folder != Path::new(".") {
        folder = durable::parent(folder);
    }
    folder
}

fn temporary_name(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.partial"))
}

/// Opens and locks the file that `temporary` names at that moment.
fn lock(temporary: &Path, target: &Path) -> Outcome<File> {
    let failed = |source| FileError::new("write", temporary, source);
    loop {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(temporary).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let target = target.to_path_buf();
                return Err(PendingError::Busy { target }.into());
            }
            Err(TryLockError::Error(source)) => return Err(failed(source).into()),
        }
        // Between opening and locking the other run may have given this very file its final name.
        if is_still(&file, temporary).map_err(failed)? {
            return Ok(file);
        }
    }
}

fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Fault for PendingError {
    fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "BUILD_BUSY",
            Self::DiskFull { .. } => "DISK_FULL",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Busy { .. } => Vec::new(),
            Self::DiskFull { need, have, .. } => vec![
                Fact::new("need", format!("{need} bytes")),
                Fact::new("have", format!("{have} bytes")),
            ],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { .. } => Some("wait for it, or choose another --output".to_owned()),
            Self::DiskFull { .. } => Some("make room, or choose another --output".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_name_appears_only_with_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dist/shop.airgap");
        let mut pending = Pending::begin(&target).unwrap();
        pending.file().write_all(b"whole").unwrap();
        assert!(!target.exists());
        pending.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(fs::read_dir(durable::parent(&target)).unwrap().count(), 1);
    }

    #[test]
    fn what_is_dropped_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("shop.airgap");
        fs::write(&target, b"old").unwrap();
        let mut pending = Pending::begin(&target).unwrap();
        pending.file().write_all(b"half").unwrap();
        drop(pending);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_run_is_refused_and_a_killed_one_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("shop.airgap");
        fs::write(temporary_name(&target), b"left by a run that was killed").unwrap();
        let mut first = Pending::begin(&target).unwrap();
        let second = Pending::begin(&target).unwrap_err();
        assert_eq!(second.fault().code(), "BUILD_BUSY");
        first.file().write_all(b"new").unwrap();
        first.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn a_disk_that_is_too_small_is_told_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("not/yet/there/shop.airgap");
        require_space(&target, 1).unwrap();
        let full = require_space(&target, u64::MAX).unwrap_err();
        assert_eq!(full.fault().code(), "DISK_FULL");
        assert_eq!(full.fault().facts().len(), 2);
    }
}
