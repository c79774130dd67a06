//! The disk of this machine. Every path is resolved by the kernel beneath the root, without links (openat2).

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::Advice;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::Access;
use super::Fs;
use super::FsFile;
use super::Kind;
use super::Metadata;
use super::Space;
use super::Target;

/// A directory of this machine's disk.
#[derive(Clone, Debug)]
pub struct RealFs {
    root: Arc<OwnedFd>,
    place: Arc<PathBuf>,
}

/// Directories are the owner's alone: licenses and customers' images lie in them.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const PUBLISHED_MODE: u32 = 0o444;

impl RealFs {
    /// Opens an existing directory as the root.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Self {
            root: Arc::new(fd),
            place: Arc::new(root.to_path_buf()),
        })
    }

    /// Creates the directory when it is not there, its parents too, and opens it as the root.
    pub fn open_or_create(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(root)?;
        Self::open(root)
    }

    fn resolve(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        // The kernel answers EAGAIN when a rename elsewhere raced with the walk (openat2(2)).
        for _try in 0..RESOLVE_TRIES {
            match rustix::fs::openat2(&*self.root, path, flags | OFlags::CLOEXEC, mode, beneath) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn parent<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        Ok((self.directory(parent)?, name))
    }
}

/// Walks that may be disturbed by renames before one is given up.
const RESOLVE_TRIES: u32 = 64;

impl Fs for RealFs {
    type File = File;

    fn open(&self, path: &str, access: Access) -> io::Result<File> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            Access::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Access::Create => OFlags::RDWR | OFlags::CREATE,
        };
        let mode = match access {
            Access::Read | Access::Write => Mode::empty(),
            Access::CreateNew | Access::Create => Mode::from_raw_mode(FILE_MODE),
        };
        // NONBLOCK: a pipe that somebody put into the inbox must not hang the daemon.
        let fd = self.resolve(path, flags | OFlags::NONBLOCK, mode)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{path} is not a regular file"),
            ));
        }
        Ok(File::from(fd))
    }

    fn open_dir(&self, path: &str) -> io::Result<File> {
        Ok(File::from(self.directory(path)?))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::mkdirat(
            parent,
            name,
            Mode::from_raw_mode(DIR_MODE),
        )?)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    fn rename(&self, from: &str, to: &str, target: Target) -> io::Result<()> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        let flags = match target {
            Target::MustBeNew => RenameFlags::NOREPLACE,
            Target::Replace => RenameFlags::empty(),
        };
        match rustix::fs::renameat_with(&from_parent, from_name, &to_parent, to_name, flags) {
            // A filesystem without this kind of rename (NFS, some overlays): a second name, then the first one goes.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if target == Target::MustBeNew => {
                let no_follow = AtFlags::empty();
                rustix::fs::linkat(&from_parent, from_name, &to_parent, to_name, no_follow)?;
                Ok(rustix::fs::unlinkat(&from_parent, from_name, no_follow)?)
            }
            done => Ok(done?),
        }
    }

    fn metadata(&self, path: &str) -> io::Result<Metadata> {
        let (parent, name) = self.parent(path)?;
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        metadata_of(&stat)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.directory(path)?)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.directory(path)?)?)
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::fstatvfs(&*self.root)?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            block_bytes: stat.f_frsize.max(1),
        })
    }

    fn filesystem_id(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstatvfs(&*self.root)?.f_fsid)
    }

    fn is_concurrent(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        self.place.display().to_string()
    }
}

impl FsFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if length == 0 {
            return Self::set_len(self, 0);
        }
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Self::set_len(self, length),
            done => Ok(done?),
        }
    }

    fn metadata(&self) -> io::Result<Metadata> {
        metadata_of(&rustix::fs::fstat(self)?)
    }

    fn set_read_only(&self) -> io::Result<()> {
        Ok(rustix::fs::fchmod(
            self,
            Mode::from_raw_mode(PUBLISHED_MODE),
        )?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self)?)
    }

    fn start_writeback(&self, range: Range<u64>) {
        // Linux begins to write dirty pages of the range out and keeps them, as they can't be dropped yet.
        let length = NonZeroU64::new(range.end.saturating_sub(range.start));
        let _hint = rustix::fs::fadvise(self, range.start, length, Advice::DontNeed);
    }

    fn forget_cache(&self) {
        let _hint = rustix::fs::fadvise(self, 0, None, Advice::DontNeed);
    }

    fn lock(&self) -> io::Result<()> {
        Self::lock(self)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

fn metadata_of(stat: &Stat) -> io::Result<Metadata> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::Other,
    };
    let size = u64::try_from(stat.st_size)
        .map_err(|_negative| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Metadata {
        kind,
        size,
        inode: stat.st_ino,
    })
}
