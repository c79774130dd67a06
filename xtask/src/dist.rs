//! `cargo xtask dist`: the three programs as static files below `dist/`.

use std::fs;

use anyhow::Result;
use anyhow::ensure;

use crate::command;
use crate::release;
use crate::repo;
use crate::say;

/// Builds, checks that no file needs anything of the machine, and copies.
pub(crate) fn run() -> Result<bool> {
    let built = release::build()?;
    let dist = repo::root().join("dist");
    fs::create_dir_all(&dist)?;
    for program in release::SHIPPED {
        let (_, name) = program.package_and_file();
        let (from, to) = (built.join(name), dist.join(name));
        ensure!(
            release::is_static(&from)?,
            "{} is not static",
            from.display()
        );
        fs::copy(&from, &to)?;
        let version = command::output(&to, &["--version"])?;
        let kilobytes = fs::metadata(&to)?.len() / 1000;
        say!(
            "{}: {}, {kilobytes} kB, static",
            to.display(),
            version.trim()
        );
    }
    Ok(true)
}
