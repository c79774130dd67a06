//! What must not get in: each hostile or unfit file has its own code, a next step, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use bundle::head::HeadFiles;
use bundle::index::BundleIndex;
use bundle::key::SecretKey;
use bundle::minisig::Signature;
use tempfile::TempDir;
use tests::cluster::blobs_of;
use tests::cluster::verify_store;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::hostile;
use tests::process;
use tests::real_parts;
use tests::real_parts::Part;
use tests::site::Site;
use tests::skip;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

/// A vendor, one good bundle of his, and a site that trusts him and has nothing yet.
struct Scene {
    folder: TempDir,
    corpus: Corpus,
    vendor: Vendor,
    bundle: PathBuf,
    site: Site,
}

impl Scene {
    fn set() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let corpus = Corpus::make(&CorpusPlan::tiny(21), &folder.path().join("layout"))?;
        let vendor = Vendor::create(&folder.path().join("vendor"))?;
        let release = Release::of(&corpus, Source::Layout(corpus.layout.clone()));
        let bundle = vendor.build(&release, &["--fast"])?;
        let site = Site::trusting(&vendor, &folder.path().join("store"))?;
        Ok(Self {
            folder,
            corpus,
            vendor,
            bundle,
            site,
        })
    }

    fn release(&self) -> Release {
        Release::of(&self.corpus, Source::Layout(self.corpus.layout.clone()))
    }

    /// Imports a bundle that is changed or not trusted: refused, by `verify` as well.
    fn refuses(&self, code: &str, bytes: &[u8]) -> Result<()> {
        let file = self.folder.path().join("hostile.airgap");
        fs::write(&file, bytes)?;
        self.refuses_import(code, &file)?;
        self.site
            .refuses(code, &["verify", &file.display().to_string()])
    }

    /// Imports a file, which must be refused and leave the store as it was.
    fn refuses_import(&self, code: &str, file: &Path) -> Result<()> {
        let before = tree(self.site.store())?;
        self.site
            .refuses_import(code, file)
            .context(code.to_owned())?;
        assert_eq!(before, tree(self.site.store())?, "{code} changed the store");
        Ok(())
    }

    /// Imports a bundle whose signed head is right and whose payload is not.
    ///
    /// Blobs that came before the damage are the vendor's and may stay; the bundle must not be known.
    fn refuses_payload(&self, code: &str, bytes: &[u8]) -> Result<()> {
        let file = self.folder.path().join("damaged.airgap");
        fs::write(&file, bytes)?;
        let known = |path: &PathBuf, _: &mut u64| {
            !path.components().any(|part| part.as_os_str() == "blobs")
        };
        let mut before = tree(self.site.store())?;
        self.site
            .refuses_import(code, &file)
            .context(code.to_owned())?;
        self.site
            .refuses(code, &["verify", &file.display().to_string()])?;
        let mut after = tree(self.site.store())?;
        before.retain(known);
        after.retain(known);
        assert_eq!(before, after, "{code} changed more than blobs");
        let listed = self.index()?;
        for blob in verify_store(self.site.store())?.keys() {
            assert!(
                listed.blobs.iter().any(|entry| entry.digest == *blob),
                "{blob} is not the vendor's"
            );
        }
        Ok(())
    }

    fn index(&self) -> Result<BundleIndex> {
        Ok(BundleIndex::parse(
            &hostile::head_files(&self.bundle)?.bundle_json,
        )?)
    }
}

/// All files below a folder with their sizes, but the locks, which say nothing.
fn tree(folder: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if !entry.file_name().to_string_lossy().contains("lock") {
                files.insert(entry.path(), entry.metadata()?.len());
            }
        }
    }
    Ok(files)
}

