//! SIGKILL at any point of import and receive: at the end all is there, and little was done twice.
//!
//! Moments and victims come from a seed, which a failure prints; `SEALIFT_KILL_SEED=n` runs that one again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use bundle::Digest;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tests::cluster::Cluster;
use tests::cluster::ClusterPlan;
use tests::cluster::blobs_of;
use tests::cluster::verify_new;
use tests::cluster::verify_store;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::process;
use tests::process::Running;
use tests::site::Site;
use tests::vendor::Release;
use tests::vendor::Source;
use tests::vendor::Vendor;

const MIB: u64 = 1 << 20;

/// Kills of the import, and of the receivers and their source; 50 together.
const IMPORT_KILLS: u32 = 20;
const CLUSTER_KILLS: u32 = 30;

/// What one kill may cost on the wire: a checkpoint's worth.
const BYTES_PER_KILL: u64 = 64 * MIB;

fn random() -> (u64, StdRng) {
    let given = std::env::var("SEALIFT_KILL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random());
    (seed, StdRng::seed_from_u64(seed))
}

/// A moment that the seed decides; nothing waits for it but the kill itself.
fn let_run(random: &mut StdRng, most: Duration) {
    let until = Instant::now() + most.mul_f64(random.random());
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}

fn bundle_of_one_layer(
    vendor: &Vendor,
    folder: &std::path::Path,
    number: u64,
    bytes: u64,
) -> Result<PathBuf> {
    let layout = folder.join(format!("layout-{number}"));
    let corpus = Corpus::make(&CorpusPlan::one_layer(500 + number, bytes), &layout)?;
    let release = Release::of(&corpus, Source::Layout(layout.clone()));
    let bundle = vendor.build(&release.at(&format!("1.{number}.0"), number), &["--fast"])?;
    fs::remove_dir_all(layout)?;
    Ok(bundle)
}

#[test]
fn an_import_killed_again_and_again_finishes_and_its_store_is_right() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (seed, mut random) = random();
    println!("SEALIFT_KILL_SEED={seed}");
    let vendor = Vendor::create(&scratch.path().join("vendor"))?;
    let bundle = bundle_of_one_layer(&vendor, scratch.path(), 1, 192 * MIB)?;
    let whole = Site::trusting(&vendor, &scratch.path().join("whole"))?;
    let took = whole.import(&bundle)?.wall;
    let expected = verify_store(whole.store())?;

    let mut kills = 0;
    for number in 0.. {
        let site = Site::trusting(&vendor, &scratch.path().join(format!("store-{number}")))?;
        let file = bundle.display().to_string();
        // Half of the kills meet a store that already has what earlier, killed imports left.
        for _ in 0..4 {
            let command = site.installer(&["import", &file])?;
            let log = scratch.path().join("import.log");
            let import = Running::start("installer import", &command, &log)?;
            let_run(&mut random, took);
            import.kill()?;
            kills += 1;
            verify_store(site.store())?;
        }
        site.import(&bundle)?;
        assert_eq!(
            blobs_of(site.store())?,
            expected,
            "SEALIFT_KILL_SEED={seed}"
        );
        verify_store(site.store())?;
        fs::remove_dir_all(site.store())?;
        if kills >= IMPORT_KILLS {
            break;
        }
    }
    Ok(())
}

#[test]
fn masters_killed_again_and_again_end_equal_and_fetch_little_twice() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (seed, mut random) = random();
    println!("SEALIFT_KILL_SEED={seed}");
    let vendor = Vendor::create(&scratch.path().join("vendor"))?;
    let plan = ClusterPlan {
        nodes: 3,
        bytes_per_second: Some(60_000_000),
        ..ClusterPlan::default()
    };
    let mut cluster = Cluster::create(&scratch.path().join("site"), &plan)?;
    for node in cluster.nodes() {
        node.trust(&vendor)?;
    }
    cluster.start()?;
    let mut kills = 0;
    let mut received: BTreeMap<&str, BTreeMap<Digest, u64>> = BTreeMap::new();
    for number in 1.. {
        let bundle = bundle_of_one_layer(&vendor, scratch.path(), number, 256 * MIB)?;
        let size = fs::metadata(&bundle)?.len();
        let wire_before = cluster.bytes_received("m2") + cluster.bytes_received("m3");
        let kills_before = kills;
        let file = bundle.display().to_string();
        cluster
            .node("m1")?
            .syncd_does(&["import", &file, "--wait", "local"])?;
        while !are_equal(&mut cluster)? {
            let victim = ["m1", "m2", "m3", "m2", "m3"][random.random_range(0..5)];
            let_run(&mut random, Duration::from_secs(2));
            cluster.node(victim)?.kill()?;
            kills += 1;
            let known = received.entry(victim).or_default();
            verify_new(&cluster.node(victim)?.store(), known)?;
            cluster.node(victim)?.start()?;
            if kills - kills_before >= 12 {
                process::wait_for("all masters to be equal", || {
                    match are_equal(&mut cluster) {
                        Ok(true) => Ok(()),
                        Ok(false) => Err("they differ".to_owned()),
                        Err(error) => Err(error.to_string()),
                    }
                })?;
            }
        }
        let wire = cluster.bytes_received("m2") + cluster.bytes_received("m3") - wire_before;
        let bound = 2 * size * 11 / 10 + BYTES_PER_KILL * u64::from(kills - kills_before);
        println!(
            "{} kills: {wire} bytes on the wire for 2 × {size}",
            kills - kills_before
        );
        assert!(
            wire <= bound,
            "{wire} bytes on the wire, at most {bound}; SEALIFT_KILL_SEED={seed}"
        );
        fs::remove_file(bundle)?;
        if kills >= CLUSTER_KILLS {
            break;
        }
    }
    for node in cluster.nodes() {
        verify_store(&node.store())?;
    }
    Ok(())
}

/// Whether all masters have the same blobs, seen on their disks.
fn are_equal(cluster: &mut Cluster) -> Result<bool> {
    let first = cluster.node("m1")?.blobs()?;
    let mut others = ["m2", "m3"].into_iter();
    others.try_fold(true, |equal, name| {
        Ok(equal && cluster.node(name)?.blobs()? == first)
    })
}
