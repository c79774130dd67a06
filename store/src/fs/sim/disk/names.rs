//! Names: what directories say now, and what of it is on the medium.

use std::io;

use super::Directory;
use super::Disk;
use super::Node;
use crate::fs::Access;
use crate::fs::Kind;
use crate::fs::Metadata;
use crate::fs::Target;
use crate::fs::sim::Op;
use crate::fs::sim::file::FileState;

impl Disk {
    pub(in crate::fs::sim) fn open(&mut self, path: &str, access: Access) -> io::Result<u64> {
        self.may(Op::Open, path)?;
        match (self.find(path), access) {
            (Ok(inode), Access::Read | Access::Write | Access::Create) => {
                self.file(inode)?;
                Ok(inode)
            }
            (Ok(_), Access::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Err(error), Access::Read | Access::Write) => Err(error),
            (Err(_), Access::Create | Access::CreateNew) => {
                self.create(path, Node::File(FileState::default()))
            }
        }
    }

    pub(in crate::fs::sim) fn open_dir(&mut self, path: &str) -> io::Result<u64> {
        self.may(Op::Open, path)?;
        let inode = self.find(path)?;
        self.directory(inode)?;
        Ok(inode)
    }

    pub(in crate::fs::sim) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        self.may(Op::Name, path)?;
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(path, Node::Directory(Directory::default()))
            .map(drop)
    }

    pub(in crate::fs::sim) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        self.may(Op::Name, path)?;
        let inode = self.find(path)?;
        self.file(inode)?;
        let (parent, name) = self.parent(path)?;
        self.change(|disk| {
            disk.directory(parent)?.set(name, None);
            Ok(())
        })
    }

    pub(in crate::fs::sim) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        self.may(Op::Name, path)?;
        let inode = self.find(path)?;
        if !self.directory(inode)?.names.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (parent, name) = self.parent(path)?;
        self.change(|disk| {
            disk.directory(parent)?.set(name, None);
            Ok(())
        })
    }

    pub(in crate::fs::sim) fn rename(
        &mut self,
        from: &str,
        to: &str,
        target: Target,
    ) -> io::Result<()> {
        self.may(Op::Name, to)?;
        let inode = self.find(from)?;
        if target == Target::MustBeNew && self.find(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        self.change(|disk| {
            disk.directory(to_parent)?.set(to_name, Some(inode));
            disk.directory(from_parent)?.set(from_name, None);
            Ok(())
        })
    }

    pub(in crate::fs::sim) fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        self.may(Op::Read, path)?;
        let inode = self.find(path)?;
        Ok(self.directory(inode)?.names.keys().cloned().collect())
    }

    pub(in crate::fs::sim) fn metadata(&mut self, path: &str) -> io::Result<Metadata> {
        self.may(Op::Read, path)?;
        self.metadata_of(self.find(path)?)
    }

    pub(in crate::fs::sim) fn metadata_of(&self, inode: u64) -> io::Result<Metadata> {
        let (kind, size) = match self.node(inode)? {
            Node::File(file) => (Kind::File, file.length()),
            Node::Directory(_) => (Kind::Directory, 0),
        };
        Ok(Metadata { kind, size, inode })
    }

    pub(in crate::fs::sim) fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.may(Op::SyncDir, path)?;
        let inode = self.find(path)?;
        self.count_change()?;
        self.directory(inode)?.pending.clear();
        self.collect();
        Ok(())
    }
}
