//! Where things are: the clone, cargo's output, the cache for what is slow to make.

use std::env;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

/// The clone that this program was built in.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's output folder.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// All files of the clone that git knows or would add, with a given ending, relative to the root.
pub(crate) fn files(ending: &str) -> Result<Vec<PathBuf>> {
    let pattern = format!("*{ending}");
    let listing = crate::command::output(
        "git",
        &[
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            &pattern,
        ],
    )
    .context("list the files of the clone")?;
    let mut files: Vec<PathBuf> = listing.lines().map(PathBuf::from).collect();
    files.retain(|file| root().join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}
