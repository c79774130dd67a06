//! A disk in memory for simulation: what was not synced can be lost at a crash, and everything can fail.
//!
//! It is harsher than a real one: a file that was synced is lost all the same when its name was not; the two halves of a
//! rename are durable apart; after a failed sync nothing of that file will ever reach the medium, whatever a later sync
//! says. One seed gives one behaviour.
//!
//! Crash at call n: [`SimFs::crash_at`] lets the n-th changing call take effect in memory, fail, and every later call
//! fail; [`SimFs::power_on`] then decides what the medium has. [`SimFs::changes`] tells how many n there are.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use super::Access;
use super::Fs;
use super::FsFile;
use super::Metadata;
use super::Space;
use super::Target;

mod disk;
mod file;
#[cfg(test)]
mod tests;

use disk::Disk;

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

/// An open file or directory of a [`SimFs`]; dead after a crash.
#[derive(Debug)]
pub struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    life: u64,
    handle: u64,
}

/// What of the unsynced changes is on the medium after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// None: the power went before anything was written back.
    Nothing,
    /// All: only the process died.
    Everything,
    /// A random part, in any order, writes torn at sectors. The seed decides.
    Some(u64),
}

/// The calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opening or creating a file or directory.
    Open,
    /// Reading bytes or names.
    Read,
    /// Writing, cutting, reserving.
    Write,
    /// Making bytes durable, of one file or of the filesystem.
    Sync,
    /// Making names durable.
    SyncDir,
    /// Giving and taking names.
    Name,
}

/// Errors of the medium, each once in so many calls on average; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Reads that fail with EIO.
    pub read: u32,
    /// Writes that fail with EIO.
    pub write: u32,
    /// Syncs that fail with EIO.
    pub sync: u32,
}

impl SimFs {
    /// Makes an empty disk without a limit; `seed` decides its random errors.
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::new(seed))),
        }
    }

    /// Limits the disk to so many bytes from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk().capacity = bytes;
    }

    /// Bytes that all files take.
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// Gives the filesystem another id: as if this were a copy.
    pub fn set_filesystem_id(&self, id: u64) {
        self.disk().filesystem_id = id;
    }

    /// Sets random errors from now on.
    pub fn set_rates(&self, rates: Rates) {
        self.disk().rates = rates;
    }

    /// Lets the `nth` call (0 is the next) of this kind on a path that contains `path` fail with EIO, once.
    pub fn fail(&self, op: Op, path: &str, nth: u64) {
        self.disk().plan_failure(op, path, nth);
    }

    /// Changing calls so far.
    pub fn changes(&self) -> u64 {
        self.disk().changes
    }

    /// Switches the power off in the `nth` changing call from now (0 is the next).
    pub fn crash_at(&self, nth: u64) {
        let mut disk = self.disk();
        disk.crash_at = Some(disk.changes.saturating_add(nth));
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.disk().off
    }

    /// Switches the power off now: every call fails until it is on again.
    pub fn power_off(&self) {
        self.disk().off = true;
    }

    /// Switches the power on again; all handles and locks of before are gone.
    pub fn power_on(&self, survival: Survival) {
        self.disk().power_on(survival);
    }

    /// Switches the power off and on.
    pub fn crash(&self, survival: Survival) {
        self.power_off();
        self.power_on(survival);
    }

    /// Flips bits of a byte on the medium; false when the file has no such byte.
    pub fn rot(&self, path: &str, offset: u64, mask: u8) -> bool {
        self.disk().rot(path, offset, mask)
    }

    /// Every file with its length, sorted by path.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.disk().files()
    }

    /// The bytes of a file, whatever errors are set.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        self.disk().peek(path)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: u64, disk: &mut Disk) -> SimFile {
        SimFile {
            disk: Arc::clone(&self.disk),
            inode,
            life: disk.life,
            handle: disk.open_handle(inode),
        }
    }
}

impl SimFile {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if disk.off || disk.life != self.life {
            return Err(disk::power_is_off());
        }
        Ok(disk)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = self.disk();
        if disk.life == self.life {
            disk.close_handle(self.inode, self.handle);
        }
    }
}

impl Fs for SimFs {
    type File = SimFile;

    fn open(&self, path: &str, access: Access) -> io::Result<SimFile> {
        let mut disk = self.disk();
        let inode = disk.open(path, access)?;
        Ok(self.handle(inode, &mut disk))
    }

    fn open_dir(&self, path: &str) -> io::Result<SimFile> {
        let mut disk = self.disk();
        let inode = disk.open_dir(path)?;
        Ok(self.handle(inode, &mut disk))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk().create_dir(path)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.disk().remove_file(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk().remove_dir(path)
    }

    fn rename(&self, from: &str, to: &str, target: Target) -> io::Result<()> {
        self.disk().rename(from, to, target)
    }

    fn metadata(&self, path: &str) -> io::Result<Metadata> {
        self.disk().metadata(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.disk().list(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.disk().sync_dir(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk().space()
    }

    fn filesystem_id(&self) -> io::Result<u64> {
        Ok(self.disk().filesystem_id)
    }

    fn is_concurrent(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        "the simulated disk".to_owned()
    }
}

impl FsFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.alive()?.read_at(self.inode, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.alive()?.write_at(self.inode, bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.alive()?.set_len(self.inode, length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.alive()?.allocate(self.inode, length)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.alive()?.metadata_of(self.inode)
    }

    fn set_read_only(&self) -> io::Result<()> {
        // Who may write is of no interest to a simulation: nothing opens a published blob for writing.
        self.alive().map(drop)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?.sync_data(self.inode)
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        self.alive()?.sync_filesystem(self.handle)
    }

    fn start_writeback(&self, _range: Range<u64>) {}

    fn forget_cache(&self) {}

    fn try_lock(&self) -> io::Result<bool> {
        Ok(self.alive()?.try_lock(self.inode, self.handle))
    }
}
