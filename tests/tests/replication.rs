//! Three masters: what one imports, all get; what a majority has, no lost master takes away.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use api::sync::ContentKind;
use bundle::Digest;
use tempfile::TempDir;
use tests::cluster::Cluster;
use tests::cluster::ClusterPlan;
use tests::cluster::verify_store;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::hostile;
use tests::process;
use tests::process::Running;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

const MIB: u64 = 1 << 20;

/// Three masters that trust a vendor, and a bundle of his.
struct Scene {
    folder: TempDir,
    vendor: Vendor,
    bundle: PathBuf,
    cluster: Cluster,
}

impl Scene {
    fn set(plan: &CorpusPlan, bytes_per_second: Option<u64>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let corpus = Corpus::make(plan, &folder.path().join("layout"))?;
        let vendor = Vendor::create(&folder.path().join("vendor"))?;
        let release = Release::of(&corpus, Source::Layout(corpus.layout.clone()));
        let bundle = vendor.build(&release, &["--fast"])?;
        let plan = ClusterPlan {
            nodes: 3,
            bytes_per_second,
            ..ClusterPlan::default()
        };
        let mut cluster = Cluster::create(&folder.path().join("site"), &plan)?;
        for node in cluster.nodes() {
            node.trust(&vendor)?;
        }
        cluster.start()?;
        Ok(Self {
            folder,
            vendor,
            bundle,
            cluster,
        })
    }

    fn import_at(&mut self, node: &str, file: &Path, wait: &str) -> Result<()> {
        let file = file.display().to_string();
        self.cluster
            .node(node)?
            .syncd_does(&["import", &file, "--wait", wait])?;
        Ok(())
    }

    /// Starts an import and leaves it running.
    fn begin_import(&mut self, node: &str, wait: &str) -> Result<Running> {
        let file = self.bundle.display().to_string();
        let log = self.folder.path().join("import.log");
        let command = self
            .cluster
            .node(node)?
            .syncd(&["import", &file, "--wait", wait])?;
        Running::start("the import", &command, &log)
    }

    /// The blobs of a node, each read and held against its name.
    fn verified(&mut self, node: &str) -> Result<BTreeMap<Digest, u64>> {
        verify_store(&self.cluster.node(node)?.store())
    }

    /// What the bundle's index lists.
    fn listed(&self) -> Result<BTreeMap<Digest, u64>> {
        let json = hostile::head_files(&self.bundle)?.bundle_json;
        let index = bundle::index::BundleIndex::parse(&json)?;
        Ok(index
            .blobs
            .iter()
            .map(|blob| (blob.digest, blob.size))
            .collect())
    }

    /// Every blob of the bundle is on this node's disk, and is what its name says.
    fn require_all(&mut self, node: &str) -> Result<()> {
        let (have, listed) = (self.verified(node)?, self.listed()?);
        for (digest, size) in listed {
            assert_eq!(have.get(&digest), Some(&size), "{node} lacks {digest}");
        }
        Ok(())
    }
}

#[test]
fn what_one_master_imports_all_have_and_no_lost_master_takes_it_away() -> Result<()> {
    let mut scene = Scene::set(&CorpusPlan::of_bytes(41, 24 * MIB), None)?;
    let license = scene.vendor.license("H-0193", 7, &[])?;
    let bundle = scene.bundle.clone();
    scene.import_at("m1", &license, "all")?;
    scene.import_at("m1", &bundle, "all")?;
    let first = scene.verified("m1")?;
    for node in ["m1", "m2", "m3"] {
        assert_eq!(scene.verified(node)?, first, "{node} differs from m1");
        scene.require_all(node)?;
        scene
            .cluster
            .node(node)?
            .wait_for("everybody safe to lose", |status| {
                status
                    .nodes
                    .iter()
                    .all(|node| node.safe_to_lose)
                    .then_some(())
            })?;
    }

    scene.cluster.node("m1")?.kill()?;
    let m3 = scene.cluster.node("m3")?;
    let contents = m3.status()?.contents;
    assert!(
        contents
            .iter()
            .any(|content| content.kind == ContentKind::License)
    );
    let id = m3.bundle_id()?.to_hex();
    let exported = scene.folder.path().join("exported.airgap");
    m3.syncd_does(&["export", &id, "--output", &exported.display().to_string()])?;
    assert_eq!(
        hostile::head_files(&exported)?,
        hostile::head_files(&bundle)?
    );
    let (exported, root) = (exported.display().to_string(), scene.vendor.root());
    scene
        .vendor
        .bundler_does(&["verify", &exported, "--root", &root.display().to_string()])?;
    Ok(())
}

#[test]
fn what_a_majority_has_acknowledged_survives_the_first_master_at_once() -> Result<()> {
    let mut scene = Scene::set(&CorpusPlan::of_bytes(42, 24 * MIB), None)?;
    let bundle = scene.bundle.clone();
    scene.import_at("m1", &bundle, "majority")?;
    scene.cluster.node("m1")?.kill()?;
    fs::remove_dir_all(scene.cluster.node("m1")?.store())?;
    for node in ["m2", "m3"] {
        scene.cluster.node(node)?.wait_for_bundle()?;
        scene.require_all(node)?;
    }
    Ok(())
}

#[test]
fn a_master_that_was_away_gets_what_it_missed() -> Result<()> {
    let mut scene = Scene::set(&CorpusPlan::of_bytes(43, 8 * MIB), None)?;
    scene.cluster.node("m3")?.stop()?;
    let bundle = scene.bundle.clone();
    scene.import_at("m1", &bundle, "majority")?;
    scene.cluster.node("m3")?.start()?;
    scene.cluster.node("m3")?.wait_for_bundle()?;
    scene.require_all("m3")
}

#[test]
fn a_receiver_killed_in_the_middle_of_a_blob_fetches_little_of_it_again() -> Result<()> {
    // 16 MB a second: what is not yet durable after a kill is at most two seconds of that and what is in flight.
    let rate = 16_000_000;
    let mut scene = Scene::set(&CorpusPlan::one_layer(44, 96 * MIB), Some(rate))?;
    scene.cluster.node("m3")?.stop()?;
    let import = scene.begin_import("m1", "majority")?;
    let half = process::wait_for("m2 to have half of the blob", || {
        let received = scene.cluster.bytes_received("m2");
        if received > 50 * MIB {
            Ok(received)
        } else {
            Err(format!("{received} bytes"))
        }
    })?;
    scene.cluster.node("m2")?.kill()?;
    let blobs = scene.cluster.node("m2")?.blobs()?;
    assert!(
        blobs.values().all(|size| *size < 50 * MIB),
        "the large blob has its name already"
    );
    scene.cluster.node("m2")?.start()?;
    import.wait()?;
    scene.require_all("m2")?;
    let total: u64 = scene.listed()?.values().sum();
    let again = scene.cluster.bytes_received("m2").saturating_sub(total);
    assert!(
        again < 48 * MIB,
        "{again} bytes came again; {half} had come before the kill"
    );
    Ok(())
}

#[test]
fn a_cut_between_two_masters_is_bridged_by_the_third() -> Result<()> {
    let mut scene = Scene::set(&CorpusPlan::of_bytes(45, 8 * MIB), None)?;
    scene.cluster.cut_between("m1", "m3");
    let bundle = scene.bundle.clone();
    scene.import_at("m1", &bundle, "majority")?;
    scene.cluster.node("m3")?.wait_for_bundle()?;
    scene.require_all("m3")
}
