//! `cargo xtask sim`: as many simulated clusters as one has time for, or one seed again.

use anyhow::Result;
use clap::Args;

use crate::command;

/// What `cargo xtask sim` was asked for.
#[derive(Debug, Args)]
pub(crate) struct SimArguments {
    /// How many seeds to run, from 0.
    #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
    seeds: u32,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the simulation; `false` when an invariant was broken, which its output tells with the seed.
pub(crate) fn run(arguments: &SimArguments) -> Result<bool> {
    let mut cargo = command::cargo();
    cargo.args([
        "test",
        "--package",
        "syncd",
        "--lib",
        "sim::",
        "--",
        "--nocapture",
    ]);
    match arguments.seed {
        Some(seed) => cargo.env("SEALIFT_SIM_SEED", seed.to_string()),
        None => cargo.env("SEALIFT_SIM_SEEDS", arguments.seeds.to_string()),
    };
    Ok(cargo.status()?.success())
}
