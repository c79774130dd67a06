//! One file a command: typed arguments in, a result on the output, a coded failure otherwise.

mod init;

use crate::cli::Command;
use crate::failure::Outcome;
use crate::output::Output;

/// Runs one command.
pub fn run(command: Command, output: &Output) -> Outcome {
    match command {
        Command::Init(arguments) => init::run(&arguments, output),
        _later => Err(NotYet.into()),
    }
}

/// A command that is not done yet.
#[derive(Debug, thiserror::Error)]
#[error("this command is not in this version")]
struct NotYet;

impl bundle::fault::Fault for NotYet {
    fn code(&self) -> &'static str {
        "NOT_IN_THIS_VERSION"
    }

    fn blame(&self) -> bundle::fault::Blame {
        bundle::fault::Blame::Usage
    }
}
