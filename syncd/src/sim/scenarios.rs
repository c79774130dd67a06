//! Single stories under simulation, each with one figure or one fact at its end.

use std::time::Duration;

use bundle::Digest;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use store::Store;
use store::fs::sim::Survival;

use super::NAMES;
use super::cluster;
use super::cluster::Cluster;
use super::cluster::Import;
use super::cluster::Options;
use super::vendor::INCARNATION;
use super::vendor::Vendor;

const LONG: Duration = Duration::from_mins(5);

fn cluster(seed: u64, kib: u64, gullible: Vec<&'static str>) -> Cluster {
    let vendor = Vendor::new(&mut StdRng::seed_from_u64(seed), 1);
    let options = Options {
        seed,
        bandwidth: cluster::slow(kib),
        gullible,
    };
    Cluster::new(&NAMES, vendor, &options)
}

/// Lets time pass until `done`; gives how long it took.
fn wait(cluster: &mut Cluster, done: impl Fn(&Cluster) -> bool) -> Duration {
    let start = cluster.sim.elapsed();
    while !done(cluster) {
        let taken = cluster.sim.elapsed().saturating_sub(start);
        assert!(taken < LONG, "not done: {}", cluster.picture());
        for at in 0..cluster.machines.len() {
            cluster.import_step(at);
        }
        cluster.step();
    }
    cluster.sim.elapsed().saturating_sub(start)
}

fn blobs_at(cluster: &Cluster, at: usize) -> usize {
    let probe = cluster.machines[at].probe.lock().unwrap();
    let probe = probe.as_ref();
    probe.map_or(0, |probe| probe.node.holdings.blobs().len())
}

fn received(cluster: &Cluster, at: usize) -> u64 {
    let probe = cluster.machines[at].probe.lock().unwrap();
    let counters = probe.as_ref().map(|probe| probe.node.counters.snapshot());
    counters.map_or(0, |counters| counters.received_bytes.values().sum())
}

#[test]
fn two_receivers_are_complete_in_little_more_than_the_time_of_one_copy() {
    let mut cluster = cluster(1, 8, Vec::new());
    let bytes: usize = cluster.vendor.releases[0]
        .bytes
        .values()
        .map(Vec::len)
        .sum();
    let ideal = Duration::from_secs_f64(bytes as f64 / f64::from(8 << 10));
    cluster.machines[0].imports.push_back(Import::new(0, 1));
    wait(&mut cluster, |cluster| {
        cluster.machines[0].imports.is_empty()
    });
    let all = blobs_at(&cluster, 0).max(cluster.vendor.releases[0].blobs.len());
    let taken = wait(&mut cluster, |cluster| {
        (0..3).all(|at| blobs_at(cluster, at) == all)
    });
    let ratio = taken.as_secs_f64() / ideal.as_secs_f64();
    let probe = cluster.machines[0].probe.lock().unwrap();
    let sent: u64 = probe
        .as_ref()
        .unwrap()
        .node
        .counters
        .snapshot()
        .sent_bytes
        .values()
        .sum();
    let copies = sent as f64 / bytes as f64;
    assert!(
        ratio <= 1.15,
        "{ratio:.3} times one copy's time ({taken:?}), {copies:.3} copies sent"
    );
    assert!(copies <= 1.15, "the first holder sent {copies:.3} copies");
}

#[test]
fn a_receiver_that_is_killed_fetches_almost_nothing_twice() {
    let mut cluster = cluster(2, 16, Vec::new());
    let bytes: usize = cluster.vendor.releases[0]
        .bytes
        .values()
        .map(Vec::len)
        .sum();
    let bytes = u64::try_from(bytes).unwrap();
    cluster.machines[0].imports.push_back(Import::new(0, 1));
    wait(&mut cluster, |cluster| received(cluster, 1) > bytes * 2 / 3);
    let before = received(&cluster, 1);
    cluster.crash(1, Survival::Everything, Duration::from_secs(1));
    wait(&mut cluster, |cluster| {
        blobs_at(cluster, 1) == cluster.vendor.releases[0].blobs.len()
    });
    let twice = (before + received(&cluster, 1)).saturating_sub(bytes);
    // What came in the last seconds, before a checkpoint was due, and what was in flight.
    assert!(
        twice <= 16 * 1024 * 4,
        "{twice} of {bytes} bytes were fetched twice"
    );
}

#[test]
fn the_first_master_dies_after_the_acknowledgement_and_nothing_is_lost() {
    let mut cluster = cluster(3, 64, Vec::new());
    cluster.machines[0].imports.push_back(Import::new(0, 1));
    wait(&mut cluster, |cluster| {
        !cluster.acknowledged.lock().unwrap().is_empty()
    });
    cluster.crash(0, Survival::Nothing, Duration::from_hours(1));
    let blobs = cluster.vendor.releases[0].blobs.len();
    wait(&mut cluster, |cluster| {
        (1..3).all(|at| blobs_at(cluster, at) == blobs)
    });
}

