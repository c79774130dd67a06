//! The store that a command works on.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::FileError;
use program::Outcome;
use store::Incarnation;
use store::RealFs;
use store::Store;

/// There is no store yet, so nobody is trusted and nothing can come in.
#[derive(Debug, thiserror::Error)]
#[error("there is no store in {}", directory.display())]
pub(crate) struct NoStore {
    directory: PathBuf,
    source: io::Error,
}

/// Opens the store of this machine.
pub(crate) fn open(directory: &Path) -> Outcome<Store> {
    let disk = RealFs::open(directory).map_err(|source| NoStore {
        directory: directory.to_owned(),
        source,
    })?;
    Ok(Store::open(disk, None)?)
}

/// Opens the store, or makes one where nothing is: the first machine of a site begins its cluster's life with it.
pub(crate) fn open_or_begin(directory: &Path) -> Outcome<Store> {
    if directory.join("STORE_ID").exists() {
        return open(directory);
    }
    let disk = RealFs::open_or_create(directory)
        .map_err(|source| FileError::new("make folder", directory, source))?;
    let mut life = [0; 16];
    getrandom::fill(&mut life).map_err(|error| {
        FileError::new(
            "draw from",
            Path::new("the system's randomness"),
            std::io::Error::other(error.to_string()),
        )
    })?;
    Ok(Store::create(disk, Incarnation::from_bytes(life))?)
}

impl Fault for NoStore {
    fn code(&self) -> &'static str {
        "STORE_ABSENT"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("reason", &self.source)]
    }

    fn hint(&self) -> Option<String> {
        Some(
            "mount its disk, or begin one with installer trust add root.json --fingerprint HEX"
                .to_owned(),
        )
    }
}
