//! Who may depend on whom, and on what nobody may depend.

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

/// The table of ARCHITECTURE.md: a crate, and the crates of ours that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("bundle", &[]),
    ("api", &["bundle"]),
    ("store", &["bundle"]),
    ("program", &["bundle", "api"]),
    ("bundler", &["bundle", "api", "program"]),
    ("installer", &["bundle", "store", "api", "program"]),
    ("syncd", &["bundle", "store", "api", "program"]),
    (
        "tests",
        &["bundle", "store", "api", "bundler", "installer", "syncd"],
    ),
    ("xtask", &["bundle", "tests"]),
];

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

/// The arrow of dependency only points down the table of ARCHITECTURE.md.
pub(super) fn direction() -> Result<Outcome> {
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
    for package in &metadata.packages {
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == package.name) else {
            problems.push(format!(
                "crate {} is in no row of ARCHITECTURE.md's table",
                package.name
            ));
            continue;
        };
        let ours = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some());
        for dependency in ours.filter(|dependency| !may_use.contains(&dependency.name.as_str())) {
            problems.push(format!(
                "{} must not depend on {}",
                package.name, dependency.name
            ));
        }
    }
    Ok(verdict(&problems))
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
