//! The whole simulated disk: names, files, room, errors, power.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Op;
use super::Rates;
use super::Survival;
use super::file::FileState;
use crate::fs::Access;
use crate::fs::Kind;
use crate::fs::Metadata;
use crate::fs::Space;
use crate::fs::Target;
use crate::fs::bytes_u64;

#[derive(Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next_inode: u64,
    next_handle: u64,
    handles: BTreeMap<u64, u64>,
    locks: BTreeMap<u64, u64>,
    pub(super) capacity: u64,
    pub(super) filesystem_id: u64,
    pub(super) rates: Rates,
    failures: Vec<Failure>,
    rng: StdRng,
    pub(super) changes: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) off: bool,
    pub(super) life: u64,
}

#[derive(Debug)]
enum Node {
    File(FileState),
    Directory(Directory),
}

#[derive(Debug, Default)]
struct Directory {
    names: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
}

#[derive(Debug)]
struct NameChange {
    name: String,
    old: Option<u64>,
    new: Option<u64>,
}

#[derive(Debug)]
struct Failure {
    op: Op,
    path: String,
    in_calls: u64,
}

const ROOT: u64 = 1;
const BLOCK_BYTES: u64 = 4096;

/// The error of every call while the power is off.
pub(super) fn power_is_off() -> io::Error {
    io::Error::other("the simulated power is off")
}

fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

impl Directory {
    fn set(&mut self, name: &str, new: Option<u64>) {
        let old = match new {
            Some(inode) => self.names.insert(name.to_owned(), inode),
            None => self.names.remove(name),
        };
        self.pending.push(NameChange {
            name: name.to_owned(),
            old,
            new,
        });
    }

    fn crash(&mut self, rng: Option<&mut StdRng>) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending.iter().rev() {
            put_name(&mut self.names, &change.name, change.old);
        }
        if let Some(rng) = rng {
            for change in pending {
                if rng.random_bool(0.5) {
                    put_name(&mut self.names, &change.name, change.new);
                }
            }
        }
    }
}

