//! The bundle of a whole cluster, `testdata/cluster/sealift.yaml`, built and signed by `bundler` as by any vendor.
//!
//! 1. The vendor's keys, trust root and license are made once and kept in the cache.
//! 2. A release folder is laid out: a copy of the release file, links to programs, images, manifests, charts, license.
//! 3. `bundler build` runs there. It is over in seconds when nothing has changed.
//!
//! Each clone has a folder of its own, so that clones side by side don't take each other's programs.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use bundle::Digest;

use crate::cluster_parts;
use crate::cluster_parts::Parts;
use crate::cluster_parts::short;
use crate::programs::Program;
use crate::vendor::Vendor;

/// The license's id, and its number.
const LICENSE: (&str, u64) = ("H-0193", 1);

/// Everything with which a site can be installed.
#[derive(Clone, Debug)]
pub struct ClusterBundle {
    /// The signed file.
    pub file: PathBuf,
    /// The vendor's trust root.
    pub root: PathBuf,
    /// The root's fingerprint, which `installer trust add` asks for.
    pub fingerprint: String,
    /// The customer's license; the bundle carries it as well.
    pub license: PathBuf,
    /// The folder in which `bundler build` ran.
    pub release: PathBuf,
    /// What `bundler build` said.
    pub said: String,
}

impl ClusterBundle {
    /// Builds and signs the bundle with the programs under test; quick when it is there already.
    pub fn build(parts: &Parts) -> Result<Self> {
        let _lock = cluster_parts::lock("bundle")?;
        let cache = cluster_parts::folder()?;
        let (vendor, license) = vendor(&cache.join("vendor"))?;
        let clone = short(Digest::of(cluster_parts::sources().as_os_str().as_bytes()));
        let folder = cache.join("bundles").join(clone);
        let release = folder.join("release");
        lay_out(&release, parts, &license)?;
        let file = folder.join("shop-1.4.0-linux-amd64.airgap");
        let said = bundler_build(&vendor, &release, &file)?;
        Ok(Self {
            file,
            root: vendor.root(),
            fingerprint: vendor.fingerprint()?,
            license,
            release,
            said,
        })
    }
}

/// Opens the vendor of the cache, with his license for the one customer; makes both when absent.
fn vendor(folder: &Path) -> Result<(Vendor, PathBuf)> {
    let license = folder.join(format!("{}-{}.lic", LICENSE.0, LICENSE.1));
    if !license.is_file() {
        // In a folder of another name: a vendor that was killed half-way is no vendor.
        let temporary = folder.with_extension("new");
        for old in [&temporary, folder] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        Vendor::create(&temporary)?.license(LICENSE.0, LICENSE.1, &[])?;
        fs::rename(&temporary, folder)?;
    }
    Ok((Vendor::at(folder), license))
}

/// Lays the release folder out anew; it holds one copy and else links.
fn lay_out(release: &Path, parts: &Parts, license: &Path) -> Result<()> {
    if release.exists() {
        fs::remove_dir_all(release)?;
    }
    let (programs, licenses) = (release.join("programs"), release.join("licenses"));
    let ours = programs.join("sealift");
    for folder in [&ours, &licenses] {
        fs::create_dir_all(folder)?;
    }
    for (group, folder) in &parts.programs {
        symlink(folder, programs.join(group))?;
    }
    for program in [Program::Installer, Program::Syncd] {
        symlink(program.path()?, ours.join(program.package_and_file().1))?;
    }
    symlink(license, licenses.join("harbor.lic"))?;
    symlink(&parts.images, release.join("images"))?;
    let sources = cluster_parts::sources();
    for folder in ["manifests", "charts"] {
        symlink(sources.join(folder), release.join(folder))?;
    }
    let text = fs::read_to_string(sources.join("sealift.yaml"))?;
    ensure_all_images_are_listed(&text, &parts.images)?;
    fs::write(release.join("sealift.yaml"), text)?;
    Ok(())
}

/// A name that kubeadm asks for and the release file forgets would be found on the machine without internet only.
fn ensure_all_images_are_listed(release: &str, layout: &Path) -> Result<()> {
    let index = fs::read(layout.join("index.json"))?;
    let index: serde_json::Value = serde_json::from_slice(&index)?;
    let images = index.get("manifests").and_then(serde_json::Value::as_array);
    for image in images.context("the images have no index")? {
        let name = image.pointer("/annotations/org.opencontainers.image.ref.name");
        let name = name.and_then(serde_json::Value::as_str);
        let name = name.context("an image without a name")?;
        ensure!(
            release.contains(&format!("'{name}'")),
            "testdata/cluster/sealift.yaml does not list the image {name}"
        );
    }
    Ok(())
}

/// Runs `bundler build` without the time-out of quick commands: the first time, it compresses a gigabyte.
fn bundler_build(vendor: &Vendor, release: &Path, file: &Path) -> Result<String> {
    let mut command = vendor.bundler(&["build", "-f"])?;
    command.arg(release.join("sealift.yaml"));
    command.arg("-o").arg(file);
    command.arg("--key").arg(vendor.path("keys/shop.key"));
    command.arg("--root").arg(vendor.root());
    // A release takes minutes to become some percent smaller; here it is read once and thrown away.
    command.arg("--fast");
    let done = command.output().context("start bundler")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&done.stdout), text(&done.stderr));
    ensure!(
        done.status.success(),
        "{command:?}: {}\n{stdout}{stderr}",
        done.status
    );
    Ok(stdout)
}
