//! The one way in which a file of the store gets a name.
//!
//! 1. A [`Stage`] is a locked directory `incoming/stage.<n>`; files are written into it.
//! 2. The bytes are made durable: a few files each by itself, many by one sync of the filesystem.
//! 3. Each file is renamed to its place.
//! 4. The directory of the place is synced. Only now is anything told to anybody.
//!
//! A crash leaves a stage without a lock behind; [`sweep`] removes it.

use std::io;

use bundle::Digest;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Kind;
use crate::fs::Target;
use crate::fs::bytes_u64;
use crate::layout;

/// A directory for the files of one running write.
#[derive(Debug)]
pub(crate) struct Stage<F: Fs> {
    fs: F,
    path: String,
    /// Locked, and opened before anything is written, so that a sync by it reports every failed write.
    handle: F::File,
}

/// Stages at once; each belongs to a running import, batch or record.
const STAGES_MAX: u32 = 4096;

impl<F: Fs> Stage<F> {
    /// Makes a stage with the first free number.
    pub(crate) fn open(fs: &F) -> Result<Self> {
        for number in 0..STAGES_MAX {
            let path = layout::stage(number);
            let about = About::new(fs, &path);
            match fs.create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(about.judge("create", error)),
            }
            // A sweep may have taken the directory between the two calls; then the next number is tried.
            if let Some(handle) = lock_dir(fs, &path)? {
                return Ok(Self {
                    fs: fs.clone(),
                    path,
                    handle,
                });
            }
        }
        Err(StoreError::Busy {
            object: layout::INCOMING.to_owned(),
        })
    }

    /// Creates an empty file in the stage.
    pub(crate) fn create(&self, name: &str) -> io::Result<F::File> {
        self.fs.open(&self.path_of(name), Access::CreateNew)
    }

    /// Creates a file with these bytes, not durable yet.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<F::File> {
        let about = About::new(&self.fs, name).needs(bytes_u64(bytes.len()));
        let file = self.create(name).map_err(about.failed("create"))?;
        file.write_at(bytes, 0).map_err(about.failed("write"))?;
        Ok(file)
    }

    /// Makes everything durable that was written into the stage.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.handle.sync_filesystem()
    }

    /// Gives a synced file its name; false when the name is there already. The name is not durable yet.
    pub(crate) fn publish(&self, name: &str, to: &str) -> io::Result<bool> {
        match self.fs.rename(&self.path_of(name), to, Target::MustBeNew) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(name);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a file of the stage that is not wanted any more.
    pub(crate) fn remove(&self, name: &str) {
        let _swept_later = self.fs.remove_file(&self.path_of(name));
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

impl<F: Fs> Drop for Stage<F> {
    fn drop(&mut self) {
        let _swept_later = remove_tree(&self.fs, &self.path);
    }
}

/// Writes one file durably under its final name in `directory`.
pub(crate) fn write_durably<F: Fs>(
    fs: &F,
    directory: &str,
    name: &str,
    bytes: &[u8],
    target: Target,
) -> Result<()> {
    let stage = Stage::open(fs)?;
    let file = stage.write(name, bytes)?;
    let to = join(directory, name);
    let about = About::new(fs, &to).needs(bytes_u64(bytes.len()));
    file.sync_data().map_err(about.not_durable())?;
    match target {
        Target::MustBeNew => drop(stage.publish(name, &to).map_err(about.failed("name"))?),
        Target::Replace => fs
            .rename(&stage.path_of(name), &to, Target::Replace)
            .map_err(about.failed("replace"))?,
    }
    fs.sync_dir(directory).map_err(about.not_durable())
}

/// Removes what a crash has left behind: stages, and partials of blobs that are complete. Those in use are locked and stay.
pub(crate) fn sweep<F: Fs>(fs: &F) -> Result<()> {
    let about = About::new(fs, layout::INCOMING);
    for name in fs.list(layout::INCOMING).map_err(about.failed("list"))? {
        let path = join(layout::INCOMING, &name);
        let is_over = match Digest::from_hex(&name) {
            Ok(digest) => fs.metadata(&layout::blob(&digest)).is_ok(),
            Err(_no_partial) => name.starts_with(layout::STAGE_PREFIX),
        };
        if is_over && let Some(_lock) = lock_dir(fs, &path)? {
            remove_tree(fs, &path).map_err(about.failed("sweep"))?;
        }
    }
    Ok(())
}

/// Locks a directory; `None` when somebody else has it or it is gone.
pub(crate) fn lock_dir<F: Fs>(fs: &F, path: &str) -> Result<Option<F::File>> {
    let about = About::new(fs, path);
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let handle = match fs.open_dir(path) {
        Ok(handle) => handle,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(about.judge("open", error)),
    };
    if !handle.try_lock().map_err(about.failed("lock"))? {
        return Ok(None);
    }
    // The owner before us may have removed the directory, and a third one made another of the same name.
    let locked = handle.metadata().map_err(about.failed("look at"))?;
    match fs.metadata(path) {
        Ok(named) if named.inode == locked.inode => Ok(Some(handle)),
        Ok(_another) => Ok(None),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(about.judge("look at", error)),
    }
}

/// Removes a directory and the files in it.
pub(crate) fn remove_tree<F: Fs>(fs: &F, path: &str) -> io::Result<()> {
    for name in fs.list(path)? {
        fs.remove_file(&join(path, &name))?;
    }
    fs.remove_dir(path)
}

/// Creates a directory that may be there already; true when it is new.
pub(crate) fn ensure_dir<F: Fs>(fs: &F, path: &str) -> Result<bool> {
    let about = About::new(fs, path);
    match fs.create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs.metadata(path).map_err(about.failed("look at"))?;
            if found.kind == Kind::Directory {
                return Ok(false);
            }
            Err(about.judge("create", error))
        }
        Err(error) => Err(about.judge("create", error)),
    }
}

pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        return name.to_owned();
    }
    format!("{directory}/{name}")
}
