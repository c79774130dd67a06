//! Checks that read the clone and change nothing; each counts as one test.

mod bundles;
mod dependencies;
mod documents;
mod sources;

use std::time::Instant;

use anyhow::Result;

use crate::command;
use crate::say;
use crate::tally::Outcome;
use crate::tally::Tally;

/// A check by name.
type Check = (&'static str, fn() -> Result<Outcome>);

/// All checks, quickest first.
const CHECKS: &[Check] = &[
    ("format", format),
    ("sources: headers, sizes, nothing ignored", sources::check),
    ("dependencies: direction", dependencies::direction),
    ("dependencies: banned crates", dependencies::banned),
    ("dependencies: cargo deny", dependencies::deny),
    ("documents: links", documents::links),
    ("documents: error codes", documents::codes),
    ("lints", lints),
    ("documents: rustdoc", documents::rustdoc),
    (
        "bundles: the same bytes from two builds",
        bundles::reproducible,
    ),
];

/// Runs all checks.
pub(crate) fn run_all(tally: &mut Tally) {
    for (name, check) in CHECKS {
        let started = Instant::now();
        let outcome = check().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let seconds = started.elapsed().as_secs_f64();
        match &outcome {
            Outcome::Passed => say!("check {name}: ok, {seconds:.1} s"),
            Outcome::Skipped(why) => say!("check {name}: skipped: {why}"),
            Outcome::Failed(why) => say!("check {name}: FAILED\n{why}"),
        }
        tally.count(name, &outcome);
    }
}

fn format() -> Result<Outcome> {
    let mut cargo = command::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    command::run(cargo)?;
    Ok(Outcome::Passed)
}

fn lints() -> Result<Outcome> {
    let mut cargo = command::cargo();
    cargo.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    command::run(cargo)?;
    Ok(Outcome::Passed)
}

/// Passed when there are no problems, else failed with one a line.
fn verdict(problems: &[String]) -> Outcome {
    if problems.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(problems.join("\n"))
    }
}