fn put_name(names: &mut BTreeMap<String, u64>, name: &str, inode: Option<u64>) {
    match inode {
        Some(inode) => drop(names.insert(name.to_owned(), inode)),
        None => drop(names.remove(name)),
    }
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]),
            next_inode: ROOT + 1,
            next_handle: 0,
            handles: BTreeMap::new(),
            locks: BTreeMap::new(),
            capacity: u64::MAX,
            filesystem_id: 1,
            rates: Rates::default(),
            failures: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            changes: 0,
            crash_at: None,
            off: false,
            life: 0,
        }
    }

    // --- names

    pub(super) fn open(&mut self, path: &str, access: Access) -> io::Result<u64> {
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

    pub(super) fn open_dir(&mut self, path: &str) -> io::Result<u64> {
        self.may(Op::Open, path)?;
        let inode = self.find(path)?;
        self.directory(inode)?;
        Ok(inode)
    }

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        self.may(Op::Name, path)?;
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(path, Node::Directory(Directory::default()))
            .map(drop)
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        self.may(Op::Name, path)?;
        let inode = self.find(path)?;
        self.file(inode)?;
        let (parent, name) = self.parent(path)?;
        self.change(|disk| {
            disk.directory(parent)?.set(name, None);
            Ok(())
        })
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
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

    pub(super) fn rename(&mut self, from: &str, to: &str, target: Target) -> io::Result<()> {
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

    pub(super) fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        self.may(Op::Read, path)?;
        let inode = self.find(path)?;
        Ok(self.directory(inode)?.names.keys().cloned().collect())
    }

    pub(super) fn metadata(&mut self, path: &str) -> io::Result<Metadata> {
        self.may(Op::Read, path)?;
        self.metadata_of(self.find(path)?)
    }

    pub(super) fn metadata_of(&self, inode: u64) -> io::Result<Metadata> {
        let (kind, size) = match self.node(inode)? {
            Node::File(file) => (Kind::File, file.length()),
            Node::Directory(_) => (Kind::Directory, 0),
        };
        Ok(Metadata { kind, size, inode })
    }

    pub(super) fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        self.may(Op::SyncDir, path)?;
        let inode = self.find(path)?;
        self.count_change()?;
        self.directory(inode)?.pending.clear();
        self.collect();
        Ok(())
    }

    // --- bytes

    pub(super) fn read_at(
        &mut self,
        inode: u64,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let path = self.path_of(inode);
        self.may(Op::Read, &path)?;
        Ok(self.file(inode)?.read_at(buffer, offset))
    }

    pub(super) fn write_at(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
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

    pub(super) fn set_len(&mut self, inode: u64, length: u64) -> io::Result<()> {
        let path = self.path_of(inode);
        self.may(Op::Write, &path)?;
        self.change(|disk| disk.file(inode)?.set_len(length))
    }

    pub(super) fn allocate(&mut self, inode: u64, length: u64) -> io::Result<()> {
        let path = self.path_of(inode);
        self.may(Op::Write, &path)?;
        self.room_for(inode, length)??;
        self.change(|disk| disk.file(inode)?.allocate(length))
    }

    pub(super) fn sync_data(&mut self, inode: u64) -> io::Result<()> {
        let path = self.path_of(inode);
        if let Err(error) = self.may(Op::Sync, &path) {
            self.file(inode)?.fail_sync();
            return Err(error);
        }
        self.count_change()?;
        self.file(inode)?.sync();
        Ok(())
    }

    pub(super) fn sync_filesystem(&mut self) -> io::Result<()> {
        let allowed = self.may(Op::Sync, "");
        if allowed.is_ok() {
            self.count_change()?;
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) if allowed.is_ok() => file.sync(),
                Node::File(file) => file.fail_sync(),
                Node::Directory(directory) if allowed.is_ok() => directory.pending.clear(),
                Node::Directory(_) => {}
            }
        }
        self.collect();
        allowed
    }

    // --- room

    pub(super) fn used(&self) -> u64 {
        let live = self.reachable();
        live.iter()
            .map(|inode| match self.nodes.get(inode) {
                Some(Node::File(file)) => file.allocated().next_multiple_of(BLOCK_BYTES),
                Some(Node::Directory(_)) | None => 0,
            })
            .sum()
    }

    pub(super) fn space(&self) -> io::Result<Space> {
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

    // --- handles and locks

    pub(super) fn open_handle(&mut self, inode: u64) -> u64 {
        self.next_handle += 1;
        self.handles.insert(self.next_handle, inode);
        self.next_handle
    }

    pub(super) fn close_handle(&mut self, inode: u64, handle: u64) {
        self.handles.remove(&handle);
        if self.locks.get(&inode) == Some(&handle) {
            self.locks.remove(&inode);
        }
    }

    pub(super) fn try_lock(&mut self, inode: u64, handle: u64) -> bool {
        *self.locks.entry(inode).or_insert(handle) == handle
    }

    // --- errors and power

    pub(super) fn plan_failure(&mut self, op: Op, path: &str, nth: u64) {
        self.failures.push(Failure {
            op,
            path: path.to_owned(),
            in_calls: nth,
        });
    }

    fn may(&mut self, op: Op, path: &str) -> io::Result<()> {
        if self.off {
            return Err(power_is_off());
        }
        let mut due = None;
        for (number, failure) in self.failures.iter_mut().enumerate() {
            if failure.op == op && path.contains(&failure.path) {
                match failure.in_calls.checked_sub(1) {
                    Some(left) => failure.in_calls = left,
                    None => due = Some(number),
                }
            }
        }
        if let Some(number) = due {
            self.failures.remove(number);
            return Err(input_output_error());
        }
        let one_in = match op {
            Op::Read => self.rates.read,
            Op::Write => self.rates.write,
            Op::Sync | Op::SyncDir => self.rates.sync,
            Op::Open | Op::Name => 0,
        };
        if one_in > 0 && self.rng.random_range(0..one_in) == 0 {
            return Err(input_output_error());
        }
        Ok(())
    }

    /// Makes a change; in the call that loses the power it is made all the same, but nobody is told.
    fn change<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let done = act(self);
        self.count_change()?;
        done
    }

    fn count_change(&mut self) -> io::Result<()> {
        let now = self.changes;
        self.changes += 1;
        if self.crash_at == Some(now) {
            self.off = true;
            return Err(power_is_off());
        }
        Ok(())
    }

    pub(super) fn power_on(&mut self, survival: Survival) {
        self.off = false;
        self.crash_at = None;
        self.life += 1;
        self.locks.clear();
        self.handles.clear();
        let mut rng = match survival {
            Survival::Everything => return,
            Survival::Nothing => None,
            Survival::Some(seed) => Some(StdRng::seed_from_u64(seed)),
        };
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.crash(rng.as_mut()),
                Node::Directory(directory) => directory.crash(rng.as_mut()),
            }
        }
        self.collect();
    }

    /// Forgets files that no name leads to, on the medium or in memory, and that nobody has open.
    fn collect(&mut self) {
        let mut live = self.reachable();
        live.extend(self.handles.values());
        for node in self.nodes.values() {
            if let Node::Directory(directory) = node {
                let pending = directory.pending.iter();
                live.extend(
                    pending
                        .flat_map(|change| [change.old, change.new])
                        .flatten(),
                );
            }
        }
        // What a forgotten directory still names is kept until the directory itself is gone for sure.
        let kept: Vec<u64> = live.iter().copied().collect();
        for inode in kept {
            self.reach(inode, &mut live);
        }
        self.nodes.retain(|inode, _| live.contains(inode));
    }

    fn reachable(&self) -> BTreeSet<u64> {
        let mut live = BTreeSet::from([ROOT]);
        self.reach(ROOT, &mut live);
        live
    }

    fn reach(&self, inode: u64, live: &mut BTreeSet<u64>) {
        if let Some(Node::Directory(directory)) = self.nodes.get(&inode) {
            for child in directory.names.values() {
                live.insert(*child);
                self.reach(*child, live);
            }
        }
    }

    // --- for tests

    pub(super) fn rot(&mut self, path: &str, offset: u64, mask: u8) -> bool {
        let Ok(inode) = self.find(path) else {
            return false;
        };
        self.file(inode).is_ok_and(|file| file.rot(offset, mask))
    }

    pub(super) fn peek(&self, path: &str) -> Option<Vec<u8>> {
        match self.node(self.find(path).ok()?) {
            Ok(Node::File(file)) => Some(file.bytes().to_vec()),
            Ok(Node::Directory(_)) | Err(_) => None,
        }
    }

    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        self.walk(ROOT, "", &mut found);
        found
    }

    fn walk(&self, inode: u64, path: &str, found: &mut Vec<(String, u64)>) {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => found.push((path.to_owned(), file.length())),
            Some(Node::Directory(directory)) => {
                for (name, child) in &directory.names {
                    self.walk(*child, &crate::staging::join(path, name), found);
                }
            }
            None => {}
        }
    }

    // --- nodes

    fn create(&mut self, path: &str, node: Node) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        self.directory(parent)?;
        let inode = self.next_inode;
        self.next_inode += 1;
        self.change(|disk| {
            disk.nodes.insert(inode, node);
            disk.directory(parent)?.set(name, Some(inode));
            Ok(inode)
        })
    }

    fn find(&self, path: &str) -> io::Result<u64> {
        let mut inode = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Node::Directory(directory) = self.node(inode)? else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            inode = *directory.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    fn parent<'a>(&self, path: &'a str) -> io::Result<(u64, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(parent)?, name))
    }

    /// A path of an open file, for planned failures; nothing when no name leads to it.
    fn path_of(&self, inode: u64) -> String {
        if self.failures.is_empty() {
            return String::new();
        }
        let mut found = Vec::new();
        self.walk_nodes(ROOT, "", inode, &mut found);
        found.pop().unwrap_or_default()
    }

    fn walk_nodes(&self, inode: u64, path: &str, wanted: u64, found: &mut Vec<String>) {
        if inode == wanted {
            found.push(path.to_owned());
        } else if let Some(Node::Directory(directory)) = self.nodes.get(&inode) {
            for (name, child) in &directory.names {
                self.walk_nodes(*child, &crate::staging::join(path, name), wanted, found);
            }
        }
    }

    fn node(&self, inode: u64) -> io::Result<&Node> {
        self.nodes
            .get(&inode)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, inode: u64) -> io::Result<&mut FileState> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&mut self, inode: u64) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(&inode) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
