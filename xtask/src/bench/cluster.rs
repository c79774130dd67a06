//! A whole cluster: `installer` from one signed file, against plain kubeadm by hand on the same bed in the same run.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use tests::bed::Bed;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::cluster_bundle::ClusterBundle;
use tests::process;
use tests::real_parts;
use tests::real_site;
use tests::real_site::Becoming;
use tests::real_site::RealSite;
use tests::real_site::at_once;

use super::by_hand;
use super::by_hand::ByHand;
use super::table::Table;
use crate::binaries;
use crate::say;

/// Our cluster, and what it cost.
struct Ours {
    first_master: Duration,
    all: Duration,
    /// Most anonymous memory of syncd and its forwarder on any node, KiB.
    memory_kib: u64,
    /// For how long a client on the worker had no API when the first master's power was cut.
    gap: Duration,
}

/// Measures both, each as often as asked, in turns.
pub(super) fn run(rounds: usize, table: &mut Table) -> Result<()> {
    if let Some(why) = tests::bed::obstacle() {
        say!("clusters are not measured: {why}");
        return Ok(());
    }
    ensure!(real_parts::is_root(), "machines in namespaces need root");
    let parts = binaries::parts()?;
    let bundle = binaries::bundle(&parts)?;
    let (mut ours, mut hand) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let one = installed(&bundle)?;
        let other = by_hand::run(&parts)?;
        say!(
            "cluster, round {round}: ours {:.1} s, by hand {:.1} s",
            one.all.as_secs_f64(),
            other.all.as_secs_f64()
        );
        ours.push(one);
        hand.push(other);
    }
    let of_ours = |time: fn(&Ours) -> Duration| ours.iter().map(time).collect::<Vec<_>>();
    let by_hand = |time: fn(&ByHand) -> Duration| hand.iter().map(time).collect::<Vec<_>>();
    table.compare(
        "one file to a Ready master, against images, kubeadm init and network by hand",
        &of_ours(|it| it.first_master),
        &by_hand(|it| it.first_master),
        1.0 / 1.1,
    );
    table.compare(
        "3 masters + 1 worker Ready, against the same by hand",
        &of_ours(|it| it.all),
        &by_hand(|it| it.all),
        1.0,
    );
    let memory = ours.iter().map(|it| it.memory_kib).max().unwrap_or(0);
    table.memory("syncd and forwarder on a node", memory, 60);
    table.against_ideal(
        "API gap of a client on a worker, first master's power cut, against 10 s",
        &of_ours(|it| it.gap),
        10.0,
        1.0,
    );
    Ok(())
}

fn installed(bundle: &ClusterBundle) -> Result<Ours> {
    let site = RealSite::on(Bed::new()?, bundle.clone())?;
    let m1 = site.machine_with_media("m1", NodePlan::default())?;
    let others = site.machines(["m2", "m3", "w1"])?;
    site.trust(&m1)?;

    let started = Instant::now();
    site.install(&m1, "ha --yes")?.succeeded()?;
    real_site::wait_for_nodes(&m1, &["m1"])?;
    let first_master = started.elapsed();
    let masters = site.join_script(&m1, Becoming::Master)?;
    let workers = site.join_script(&m1, Becoming::Worker)?;
    let scripts = [&masters, &masters, &workers];
    let joins = others.iter().zip(scripts);
    let joins = joins.map(|(node, script)| move || RealSite::paste(node, script)?.succeeded());
    for joined in at_once(joins.collect()) {
        joined?;
    }
    real_site::wait_for_nodes(&m1, &["m1", "m2", "m3", "w1"])?;
    let all = started.elapsed();

    let mut memory_kib = 0;
    for node in others.iter().chain([&m1]) {
        memory_kib = memory(node)?.max(memory_kib);
    }
    let [_m2, _m3, w1] = &others;
    Ok(Ours {
        first_master,
        all,
        memory_kib,
        gap: gap(&m1, w1)?,
    })
}

/// Anonymous memory of both of our processes on a node (`RssAnon` of proc(5)), KiB.
fn memory(node: &Node) -> Result<u64> {
    let script = "for unit in syncd syncd-endpoint; do \
        awk '/^RssAnon:/ {print $2}' /proc/$(systemctl show -p MainPID --value $unit)/status; done";
    let printed = node.output(script)?;
    let parts = printed.split_whitespace().map(str::parse::<u64>);
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    ensure!(parts.len() == 2, "both of ours run on {}", node.name);
    Ok(parts.iter().sum())
}

/// Cuts the power of the first master; from then until the API answers a client on the worker through its own forwarder.
fn gap(m1: &Node, w1: &Node) -> Result<Duration> {
    real_site::api_answers(w1)?
        .succeeded()
        .context("before the power was cut")?;
    let cut = Instant::now();
    m1.kill()?;
    // The first answer is no proof: a connection that was under way may still give one.
    let mut last_silence = cut;
    process::wait_for("the API to answer on the worker", || {
        let begun = Instant::now();
        let answered = real_site::api_answers(w1).is_ok_and(|it| it.code == Some(0));
        if !answered {
            last_silence = Instant::now();
        }
        let quiet = begun.duration_since(last_silence);
        if answered && quiet > Duration::from_secs(3) && cut.elapsed() > Duration::from_secs(15) {
            return Ok(());
        }
        Err(format!("it answered: {answered}"))
    })?;
    Ok(last_silence.duration_since(cut))
}
