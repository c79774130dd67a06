//! The file of a bundle under way, written past the page cache by a thread of its own.
//!
//! A bundle is as large as all its layers and has to be on the disk before it has its name. Through the page cache each
//! byte of it would first take a fresh page, then push a layer out that is still to be read, and all of it would wait
//! for the sync at the end. Written directly, it is on the disk as fast as it is made, at a third of the processor time.
//!
//! Blocks of [`BLOCK_BYTES`] at multiples of [`ALIGN_BYTES`] go directly; the ends of each run, and everything where the
//! file system does not know direct writing, go the usual way. No page is written both ways, so neither hides the other.
//!
//! `flush` returns when the system has all bytes; making them durable is the caller's sync.

use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

/// What direct writing wants offsets, lengths and memory to be multiples of: the page, and the largest sector there is.
const ALIGN_BYTES: usize = 4096;

/// Bytes written at once: enough for a disk to be at full speed with one request after the other.
const BLOCK_BYTES: usize = 4 << 20;

/// Blocks in memory: one being filled, one being written, one between them.
const BLOCKS: usize = 3;

/// A block of memory that begins at a multiple of [`ALIGN_BYTES`].
#[derive(Debug)]
struct Block {
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

/// A full block on its way to its place.
#[derive(Debug)]
struct Order {
    block: Block,
    offset: u64,
}

/// A new file, written from start to end and then, in parts, again.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    position: u64,
    open: Option<Block>,
    spare: Vec<Block>,
    under_way: usize,
    orders: Option<Sender<Order>>,
    written: Receiver<io::Result<Block>>,
    thread: Option<JoinHandle<()>>,
}

impl DirectFile {
    /// Takes `file`, which is at `path`, empty and open for writing.
    pub fn new(file: File, path: &Path) -> io::Result<Self> {
        let (orders, orders_taken) = channel();
        let (written_sender, written) = channel();
        let direct = open_direct(path);
        let plain = file.try_clone()?;
        let work = move || write_all(&orders_taken, &written_sender, direct, &plain);
        let thread = std::thread::Builder::new()
            .name("write".to_owned())
            .spawn(work)?;
        Ok(Self {
            file,
            position: 0,
            open: None,
            spare: (0..BLOCKS).map(|_| Block::new()).collect(),
            under_way: 0,
            orders: Some(orders),
            written,
            thread: Some(thread),
        })
    }

    /// Throws away what was written.
    pub fn restart(&mut self) -> io::Result<()> {
        self.rewind()?;
        self.file.set_len(0)
    }

    /// Makes everything durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()
    }

    /// Adds what fits into the open block; full blocks go to the thread.
    fn fill(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut block = match self.open.take() {
            Some(block) => block,
            None => self.next_block()?,
        };
        let count = block.fill(bytes);
        if block.filled == BLOCK_BYTES {
            let offset = self.position + length(count) - length(BLOCK_BYTES);
            self.order(Order { block, offset })?;
        } else {
            self.open = Some(block);
        }
        Ok(count)
    }

    fn next_block(&mut self) -> io::Result<Block> {
        while self.spare.is_empty() {
            self.wait_for_one()?;
        }
        self.spare.pop().ok_or_else(gone)
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        self.under_way += 1;
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders.send(order).map_err(|_gone| gone())
    }

    fn wait_for_one(&mut self) -> io::Result<()> {
        let block = self.written.recv().map_err(|_gone| gone())?;
        self.under_way -= 1;
        self.spare.push(block?);
        Ok(())
    }

    /// Writes the rest of the run, which is no full block.
    fn end_run(&mut self) -> io::Result<()> {
        if let Some(mut block) = self.open.take() {
            let offset = self.position - length(block.filled);
            self.file.write_all_at(block.content(), offset)?;
            block.filled = 0;
            self.spare.push(block);
        }
        while self.under_way > 0 {
            self.wait_for_one()?;
        }
        Ok(())
    }
}

impl Write for DirectFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let align = length(ALIGN_BYTES);
        let before = (align - self.position % align) % align;
        let count = if self.open.is_none() && before > 0 {
            // The start of a run, up to where blocks can begin.
            let most = usize::try_from(before).unwrap_or(bytes.len());
            let now = bytes.get(..most).unwrap_or(bytes);
            self.file.write_at(now, self.position)?
        } else {
            self.fill(bytes)?
        };
        self.position += length(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_run()
    }
}

