//! One file a command: typed arguments in, a result on the output, a coded failure otherwise.

mod init;
mod inspect;
mod key;
mod license;
mod root;
mod verify;

use crate::cli::Command;
use crate::cli::KeyCommand;
use crate::cli::LicenseCommand;
use crate::cli::RootCommand;
use crate::failure::Outcome;
use crate::output::Output;

/// Runs one command.
pub fn run(command: Command, output: &Output) -> Outcome {
    match command {
        Command::Init(arguments) => init::run(&arguments, output),
        Command::Key(KeyCommand::New(arguments)) => key::make(&arguments, output),
        Command::Key(KeyCommand::Show(arguments)) => key::show(&arguments, output),
        Command::Root(RootCommand::Init(arguments)) => root::init(&arguments, output),
        Command::Root(RootCommand::Show(arguments)) => root::show(&arguments, output),
        Command::License(LicenseCommand::New(arguments)) => license::make(arguments, output),
        Command::License(LicenseCommand::Sign(arguments)) => license::sign(&arguments, output),
        Command::License(LicenseCommand::Show(arguments)) => license::show(&arguments, output),
        Command::Verify(arguments) => verify::run(&arguments, output),
        Command::Inspect(arguments) => inspect::run(&arguments, output),
        Command::Build(_) | Command::Sign(_) => Err(NotYet.into()),
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
