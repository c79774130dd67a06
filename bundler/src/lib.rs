//! The vendor's build pipeline: images, charts, manifests, files and licenses into one signed bundle.
//!
//! It needs neither root nor a daemon nor a cluster. The same inputs give the same bytes.

pub mod build;
pub mod cache;
pub mod chart;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod fetch;
pub mod gather;
pub mod local;
pub mod pending;
pub mod plan;
pub mod release;
pub mod secrets;
pub mod signing;
pub mod source;
pub mod trust;

use std::process::ExitCode;
use std::sync::Arc;

pub use program::durable;
pub use program::failure;
pub use program::output;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

/// Runs the program on its command line.
pub fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    log_to_stderr();
    let output = Arc::new(output::Output::for_process(arguments.json));
    match commands::run(arguments.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

/// What is worth a line beside progress and result: warnings, or what `SEALIFT_LOG` asks for.
fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("SEALIFT_LOG").unwrap_or_else(|_unset| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    log.with_writer(std::io::stderr).without_time().init();
}
