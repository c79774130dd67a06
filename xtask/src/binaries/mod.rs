//! `cargo xtask binaries`: what a real cluster is made of, from public module and package registries only.
//!
//! 1. Programs from Go modules (`testdata/cluster/GROUP/go.mod`, with sums) and one C file, each group once.
//! 2. Images from these programs, under the names that kubeadm prints, as one OCI image layout.
//! 3. With `--bundle`: the vendor's release folder, and in it one signed file by `bundler build`.
//!
//! Everything is below `~/.cache/sealift/cluster` (`tests/src/cluster_parts.rs` says how), and is made again only when
//! what decides its bytes has changed.

mod build;
mod debian;
mod images;
mod machine;
mod recipe;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use clap::Args;
use tests::cluster_bundle::ClusterBundle;
use tests::cluster_parts;
use tests::cluster_parts::Parts;
use tests::process;
use tests::programs::Program;

use self::recipe::GROUPS;
use crate::release::ProgramsArguments;
use crate::say;

/// What `cargo xtask binaries` was asked for.
#[derive(Debug, Args)]
pub(crate) struct BinariesArguments {
    /// Build only the programs of these groups, and no images: kubernetes, etcd, containerd, runc, cni, pause,
    /// coredns, flannel, helm.
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// Also build and sign the bundle of the whole cluster.
    #[arg(long, conflicts_with = "groups")]
    bundle: bool,
    #[command(flatten)]
    programs: ProgramsArguments,
}

/// Runs what was asked for.
pub(crate) fn run(arguments: &BinariesArguments) -> Result<bool> {
    if !arguments.groups.is_empty() {
        let _lock = cluster_parts::lock("parts")?;
        machine::prepare()?;
        for name in &arguments.groups {
            let Some(group) = GROUPS.iter().find(|group| group.name == name) else {
                bail!(
                    "no group {name}; there are {}",
                    cluster_parts::GROUPS.join(", ")
                );
            };
            build::group(group)?;
        }
        return Ok(true);
    }
    let parts = parts()?;
    if arguments.bundle {
        arguments.programs.settle()?;
        bundle(&parts)?;
    }
    Ok(true)
}

/// Builds what is missing of programs and images.
pub(crate) fn parts() -> Result<Parts> {
    let started = Instant::now();
    let _lock = cluster_parts::lock("parts")?;
    machine::prepare()?;
    let mut programs = BTreeMap::new();
    for group in GROUPS {
        programs.insert(group.name.to_owned(), build::group(group)?);
    }
    let mut parts = Parts {
        programs,
        images: PathBuf::new(),
    };
    parts.images = images::pack(&parts)?;
    parts.keep()?;
    let seconds = started.elapsed().as_secs_f64();
    say!("programs and images of a cluster: {seconds:.0} s");
    Ok(parts)
}

/// Builds and signs the bundle with the programs that the harness was told of; prints what it is.
pub(crate) fn bundle(parts: &Parts) -> Result<ClusterBundle> {
    let started = Instant::now();
    let bundle = ClusterBundle::build(parts)?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = fs::metadata(&bundle.file)?.len();
    let file = bundle.file.to_str().context("a path is not UTF-8")?;
    let inspected = process::run(Program::Bundler.command()?.args(["inspect", file]))?;
    say!("{}", inspected.succeeded()?.stdout.trim_end());
    say!("bundle: {seconds:.1} s, {bytes} bytes, {file}");
    say!("trust root: {}", bundle.root.display());
    say!("fingerprint: {}", bundle.fingerprint);
    say!("license: {}", bundle.license.display());
    Ok(bundle)
}
