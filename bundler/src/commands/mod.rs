//! One file a command: typed arguments in, a result on the output, a coded failure otherwise.

mod init;
mod inspect;
mod key;
mod license;
mod root;
mod sign;
mod verify;

use std::sync::Arc;

use crate::build;
use crate::cli::Command;
use crate::cli::KeyCommand;
use crate::cli::LicenseCommand;
use crate::cli::RootCommand;
use crate::failure::Outcome;
use crate::output::Output;

/// Runs one command.
pub fn run(command: Command, output: &Arc<Output>) -> Outcome {
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
        Command::Build(arguments) => build::run(&arguments, output),
        Command::Sign(arguments) => sign::run(&arguments, output),
    }
}
