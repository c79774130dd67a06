//! The whole simulated disk: its files and directories, who has them open, and where they are.

use std::collections::BTreeMap;
use std::io;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Op;
use super::Rates;
use super::file::FileState;

mod bytes;
mod names;
mod power;

#[derive(Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next_inode: u64,
    next_handle: u64,
    handles: BTreeMap<u64, Handle>,
    /// Syncs that have lost something.
    losses: u64,
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

/// An open file or directory.
#[derive(Debug)]
struct Handle {
    inode: u64,
    /// Losses that it was opened after, or was told of.
    losses: u64,
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
            losses: 0,
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

    pub(super) fn open_handle(&mut self, inode: u64) -> u64 {
        self.next_handle += 1;
        let losses = self.losses;
        self.handles
            .insert(self.next_handle, Handle { inode, losses });
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
