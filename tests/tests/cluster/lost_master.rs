//! Power cut of the first master, which everything went to: the rest goes on without it, and takes it back.

use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use tests::bed::Node;
use tests::process::wait_within;
use tests::real_site;
use tests::real_site::Becoming;
use tests::real_site::INSTALL_GUARD;
use tests::real_site::RealSite;
use tests::real_site::at;
use tests::real_site::items;
use tests::real_site::objects;
use tests::scenarios::note;
use tests::scenarios::step;

use crate::story::NODES;
use crate::story::Story;
use crate::story::wait_until;

/// How long a client of the API may have to wait for another master.
const API_GAP: Duration = Duration::from_secs(10);

/// Look-ups in a row that must all be answered by the first try.
const LOOK_UPS: usize = 20;

/// Fifteen tries of 2 s: longer than chance explains, shorter than an eviction.
const DNS_SILENCE: Duration = Duration::from_secs(30);

/// Everything that must go on, in the order in which an operator notices.
pub(crate) fn first_master_dies(story: &mut Story) -> Result<()> {
    let m1 = story.four_nodes()?;
    let [m2, m3, w1] = ["m2", "m3", "w1"].map(|name| story.node(name));
    let (m2, m3, w1) = (m2?, m3?, w1?);
    let survivors = [&m2, &m3, &w1];
    m1.kill()?;
    let cut = Instant::now();
    for node in survivors {
        wait_within(API_GAP, &format!("the API on {}", node.name), || {
            let answer = real_site::api_answers(node).and_then(tests::process::Finished::succeeded);
            answer.map(drop).map_err(|error| format!("{error:#}"))
        })?;
        note(&format!(
            "{:7.1} s after the cut: the API answers on {}",
            cut.elapsed().as_secs_f64(),
            node.name
        ));
    }
    step("DNS goes on", || dns_goes_on(&w1))?;
    step("a Deployment scales", || scales(&m2))?;
    step("m2's script makes w2 a worker", || {
        let site = story.site()?;
        let w2 = site.machine("w2")?;
        let script = site.join_script(&m2, Becoming::Worker)?;
        RealSite::paste(&w2, &script)?.succeeded()?;
        story.add(w2);
        wait_until("w2 to be Ready", || {
            let ready = real_site::ready_nodes(&m2)?;
            ensure!(ready.contains(&"w2".to_owned()), "Ready: {ready:?}");
            Ok(())
        })
    })?;
    step("bundles are safe on the rest", || is_safe(&[&m2, &m3]))?;
    step("m1 comes back and is well", || comes_back(&m1, &m2))
}

/// Names are answered all the time, and soon by the first try.
///
/// Until Kubernetes calls the dead node not ready, its pod still counts among those that answer, and each look-up goes to
/// one of them by chance: some need another try, which a resolver makes by itself. Fifteen that all go wrong are no chance.
fn dns_goes_on(node: &Node) -> Result<()> {
    let (mut in_a_row, mut last_answer) = (0, Instant::now());
    wait_until("look-ups that are all answered at once", || {
        if real_site::look_up(node, "demo.shop.svc.cluster.local")?.code == Some(0) {
            in_a_row += 1;
            last_answer = Instant::now();
        } else {
            in_a_row = 0;
        }
        let silence = last_answer.elapsed();
        assert!(silence < DNS_SILENCE, "no answer for {silence:?}");
        ensure!(in_a_row >= LOOK_UPS, "{in_a_row} answers in a row");
        Ok(())
    })
}

/// Those on the dead node count for Kubernetes until it has given them up: what is new must run on the rest.
fn scales(master: &Node) -> Result<()> {
    let before = ready_pods_on_the_rest(master)?;
    let deployment = objects(master, "-n shop deployment demo")?;
    let wanted = at(&deployment, "/spec/replicas").as_u64().unwrap_or(1) + 2;
    let scale = format!("-n shop scale deployment demo --replicas={wanted}");
    real_site::kubectl(master, &scale)?.succeeded()?;
    wait_until("the new pods", || {
        let ready = ready_pods_on_the_rest(master)?;
        ensure!(
            ready >= before + 2,
            "{ready} are Ready, {before} were before"
        );
        Ok(())
    })
}

/// How many pods of the application are Ready, those of the dead node apart.
fn ready_pods_on_the_rest(master: &Node) -> Result<usize> {
    let pods = objects(master, "-n shop pods -l app=demo")?;
    let is_ready = |pod: &&Value| {
        let conditions = at(pod, "/status/conditions")
            .as_array()
            .into_iter()
            .flatten();
        let mut ready = conditions.filter(|it| at(it, "/type") == "Ready");
        at(pod, "/spec/nodeName") != "m1" && ready.any(|it| at(it, "/status") == "True")
    };
    Ok(items(&pods).filter(is_ready).count())
}

/// What syncd says of the copies, and that they are there.
fn is_safe(masters: &[&Node]) -> Result<()> {
    for master in masters {
        wait_until("syncd's word", || {
            let status: Value = serde_json::from_str(&master.output("syncd status --json")?)?;
            let text = status.to_string();
            ensure!(text.contains("safe") || text.contains("SAFE"), "{text}");
            Ok(())
        })?;
    }
    Ok(())
}

fn comes_back(m1: &Node, m2: &Node) -> Result<()> {
    m1.start()?;
    wait_within(INSTALL_GUARD, "all nodes to be Ready", || {
        let mut all: Vec<String> = NODES.map(str::to_owned).to_vec();
        all.push("w2".to_owned());
        match real_site::ready_nodes(m2) {
            Ok(ready) if ready == all => Ok(()),
            Ok(ready) => Err(format!("Ready: {ready:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    })?;
    wait_until("etcd on m1", || {
        real_site::require_members(m1, &crate::story::MASTERS)
    })?;
    m1.output("systemctl is-active containerd kubelet syncd syncd-endpoint")?;
    Ok(())
}
