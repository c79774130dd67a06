//! From nothing to three masters and a worker, told step by step with times.

use std::fs;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use tests::bed::Bed;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::real_parts;
use tests::real_site;
use tests::real_site::Becoming;
use tests::real_site::RealSite;
use tests::real_site::at_once;
use tests::scenarios::note;
use tests::scenarios::step;

use crate::binaries;
use crate::repo;
use crate::say;

/// Brings the cluster up; a bed whose cluster does not come up stays for a look, until `down`.
pub(super) fn run() -> Result<bool> {
    ensure!(
        real_parts::is_root(),
        "machines in namespaces need root: sudo cargo xtask cluster up"
    );
    let parts = step("programs and images of Kubernetes", binaries::parts)?;
    let bundle = step("one signed file", || binaries::bundle(&parts))?;
    if let Some(old) = Bed::open(&super::name())? {
        step("the old cluster is removed", || old.remove())?;
    }
    let bed = step("a bed for machines", || Bed::new_kept(&super::name()))?;
    let site = RealSite::on(bed, bundle)?;
    let m1 = first_master(&site)?;
    others(&site, &m1)?;
    step("every node is Ready", || {
        real_site::wait_for_nodes(&m1, &["m1", "m2", "m3", "w1"])
    })?;
    step("etcd has three started members, no learner", || {
        real_site::require_members(&m1, &["m1", "m2", "m3"])
    })?;
    next_steps(&site, &m1)?;
    Ok(true)
}

fn first_master(site: &RealSite) -> Result<Node> {
    let m1 = step(
        "m1 boots, with the file, the installer and the vendor's root",
        || site.machine_with_media("m1", NodePlan::default()),
    )?;
    step("m1: installer trust add", || site.trust(&m1))?;
    let done = step("m1: installer install … ha", || {
        site.install(&m1, "ha --yes")?.succeeded()
    })?;
    for line in done.stderr.lines().chain(done.stdout.lines()) {
        note(&format!("           {line}"));
    }
    Ok(m1)
}

/// Machines with nothing but the text of a script.
fn others(site: &RealSite, m1: &Node) -> Result<()> {
    let [m2, m3, w1] = step("m2, m3 and w1 boot, with nothing", || {
        site.machines(["m2", "m3", "w1"])
    })?;
    let masters = step("m1: installer join-script --master", || {
        site.join_script(m1, Becoming::Master)
    })?;
    let workers = step("m1: installer join-script --worker", || {
        site.join_script(m1, Becoming::Worker)
    })?;
    step(
        "the scripts are pasted on m2, m3 and w1 at the same instant",
        || {
            let joins = at_once(
                vec![(&m2, &masters), (&m3, &masters), (&w1, &workers)]
                    .into_iter()
                    .map(|(node, script)| {
                        move || {
                            RealSite::paste(node, script)?
                                .succeeded()
                                .with_context(|| format!("join of {}", node.name))
                        }
                    })
                    .collect(),
            );
            joins.into_iter().try_for_each(|join| join.map(drop))
        },
    )
}

fn next_steps(site: &RealSite, m1: &Node) -> Result<()> {
    // The endpoint's name is on the nodes alone; from the bed's switch, any master is reached by its address.
    let config = String::from_utf8(m1.get("/etc/kubernetes/admin.conf")?)?;
    let server = config
        .lines()
        .find(|line| line.trim_start().starts_with("server: "));
    let server = server.context("admin.conf names no server")?.trim_start();
    let path = repo::target().join("cluster.kubeconfig");
    fs::write(
        &path,
        config.replace(server, &format!("server: https://{}:6443", m1.address)),
    )?;
    let lan = format!("sealift-{}-lan", site.bed().id());
    let kubectl = site.bundle().release.join("programs/kubernetes/kubectl");
    say!("\nThe cluster is up. kubeconfig: {}", path.display());
    say!("next:");
    say!(
        "  sudo ip netns exec {lan} {} --kubeconfig {} get nodes",
        kubectl.display(),
        path.display()
    );
    say!("  sudo cargo xtask cluster exec m1 installer status");
    say!("  sudo cargo xtask cluster exec m2              a shell on a node");
    say!("  sudo cargo xtask cluster down                 removes all of it");
    Ok(())
}
