//! `cargo xtask demo`: the product's main job on this machine, told as a story.
//!
//! Nothing needs root, nothing outlives the demo: registry and masters end with the values that hold them, and the
//! kernel ends them should this process be killed. All files are below one folder of `target/`, which goes as well.

mod story;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use anyhow::ensure;
use tests::cluster::Cluster;
use tests::cluster::ClusterPlan;
use tests::cluster::verify_store;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::hostile;
use tests::process::Running;
use tests::registry::EmbeddedRegistry;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

use self::story::Story;
use self::story::megabytes;
use crate::release::ProgramsArguments;
use crate::repo;

/// Every image of the demo comes from this number.
const SEED: u64 = 2026;

/// Gzip layers of all images together.
const CORPUS_BYTES: u64 = 300 << 20;

/// What each master may send: slow enough to see a transfer, fast enough to end soon.
const SEND_RATE: &str = "25MB";

/// Everything that the chapters share.
struct Demo {
    folder: PathBuf,
    story: Story,
}

/// Builds the programs and tells the story.
pub(crate) fn run(programs: &ProgramsArguments) -> Result<bool> {
    programs.settle()?;
    let scratch = tempfile::Builder::new()
        .prefix("demo-")
        .tempdir_in(repo::target())?;
    let story = Story::begin(
        "Sealift: pack, sign, carry, import, replicate, and lose masters without losing anything",
    );
    let mut demo = Demo {
        folder: scratch.path().to_owned(),
        story,
    };
    let corpus = demo.images()?;
    let (vendor, license) = demo.vendor()?;
    let bundle = demo.bundle(&corpus, &vendor)?;
    let mut cluster = demo.masters(&vendor)?;
    demo.import_and_kill_m2(&mut cluster, &bundle, &license)?;
    demo.lose_m1(&mut cluster)?;
    demo.export(&mut cluster, &vendor, &bundle)?;
    demo.story
        .end("Two masters were killed, one of them for good; every byte is where it was.");
    Ok(true)
}

impl Demo {
    fn images(&mut self) -> Result<Corpus> {
        self.story.chapter("The vendor's images");
        let plan = CorpusPlan::of_bytes(SEED, CORPUS_BYTES);
        let corpus = Corpus::make(&plan, &self.folder.join("images"))?;
        let named: usize = corpus.images.iter().map(|image| image.amd64.len()).sum();
        let blobs = corpus.amd64_blobs().len();
        self.story.fact(&format!(
            "{} real OCI images, made from seed {SEED}: {named} blobs by name, {blobs} different, {} of gzip layers",
            corpus.images.len(),
            megabytes(corpus.amd64_bytes())
        ));
        Ok(corpus)
    }

    fn vendor(&mut self) -> Result<(Vendor, PathBuf)> {
        self.story.chapter("Keys, trust root, a customer's license");
        let vendor = Vendor::create(&self.folder.join("vendor"))?;
        let license = vendor.license("H-0193", 7, &[])?;
        self.story.fact(
            "5 encrypted keys; a trust root that 2 of 3 root keys have signed; license H-0193",
        );
        self.story.fact(&format!(
            "the root's fingerprint, for the telephone: {}",
            vendor.fingerprint()?
        ));
        Ok((vendor, license))
    }

    fn bundle(&mut self, corpus: &Corpus, vendor: &Vendor) -> Result<PathBuf> {
        self.story.chapter("One signed file");
        let registry = EmbeddedRegistry::start(&corpus.layout, &[])?;
        self.story.fact(&format!(
            "a registry on {}: the same code that serves images at the site",
            registry.address()
        ));
        let mut release = Release::of(corpus, Source::Registry(registry.address()));
        release.extra.push_str("licenses: ['*.lic']\n");
        let file = vendor.write_release(&release)?;
        let output = "shop-1.4.0-linux-amd64.airgap";
        self.story.command(&format!("bundler build -o {output}"));
        let built =
            vendor.bundler_does(&["build", "-f", &file, "-o", output, "--key", "keys/shop.key"])?;
        self.story
            .fact(&format!("{}{}", built.stderr, built.stdout));
        self.story.command(&format!("bundler verify {output}"));
        let verified = vendor.bundler_does(&["verify", output])?;
        self.story
            .fact(&format!("{}{}", verified.stderr, verified.stdout));
        Ok(vendor.path(output))
    }