impl Seek for DirectFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.end_run()?;
        self.position = match to {
            SeekFrom::Current(distance) => self
                .position
                .checked_add_signed(distance)
                .ok_or_else(before_start)?,
            SeekFrom::Start(position) => position,
            SeekFrom::End(distance) => {
                let end = self.file.metadata()?.len();
                end.checked_add_signed(distance).ok_or_else(before_start)?
            }
        };
        Ok(self.position)
    }
}

impl Drop for DirectFile {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It has told what went wrong, or nobody has asked.
            let _ended = thread.join();
        }
    }
}

impl Block {
    fn new() -> Self {
        let memory = vec![0; BLOCK_BYTES + ALIGN_BYTES];
        let start = memory.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        Self {
            memory,
            start,
            filled: 0,
        }
    }

    fn fill(&mut self, bytes: &[u8]) -> usize {
        let from = self.start + self.filled;
        let count = bytes.len().min(BLOCK_BYTES - self.filled);
        let room = self.memory.get_mut(from..from + count).unwrap_or_default();
        room.copy_from_slice(bytes.get(..count).unwrap_or_default());
        self.filled += count;
        count
    }

    fn content(&self) -> &[u8] {
        let end = self.start + self.filled;
        self.memory.get(self.start..end).unwrap_or_default()
    }
}

/// The thread: writes what it is sent, until the other side is gone or a write fails.
fn write_all(
    orders: &Receiver<Order>,
    written: &Sender<io::Result<Block>>,
    mut direct: Option<File>,
    plain: &File,
) {
    for Order { mut block, offset } in orders {
        let done = match &direct {
            Some(file) => file.write_all_at(block.content(), offset),
            None => plain.write_all_at(block.content(), offset),
        };
        let done = match done {
            // Not on this file system, or not in this piece after a short write: the usual way can do it all.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && direct.is_some() => {
                direct = None;
                plain.write_all_at(block.content(), offset)
            }
            done => done,
        };
        block.filled = 0;
        let failed = done.is_err();
        if written.send(done.map(|()| block)).is_err() || failed {
            return;
        }
    }
}

/// Opens a file for direct writing; `None` where the file system does not know it.
fn open_direct(path: &Path) -> Option<File> {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    File::options()
        .write(true)
        .custom_flags(flags)
        .open(path)
        .ok()
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

fn before_start() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "seek before the start of the file",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn create(path: &Path) -> DirectFile {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap();
        DirectFile::new(file, path).unwrap()
    }

    /// Bytes in which a block at the wrong place shows.
    fn numbers(count: usize) -> Vec<u8> {
        (0_u32..).flat_map(u32::to_le_bytes).take(count).collect()
    }

    #[test]
    fn a_head_that_is_written_last_meets_the_payload_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        for (head, payload) in [
            (0, 0),
            (1, 0),
            (0, 1),
            (5000, 3),
            (4096, BLOCK_BYTES),
            (70_001, 3 * BLOCK_BYTES + 12_345),
        ] {
            let path = folder.path().join(format!("{head}-{payload}"));
            let bytes = numbers(head + payload);
            let mut file = create(&path);
            file.seek(SeekFrom::Start(length(head))).unwrap();
            for part in bytes[head..].chunks(100_003) {
                file.write_all(part).unwrap();
            }
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&bytes[..head]).unwrap();
            assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), length(head + payload));
            file.sync().unwrap();
            assert!(
                fs::read(&path).unwrap() == bytes,
                "head {head}, payload {payload}"
            );
        }
    }

    #[test]
    fn a_file_system_without_direct_writing_gets_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create_new(&path).unwrap();
        // A directory can't be opened for writing, so this is what such a file system does.
        let mut file = DirectFile::new(file, folder.path()).unwrap();
        let bytes = numbers(2 * BLOCK_BYTES + 7);
        file.write_all(&bytes).unwrap();
        file.sync().unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn a_write_that_fails_is_told_at_the_latest_by_flush() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let mut file = DirectFile::new(File::open(&path).unwrap(), folder.path()).unwrap();
        let written = file
            .write_all(&numbers(4 * BLOCK_BYTES))
            .and_then(|()| file.flush());
        assert!(written.is_err());
    }
}
