//! The built programs under test.

use std::env;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Context as _;
use anyhow::Result;

use crate::process;

/// Names the folder that holds the programs; without it they are built where this test was built.
pub const FOLDER_VARIABLE: &str = "SEALIFT_PROGRAMS";

/// One of our programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The vendor's build pipeline.
    Bundler,
    /// What brings a bundle to a site.
    Installer,
    /// The daemon.
    Syncd,
    /// The harness's registry: the endpoint that syncd serves images with, over a layout directory.
    Registry,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bundler, Self::Installer, Self::Syncd, Self::Registry];

    /// The name of its package and of its file.
    pub const fn package_and_file(self) -> (&'static str, &'static str) {
        match self {
            Self::Bundler => ("bundler", "bundler"),
            Self::Installer => ("installer", "installer"),
            Self::Syncd => ("syncd", "syncd"),
            Self::Registry => ("tests", "embedded-registry"),
        }
    }

    /// Where it is; the first call builds the programs unless [`FOLDER_VARIABLE`] says where they are.
    pub fn path(self) -> Result<PathBuf> {
        let (_, file) = self.package_and_file();
        let path = folder()?.join(file);
        anyhow::ensure!(path.is_file(), "no program {}", path.display());
        Ok(path)
    }

    /// A command that runs it, untouched by the caller's own settings.
    pub fn command(self) -> Result<Command> {
        let mut command = Command::new(self.path()?);
        for variable in [
            "SEALIFT_KEY_PASSWORD",
            "SEALIFT_CACHE_DIR",
            "SOURCE_DATE_EPOCH",
        ] {
            command.env_remove(variable);
        }
        command.env("NO_COLOR", "1");
        Ok(command)
    }
}

/// Says where the programs are, before the first of them is asked for.
pub fn are_in(folder: &Path) {
    // Asked for before: whoever asked runs what he found.
    let _already = FOLDER.set(Ok(folder.to_owned()));
}

static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();

fn folder() -> Result<&'static Path> {
    let found = FOLDER.get_or_init(|| match env::var_os(FOLDER_VARIABLE) {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => build().map_err(|error| format!("{error:#}")),
    });
    match found {
        Ok(folder) => Ok(folder),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    }
}

/// Builds the programs into the folder of cargo's output that this program is in.
fn build() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let mut folder = this.parent().context("a program is in a folder")?;
    // Tests are one folder deeper than programs.
    if folder.ends_with("deps") {
        folder = folder.parent().context("cargo's output is in a folder")?;
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--bins"]);
    for program in Program::ALL {
        cargo.args(["--package", program.package_and_file().0]);
    }
    process::run(&mut cargo)?.succeeded()?;
    Ok(folder.to_owned())
}
