//! The daemon on every node: replicates the store to its peers and serves it.
//!
//! The engine (`replicate`, `wire`) is the same code in production and in simulation; everything that differs comes in
//! through [`env`](mod@env).

pub mod ca;
pub mod cli;
pub mod commands;
pub mod config;
pub mod contents;
pub mod control;
pub mod endpoint;
pub mod env;
pub mod etcd;
pub mod handle;
pub mod https;
pub mod images;
pub mod join;
pub mod kubernetes;
pub mod lease;
pub mod membership;
pub mod metrics;
pub mod net;
pub mod settings;
pub mod view;

mod backoff;
mod bandwidth;
mod clock;
mod counters;
mod engine;
mod holdings;
mod inbox;
mod masters;
mod node;
mod pieces;
mod replicate;
#[cfg(test)]
mod sim;
mod wire;

pub use engine::Syncd;

use std::process::ExitCode;

use clap::Parser as _;
use program::Output;

/// Runs the program on its command line.
pub fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    let output = Output::for_process(arguments.json);
    match commands::run(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}
