//! Joins that are interrupted: by the joining machine's death, by the death of who lets it in, by the network.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::process::Finished;
use tests::process::wait_for;
use tests::process::wait_within;
use tests::real_site;
use tests::real_site::Becoming;
use tests::real_site::RealSite;
use tests::real_site::at;
use tests::real_site::at_once;
use tests::real_site::objects;
use tests::real_site::wait_for_nodes;
use tests::scenarios::note;
use tests::scenarios::step;

/// After a join that was killed, the cluster lets the next one in within this time.
const NEXT_JOIN: Duration = Duration::from_secs(90);

/// A moment of a join that can be seen from outside, and the shell line on the joining machine that sees it.
struct Phase {
    name: &'static str,
    seen: fn(m1: &Node, joining: &Node) -> bool,
}

const PHASES: [Phase; 5] = [
    Phase {
        name: "it has the installer",
        seen: |_, joining| is_there(joining, "[ -s /var/lib/sealift-node/join/installer ]"),
    },
    Phase {
        name: "it has half of the bundle",
        seen: |_, joining| {
            is_there(
                joining,
                "[ $(ls /var/lib/sealift/blobs/sha256 | wc -l) -gt 20 ]",
            )
        },
    },
    Phase {
        name: "it is a member of etcd without a vote",
        seen: |m1, _| {
            real_site::members(m1)
                .is_ok_and(|all| all.iter().any(|it| it.is_learner || it.name.is_empty()))
        },
    },
    Phase {
        name: "its kubelet is configured",
        seen: |_, joining| is_there(joining, "[ -e /var/lib/kubelet/config.yaml ]"),
    },
    Phase {
        name: "its API server listens",
        seen: |_, joining| is_there(joining, "ss -ltn | grep -q ':6443 '"),
    },
];

fn is_there(node: &Node, line: &str) -> bool {
    node.sh(line).is_ok_and(|seen| seen.code == Some(0))
}

/// A site with one master that is to become highly available.
fn first_master(site: &RealSite) -> Result<Node> {
    let m1 = site.machine_with_media("m1", NodePlan::default())?;
    site.trust(&m1)?;
    step("m1: installer install … ha", || {
        site.install(&m1, "ha --yes")?.succeeded()
    })?;
    Ok(m1)
}

fn three_masters(site: &RealSite) -> Result<[Node; 3]> {
    let m1 = first_master(site)?;
    let [m2, m3] = site.machines(["m2", "m3"])?;
    let script = site.join_script(&m1, Becoming::Master)?;
    step("m2 and m3 join at the same instant", || {
        both_join(&m2, &m3, &script)
    })?;
    wait_for_nodes(&m1, &["m1", "m2", "m3"])?;
    real_site::require_members(&m1, &["m1", "m2", "m3"])?;
    Ok([m1, m2, m3])
}

fn both_join(one: &Node, other: &Node, script: &str) -> Result<()> {
    let pastes = [one, other].map(|node| || RealSite::paste(node, script)?.succeeded());
    at_once(pastes.into())
        .into_iter()
        .try_for_each(|join| join.map(drop))
}

/// Pastes a script and does something at the moment that is waited for; gives how the paste ended.
fn paste_and<T>(
    node: &Node,
    script: &str,
    is_now: impl Fn() -> bool,
    act: impl FnOnce() -> Result<T>,
) -> Result<(Finished, T)> {
    thread::scope(|scope| {
        let paste = scope.spawn(|| RealSite::paste(node, script));
        let reached = wait_for("the moment", || match is_now() {
            true => Ok(Ok(())),
            // It will not come any more.
            false if paste.is_finished() => Ok(Err(anyhow::anyhow!("the join was over before"))),
            false => Err("not yet".to_owned()),
        })
        .and_then(|reached| reached);
        let acted = reached.and_then(|()| act());
        let paste = paste.join().ok().context("the paste panicked")??;
        Ok((paste.clone(), acted.with_context(|| paste.to_string())?))
    })
}

