//! One file a command: from what was typed to what is done.

mod import;
mod inspect;
mod install;
mod join;
mod join_script;
mod preflight;
mod reset;
mod status;
mod trust;
mod verify;

pub(crate) use join_script::parse_span_s;

use std::fs::File;
use std::path::Path;

use program::FileError;
use program::Outcome;
use program::Output;

use crate::cli::Cli;
use crate::cli::Command;
use crate::cli::TrustCommand;
use crate::run::Journal;

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
        Command::Status(status) => status::run(status, output),
        Command::Reset(reset) => reset::run(reset, output),
        Command::Join(join) => join::run(store, join, output),
        Command::Preflight(preflight) => preflight::run(store, preflight, output),
        Command::JoinScript(script) => join_script::run(script, output),
    }
}

/// Tells that a run stopped before, and where.
fn tell_stopped(journal: &Journal, output: &Output) {
    if let Some(stopped) = journal.stopped() {
        let at = stopped.at.to_string();
        let time = at.get(11..16).unwrap_or_default();
        let place = stopped.step.map_or_else(
            || "between two steps".to_owned(),
            |step| format!("in \"{}\"", step.replace('-', " ")),
        );
        output.note(format!("Continuing the run of {time} (stopped {place})."));
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|source| FileError::new("read", path, source))
}
