//! The drop zone: files that an operator puts into `inbox/` to be imported.
//!
//! Their names come from outside: none with a slash, none that starts with a dot, no link is followed.

use std::io;
use std::io::Read;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Kind;
use crate::fs::Target;
use crate::fs::bytes_u64;
use crate::layout;
use crate::staging;
use crate::store::Store;

/// A file in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its name.
    pub name: String,
    /// Its size now; a file that still grows is not finished.
    pub size: u64,
}

/// Reads a file from its start.
struct Reader<F: Fs> {
    file: F::File,
    position: u64,
}

impl<F: Fs> Read for Reader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position = self.position.saturating_add(bytes_u64(count));
        Ok(count)
    }
}

impl<F: Fs> Store<F> {
    /// Regular files in the inbox, sorted by name; hidden ones are on their way and left out.
    pub fn inbox(&self) -> Result<Vec<Dropped>> {
        let about = About::new(self.fs(), layout::INBOX);
        let names = self
            .fs()
            .list(layout::INBOX)
            .map_err(about.failed("list"))?;
        let mut dropped = Vec::new();
        for name in names.into_iter().filter(|name| is_plain(name)) {
            match self.fs().metadata(&staging::join(layout::INBOX, &name)) {
                Ok(found) if found.kind == Kind::File => dropped.push(Dropped {
                    size: found.size,
                    name,
                }),
                Ok(_not_a_file) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(about.judge("look at", error)),
            }
        }
        Ok(dropped)
    }

    /// Opens a file of the inbox.
    pub fn open_inbox(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let path = path_of(name)?;
        let about = About::new(self.fs(), &path);
        let file = self
            .fs()
            .open(&path, Access::Read)
            .map_err(about.failed("open"))?;
        Ok(Box::new(Reader::<F> { file, position: 0 }))
    }

    /// Removes a file of the inbox that is imported.
    pub fn remove_inbox(&self, name: &str) -> Result<()> {
        let path = path_of(name)?;
        let about = About::new(self.fs(), &path);
        self.fs()
            .remove_file(&path)
            .map_err(about.failed("remove"))?;
        self.fs()
            .sync_dir(layout::INBOX)
            .map_err(about.not_durable())
    }

    /// Moves a file of the inbox that was refused to the quarantine, with the reason in a file beside it.
    pub fn reject_inbox(&self, name: &str, reason: &str) -> Result<()> {
        let path = path_of(name)?;
        staging::write_durably(
            self.fs(),
            layout::QUARANTINE,
            &format!("{name}.reason"),
            reason.as_bytes(),
            Target::Replace,
        )?;
        let about = About::new(self.fs(), &path);
        self.fs()
            .rename(
                &path,
                &staging::join(layout::QUARANTINE, name),
                Target::Replace,
            )
            .map_err(about.failed("quarantine"))?;
        for directory in [layout::QUARANTINE, layout::INBOX] {
            self.fs().sync_dir(directory).map_err(about.not_durable())?;
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn path_of(name: &str) -> Result<String> {
    if is_plain(name) {
        return Ok(staging::join(layout::INBOX, name));
    }
    Err(StoreError::Name {
        name: name.chars().take(255).collect(),
        place: layout::INBOX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimFs;
    use crate::id::Incarnation;

    fn store_with(name: &str) -> (SimFs, Store<SimFs>) {
        let fs = SimFs::new(1);
        let store = Store::create(fs.clone(), Incarnation::from_bytes([7; 16])).unwrap();
        let file = fs
            .open(&format!("inbox/{name}"), Access::CreateNew)
            .unwrap();
        file.write_at(b"bundle", 0).unwrap();
        (fs, store)
    }

    #[test]
    fn a_file_that_is_dropped_is_seen_read_and_removed() {
        let (_, store) = store_with("a.airgap");
        let dropped = Dropped {
            name: "a.airgap".to_owned(),
            size: 6,
        };
        assert_eq!(store.inbox().unwrap(), [dropped]);
        let mut bytes = Vec::new();
        let mut file = store.open_inbox("a.airgap").unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"bundle");
        store.remove_inbox("a.airgap").unwrap();
        assert_eq!(store.inbox().unwrap(), []);
    }

    #[test]
    fn a_file_that_is_refused_is_kept_as_evidence() {
        let (fs, store) = store_with("a.airgap");
        store.reject_inbox("a.airgap", "it is cut").unwrap();
        assert_eq!(store.inbox().unwrap(), []);
        assert_eq!(fs.peek("quarantine/a.airgap").unwrap(), b"bundle");
        assert_eq!(fs.peek("quarantine/a.airgap.reason").unwrap(), b"it is cut");
    }

    #[test]
    fn no_name_leads_out_of_the_inbox_and_hidden_files_are_not_finished() {
        let (_, store) = store_with(".a.airgap.part");
        assert_eq!(store.inbox().unwrap(), []);
        for name in ["", "..", "../STORE_ID", "a/b", ".hidden", "nul\0"] {
            assert!(store.open_inbox(name).is_err(), "{name:?}");
            assert!(store.remove_inbox(name).is_err(), "{name:?}");
            assert!(store.reject_inbox(name, "").is_err(), "{name:?}");
        }
    }
}
