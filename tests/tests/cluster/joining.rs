//! Machines that start with nothing but the text of a script become masters and workers.

use anyhow::Result;
use anyhow::ensure;
use tests::real_site;
use tests::real_site::at;
use tests::real_site::items;
use tests::real_site::objects;
use tests::scenarios::step;

use crate::first_master::answer_on;
use crate::story::MASTERS;
use crate::story::NODES;
use crate::story::Story;
use crate::story::wait_until;

/// Four nodes are Ready, etcd has three voting members, DNS is spread, and everything answers everywhere.
pub(crate) fn four_nodes(story: &mut Story) -> Result<()> {
    let m1 = story.four_nodes()?;
    let ready = real_site::ready_nodes(&m1)?;
    ensure!(ready == NODES, "Ready: {ready:?}");
    for name in MASTERS {
        let master = story.node(name)?;
        step(
            &format!("{name} sees three started members of etcd, no learner"),
            || real_site::require_members(&master, &MASTERS),
        )?;
    }
    for name in NODES {
        let node = story.node(name)?;
        step(
            &format!("{name}: the API answers through its own forwarder"),
            || real_site::api_answers(&node)?.succeeded(),
        )?;
        answer_on(&m1, &node)?;
    }
    step("no two pods of the cluster's DNS are on one node", || {
        wait_until("DNS to be spread", || dns_is_spread(story))
    })?;
    no_credentials_are_left(story)
}

fn dns_is_spread(story: &Story) -> Result<()> {
    let pods = objects(
        &story.node("m1")?,
        "-n kube-system pods -l k8s-app=kube-dns",
    )?;
    let mut nodes: Vec<&str> = items(&pods)
        .filter(|pod| at(pod, "/metadata/deletionTimestamp").is_null())
        .filter_map(|pod| at(pod, "/spec/nodeName").as_str())
        .collect();
    let all = nodes.len();
    nodes.sort_unstable();
    nodes.dedup();
    ensure!(all > 1 && nodes.len() == all, "{all} pods are on {nodes:?}");
    Ok(())
}

/// What was minted for the joins is gone: bootstrap tokens and the shared certificates.
fn no_credentials_are_left(story: &Story) -> Result<()> {
    let secrets = objects(&story.node("m1")?, "-n kube-system secrets")?;
    let names: Vec<&str> = items(&secrets)
        .filter_map(|secret| at(secret, "/metadata/name").as_str())
        .filter(|name| name.starts_with("bootstrap-token-") || *name == "kubeadm-certs")
        .collect();
    ensure!(names.is_empty(), "credentials are left: {names:?}");
    Ok(())
}
