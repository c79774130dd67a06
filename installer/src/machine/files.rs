//! Files of a node: whole or absent after any crash, and untouched when they are what they should be.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::Hasher;
use program::FileError;
use program::durable::parent;
use program::durable::sync_parent;

use super::Machine;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Permission bits of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Read by its owner alone, 0600.
    Secret,
    /// Read by all, 0644.
    Plain,
    /// Run by all, 0755.
    Program,
}

impl Mode {
    const fn bits(self) -> u32 {
        match self {
            Self::Secret => 0o600,
            Self::Plain => 0o644,
            Self::Program => 0o755,
        }
    }
}

impl Machine {
    /// The text of a file; `None` where there is none.
    pub(crate) fn read(&self, absolute: &str) -> Result<Option<String>, FileError> {
        let path = self.path(absolute);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::new("read", &path, source)),
        }
    }

    /// Whether a file has exactly this text and mode.
    pub(crate) fn holds(&self, absolute: &str, text: &str, mode: Mode) -> bool {
        let path = self.path(absolute);
        has_mode(&path, mode) && fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes())
    }

    /// Whether a file has exactly these bytes and mode.
    pub(crate) fn holds_blob(
        &self,
        absolute: &str,
        size: u64,
        digest: &Digest,
        mode: Mode,
    ) -> bool {
        let path = self.path(absolute);
        let same_size = fs::metadata(&path).is_ok_and(|found| found.len() == size);
        same_size && has_mode(&path, mode) && digest_of(&path).is_ok_and(|found| found == *digest)
    }

    /// Gives a file its text, unless it has it; whether that changed anything.
    pub(crate) fn write(&self, absolute: &str, text: &str, mode: Mode) -> Result<bool, FileError> {
        if self.holds(absolute, text, mode) {
            return Ok(false);
        }
        self.place(absolute, text.as_bytes(), mode)?;
        Ok(true)
    }

    /// Gives a file the bytes of a reader, by way of a new file that takes its name.
    pub(crate) fn place(
        &self,
        absolute: &str,
        reader: impl Read,
        mode: Mode,
    ) -> Result<(), FileError> {
        let path = self.path(absolute);
        let folder = parent(&path);
        fs::create_dir_all(folder)
            .map_err(|source| FileError::new("make folder", folder, source))?;
        let fresh = fresh_name(&path);
        write_synced(&fresh, reader, mode)
            .map_err(|source| FileError::new("write", &fresh, source))?;
        match fs::rename(&fresh, &path) {
            Ok(()) => sync_parent(&path),
            // A mounted file, as container hosts have for /etc/hosts, can't be renamed over: written in place instead.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let copied = copy_into(&fresh, &path);
                let _gone = fs::remove_file(&fresh);
                copied.map_err(|source| FileError::new("write", &path, source))
            }
            Err(source) => Err(FileError::new("write", &path, source)),
        }
    }

    /// Removes a file; one that is not there is removed already.
    pub(crate) fn remove(&self, absolute: &str) -> Result<(), FileError> {
        let path = self.path(absolute);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(FileError::new("remove", &path, source)),
        }
    }

    /// Removes a folder with all that is in it.
    pub(crate) fn remove_folder(&self, absolute: &str) -> Result<(), FileError> {
        let path = self.path(absolute);
        match fs::remove_dir_all(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(FileError::new("remove", &path, source)),
        }
    }
}

/// The name of the file that is to take the place of `path`: one a file, so that a killed try leaves one at most.
fn fresh_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.sealift-new"))
}

fn write_synced(path: &Path, mut reader: impl Read, mode: Mode) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _gone => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    io::copy(&mut reader, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(mode.bits()))?;
    file.sync_all()
}

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    let mut file = OpenOptions::new().write(true).truncate(true).open(to)?;
    file.write_all(&bytes)?;
    file.sync_all()
}

fn has_mode(path: &Path, mode: Mode) -> bool {
    fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o7777 == mode.bits())
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::program::tests::NoPrograms;

    fn machine(root: &tempfile::TempDir) -> Machine {
        Machine::new(root.path(), Box::new(NoPrograms))
    }

    #[test]
    fn a_file_that_is_right_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(&root);
        assert!(machine.write("/etc/a", "text", Mode::Plain).unwrap());
        let before = fs::metadata(root.path().join("etc/a"))
            .unwrap()
            .modified()
            .unwrap();
        assert!(!machine.write("/etc/a", "text", Mode::Plain).unwrap());
        let after = fs::metadata(root.path().join("etc/a"))
            .unwrap()
            .modified()
            .unwrap();
        assert_eq!(before, after);
        assert!(machine.write("/etc/a", "other", Mode::Plain).unwrap());
        assert_eq!(machine.read("/etc/a").unwrap().as_deref(), Some("other"));
    }

    #[test]
    fn a_wrong_mode_is_a_wrong_file() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(&root);
        machine.write("/k", "key", Mode::Plain).unwrap();
        assert!(machine.write("/k", "key", Mode::Secret).unwrap());
        assert!(machine.holds_blob("/k", 3, &Digest::of(b"key"), Mode::Secret));
        assert!(!machine.holds_blob("/k", 3, &Digest::of(b"kex"), Mode::Secret));
    }

    #[test]
    fn what_a_killed_try_has_left_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(&root);
        fs::write(root.path().join(".a.sealift-new"), "half").unwrap();
        machine.place("/a", &b"whole"[..], Mode::Program).unwrap();
        assert_eq!(machine.read("/a").unwrap().as_deref(), Some("whole"));
        assert!(!machine.has("/.a.sealift-new"));
    }
}
