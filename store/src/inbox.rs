//! The drop zone: files that an operator puts into `inbox/` to be imported.

use std::io::Read;

use crate::error::Result;
use crate::fs::Fs;
use crate::store::Store;

/// A file in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its name.
    pub name: String,
    /// Its size now; a file that still grows is not finished.
    pub size: u64,
}

impl<F: Fs> Store<F> {
    /// Regular files in the inbox, sorted by name.
    pub fn inbox(&self) -> Result<Vec<Dropped>> {
        todo!()
    }

    /// Opens a file of the inbox.
    pub fn open_inbox(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let _ = name;
        todo!()
    }

    /// Removes a file of the inbox that is imported.
    pub fn remove_inbox(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }

    /// Moves a file of the inbox that was refused to the quarantine, with the reason in a file beside it.
    pub fn reject_inbox(&self, name: &str, reason: &str) -> Result<()> {
        let _ = (name, reason);
        todo!()
    }
}
