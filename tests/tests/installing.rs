//! What an operator does before anything is changed: trust a vendor by its fingerprint, and read the plan of a bootstrap.

use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::process;
use tests::site::Site;
use tests::site::json;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

/// A bundle that brings a cluster, and a site that trusts its vendor.
struct Scene {
    folder: TempDir,
    vendor: Vendor,
    bundle: PathBuf,
    site: Site,
}

impl Scene {
    fn set() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let corpus = Corpus::make(&CorpusPlan::tiny(31), &folder.path().join("layout"))?;
        let vendor = Vendor::create(&folder.path().join("vendor"))?;
        let mut release = Release::of(&corpus, Source::Layout(corpus.layout.clone()));
        "kubernetes: {version: 1.36.3, pod_subnet: 10.32.0.0/16}\n".clone_into(&mut release.extra);
        let bundle = vendor.build(&release, &["--fast"])?;
        let site = Site::trusting(&vendor, &folder.path().join("store"))?;
        Ok(Self {
            folder,
            vendor,
            bundle,
            site,
        })
    }

    fn install<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let bundle = self.bundle.to_str().unwrap_or_default();
        [&["install", bundle], words].concat()
    }
}

#[test]
fn a_root_without_its_fingerprint_or_with_another_one_is_not_trusted() -> Result<()> {
    let scene = Scene::set()?;
    let store = scene.folder.path().join("other");
    let other = Site::trusting(&scene.vendor, &store)?;
    let root = scene.vendor.root().display().to_string();
    other.refuses("TRUST_FINGERPRINT_MISSING", &["trust", "add", &root])?;
    let wrong = "0".repeat(64);
    other.refuses(
        "TRUST_FINGERPRINT",
        &["trust", "add", &root, "--fingerprint", &wrong],
    )
}

#[test]
fn the_plan_of_a_bootstrap_is_the_same_by_words_and_by_flags_and_changes_nothing() -> Result<()> {
    let scene = Scene::set()?;
    scene
        .site
        .import(&scene.vendor.license("H-0193", 1, &[])?)?;
    let words = scene.install(&[
        "ha",
        "load_balancer_address=lb.example:6443",
        "--dry-run",
        "--json",
    ]);
    let flags = scene.install(&[
        "--ha",
        "--load-balancer-address=lb.example:6443",
        "--dry-run",
        "--json",
    ]);
    let plan = json(&scene.site.does(&words)?)?;
    let title = plan["title"].as_str().unwrap_or_default();
    assert!(
        title.contains("first master of a new highly available cluster"),
        "{title}"
    );
    let steps: Vec<_> = plan["steps"].as_array().into_iter().flatten().collect();
    let control_plane = steps.iter().find(|step| step["id"] == "control-plane");
    let does = control_plane
        .and_then(|step| step["does"].as_str())
        .unwrap_or_default();
    assert!(
        does.contains("1.36.3") && does.contains("lb.example:6443"),
        "{does}"
    );
    let again = json(&scene.site.does(&flags)?)?;
    assert_eq!(plan["steps"], again["steps"]);
    let blobs = scene.site.store().join("blobs/sha256");
    assert_eq!(
        std::fs::read_dir(blobs)?.count(),
        0,
        "a plan imports nothing"
    );
    Ok(())
}

#[test]
fn nothing_is_planned_without_a_license() -> Result<()> {
    let scene = Scene::set()?;
    scene
        .site
        .refuses("LICENSE_ABSENT", &scene.install(&["--dry-run"]))
}

#[test]
fn a_word_that_install_does_not_know_is_an_error_of_usage() -> Result<()> {
    let scene = Scene::set()?;
    let mistyped = scene.install(&["haa", "--dry-run"]);
    let refused = process::run(&mut scene.site.installer(&mistyped)?)?.refused()?;
    assert!(
        refused.stderr.contains("unexpected argument 'haa'"),
        "{refused}"
    );
    Ok(())
}