/// One machine dies in each phase; another joins while it is a dead learner.
pub(crate) fn cut_in_every_phase() -> Result<()> {
    let site = crate::site()?;
    let m1 = first_master(&site)?;
    let [m2, m3] = site.machines(["m2", "m3"])?;
    let script = site.join_script(&m1, Becoming::Master)?;
    for phase in &PHASES {
        step(&format!("m2 loses power when {}", phase.name), || {
            paste_and(&m2, &script, || (phase.seen)(&m1, &m2), || m2.kill())
        })?;
        if phase.name == "it is a member of etcd without a vote" {
            step("m3 joins meanwhile", || joins_in_time(&m1, &m3, &script))?;
        }
        m2.start()?;
    }
    step("m2 joins, left alone", || {
        RealSite::paste(&m2, &script)?.succeeded()
    })?;
    wait_for_nodes(&m1, &["m1", "m2", "m3"])?;
    real_site::require_members(&m1, &["m1", "m2", "m3"])
}

/// The next join has its turn within 90 s: by then it is a member of etcd.
fn joins_in_time(m1: &Node, node: &Node, script: &str) -> Result<()> {
    let started = Instant::now();
    let name = node.name.clone();
    let (paste, ()) = paste_and(
        node,
        script,
        || real_site::members(m1).is_ok_and(|all| all.iter().any(|it| it.name == name)),
        || {
            note(&format!(
                "{:.1} s after the cut, {name} is a member",
                started.elapsed().as_secs_f64()
            ));
            ensure!(
                started.elapsed() < NEXT_JOIN,
                "it took {:?}",
                started.elapsed()
            );
            Ok(())
        },
    )?;
    paste.succeeded().map(drop)
}

/// Who holds the lease of every change of the control plane.
fn lease_holder(master: &Node) -> Option<String> {
    let lease = objects(master, "-n kube-system lease sealift-control-plane-change").ok()?;
    at(&lease, "/spec/holderIdentity")
        .as_str()
        .filter(|holder| !holder.is_empty())
        .map(str::to_owned)
}

/// The master that lets a machine in dies while it does.
pub(crate) fn the_holder_dies() -> Result<()> {
    let site = crate::site()?;
    let [m1, m2, m3] = three_masters(&site)?;
    let m4 = site.machine("m4")?;
    let script = site.join_script(&m1, Becoming::Master)?;
    let (paste, ()) = step("m1 loses power while m4 holds the lease", || {
        paste_and(&m4, &script, || lease_holder(&m2).is_some(), || m1.kill())
    })?;
    if paste.code != Some(0) {
        note(&format!("the join gave up: {paste}"));
        step("m4 joins, by the same script again", || {
            RealSite::paste(&m4, &script)?.succeeded()
        })?;
    }
    m1.start()?;
    wait_for_nodes(&m2, &["m1", "m2", "m3", "m4"])?;
    wait_for("etcd", || {
        real_site::require_members(&m3, &["m1", "m2", "m3", "m4"])
            .map_err(|error| format!("{error:#}"))
    })
}

/// The joining machine sees nobody for longer than its turn lasts.
pub(crate) fn a_partition() -> Result<()> {
    let site = crate::site()?;
    let m1 = first_master(&site)?;
    let [m2, m3] = site.machines(["m2", "m3"])?;
    let script = site.join_script(&m1, Becoming::Master)?;
    let (paste, ()) = step(
        "m2 is cut off when it is a member of etcd without a vote, and m3 joins",
        || {
            let learner = PHASES.get(2).context("the third phase")?;
            paste_and(
                &m2,
                &script,
                || (learner.seen)(&m1, &m2),
                || {
                    m2.part()?;
                    joins_in_time(&m1, &m3, &script)?;
                    m2.unpart()
                },
            )
        },
    )?;
    if paste.code != Some(0) {
        note(&format!("the join gave up: {paste}"));
        step("m2 joins, by the same script again", || {
            RealSite::paste(&m2, &script)?.succeeded()
        })?;
    }
    wait_for_nodes(&m1, &["m1", "m2", "m3"])?;
    wait_within(Duration::from_mins(1), "etcd", || {
        real_site::require_members(&m1, &["m1", "m2", "m3"]).map_err(|error| format!("{error:#}"))
    })
}

/// Three masters become five.
pub(crate) fn from_three_to_five() -> Result<()> {
    let site = crate::site()?;
    let [m1, _, _] = three_masters(&site)?;
    let [m4, m5] = site.machines(["m4", "m5"])?;
    let script = site.join_script(&m1, Becoming::Master)?;
    step("m4 and m5 join at the same instant", || {
        both_join(&m4, &m5, &script)
    })?;
    wait_for_nodes(&m1, &["m1", "m2", "m3", "m4", "m5"])?;
    real_site::require_members(&m1, &["m1", "m2", "m3", "m4", "m5"])
}
