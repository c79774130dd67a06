//! `cargo xtask fix`: what rustfmt and clippy can put right by themselves.

use anyhow::Result;

use crate::command;

/// Fixes lints first, since the fixes may need formatting.
pub(crate) fn run() -> Result<bool> {
    let mut clippy = command::cargo();
    clippy.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
    ]);
    clippy.arg("--allow-staged");
    command::run(clippy)?;
    let mut format = command::cargo();
    format.args(["fmt", "--all"]);
    command::run(format)?;
    Ok(true)
}
