//! A bundle is not ours alone: minisign, tar, zstd and skopeo read it and agree with us.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::corpus::REGISTRY;
use tests::process;
use tests::real_parts;
use tests::real_parts::Part;
use tests::registry::DebianRegistry;
use tests::registry::skopeo;
use tests::site::Site;
use tests::site::json;
use tests::skip;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

#[test]
fn tar_zstd_and_minisign_alone_verify_a_bundle_and_skopeo_pushes_from_it_and_from_the_store()
-> Result<()> {
    let parts = [
        Part::Minisign,
        Part::Tar,
        Part::Zstd,
        Part::Skopeo,
        Part::Registry,
    ];
    if let Some(why) = real_parts::missing(&parts) {
        skip!("{why}");
    }
    let scratch = tempfile::tempdir()?;
    let corpus = Corpus::make(&CorpusPlan::tiny(31), &scratch.path().join("layout"))?;
    let vendor = Vendor::create(&scratch.path().join("vendor"))?;
    let bundle = vendor.build(
        &Release::of(&corpus, Source::Layout(corpus.layout.clone())),
        &[],
    )?;

    let unpacked = scratch.path().join("unpacked");
    fs::create_dir(&unpacked)?;
    let mut tar = process::command("tar", ["--zstd", "-xf"]);
    process::run(tar.arg(&bundle).arg("-C").arg(&unpacked))?.succeeded()?;
    let mut minisign = process::command("minisign", ["-V", "-H", "-m", "bundle.json", "-p"]);
    minisign
        .arg(vendor.path("keys/shop.pub"))
        .current_dir(&unpacked);
    let said = process::run(&mut minisign)?.succeeded()?.stdout;
    assert!(
        said.contains("type=bundle;vendor=acme;product=shop;channel=stable;"),
        "{said}"
    );

    push_all(&corpus, &unpacked, &scratch.path().join("of-the-bundle"))?;
    let site = Site::trusting(&vendor, &scratch.path().join("store"))?;
    site.import(&bundle)?;
    push_all(&corpus, site.store(), &scratch.path().join("of-the-store"))
}

/// Pushes every image by skopeo from an OCI layout to a registry of its own, where it has the digest that we know.
fn push_all(corpus: &Corpus, layout: &Path, place: &Path) -> Result<()> {
    fs::create_dir(place)?;
    let registry = DebianRegistry::start(place)?;
    for image in &corpus.images {
        let name = image.reference();
        let from = format!("oci:{}:{REGISTRY}/{name}", layout.display());
        let to = format!("docker://{}/{name}", registry.address());
        skopeo(&[
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &from,
            &to,
        ])?;
        if image.media_type.contains("manifest") {
            assert_eq!(registry.digest_of(&name)?, image.digest.to_string());
        }
    }
    Ok(())
}

#[test]
fn minisign_verifies_a_license_without_our_software() -> Result<()> {
    if let Some(why) = real_parts::missing(&[Part::Minisign]) {
        skip!("{why}");
    }
    let scratch = tempfile::tempdir()?;
    let vendor = Vendor::create(scratch.path())?;
    let license = vendor.license("H-0193", 7, &[])?;
    let script = "tail -n +5 \"$1\" | minisign -V -H -x \"$1\" -m /dev/stdin -p keys/license.pub";
    let mut shell = process::command("sh", ["-c", script, "sh"]);
    let said = process::run(shell.arg(&license).current_dir(scratch.path()))?
        .succeeded()?
        .stdout;
    assert!(
        said.contains("type=license;vendor=acme;product=shop;id=H-0193;seq=7;"),
        "{said}"
    );
    Ok(())
}

#[test]
fn what_we_pull_from_debians_registry_is_what_skopeo_sees_there() -> Result<()> {
    if let Some(why) = real_parts::missing(&[Part::Skopeo, Part::Registry]) {
        skip!("{why}");
    }
    let scratch = tempfile::tempdir()?;
    let corpus = Corpus::make(&CorpusPlan::tiny(32), &scratch.path().join("layout"))?;
    let registry = DebianRegistry::start(scratch.path())?;
    registry.fill(&corpus)?;
    let vendor = Vendor::create(&scratch.path().join("vendor"))?;
    let bundle = vendor.build(
        &Release::of(&corpus, Source::Registry(registry.address())),
        &[],
    )?;
    let bundle = bundle.display().to_string();
    let shown = json(&vendor.bundler_does(&["--json", "inspect", &bundle, "images"])?)?;
    let images = shown
        .get("index")
        .and_then(|index| index.get("images"))
        .and_then(Value::as_array)
        .context("no images")?;
    assert_eq!(images.len(), corpus.images.len());
    for image in &corpus.images {
        let name = format!("{REGISTRY}/{}", image.reference());
        let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some(&name);
        let ours = images
            .iter()
            .find(named)
            .and_then(|entry| entry.get("digest"));
        let theirs = registry.digest_of(&image.reference())?;
        assert_eq!(
            ours.and_then(Value::as_str),
            Some(theirs.as_str()),
            "{name}"
        );
    }
    Ok(())
}
