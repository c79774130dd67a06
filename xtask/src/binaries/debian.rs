//! Root file systems for images that need more than one program: unpacked Debian packages, not a whole system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use anyhow::ensure;
use tests::cluster_parts;
use tests::cluster_parts::Hasher;

use super::build::Scratch;
use super::build::remove_old;
use crate::command;
use crate::say;

/// The Debian release: that of the nodes.
const SUITE: &str = "bookworm";

/// What programs packet filters (kube-proxy and flanneld call `nft`, older modes `iptables`), and a shell. Busybox's wget
/// dies of its option `-T` in this release: what needs a time-out puts `timeout` before it.
const PACKAGES: &str = "nftables,iptables,busybox";

/// What is unpacked with them and no image needs.
const LEFT_OUT: [&str; 8] = [
    "var",
    "dev",
    "usr/share",
    "usr/lib/systemd",
    "usr/lib/x86_64-linux-gnu/gconv",
    "lib/systemd",
    "etc/apt",
    "etc/init.d",
];

/// Raised when the code below makes something else of the same packages.
const RECIPE: u32 = 2;

/// Gives the folder of the root file system; makes it when it is not there yet.
pub(super) fn root() -> Result<PathBuf> {
    let folder = cluster_parts::folder()?.join("roots");
    fs::create_dir_all(&folder)?;
    let mut hasher = Hasher::new();
    hasher.update(format!("{SUITE}\n{PACKAGES}\n{LEFT_OUT:?}\n{RECIPE}\n").as_bytes());
    let key = cluster_parts::short(hasher.finish());
    let done = folder.join(format!("base-{key}"));
    if done.is_dir() {
        return Ok(done.join("root"));
    }
    let started = Instant::now();
    let scratch = Scratch::new(&folder, "base")?;
    let root = scratch.path().join("root");
    let mut command = Command::new("mmdebstrap");
    // `extract` runs nothing of the packages; their documents and locales stay out.
    command.args(["--mode=root", "--variant=extract", "--format=directory"]);
    command.args(["--include", PACKAGES, "--dpkgopt=path-exclude=/usr/share/*"]);
    command.arg(SUITE).arg(&root);
    command::run(command)?;
    trim(&root)?;
    // Images have links in `bin`; they would not be found in a merged /usr.
    ensure!(
        root.join("bin/busybox").is_file(),
        "the packages have no bin/busybox"
    );
    scratch.finish(&done)?;
    remove_old(&folder, "base", &done)?;
    say!(
        "root file system of {PACKAGES} from Debian {SUITE}: {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(done.join("root"))
}

fn trim(root: &Path) -> Result<()> {
    for path in LEFT_OUT {
        let path = root.join(path);
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    for path in ["tmp", "run", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(path))?;
    }
    // Debian's maintainer scripts, which were not run, would choose the nft variants.
    for family in ["iptables", "ip6tables"] {
        for ending in ["", "-save", "-restore"] {
            let link = root.join(format!("usr/sbin/{family}{ending}"));
            if link.symlink_metadata().is_ok() {
                fs::remove_file(&link)?;
            }
            symlink("xtables-nft-multi", link)?;
        }
    }
    Ok(())
}
