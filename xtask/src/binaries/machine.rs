//! What this machine needs for the builds, and how it gets it: compilers and packages from Debian.

use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use tests::process;
use tests::real_parts;

use crate::command;
use crate::say;

/// A file that shows that a Debian package is here, and the package.
const NEEDS: [(Sign, &str); 5] = [
    (Sign::Program("gcc"), "gcc"),
    (Sign::Program("pkg-config"), "pkg-config"),
    (Sign::Program("mmdebstrap"), "mmdebstrap"),
    (Sign::Library("libseccomp.a"), "libseccomp-dev"),
    (Sign::Library("libc.a"), "libc6-dev"),
];

/// How one sees that something is here.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// On `PATH`.
    Program(&'static str),
    /// Where the C compiler looks.
    Library(&'static str),
}

impl Sign {
    fn is_here(self) -> bool {
        match self {
            Self::Program(name) => process::find(name).is_some(),
            Self::Library(name) => {
                let asked = command::output("gcc", &[&format!("-print-file-name={name}")]);
                // The compiler answers with the bare name when it finds nothing.
                asked.is_ok_and(|path| path.trim().contains('/'))
            }
        }
    }
}

/// Makes sure of Go and installs the Debian packages that are missing; says what it can't.
pub(super) fn prepare() -> Result<()> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the release file is for linux/amd64; this machine is {}",
        std::env::consts::ARCH
    );
    let version = command::output("go", &["env", "GOVERSION"])
        .context("no Go here: install Go 1.26 or later (https://go.dev/dl)")?;
    say!("Go: {}", version.trim());
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|(sign, _)| !sign.is_here())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !real_parts::is_root() || process::find("apt-get").is_none() {
        bail!(
            "missing: {names}; as root on Debian they are installed by this command, elsewhere by you"
        );
    }
    apt_get(&["update", "--quiet"])?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(&arguments)?;
    say!("installed from Debian: {names}");
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command::run(command)?;
    Ok(())
}
