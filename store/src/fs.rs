//! The disk as the store sees it: a dozen calls below one root, so that simulation can bring its own.
//!
//! Paths are relative to the root, made by `layout` from checked names only; an implementation must not follow links or
//! leave the root all the same. What a call has done is durable only after the matching sync: bytes by
//! [`FsFile::sync_data`], names by [`Fs::sync_dir`] of their directory.

use std::fmt;
use std::io;
use std::ops::Range;

mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use real::RealFs;
#[cfg(any(test, feature = "sim"))]
pub use sim::SimFs;

/// A disk, or a part of one, below a root. Clones are the same disk.
pub trait Fs: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file or directory.
    type File: FsFile;

    /// Opens a regular file.
    fn open(&self, path: &str, access: Access) -> io::Result<Self::File>;

    /// Opens a directory, to lock it or to sync its filesystem.
    fn open_dir(&self, path: &str) -> io::Result<Self::File>;

    /// Creates a directory; an existing name is an error.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Removes a file's name.
    fn remove_file(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// Gives a file another name in one step.
    fn rename(&self, from: &str, to: &str, target: Target) -> io::Result<()>;

    /// Looks at a name without following it.
    fn metadata(&self, path: &str) -> io::Result<Metadata>;

    /// Lists the names in a directory, sorted; names that are not UTF-8 are left out.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Makes the names in a directory durable, and their absence.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// Free and total bytes.
    fn space(&self) -> io::Result<Space>;

    /// Tells one filesystem from another; the same over remounts.
    fn filesystem_id(&self) -> io::Result<u64>;

    /// Whether work may go to threads of its own; a simulated disk wants every call from one.
    fn is_concurrent(&self) -> bool;

    /// Where the root is, for people.
    fn place(&self) -> String;
}

/// An open file. All calls are positional, so that several threads can use one.
pub trait FsFile: fmt::Debug + Send + Sync + 'static {
    /// Reads into `buffer`; fewer bytes than asked for mean the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or extends it by zeros that take no space yet.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Extends the file to `length` and reserves its space where the filesystem can.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Looks at the open file.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Takes all write permissions away.
    fn set_read_only(&self) -> io::Result<()>;

    /// Makes the file's bytes and length durable. After an error the bytes are lost: never try again, discard the file.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes everything durable that was written to the filesystem since this handle was opened.
    fn sync_filesystem(&self) -> io::Result<()>;

    /// Asks the system to begin writing a range out, without waiting. A hint: it never fails.
    fn start_writeback(&self, range: Range<u64>);

    /// Asks the system to read from the medium next time. A hint: it never fails.
    fn forget_cache(&self);

    /// Takes the exclusive lock of the file; false when another handle has it. Ends with the handle.
    fn try_lock(&self) -> io::Result<bool>;

    /// Takes the exclusive lock of the file, waiting for it; a disk without concurrency has nobody to wait for.
    fn lock(&self) -> io::Result<()> {
        if self.try_lock()? {
            return Ok(());
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; an existing name is an error.
    CreateNew,
    /// A file to read and write, created when it is not there.
    Create,
}

/// What a rename does with a name that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// It fails with [`io::ErrorKind::AlreadyExists`].
    MustBeNew,
    /// It replaces the old file in one step.
    Replace,
}

/// What a name or a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// File, directory or something that has no place in a store.
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Number of the file in its filesystem: equal for a name and a handle when they are the same file.
    pub inode: u64,
}

/// The kinds of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device, a socket.
    Other,
}

/// Room on the filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Bytes of the whole filesystem.
    pub total_bytes: u64,
    /// A file takes a multiple of so many bytes.
    pub block_bytes: u64,
}

/// Reads exactly `buffer`, or fails with [`io::ErrorKind::UnexpectedEof`].
pub(crate) fn read_exact_at(file: &impl FsFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(bytes_u64(done))) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A length in memory as a length on disk.
pub(crate) fn bytes_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