    fn masters(&mut self, vendor: &Vendor) -> Result<Cluster> {
        self.story.chapter("Three masters at the site");
        let plan = ClusterPlan {
            nodes: 3,
            config: format!("send-rate = '{SEND_RATE}'"),
            ..ClusterPlan::default()
        };
        let mut cluster = Cluster::create(&self.folder.join("site"), &plan)?;
        for node in cluster.nodes() {
            node.trust(vendor)?;
        }
        cluster.start()?;
        self.story.fact(&format!(
            "m1, m2, m3: own CA, mutual TLS, the vendor's root pinned by its fingerprint; each sends at most {SEND_RATE}/s"
        ));
        Ok(cluster)
    }

    fn import_and_kill_m2(
        &mut self,
        cluster: &mut Cluster,
        bundle: &Path,
        license: &Path,
    ) -> Result<()> {
        self.story
            .chapter("Import at m1; m2 is killed in the middle of a blob");
        let size = fs::metadata(bundle)?.len();
        cluster.node("m1")?.syncd_does(&[
            "import",
            &license.display().to_string(),
            "--wait",
            "all",
        ])?;
        self.story
            .command("m1# syncd import shop-1.4.0-linux-amd64.airgap --wait majority");
        let log = self.folder.join("import.log");
        let file = bundle.display().to_string();
        let command = cluster
            .node("m1")?
            .syncd(&["import", &file, "--wait", "majority"])?;
        let import = Running::start("syncd import", &command, &log)?;

        let (blob, part, whole) =
            cluster
                .node("m2")?
                .wait_for("half of a large blob", |status| {
                    let mut blobs = status.transfers.iter();
                    let half =
                        blobs.find(|it| it.bytes > size / 5 && it.have_bytes > it.bytes / 2)?;
                    Some((half.blob.to_hex(), half.have_bytes, half.bytes))
                })?;
        let before = cluster.bytes_received("m2");
        cluster.node("m2")?.kill()?;
        self.story.fact(&format!(
            "SIGKILL to m2: {} had come, {} of them of blob {}…, which is {} long",
            megabytes(before),
            megabytes(part),
            blob.get(..12).unwrap_or_default(),
            megabytes(whole)
        ));
        cluster.node("m2")?.start()?;
        import.wait()?;
        self.story.fact(fs::read_to_string(&log)?.trim());
        for node in ["m2", "m3"] {
            cluster.node(node)?.wait_for_bundle()?;
        }
        let after = cluster.bytes_received("m2") - before;
        let again = (before + after).saturating_sub(size);
        self.story.fact(&format!(
            "m2, started again, received {} more: {} or {:.1} % of the bundle came twice",
            megabytes(after),
            megabytes(again),
            percent(again, size)
        ));
        Ok(())
    }

    fn lose_m1(&mut self, cluster: &mut Cluster) -> Result<()> {
        self.story.chapter("The first master is lost for good");
        cluster.node("m1")?.kill()?;
        let store = cluster.node("m1")?.store();
        fs::remove_dir_all(&store)?;
        self.story.fact("SIGKILL to m1, and its disk is gone");
        let m3 = cluster.node("m3")?;
        m3.wait_for_safe_without("m1")?;
        self.story.command("m3# syncd status");
        self.story.fact(&m3.syncd_does(&["status"])?.stdout);
        let (two, three) = (
            verify_store(&cluster.node("m2")?.store())?,
            verify_store(&cluster.node("m3")?.store())?,
        );
        ensure!(two == three, "m2 and m3 differ");
        self.story.fact(&format!(
            "m2 and m3 are equal: {} blobs, {}, every one read again and equal to its name",
            two.len(),
            megabytes(two.values().sum())
        ));
        Ok(())
    }

    fn export(&mut self, cluster: &mut Cluster, vendor: &Vendor, bundle: &Path) -> Result<()> {
        self.story
            .chapter("The bundle comes out again as it went in");
        let m3 = cluster.node("m3")?;
        let id = m3.bundle_id()?.to_hex();
        let exported = self.folder.join("exported.airgap");
        let path = exported.display().to_string();
        self.story.command(&format!(
            "m3# syncd export {} -o exported.airgap",
            id.get(..12).unwrap_or_default()
        ));
        m3.syncd_does(&["export", &id, "--output", &path])?;
        ensure!(
            hostile::head_files(&exported)? == hostile::head_files(bundle)?,
            "the exported head differs from the original"
        );
        let root = vendor.root().display().to_string();
        vendor.bundler_does(&["verify", &path, "--root", &root])?;
        self.story.fact(&format!(
            "verified; its signed head is the original's, byte for byte; {}",
            megabytes(fs::metadata(&exported)?.len())
        ));
        Ok(())
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a percentage for people"
)]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}