#[test]
fn a_bundle_that_somebody_changed_has_a_code_for_each_way() -> Result<()> {
    let scene = Scene::set()?;
    let whole = fs::read(&scene.bundle)?;
    let cut = whole
        .get(..whole.len() - 1000)
        .context("a bundle is longer")?;
    scene.refuses_payload("BUNDLE_TRUNCATED", cut)?;
    let layer = scene.corpus.images[0].amd64[0];
    scene.refuses_payload(
        "BUNDLE_DIGEST",
        &hostile::with_other_blob(&scene.bundle, &layer)?,
    )?;
    scene.refuses_payload("BUNDLE_FORMAT", &[&whole[..], b"more"].concat())?;

    let unsigned = hostile::with_head(&scene.bundle, |head| head.signature = None)?;
    scene.refuses("BUNDLE_SIGNATURE_MISSING", &unsigned)?;
    let twice = hostile::with_head(&scene.bundle, |head| {
        let once = head.signature.clone().unwrap_or_default();
        head.signature = Some([once.clone(), once].concat());
    })?;
    scene.refuses("BUNDLE_SIGNATURE_FORM", &twice)?;
    let other_key = SecretKey::from_seed(&[7; 32]);
    let purpose_of = scene.index()?;
    let by_other_key = hostile::with_head(&scene.bundle, |head: &mut HeadFiles| {
        let signature = Signature::sign(&other_key, &head.bundle_json, &purpose_of.purpose());
        head.signature = Some(signature.to_file().into_bytes());
    })?;
    scene.refuses("BUNDLE_UNTRUSTED_KEY", &by_other_key)?;

    // The good one still goes in: what was refused has left nothing behind.
    scene.site.import(&scene.bundle)?;
    Ok(())
}

#[test]
fn a_signature_over_other_bytes_is_refused() -> Result<()> {
    let scene = Scene::set()?;
    let later = scene
        .vendor
        .build(&scene.release().at("1.5.0", 50), &["--fast"])?;
    let foreign = hostile::head_files(&later)?.signature;
    let borrowed = hostile::with_head(&scene.bundle, |head| head.signature = foreign)?;
    scene.refuses("BUNDLE_SIGNATURE", &borrowed)
}

#[test]
fn a_legacy_signature_by_the_right_key_is_refused() -> Result<()> {
    if let Some(why) = real_parts::missing(&[Part::Minisign]) {
        skip!("{why}");
    }
    let scene = Scene::set()?;
    let json = scene.folder.path().join("bundle.json");
    fs::write(&json, hostile::head_files(&scene.bundle)?.bundle_json)?;
    // The password goes in by standard input, as it would at a terminal.
    let script = "echo 'snake oil' | minisign -S -l -s keys/shop.key -m \"$1\" -x \"$1.minisig\"";
    let mut shell = process::command("sh", ["-c", script, "sh"]);
    shell.arg(&json).current_dir(scene.vendor.path("."));
    process::run(&mut shell)?.succeeded()?;
    let legacy = fs::read(scene.folder.path().join("bundle.json.minisig"))?;
    let bundle = hostile::with_head(&scene.bundle, |head| head.signature = Some(legacy))?;
    scene.refuses("BUNDLE_SIGNATURE_LEGACY", &bundle)
}

#[test]
fn an_older_release_and_a_second_one_of_the_same_number_are_refused() -> Result<()> {
    let scene = Scene::set()?;
    scene.site.import(&scene.bundle)?;
    let older = scene
        .vendor
        .build(&scene.release().at("1.3.0", 40), &["--fast"])?;
    scene.refuses_import("BUNDLE_ROLLBACK", &older)?;
    let twin = scene
        .vendor
        .build(&scene.release().at("1.4.1", 42), &["--fast"])?;
    scene.refuses_import("BUNDLE_EQUIVOCATION", &twin)
}

#[test]
fn an_expired_license_blocks_the_import() -> Result<()> {
    let scene = Scene::set()?;
    let expired = scene.vendor.license(
        "H-0001",
        1,
        &[
            "--expires-at",
            "2026-07-02T00:00:00Z",
            "--grace-days",
            "0",
            "--kind",
            "trial",
        ],
    )?;
    scene.site.import(&expired)?;
    scene.refuses_import("LICENSE_EXPIRED", &scene.bundle)
}

#[test]
fn a_license_for_another_channel_blocks_the_import_and_an_older_one_of_it_is_refused() -> Result<()>
{
    let scene = Scene::set()?;
    let older = scene.vendor.license("H-0002", 1, &[])?;
    scene
        .site
        .import(&scene.vendor.license("H-0002", 2, &["--channel", "beta"])?)?;
    scene.refuses_import("LICENSE_ROLLBACK", &older)?;
    scene.refuses_import("LICENSE_CHANNEL", &scene.bundle)
}

#[test]
fn a_site_without_the_vendors_root_refuses_everything_of_his() -> Result<()> {
    let scene = Scene::set()?;
    let stranger = Vendor::create(&scene.folder.path().join("stranger"))?;
    let site = Site::trusting(&stranger, &scene.folder.path().join("other-store"))?;
    site.refuses_import("BUNDLE_UNTRUSTED_KEY", &scene.bundle)?;
    assert!(blobs_of(site.store())?.is_empty());
    Ok(())
}
