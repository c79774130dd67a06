//! Brings a bundle to a site without internet: trust, verify, import, and bring up a cluster.
//!
//! Nothing is acted on before the signature and the license are verified.

pub mod cli;
mod clock;
mod commands;
mod join;
mod machine;
pub mod observe;
mod place;
pub mod plan;
pub mod preflight;
mod render;
mod run;
mod status;
mod steps;
mod tools;
pub mod words;

use std::process::ExitCode;

use clap::Parser as _;
use program::Output;

/// Runs the program on its command line.
pub fn main() -> ExitCode {
    let arguments = cli::Cli::parse_from(words::to_flags(std::env::args_os()));
    let output = Output::for_process(arguments.json);
    match commands::run(&arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}
