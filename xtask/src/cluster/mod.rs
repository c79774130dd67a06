//! `cargo xtask cluster`: a real highly available cluster on this machine, from one signed file; needs root.
//!
//! `up` does what an operator does, with the same commands: install on a first machine, then the printed scripts on the
//! others. `test` runs every scenario over such clusters, those included that are too long for `cargo xtask test`.

mod up;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use bundle::Digest;
use clap::Subcommand;
use tests::bed::Bed;
use tests::programs;

use crate::command;
use crate::repo;
use crate::say;
use crate::test;

/// What `cargo xtask cluster` was asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// From nothing to three masters and a worker that are Ready; takes down the one that was up before.
    Up {
        /// Run the programs of this folder instead of building them.
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
    },
    /// Remove the cluster of `up` and everything of it.
    Down,
    /// Run a command on a node of it; a shell when none is given.
    Exec {
        /// m1, m2, m3 or w1.
        node: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run every scenario on real clusters: the long ones too.
    Test {
        /// Run only the scenarios whose name contains this.
        filter: Option<String>,
    },
}

/// Runs what was asked for; `false` when something failed.
pub(crate) fn run(command: ClusterCommand) -> Result<bool> {
    match command {
        ClusterCommand::Up { programs } => {
            match programs {
                Some(folder) => programs::are_in(&folder.canonicalize().context("no such folder")?),
                None => build()?,
            }
            up::run()
        }
        ClusterCommand::Down => down(),
        ClusterCommand::Exec { node, command } => exec(&node, &command),
        ClusterCommand::Test { filter } => test::scenarios(filter),
    }
}

/// The name of this clone's cluster; every clone may have one at the same time.
fn name() -> String {
    let mut key = Digest::of(repo::root().as_os_str().as_encoded_bytes()).to_hex();
    key.truncate(8);
    format!("up-{key}")
}

/// Builds the programs under test as `cargo xtask test` does.
fn build() -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "installer",
        "--package",
        "syncd",
        "--package",
        "bundler",
    ]);
    command::run(cargo)?;
    programs::are_in(&repo::target().join("debug"));
    Ok(())
}

fn down() -> Result<bool> {
    if let Some(bed) = Bed::open(&name())? {
        bed.remove()?;
        say!("the cluster is gone");
    } else {
        say!("there is no cluster of this clone");
    }
    Ok(true)
}

/// Becomes the command, on this terminal.
fn exec(node: &str, command: &[String]) -> Result<bool> {
    let bed = Bed::open(&name())?
        .context("there is no cluster; `sudo cargo xtask cluster up` makes one")?;
    let nodes = bed.nodes()?;
    let node = nodes
        .iter()
        .find(|it| it.name == node)
        .with_context(|| format!("there is no node {node}"))?;
    let shell = ["bash".to_owned()];
    let mut command = node.command(if command.is_empty() { &shell } else { command })?;
    Err(command.exec().into())
}
