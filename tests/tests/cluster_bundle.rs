//! The bundle of a whole cluster: what it carries, and that a site which trusts its vendor takes every byte of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use tests::cluster_bundle::ClusterBundle;
use tests::cluster_parts::Parts;
use tests::process;
use tests::programs::Program;
use tests::skip;

/// The bundle, built once for all tests here.
fn bundle(parts: &Parts) -> Result<&'static ClusterBundle> {
    static BUNDLE: OnceLock<Result<ClusterBundle, String>> = OnceLock::new();
    let built =
        BUNDLE.get_or_init(|| ClusterBundle::build(parts).map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// One part of what `bundler inspect` shows.
fn inspect(file: &Path, part: &str) -> Result<Value> {
    let mut command = Program::Bundler.command()?;
    command.args(["inspect", "--json"]).arg(file).arg(part);
    let shown = process::run(&mut command)?.succeeded()?;
    Ok(serde_json::from_str(&shown.stdout)?)
}

/// All values of a field, wherever it is in the document.
fn values<'a>(document: &'a Value, field: &str, found: &mut BTreeSet<&'a str>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == field {
                    found.extend(value.as_str());
                }
                values(value, field, found);
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                values(entry, field, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn it_carries_every_image_that_kubeadm_will_ask_for() -> Result<()> {
    let parts = match Parts::find() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let kubeadm = parts.program("kubernetes", "kubeadm")?;
    let images = inspect(&bundle(&parts)?.file, "images")?;
    let mut carried = BTreeSet::new();
    values(&images, "name", &mut carried);
    let mut list = process::command(kubeadm, ["config", "images", "list"]);
    list.args(["--kubernetes-version", "v1.36.3"]);
    let asked = process::run(&mut list)?.succeeded()?;
    assert!(asked.stdout.lines().count() >= 7, "{asked}");
    for name in asked.stdout.lines() {
        assert!(carried.contains(name), "{name} is not in {images}");
    }
    Ok(())
}

#[test]
fn it_carries_every_program_that_a_node_needs_by_its_role() -> Result<()> {
    let parts = match Parts::find() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let files = inspect(&bundle(&parts)?.file, "files")?;
    let (mut roles, mut paths) = (BTreeSet::new(), BTreeSet::new());
    values(&files, "role", &mut roles);
    values(&files, "path", &mut paths);
    let wanted = [
        "cni-plugin",
        "containerd",
        "etcdctl",
        "helm",
        "installer",
        "kubeadm",
        "kubectl",
        "kubelet",
        "runc",
        "syncd",
    ];
    assert_eq!(roles, BTreeSet::from(wanted), "{files}");
    // One role may have several files.
    for path in ["containerd-shim-runc-v2", "ctr", "host-local", "portmap"] {
        assert!(paths.contains(path), "{path} is not in {files}");
    }
    Ok(())
}

#[test]
fn a_site_that_trusts_the_vendor_verifies_it_to_the_last_byte() -> Result<()> {
    let parts = match Parts::find() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let bundle = bundle(&parts)?;
    let store = tempfile::tempdir()?;
    let installer = |arguments: &[&str]| -> Result<process::Finished> {
        let mut command = Program::Installer.command()?;
        command.arg("--store").arg(store.path()).args(arguments);
        process::run(&mut command)
    };
    let (root, file) = (
        bundle.root.to_str().context("a path is not UTF-8")?,
        bundle.file.to_str().context("a path is not UTF-8")?,
    );
    // Before its vendor is trusted, it is nobody's.
    installer(&["verify", file])?.refused()?;
    installer(&["trust", "add", root, "--fingerprint", &bundle.fingerprint])?.succeeded()?;
    let verified = installer(&["verify", file])?.succeeded()?;
    assert!(verified.stdout.contains("acme/shop 1.4.0"), "{verified}");
    assert!(fs::metadata(&bundle.license)?.len() > 0);
    Ok(())
}
