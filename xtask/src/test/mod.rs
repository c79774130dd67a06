//! `cargo xtask test`: one build, the checks, every test of the workspace, then one line that says how it went.

mod libtest;

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use tests::programs;
use tests::real_parts;

use crate::binaries;
use crate::check;
use crate::command;
use crate::repo;
use crate::say;
use crate::tally::Outcome;
use crate::tally::Tally;

/// How many seeds the simulation of whole clusters runs; each is a run of its own.
const SIMULATIONS: &str = "SEALIFT_SIM_SEEDS";

/// What `cargo xtask test` was asked for.
#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Run only the tests whose name contains this, and no checks.
    filter: Option<String>,
    /// Run only this end-to-end suite of `tests/tests/`, and no checks.
    #[arg(long)]
    suite: Option<String>,
}

/// Runs what was asked for; `false` when something failed.
pub(crate) fn run(arguments: &TestArguments) -> Result<bool> {
    let started = Instant::now();
    let mut tally = Tally::default();
    match real_parts::install() {
        Ok(what) => say!("other people's programs: {what}"),
        Err(error) => say!("other people's programs could not be installed: {error:#}"),
    }
    prepare_cluster(arguments);
    let is_built = build(&mut tally)?;
    programs::are_in(&repo::target().join("debug"));
    if arguments.filter.is_none() && arguments.suite.is_none() {
        check::run_all(&mut tally);
    }
    if is_built {
        libtest::run(cargo_test(arguments), libtest::Shown::Summaries, &mut tally)?;
    }
    say!("took {:.0} s", started.elapsed().as_secs_f64());
    tally.say();
    Ok(tally.is_good())
}

/// The suites over real clusters.
const CLUSTER_SUITES: [&str; 3] = ["bed", "cluster", "cluster_faults"];

/// Runs every scenario on real clusters, those included that `cargo xtask test` leaves out; tells all they say.
pub(crate) fn scenarios(filter: Option<String>) -> Result<bool> {
    let started = Instant::now();
    binaries::parts()?;
    let mut tally = Tally::default();
    if build(&mut tally)? {
        let arguments = TestArguments {
            filter,
            suite: None,
        };
        let mut cargo = command::cargo();
        cargo.args(["test", "--workspace", "--no-fail-fast"]);
        for suite in CLUSTER_SUITES {
            cargo.args(["--test", suite]);
        }
        cargo.arg("--").arg("--show-output").args(&arguments.filter);
        cargo.env(programs::FOLDER_VARIABLE, repo::target().join("debug"));
        cargo.env(tests::scenarios::ALL_VARIABLE, "all");
        libtest::run(cargo, libtest::Shown::Everything, &mut tally)?;
    }
    say!("took {:.0} s", started.elapsed().as_secs_f64());
    tally.say();
    Ok(tally.is_good())
}

/// Builds what a real cluster is made of, where a suite is to run that needs it; a suite says itself that it can't.
fn prepare_cluster(arguments: &TestArguments) {
    let suite = arguments.suite.as_deref();
    if !real_parts::is_root() || suite.is_some_and(|suite| !CLUSTER_SUITES.contains(&suite)) {
        return;
    }
    match binaries::parts() {
        Ok(_) => say!("parts of a real cluster: all are here"),
        Err(error) => say!("parts of a real cluster could not be built: {error:#}"),
    }
}

/// Builds the programs under test and all tests at once, so that every feature is resolved once.
fn build(tally: &mut Tally) -> Result<bool> {
    let started = Instant::now();
    let mut cargo = command::cargo();
    cargo.args(["build", "--workspace", "--bins", "--tests"]);
    let mut log = String::new();
    let good = command::lines(cargo, |line| {
        log.push_str(line);
        log.push('\n');
    })?;
    if good {
        say!(
            "build of programs and tests: ok, {:.0} s",
            started.elapsed().as_secs_f64()
        );
        tally.count("build", &Outcome::Passed);
    } else {
        say!("build of programs and tests: FAILED\n{log}");
        tally.count("build", &Outcome::Failed(String::new()));
    }
    Ok(good)
}

/// `cargo test` as all of the tests are run: programs under test are those that [`build`] made.
fn cargo_test(arguments: &TestArguments) -> std::process::Command {
    let mut cargo = command::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    if let Some(suite) = &arguments.suite {
        cargo.args(["--test", suite]);
    }
    cargo.arg("--").arg("--show-output").args(&arguments.filter);
    cargo.env(SIMULATIONS, "100");
    cargo.env(programs::FOLDER_VARIABLE, repo::target().join("debug"));
    cargo
}
