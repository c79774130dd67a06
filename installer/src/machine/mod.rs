//! The machine that is changed: its files and its programs, behind two narrow doors, so that tests bring their own.

mod files;
mod program;
mod wait;

use std::path::Path;
use std::path::PathBuf;

pub(crate) use files::Mode;
pub(crate) use program::Call;
pub(crate) use program::ProgramError;
pub(crate) use program::Programs;
pub(crate) use program::Ran;
pub(crate) use program::RealPrograms;
pub(crate) use wait::wait_for;

/// Where the installer keeps what is its own on a node.
pub(crate) const NODE_DIRECTORY: &str = "/var/lib/sealift-node";

/// A machine: files below a root, which is `/` but in tests, and programs.
pub(crate) struct Machine {
    root: PathBuf,
    programs: Box<dyn Programs>,
}

impl Machine {
    /// Takes the machine below `root`.
    pub(crate) fn new(root: &Path, programs: Box<dyn Programs>) -> Self {
        Self {
            root: root.to_owned(),
            programs,
        }
    }

    /// Where a file of the machine really is.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Whether something is there.
    pub(crate) fn has(&self, absolute: &str) -> bool {
        self.path(absolute).symlink_metadata().is_ok()
    }

    /// Runs a program to its end; any exit code but 0 is an error.
    pub(crate) fn run(&self, call: &Call) -> Result<Ran, ProgramError> {
        self.programs.run(call)
    }

    /// Whether a program runs and ends with 0.
    pub(crate) fn succeeds(&self, call: &Call) -> bool {
        self.programs.run(call).is_ok()
    }
}
