//! Bytes of files, and the room that they take.

use std::io;

use super::BLOCK_BYTES;
use super::Disk;
use super::Node;
use super::input_output_error;
use super::power_is_off;
use crate::fs::Space;
use crate::fs::bytes_u64;
use crate::fs::sim::Op;

impl Disk {
    pub(in crate::fs::sim) fn read_at(
        &mut self,
        inode: u64,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let path = self.path_of(inode);
        self.may(Op::Read, &path)?;
        Ok(self.file(inode)?.read_at(buffer, offset))
    }

    pub(in crate::fs::sim) fn write_at(
        &mut self,
        inode: u64,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        let path = self.path_of(inode);
        let fits = self.room_for(inode, offset.saturating_add(bytes_u64(bytes.len())))?;
        if let Err(error) = self.may(Op::Write, &path).and(fits) {
            // A failed write may have done a part of its work.
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            let end = offset.saturating_add(bytes_u64(half.len()));
            if !self.off && self.room_for(inode, end)?.is_ok() {
                self.file(inode)?.write_at(half, offset)?;
            }
            return Err(error);
        }
        self.change(|disk| disk.file(inode)?.write_at(bytes, offset))
    }

    pub(in crate::fs::sim) fn set_len(&mut self, inode: u64, length: u64) -> io::Result<()> {
        let path = self.path_of(inode);
        self.may(Op::Write, &path)?;
        self.change(|disk| disk.file(inode)?.set_len(length))
    }

    pub(in crate::fs::sim) fn allocate(&mut self, inode: u64, length: u64) -> io::Result<()> {
        let path = self.path_of(inode);
        self.may(Op::Write, &path)?;
        self.room_for(inode, length)??;
        self.change(|disk| disk.file(inode)?.allocate(length))
    }

    pub(in crate::fs::sim) fn sync_data(&mut self, inode: u64) -> io::Result<()> {
        let path = self.path_of(inode);
        if let Err(error) = self.may(Op::Sync, &path) {
            self.file(inode)?.fail_sync();
            self.losses += 1;
            return Err(error);
        }
        self.count_change()?;
        let file = self.file(inode)?;
        file.sync();
        if file.tell_loss() {
            return Err(input_output_error());
        }
        Ok(())
    }

    /// Makes all files durable. A loss since `handle` was opened, whoever met it, is told to it once, as Linux does
    /// (`syncfs(2)`, errors since 5.8), and once to each file that it hit.
    pub(in crate::fs::sim) fn sync_filesystem(&mut self, handle: u64) -> io::Result<()> {
        let allowed = self.may(Op::Sync, "");
        if allowed.is_ok() {
            self.count_change()?;
        }
        let mut lost = false;
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) if allowed.is_ok() => file.sync(),
                Node::File(file) => lost |= file.fail_with_filesystem(),
                Node::Directory(directory) if allowed.is_ok() => directory.pending.clear(),
                Node::Directory(_) => {}
            }
        }
        self.losses += u64::from(lost);
        self.collect();
        let losses = self.losses;
        let open = self.handles.get_mut(&handle);
        let seen = open.map_or(losses, |open| std::mem::replace(&mut open.losses, losses));
        if seen < losses {
            return Err(input_output_error());
        }
        allowed
    }

    pub(in crate::fs::sim) fn used(&self) -> u64 {
        let live = self.reachable();
        live.iter()
            .map(|inode| match self.nodes.get(inode) {
                Some(Node::File(file)) => file.allocated().next_multiple_of(BLOCK_BYTES),
                Some(Node::Directory(_)) | None => 0,
            })
            .sum()
    }

    pub(in crate::fs::sim) fn space(&self) -> io::Result<Space> {
        if self.off {
            return Err(power_is_off());
        }
        Ok(Space {
            free_bytes: self.capacity.saturating_sub(self.used()),
            total_bytes: self.capacity,
            block_bytes: BLOCK_BYTES,
        })
    }

    /// Whether `inode` may take space up to `end`.
    fn room_for(&self, inode: u64, end: u64) -> io::Result<io::Result<()>> {
        let Node::File(file) = self.node(inode)? else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        if self.capacity == u64::MAX {
            return Ok(Ok(()));
        }
        let now = file.allocated().next_multiple_of(BLOCK_BYTES);
        let more = end.next_multiple_of(BLOCK_BYTES).saturating_sub(now);
        if more == 0 || self.used().saturating_add(more) <= self.capacity {
            return Ok(Ok(()));
        }
        let full = rustix::io::Errno::NOSPC.raw_os_error();
        Ok(Err(io::Error::from_raw_os_error(full)))
    }
}
