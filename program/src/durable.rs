//! Files that are whole or absent after any crash: written, synced, named, and the folder synced.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fault;

/// A file of the vendor's that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// Says what was tried, as a verb, on which file.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl Fault for FileError {
    fn code(&self) -> &'static str {
        use io::ErrorKind;
        let codes = [
            (ErrorKind::NotFound, "FILE_NOT_FOUND"),
            (ErrorKind::AlreadyExists, "FILE_EXISTS"),
            (ErrorKind::StorageFull, "DISK_FULL"),
            (ErrorKind::QuotaExceeded, "DISK_FULL"),
        ];
        let found = codes.iter().find(|(kind, _code)| *kind == self.kind());
        found.map_or("FILE_IO", |(_kind, code)| code)
    }

    fn blame(&self) -> Blame {
        if matches!(
            self.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
        ) {
            Blame::Usage
        } else {
            Blame::Machine
        }
    }

    fn hint(&self) -> Option<String> {
        (self.kind() == io::ErrorKind::AlreadyExists)
            .then(|| "choose another name, or move the file away: nothing is overwritten".into())
    }
}

/// Writes a file that must not exist yet; `mode` is taken as it is, whatever the umask takes away.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError::new("write", path, source);
    let parent = parent(path);
    fs::create_dir_all(parent).map_err(|source| FileError::new("make folder", parent, source))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // The name is ours alone (create_new), so half a file can go.
        let _gone = fs::remove_file(path);
        return Err(failed(source));
    }
    sync_parent(path)
}

/// Puts a file in the place of another, or of none; after a crash the one or the other is there, whole.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError::new("write", path, source);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One writer a process and file: who writes the same file at the same time in one process is a defect.
    let hidden = path.with_file_name(format!(".{name}.{}", std::process::id()));
    match fs::remove_file(&hidden) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    write_new(&hidden, bytes, mode)?;
    if let Err(source) = fs::rename(&hidden, path) {
        let _gone = fs::remove_file(&hidden);
        return Err(failed(source));
    }
    sync_parent(path)
}

/// Reads a whole file of at most `bytes_max` bytes.
pub fn read_capped(path: &Path, bytes_max: usize) -> Result<Vec<u8>, FileError> {
    use std::io::Read as _;
    let failed = |source| FileError::new("read", path, source);
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() > bytes_max {
        let text = format!("it is larger than {bytes_max} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, text)));
    }
    Ok(bytes)
}

/// Makes a new name in the folder of `path` survive a crash.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = parent(path);
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| FileError::new("sync folder", parent, source))
}

/// The folder that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _here => Path::new("."),
    }
}
