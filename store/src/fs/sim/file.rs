//! The bytes of one simulated file, with every change that is not on the medium yet.

use std::io;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::fs::bytes_u64;

/// A file: what programs see, and how to come back to what the medium has.
#[derive(Debug, Default)]
pub(super) struct FileState {
    bytes: Vec<u8>,
    /// Bytes that take space.
    allocated: u64,
    pending: Vec<Change>,
    /// A sync has failed: nothing reaches the medium any more.
    broken: bool,
    /// Its loss was told to somebody else's sync; this file's next one tells it again.
    untold: bool,
}

#[derive(Debug)]
struct Change {
    at: usize,
    old: Vec<u8>,
    old_length: usize,
    new: New,
}

#[derive(Debug)]
enum New {
    Bytes(Vec<u8>),
    Length(usize),
}

/// What a disk writes in one go; a torn write ends at such a boundary.
const SECTOR_BYTES: usize = 512;

impl FileState {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn length(&self) -> u64 {
        bytes_u64(self.bytes.len())
    }

    pub(super) const fn allocated(&self) -> u64 {
        self.allocated
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        count
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(|_huge| io::ErrorKind::FileTooLarge)?;
        let end = at
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let until = end.min(self.bytes.len());
        let old = self.bytes.get(at..until).unwrap_or_default().to_vec();
        self.pending.push(Change {
            at,
            old,
            old_length: self.bytes.len(),
            new: New::Bytes(bytes.to_vec()),
        });
        put(&mut self.bytes, at, bytes);
        self.allocated = self.allocated.max(bytes_u64(end));
        Ok(())
    }

    pub(super) fn set_len(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_huge| io::ErrorKind::FileTooLarge)?;
        self.pending.push(Change {
            at: length.min(self.bytes.len()),
            old: self.bytes.get(length..).unwrap_or_default().to_vec(),
            old_length: self.bytes.len(),
            new: New::Length(length),
        });
        self.bytes.resize(length, 0);
        self.allocated = self.allocated.min(bytes_u64(length));
        Ok(())
    }

    pub(super) fn allocate(&mut self, length: u64) -> io::Result<()> {
        if length > self.length() {
            self.set_len(length)?;
        }
        self.allocated = self.allocated.max(length);
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        if !self.broken {
            self.pending.clear();
        }
    }

    /// Its own sync failed: the changes are lost, programs can't see it, and only this once they are told.
    pub(super) const fn fail_sync(&mut self) {
        self.broken = self.broken || !self.pending.is_empty();
    }

    /// A sync of the whole filesystem failed; tells whether changes of this file are lost by it.
    pub(super) const fn fail_with_filesystem(&mut self) -> bool {
        let lost = !self.broken && !self.pending.is_empty();
        self.broken = self.broken || lost;
        self.untold = self.untold || lost;
        lost
    }

    /// Whether this file has lost changes that its own sync has not told of yet; it has then.
    pub(super) const fn tell_loss(&mut self) -> bool {
        std::mem::replace(&mut self.untold, false)
    }

    pub(super) fn rot(&mut self, offset: u64, mask: u8) -> bool {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.bytes.get_mut(at) {
            Some(byte) => {
                *byte ^= mask;
                true
            }
            None => false,
        }
    }

    /// Comes back to what the medium has: nothing, or by `rng` a part, of what is pending.
    pub(super) fn crash(&mut self, rng: Option<&mut StdRng>) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending.iter().rev() {
            self.bytes.resize(change.old_length, 0);
            put(&mut self.bytes, change.at, &change.old);
        }
        if let Some(rng) = rng.filter(|_| !self.broken) {
            for change in pending {
                self.redo_in_part(change, rng);
            }
        }
        self.broken = false;
        self.untold = false;
        self.allocated = self.allocated.max(self.length());
    }

    fn redo_in_part(&mut self, change: Change, rng: &mut StdRng) {
        let fate = rng.random_range(0..4);
        match change.new {
            New::Length(length) if fate < 2 => self.bytes.resize(length, 0),
            New::Bytes(bytes) if fate < 1 => put(&mut self.bytes, change.at, &bytes),
            New::Bytes(bytes) if fate < 2 => {
                for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if rng.random_bool(0.5) {
                        put(&mut self.bytes, change.at + number * SECTOR_BYTES, sector);
                    }
                }
            }
            New::Length(_) | New::Bytes(_) => {}
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    let end = at + new.len();
    if end > bytes.len() {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(new);
    }
}
