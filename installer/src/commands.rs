//! One file a command: from what was typed to what is done.

mod import;
mod inspect;
mod install;
mod trust;
mod verify;

use std::fs::File;
use std::path::Path;

use program::FileError;
use program::Outcome;
use program::Output;

use crate::cli::Cli;
use crate::cli::Command;
use crate::cli::TrustCommand;

/// Runs a command.
pub(crate) fn run(arguments: &Cli, output: &Output) -> Outcome {
    let store = &arguments.store;
    match &arguments.command {
        Command::Trust(TrustCommand::Add(add)) => trust::add(store, add, output),
        Command::Trust(TrustCommand::Show) => trust::show(store, output),
        Command::Verify(verify) => verify::run(store, verify, output),
        Command::Inspect(inspect) => inspect::run(store, inspect, output),
        Command::Import(import) => import::run(store, import, output),
        Command::Install(install) => install::run(store, install, output),
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|source| FileError::new("read", path, source))
}
