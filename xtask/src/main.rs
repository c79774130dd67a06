//! The project's own commands; `cargo xtask --help` lists them. Nothing here is needed at run time.

mod bench;
mod binaries;
mod check;
mod cluster;
mod command;
mod demo;
mod dist;
mod fix;
mod release;
mod repo;
mod simulate;
mod tally;
mod test;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Sealift's own commands, for a fresh clone and the Rust toolchain.
#[derive(Debug, Parser)]
enum Xtask {
    /// Show the main job on this machine: real images, one signed file, three masters, two of them killed.
    Demo(release::ProgramsArguments),
    /// Measure against other people's tools, side by side, and print ratios.
    Bench(bench::BenchArguments),
    /// Run every test that this machine can run; say what is skipped and why.
    Test(test::TestArguments),
    /// Bring a real Kubernetes up on this machine from one signed file, take it down, or test all of it; needs root.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Simulate whole clusters of masters, their networks and disks, one seed a run.
    Sim(simulate::SimArguments),
    /// Check format, lints, direction of dependencies, documents; change nothing.
    Verify,
    /// Put right what can be put right by itself: format and lints.
    Fix,
    /// Build the three programs as static files into `dist/`.
    Dist,
    /// Build what a real cluster is made of: Kubernetes, etcd, containerd and the like, and their images.
    Binaries(binaries::BinariesArguments),
}

fn main() -> ExitCode {
    match run(Xtask::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command; `false` when it did its work and found something wrong.
fn run(command: Xtask) -> Result<bool> {
    match command {
        Xtask::Demo(programs) => demo::run(&programs),
        Xtask::Bench(arguments) => bench::run(&arguments),
        Xtask::Test(arguments) => test::run(&arguments),
        Xtask::Cluster(command) => cluster::run(command),
        Xtask::Sim(arguments) => simulate::run(&arguments),
        Xtask::Verify => Ok(verify::run()),
        Xtask::Fix => fix::run(),
        Xtask::Dist => dist::run(),
        Xtask::Binaries(arguments) => binaries::run(&arguments),
    }
}
