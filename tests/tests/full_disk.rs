//! A full disk: a clear word, nothing broken, and the same command finishes once there is room.
//!
//! A disk of a few megabytes is a tmpfs, which takes root to mount.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use tests::cluster::Cluster;
use tests::cluster::ClusterPlan;
use tests::cluster::blobs_of;
use tests::cluster::verify_store;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::process;
use tests::real_parts::is_root;
use tests::site::Site;
use tests::skip;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

const MIB: u64 = 1 << 20;

/// A small file system of its own, gone when it is dropped.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let options = format!("size={bytes},mode=700");
        let mut mount = process::command("mount", ["-t", "tmpfs", "-o", &options, "sealift-test"]);
        process::run(mount.arg(folder))?.succeeded()?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn grow(&self, bytes: u64) -> Result<()> {
        let options = format!("remount,size={bytes}");
        let mut mount = process::command("mount", ["-o", &options]);
        process::run(mount.arg(&self.folder))?.succeeded()?;
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program that is about to end may still have it open.
        let _unmounted = process::run(process::command("umount", ["--lazy"]).arg(&self.folder));
    }
}

/// Why no small disk can be had here.
fn obstacle(scratch: &Path) -> Option<String> {
    if !is_root() {
        return Some("not root, so no small disk can be mounted".to_owned());
    }
    let trial = SmallDisk::mount(&scratch.join("trial"), MIB);
    trial
        .err()
        .map(|error| format!("no small disk can be mounted: {error:#}"))
}

fn bundle(vendor: &Vendor, scratch: &Path, plan: &CorpusPlan) -> Result<PathBuf> {
    let corpus = Corpus::make(plan, &scratch.join("layout"))?;
    vendor.build(
        &Release::of(&corpus, Source::Layout(corpus.layout.clone())),
        &["--fast"],
    )
}

#[test]
fn an_import_says_need_and_have_before_it_writes_and_finishes_when_there_is_room() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    if let Some(why) = obstacle(scratch.path()) {
        skip!("{why}");
    }
    let vendor = Vendor::create(&scratch.path().join("vendor"))?;
    let bundle = bundle(&vendor, scratch.path(), &CorpusPlan::of_bytes(61, 24 * MIB))?;
    let disk = SmallDisk::mount(&scratch.path().join("disk"), 12 * MIB)?;
    let site = Site::trusting(&vendor, &disk.folder.join("store"))?;
    let file = bundle.display().to_string();
    let refused = process::run(&mut site.installer(&["import", &file])?)?.refused()?;
    for part in ["error[DISK_FULL]", "need", "have"] {
        assert!(refused.stderr.contains(part), "no {part} in: {refused}");
    }
    assert!(
        blobs_of(site.store())?.is_empty(),
        "blobs were written before the disk was found full"
    );
    disk.grow(96 * MIB)?;
    site.import(&bundle)?;
    assert!(!verify_store(site.store())?.is_empty());
    Ok(())
}

#[test]
fn a_receiver_without_room_says_so_takes_what_fits_and_finishes_by_itself() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    if let Some(why) = obstacle(scratch.path()) {
        skip!("{why}");
    }
    let vendor = Vendor::create(&scratch.path().join("vendor"))?;
    let bundle = bundle(&vendor, scratch.path(), &CorpusPlan::of_bytes(62, 48 * MIB))?;
    let plan = ClusterPlan {
        nodes: 2,
        ..ClusterPlan::default()
    };
    let disk = SmallDisk::mount(&scratch.path().join("site/m2"), 24 * MIB)?;
    let mut cluster = Cluster::create(&scratch.path().join("site"), &plan)?;
    for node in cluster.nodes() {
        node.trust(&vendor)?;
    }
    cluster.start()?;
    let file = bundle.display().to_string();
    cluster
        .node("m1")?
        .syncd_does(&["import", &file, "--wait", "local"])?;
    let m2 = cluster.node("m2")?;
    m2.wait_for("a word about its disk", |status| {
        let told = status
            .troubles
            .iter()
            .any(|trouble| trouble.code == "DISK_FULL");
        told.then_some(())
    })?;
    process::wait_for("the blobs that fit", || match m2.blobs() {
        Ok(blobs) if blobs.len() > 10 => Ok(()),
        blobs => Err(format!("{blobs:?}")),
    })?;
    disk.grow(256 * MIB)?;
    m2.wait_for_bundle()?;
    let received = verify_store(&m2.store())?;
    assert_eq!(received, cluster.node("m1")?.blobs()?);
    Ok(())
}
