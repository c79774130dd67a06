//! What can go wrong with the cache on this machine.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

/// What went wrong with the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory holds something else.
    #[error("{} is not empty and no cache of this program", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Less space than is still to be fetched.
    #[error("the disk of the cache {} has {have} bytes left, {need} are needed", path.display())]
    Full {
        /// The directory.
        path: PathBuf,
        /// Bytes to come.
        need: u64,
        /// Bytes left.
        have: u64,
    },
    /// The system said no.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl CacheError {
    /// Makes the error of `action` on `path`, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

impl Fault for CacheError {
    fn code(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "CACHE_FOREIGN",
            Self::Full { .. } => "DISK_FULL",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "DISK_FULL",
            Self::Io { .. } => "CACHE_IO",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Foreign { .. } => Blame::Usage,
            Self::Full { .. } | Self::Io { .. } => Blame::Machine,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Foreign { path } => vec![Fact::new("cache", path.display())],
            Self::Full { path, need, have } => vec![
                Fact::new("cache", path.display()),
                Fact::new("need", need),
                Fact::new("have", have),
            ],
            Self::Io { path, source, .. } => {
                vec![
                    Fact::new("path", path.display()),
                    Fact::new("system", source),
                ]
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Foreign { .. } => "name a directory of its own with --cache-dir",
            Self::Full { .. } => "free the space, or name a larger disk with --cache-dir",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space and run the same command again: it goes on where it stopped"
            }
            Self::Io { .. } => {
                "see that the cache can be read and written, or remove it: it is filled anew"
            }
        };
        Some(hint.to_owned())
    }
}
