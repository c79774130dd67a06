//! The root file system that all nodes share: Debian, made once and kept in the cache under a key of its recipe.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use bundle::Digest;

use crate::process;
use crate::real_parts;

/// Debian's suite: the last whose systemd boots on cgroup version 1 as well as on version 2.
const SUITE: &str = "bookworm";

/// What a node has before anybody installs anything: what an administrator's Debian has, and what the suites look with.
const PACKAGES: [&str; 27] = [
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "curl",
    "dbus",
    "e2fsprogs",
    "ethtool",
    "faketime",
    "haproxy",
    "iproute2",
    "iptables",
    "iputils-ping",
    "jq",
    "kmod",
    "libpam-systemd",
    "minisign",
    "mount",
    "netcat-openbsd",
    "nftables",
    "openssl",
    "procps",
    "psmisc",
    "socat",
    "systemd",
    "systemd-sysv",
    "util-linux",
    "zstd",
];

/// Makes a Debian root file system fit for nodes.
const FINISH: &str = include_str!("base.sh");

/// Programs of this machine that a bed needs, with the Debian package that brings each.
const TOOLS: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
];

/// The base root file system, made when it is not there yet.
///
/// Several processes may ask at once: one makes it, the others wait. It appears by a rename, so it is whole or not there.
pub(super) fn folder() -> Result<PathBuf> {
    install_tools()?;
    let cache = real_parts::cache_folder().context("no home directory for a cache")?;
    fs::create_dir_all(&cache)?;
    let base = cache.join(format!("base-{}", key()?));
    if base.is_dir() {
        return Ok(base);
    }
    let lock = File::create(cache.join("base.lock"))?;
    lock.lock()?;
    if base.is_dir() {
        return Ok(base);
    }
    let scratch = cache.join("base.new");
    remove(&scratch)?;
    make(&scratch)?;
    fs::rename(&scratch, &base)?;
    Ok(base)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn key() -> Result<String> {
    let mut recipe = format!("{SUITE} {}\n{FINISH}", PACKAGES.join(","));
    if !Path::new("/proc/modules").exists() {
        // The list of built-in modules is per kernel.
        recipe.push_str(&fs::read_to_string("/proc/sys/kernel/osrelease")?);
    }
    let mut key = Digest::of(recipe.as_bytes()).to_hex();
    key.truncate(12);
    Ok(key)
}

fn make(root: &Path) -> Result<()> {
    let packages = format!("--include={}", PACKAGES.join(","));
    let mut mmdebstrap = process::command(
        "mmdebstrap",
        ["--mode=root", "--variant=minbase", "--format=directory"],
    );
    mmdebstrap.args(["--aptopt=APT::Install-Recommends \"false\"", &packages]);
    for folder in ["man", "doc", "locale", "info"] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    mmdebstrap.arg(SUITE).arg(root);
    process::run(&mut mmdebstrap)?
        .succeeded()
        .context("make the nodes' Debian root file system")?;
    let mut finish = process::command("sh", ["-c", FINISH, "base.sh"]);
    process::run(finish.arg(root))?.succeeded()?;
    Ok(())
}

/// Puts the machine's own tools in place where root can.
fn install_tools() -> Result<()> {
    let mut missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| find_with_sbin(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(", ");
    ensure!(
        process::find("apt-get").is_some(),
        "{names} not installed, and this is no Debian"
    );
    for step in [
        &["update", "--quiet"][..],
        &["install", "--yes", "--no-install-recommends"],
    ] {
        let mut apt = process::command("apt-get", ["-o", "DPkg::Lock::Timeout=300"]);
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(step);
        if step.contains(&"install") {
            apt.args(&missing);
        }
        process::run(&mut apt)?
            .succeeded()
            .with_context(|| format!("install {names}"))?;
    }
    Ok(())
}

fn find_with_sbin(program: &str) -> Option<PathBuf> {
    let sbin = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(program));
    process::find(program).or_else(|| sbin.into_iter().find(|path| path.is_file()))
}