#[test]
fn a_forged_record_of_a_peer_is_not_accepted() {
    let mut cluster = cluster(4, 64, vec!["m3"]);
    let forged = cluster
        .vendor
        .forge(&mut StdRng::seed_from_u64(5))
        .record("m3", 1);
    let store = Store::open(cluster.machines[2].fs(), Some(INCARNATION)).unwrap();
    store.put_record(&forged).unwrap();
    drop(store);
    cluster.machines[0].imports.push_back(Import::new(0, 1));
    let records = |cluster: &Cluster, at: usize| {
        let probe = cluster.machines[at].probe.lock().unwrap();
        probe
            .as_ref()
            .map(|probe| probe.node.holdings.records())
            .unwrap_or_default()
    };
    let blobs = cluster.vendor.releases[0].blobs.len();
    wait(&mut cluster, |cluster| blobs_at(cluster, 1) == blobs);
    assert!(
        records(&cluster, 2).contains(&forged.digest()),
        "m3 shows what it was fed"
    );
    let refused = |cluster: &Cluster| {
        let status = status(cluster, 1);
        status.is_some_and(|status| {
            let mut troubles = status.troubles.iter();
            troubles.any(|trouble| trouble.object == Some(forged.digest()))
        })
    };
    wait(&mut cluster, refused);
    for at in 0..2 {
        let digests: Vec<Digest> = records(&cluster, at).into_iter().collect();
        assert!(!digests.contains(&forged.digest()) && digests.len() == 1);
    }
}

/// The status of a node, once it has answered a question that was put before.
fn status(cluster: &Cluster, at: usize) -> Option<api::sync::Status> {
    let probe = cluster.machines[at].probe.lock().unwrap();
    probe.as_ref()?.status()
}

#[test]
fn a_member_that_goes_and_comes_back_in_the_middle_of_a_transfer_ends_complete() {
    let mut cluster = cluster(3, 64, Vec::new());
    let all = cluster.vendor.releases[0].blobs.len();
    cluster.machines[0].imports.push_back(Import::new(0, 1));
    wait(&mut cluster, |cluster| received(cluster, 1) > 0);
    cluster.replicate_with(0, &[], &[]);
    cluster.replicate_with(1, &["m3"], &[]);
    cluster.replicate_with(2, &["m2"], &[]);
    let others = |cluster: &Cluster, at| {
        let peers = status(cluster, at).map_or(Vec::new(), |status| status.peers);
        let names = peers.into_iter().map(|peer| peer.name.to_string());
        names.collect::<Vec<_>>()
    };
    wait(&mut cluster, |cluster| {
        others(cluster, 0).is_empty()
            && others(cluster, 1) == ["m3"]
            && others(cluster, 2) == ["m2"]
    });
    let members = |cluster: &Cluster, at| status(cluster, at).unwrap().nodes.len();
    assert_eq!([0, 1, 2].map(|at| members(&cluster, at)), [1, 2, 2]);
    // What was on its way to the one that is gone ends; nothing more comes from there.
    let before = received(&cluster, 1);
    let ends = cluster.sim.elapsed() + Duration::from_secs(10);
    wait(&mut cluster, |cluster| cluster.sim.elapsed() > ends);
    let after = received(&cluster, 1);
    assert!(
        blobs_at(&cluster, 1) < all,
        "too early to tell: {before} {after}"
    );

    cluster.replicate_with(0, &["m2", "m3"], &[]);
    cluster.replicate_with(1, &["m1", "m3"], &[]);
    cluster.replicate_with(2, &["m1", "m2"], &[]);
    wait(&mut cluster, |cluster| {
        (0..3).all(|at| blobs_at(cluster, at) == all) && others(cluster, 1) == ["m1", "m3"]
    });
    wait(&mut cluster, |cluster| {
        let nodes = status(cluster, 1).map_or(Vec::new(), |status| status.nodes);
        nodes.len() == 3 && nodes.iter().all(|node| node.safe_to_lose)
    });
}

#[test]
fn a_master_to_be_fetches_everything_and_counts_for_nothing() {
    let mut cluster = cluster(3, 64, Vec::new());
    let all = cluster.vendor.releases[0].blobs.len();
    let members = |cluster: &Cluster, at| {
        let nodes = status(cluster, at).map_or(Vec::new(), |status| status.nodes);
        let names = nodes.into_iter().map(|node| node.name.to_string());
        names.collect::<Vec<_>>()
    };
    wait(&mut cluster, |cluster| {
        (0..2).all(|at| members(cluster, at).len() == 3)
    });
    cluster.replicate_with(0, &["m2"], &["m3"]);
    cluster.replicate_with(1, &["m1"], &["m3"]);
    cluster.machines[0].imports.push_back(Import::new(0, 1));
    wait(&mut cluster, |cluster| blobs_at(cluster, 2) == all);
    wait(&mut cluster, |cluster| members(cluster, 0) == ["m1", "m2"]);
}
