//! What the bundler pulls from: registries with doors, with liars behind them, and links that break.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use tempfile::TempDir;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::hostile;
use tests::link::Link;
use tests::link::LinkPlan;
use tests::process;
use tests::process::Running;
use tests::registry::EmbeddedRegistry;
use tests::site::require_refusal;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

const MIB: u64 = 1 << 20;

struct Scene {
    folder: TempDir,
    corpus: Corpus,
    vendor: Vendor,
}

impl Scene {
    fn set(plan: &CorpusPlan) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let corpus = Corpus::make(plan, &folder.path().join("layout"))?;
        let vendor = Vendor::create(&folder.path().join("vendor"))?;
        Ok(Self {
            folder,
            corpus,
            vendor,
        })
    }
}

#[test]
fn the_same_images_give_the_same_bundle_from_a_registry_and_from_a_layout() -> Result<()> {
    let scene = Scene::set(&CorpusPlan::tiny(51))?;
    let registry = EmbeddedRegistry::start(&scene.corpus.layout, &[])?;
    let pulled = Release::of(&scene.corpus, Source::Registry(registry.address()));
    let from_registry = hostile::head_files(&scene.vendor.build(&pulled, &["--fast"])?)?;
    let local = Release::of(&scene.corpus, Source::Layout(scene.corpus.layout.clone()));
    let from_layout = hostile::head_files(&scene.vendor.build(&local, &["--fast"])?)?;
    assert_eq!(from_registry, from_layout);
    Ok(())
}

#[test]
fn doors_open_with_the_credentials_of_dockers_file_and_only_with_them() -> Result<()> {
    let scene = Scene::set(&CorpusPlan::tiny(52))?;
    for access in ["basic", "bearer"] {
        let registry = EmbeddedRegistry::start(&scene.corpus.layout, &["--access", access])?;
        let release = Release::of(&scene.corpus, Source::Named(registry.address()));
        let file = scene.vendor.write_release(&release)?;
        let output = format!("{access}.airgap");
        let cache = scene.folder.path().join(format!("cache-{access}"));
        let build = |docker: &Path| -> Result<process::Finished> {
            let arguments = [
                "build",
                "--fast",
                "-f",
                &file,
                "-o",
                &output,
                "--key",
                "keys/shop.key",
            ];
            let mut command = scene.vendor.bundler(&arguments)?;
            process::run(
                command
                    .env("DOCKER_CONFIG", docker)
                    .env("SEALIFT_CACHE_DIR", &cache),
            )
        };
        let docker = scene.folder.path().join("docker");
        fs::create_dir_all(&docker)?;
        fs::write(docker.join("config.json"), "{}")?;
        require_refusal(&build(&docker)?.refused()?, "SOURCE_AUTH")?;
        // `puller:open sesame`, as `docker login` writes it.
        let auths = format!(
            r#"{{"auths": {{"{}": {{"auth": "cHVsbGVyOm9wZW4gc2VzYW1l"}}}}}}"#,
            registry.address()
        );
        fs::write(docker.join("config.json"), auths)?;
        build(&docker)?.succeeded().context(access)?;
    }
    Ok(())
}

#[test]
fn a_layer_that_is_not_what_its_digest_says_fails_the_build_and_leaves_no_bundle() -> Result<()> {
    let scene = Scene::set(&CorpusPlan::tiny(53))?;
    let layer = scene.corpus.images[0].amd64[0];
    let path = scene.corpus.blob_path(&layer);
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes)?;
    let registry = EmbeddedRegistry::start(&scene.corpus.layout, &[])?;
    let release = Release::of(&scene.corpus, Source::Registry(registry.address()));
    let file = scene.vendor.write_release(&release)?;
    let arguments = [
        "build",
        "-f",
        &file,
        "-o",
        "lie.airgap",
        "--key",
        "keys/shop.key",
    ];
    let refused = process::run(&mut scene.vendor.bundler(&arguments)?)?.refused()?;
    assert!(
        refused.stderr.contains(&layer.to_hex()[..12]),
        "the blob is not named: {refused}"
    );
    assert!(!scene.vendor.path("lie.airgap").exists());
    Ok(())
}

#[test]
fn a_build_killed_in_the_middle_of_a_layer_goes_on_where_it_was() -> Result<()> {
    let scene = Scene::set(&CorpusPlan::one_layer(54, 48 * MIB))?;
    let registry =
        EmbeddedRegistry::start(&scene.corpus.layout, &["--bytes-per-second", "40000000"])?;
    let link = Link::open(LinkPlan {
        target: registry.address(),
        from_target: Vec::new(),
        to_target: Vec::new(),
    })?;
    let release = Release::of(&scene.corpus, Source::Registry(link.address()));
    let file = scene.vendor.write_release(&release)?;
    let arguments = [
        "build",
        "--fast",
        "-f",
        &file,
        "-o",
        "big.airgap",
        "--key",
        "keys/shop.key",
    ];
    let log = scene.folder.path().join("build.log");
    let build = Running::start("bundler build", &scene.vendor.bundler(&arguments)?, &log)?;
    process::wait_for("half of the layer", || match link.bytes_from_target() {
        bytes if bytes > 24 * MIB => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    })?;
    build.kill()?;
    assert!(!scene.vendor.path("big.airgap").exists());
    scene.vendor.bundler_does(&arguments)?;
    let again = link
        .bytes_from_target()
        .saturating_sub(scene.corpus.amd64_bytes());
    assert!(again < 8 * MIB, "{again} bytes were fetched twice");
    Ok(())
}
