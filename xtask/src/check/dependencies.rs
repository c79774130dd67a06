//! Who may depend on whom, and on what nobody may depend.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use serde::Deserialize;

use super::verdict;
use crate::command;
use crate::repo;
use crate::tally::Outcome;

/// Where the table is that says who may depend on whom.
const TABLE: &str = "ARCHITECTURE.md";

/// Crates that must not come in, not even through others, and why.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "TLS is rustls on ring: one provider, no CMake"),
    (
        "aws-lc-sys",
        "TLS is rustls on ring: one provider, no CMake",
    ),
    ("openssl", "TLS is rustls on ring"),
    ("openssl-sys", "TLS is rustls on ring"),
    ("native-tls", "TLS is rustls on ring"),
    ("async-tar", "async tars have a record of parser attacks"),
    ("tokio-tar", "async tars have a record of parser attacks"),
    (
        "astral-tokio-tar",
        "async tars have a record of parser attacks",
    ),
    (
        "serde_yaml",
        "not maintained; reads YAML otherwise than Kubernetes does",
    ),
    (
        "serde_yml",
        "not maintained; reads YAML otherwise than Kubernetes does",
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<String>,
}

/// The arrow of dependency only points as the table of ARCHITECTURE.md says.
pub(super) fn direction() -> Result<Outcome> {
    let table = fs::read_to_string(repo::root().join(TABLE)).context(TABLE)?;
    let may_use = may_use(&table);
    let mut cargo = command::cargo();
    cargo.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]);
    let metadata: Metadata = serde_json::from_str(&command::run(cargo)?)?;
    let mut problems = Vec::new();
    for Package { name, dependencies } in &metadata.packages {
        let Some(allowed) = may_use.get(name.as_str()) else {
            problems.push(format!("crate {name} has no row in the table of {TABLE}"));
            continue;
        };
        let ours = dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some());
        let wrong =
            |used: &&Dependency| !allowed.contains(&used.name.as_str()) && *allowed != ["all"];
        for used in ours.filter(wrong) {
            problems.push(format!(
                "{name} must not depend on {}: {TABLE} does not say so",
                used.name
            ));
        }
    }
    Ok(verdict(&problems))
}

/// The rows of the table: a crate, and the crates of ours that it may use.
fn may_use(table: &str) -> BTreeMap<&str, Vec<&str>> {
    table.lines().filter_map(row).collect()
}

/// `` | `crate/` | what it is | may depend on | … ``
fn row(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let name = cells.next()?.strip_suffix("/`")?;
    Some((name, cells.nth(1)?.split(", ").collect()))
}

/// No banned crate is in Cargo.lock.
pub(super) fn banned() -> Result<Outcome> {
    let lock = fs::read_to_string(repo::root().join("Cargo.lock")).context("read Cargo.lock")?;
    let problems: Vec<String> = BANNED
        .iter()
        .filter(|(name, _)| lock.contains(&format!("\nname = \"{name}\"\n")))
        .map(|(name, why)| format!("Cargo.lock has {name}: {why}"))
        .collect();
    Ok(verdict(&problems))
}

/// Licenses, sources and bans of `deny.toml`, where cargo-deny is installed.
pub(super) fn deny() -> Result<Outcome> {
    let mut probe = Command::new("cargo-deny");
    probe
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        let why = "cargo-deny is not installed (cargo install --locked cargo-deny)";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let mut cargo = command::cargo();
    cargo.args(["deny", "--offline", "check", "bans", "licenses", "sources"]);
    command::run(cargo)?;
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_from_its_third_column() {
        let table = "| folder | what |\n|---|---|\n| `a/` | lib, | \u{2013} | x |\n| `b/` | bin | a, c | y |";
        let read = may_use(table);
        assert_eq!(read["a"], ["\u{2013}"]);
        assert_eq!(read["b"], ["a", "c"]);
    }
}
