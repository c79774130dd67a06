//! The list of masters in its file, as the broker adds to it; the daemon's other parts see that the file has changed.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use api::join::Master;
use api::members;
use api::members::Members;
use api::sync::NodeName;
use program::FileError;
use program::durable;

use super::plane::Roster;

/// Everybody may read it: it holds names and addresses.
const MODE: u32 = 0o644;

/// The file, and the turn to write it.
#[derive(Debug)]
pub struct FileRoster {
    file: PathBuf,
    turn: Mutex<()>,
}

impl FileRoster {
    /// Names the file; nothing is read yet.
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            turn: Mutex::default(),
        }
    }

    /// What the file says; nobody when there is none.
    fn read(&self) -> Result<Members, FileError> {
        let bytes = match durable::read_capped(&self.file, members::BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Members::default()),
            Err(error) => return Err(error),
        };
        Members::parse(&bytes).map_err(|error| self.failed("understand", error))
    }

    fn failed(
        &self,
        action: &'static str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> FileError {
        FileError::new(action, &self.file, io::Error::other(error))
    }
}

impl Roster for FileRoster {
    fn has(&self, node: &NodeName) -> bool {
        let read = self.read();
        read.is_ok_and(|members| members.present().any(|(name, _)| name == node))
    }

    fn admit(&self, master: &Master) -> Result<(), FileError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members = self.read()?;
        let address = SocketAddr::new(master.address, members::PORT);
        if members.admit(&master.name, address) {
            let bytes = members.to_bytes();
            let bytes = bytes.map_err(|error| self.failed("write", error))?;
            durable::replace(&self.file, &bytes, MODE)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_master_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let roster = FileRoster::new(&folder.path().join("members.json"));
        let master = Master {
            name: "m2".parse().unwrap(),
            address: [10, 0, 0, 12].into(),
        };
        assert!(!roster.has(&master.name));
        roster.admit(&master).unwrap();
        roster.admit(&master).unwrap();
        assert!(roster.has(&master.name));
        assert!(!roster.has(&"m3".parse().unwrap()));
    }

    #[test]
    fn a_damaged_list_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("members.json");
        std::fs::write(&file, "{").unwrap();
        let master = Master {
            name: "m2".parse().unwrap(),
            address: [10, 0, 0, 12].into(),
        };
        assert!(FileRoster::new(&file).admit(&master).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{");
    }
}
