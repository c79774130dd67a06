//! One run at a time on a node, children of a killed run included.
//!
//! The lock is on an empty file, which every program that a run starts gets as its standard input: so it is held until
//! the last of them has ended, and a run that follows a killed one never works beside its half-done `kubeadm`.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::FileError;
use program::Output;
use rustix::fs::FlockOperation;

/// Time between two looks at a taken lock.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// This process's turn on the node, until it and all programs that it started have ended.
#[derive(Debug)]
pub(crate) struct Turn {
    file: File,
}

/// The turn is another run's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    /// The file can't be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another run, or a program that a killed one has left, goes on.
    #[error("another run of the installer is at work on this machine")]
    Taken {
        /// The lock.
        path: PathBuf,
        /// How long was waited.
        waited_s: u64,
    },
}

impl Turn {
    /// Waits for the turn of this node; `patience` is how long.
    pub(crate) fn take(
        path: &Path,
        patience: Duration,
        output: &Output,
    ) -> Result<Self, TurnError> {
        let failed = |source| FileError::new("lock", path, source);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(path)
            .map_err(failed)?;
        let begun = Instant::now();
        let mut told = false;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file }),
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < patience => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(TurnError::Taken {
                        path: path.to_owned(),
                        waited_s: begun.elapsed().as_secs(),
                    });
                }
                Err(error) => return Err(failed(io::Error::from(error)).into()),
            }
            if !told {
                output.note("Waiting for a program that another run has started.");
                told = true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Standard input for a program: empty, and it holds the turn.
    pub(crate) fn stdin(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.file.try_clone()?))
    }
}

impl Fault for TurnError {
    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Taken { .. } => "RUN_BUSY",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::File(error) => error.facts(),
            Self::Taken { path, waited_s } => vec![
                Fact::new("lock", path.display()),
                Fact::new("waited", format!("{waited_s} s")),
            ],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Taken { path, .. } => Some(format!(
                "wait for it; `fuser -v {}` names the programs that hold it",
                path.display()
            )),
        }
    }
}
