//! Other people's programs that the suites hold ours against: Debian's registry, minisign, skopeo, tar and zstd.
//!
//! `cargo xtask test` puts them in place when it runs as root on a Debian system; the suites only look for them.

use std::env;
use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use crate::process;

/// A program of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The distribution registry, as Debian's `docker-registry`.
    Registry,
    /// The signature tool whose format ours is.
    Minisign,
    /// Copies images between layouts and registries.
    Skopeo,
    /// GNU tar.
    Tar,
    /// The zstd command, which tar runs.
    Zstd,
    /// Fetches over HTTP.
    Curl,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Registry,
        Self::Minisign,
        Self::Skopeo,
        Self::Tar,
        Self::Zstd,
        Self::Curl,
    ];

    /// The program's name, which is its Debian package's as well.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registry => "docker-registry",
            Self::Minisign => "minisign",
            Self::Skopeo => "skopeo",
            Self::Tar => "tar",
            Self::Zstd => "zstd",
            Self::Curl => "curl",
        }
    }

    /// Where it is, if it is here.
    pub fn find(self) -> Option<PathBuf> {
        let unpacked = unpacked_folder().map(|folder| folder.join("usr/bin").join(self.name()));
        unpacked
            .filter(|path| path.is_file())
            .or_else(|| process::find(self.name()))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Why a suite can't run here; `None` when all these parts are here.
pub fn missing(parts: &[Part]) -> Option<String> {
    let missing: Vec<&str> = parts
        .iter()
        .filter(|part| part.find().is_none())
        .map(|part| part.name())
        .collect();
    let names = missing.join(", ");
    (!missing.is_empty())
        .then(|| format!("{names} not installed; `cargo xtask test` installs it as root on Debian"))
}

/// Puts the missing parts in place; says what it did, or why it can't.
pub fn install() -> Result<String> {
    let missing: Vec<Part> = Part::ALL
        .into_iter()
        .filter(|part| part.find().is_none())
        .collect();
    if missing.is_empty() {
        return Ok("all are here".to_owned());
    }
    if !is_root() || process::find("apt-get").is_none() {
        let names: Vec<&str> = missing.iter().map(|part| part.name()).collect();
        return Ok(format!(
            "{} missing, and this is not root on Debian",
            names.join(", ")
        ));
    }
    apt_get(&["update", "--quiet"], None)?;
    for part in &missing {
        match part {
            // Unpacked, not installed: its package would start a service.
            Part::Registry => unpack(*part)?,
            Part::Minisign | Part::Skopeo | Part::Tar | Part::Zstd | Part::Curl => {
                apt_get(
                    &["install", "--yes", "--no-install-recommends", part.name()],
                    None,
                )?;
            }
        }
    }
    let names: Vec<&str> = missing.iter().map(|part| part.name()).collect();
    Ok(format!("installed {}", names.join(", ")))
}

/// Whether this runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn apt_get(arguments: &[&str], folder: Option<&Path>) -> Result<()> {
    let mut command = process::command("apt-get", arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    process::run(&mut command)?.succeeded()?;
    Ok(())
}

/// Downloads a package and unpacks it into the cache.
fn unpack(part: Part) -> Result<()> {
    let folder = unpacked_folder().context("no home directory for a cache")?;
    fs::create_dir_all(&folder)?;
    let scratch = tempfile::tempdir_in(&folder)?;
    apt_get(&["download", part.name()], Some(scratch.path()))?;
    let package = fs::read_dir(scratch.path())?
        .next()
        .context("nothing was downloaded")??;
    let unpacked = scratch.path().join("unpacked");
    let mut dpkg = process::command("dpkg", ["--extract"]);
    process::run(dpkg.arg(package.path()).arg(&unpacked))?.succeeded()?;
    let program = folder.join("usr/bin").join(part.name());
    fs::create_dir_all(folder.join("usr/bin"))?;
    fs::rename(unpacked.join("usr/bin").join(part.name()), &program)?;
    ensure!(
        program.is_file(),
        "{part} has no program {}",
        program.display()
    );
    Ok(())
}

/// `${XDG_CACHE_HOME:-~/.cache}/sealift`: what is slow to make or fetch, and may be deleted at any time.
pub fn cache_folder() -> Option<PathBuf> {
    let given = env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty());
    let base = given
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cache")))?;
    Some(base.join("sealift"))
}

fn unpacked_folder() -> Option<PathBuf> {
    Some(cache_folder()?.join("parts"))
}
