//! One machine, one file, one command: a cluster of one master. The same command again: nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use tests::bed::Node;
use tests::real_site;
use tests::real_site::at;
use tests::real_site::items;
use tests::real_site::objects;
use tests::scenarios::step;

use crate::story::Story;
use crate::story::wait_until;

/// Kinds of objects that an install makes, without those that the cluster itself writes to all the time.
const KINDS: &str = "deployments,daemonsets,services,configmaps,serviceaccounts,roles,rolebindings,namespaces,\
                     clusterroles,clusterrolebindings,secrets";

/// DNS and the application answer on the only node there is.
pub(crate) fn answers(story: &mut Story) -> Result<()> {
    let m1 = story.first_master()?;
    step("etcd has one started member", || {
        real_site::require_members(&m1, &["m1"])
    })?;
    answer_on(&m1, &m1)?;
    let taints = at(&objects(&m1, "node m1")?, "/spec/taints").clone();
    ensure!(
        taints.is_null(),
        "applications were not asked to keep off: {taints}"
    );
    Ok(())
}

/// DNS and the application answer on a node.
pub(crate) fn answer_on(master: &Node, node: &Node) -> Result<()> {
    step(&format!("{}: the cluster's DNS answers", node.name), || {
        wait_until("the cluster's DNS", || {
            real_site::look_up(node, "demo.shop.svc.cluster.local")?
                .succeeded()
                .map(drop)
        })
    })?;
    let address = real_site::demo_address(master)?;
    step(&format!("{}: the application answers", node.name), || {
        wait_until("the application", || {
            real_site::ask_demo(node, address)?.succeeded().map(drop)
        })
    })
}

/// Files, units and objects are after a rerun what they were before it.
pub(crate) fn a_rerun_changes_nothing(story: &mut Story) -> Result<()> {
    let m1 = story.first_master()?;
    // The cluster itself goes on to work after an install: its own writes must be over.
    step("all pods are Ready", || {
        wait_until("pods", || {
            real_site::kubectl(
                &m1,
                "wait --for=condition=Ready pods --all -A --timeout=15s",
            )?
            .succeeded()
            .map(drop)
        })
    })?;
    let before = (files(&m1)?, units(&m1)?, versions(&m1)?);
    let rerun = step("m1: installer install, again", || {
        story.site()?.install(&m1, "--yes")?.succeeded()
    })?;
    let after = (files(&m1)?, units(&m1)?, versions(&m1)?);
    require_same("files", &before.0, &after.0)?;
    require_same("units", &before.1, &after.1)?;
    require_same("objects", &before.2, &after.2)?;
    real_site::require_members(&m1, &["m1"])?;
    ensure!(rerun.wall.as_secs() < 60, "a rerun took {:?}", rerun.wall);
    Ok(())
}

/// Times of change, to the nanosecond, of everything that an install writes.
pub(crate) fn files(node: &Node) -> Result<BTreeMap<String, String>> {
    let listed = node.output(
        "find /etc /usr/local /opt /root /var/lib/sealift /var/lib/sealift-node /var/lib/kubelet/config.yaml \
         /var/lib/kubelet/kubeadm-flags.env -xdev -type f -printf '%p %T@ %C@ %s\\n' 2>/dev/null || true",
    )?;
    // What syncd and the installer say about time itself is theirs.
    let told = listed.lines().filter_map(|line| line.split_once(' '));
    let changing = [
        "/etc/resolv.conf",
        "/var/lib/sealift/LOCK",
        "/etc/sealift/members.json",
    ];
    Ok(told
        .filter(|(path, _)| {
            !changing.contains(path) && !path.starts_with("/var/lib/sealift/records/")
        })
        .map(|(path, times)| (path.to_owned(), times.to_owned()))
        .collect())
}

/// When each running unit was started, and how often it was restarted.
fn units(node: &Node) -> Result<BTreeMap<String, String>> {
    let mut units = BTreeMap::new();
    for unit in ["containerd", "kubelet", "syncd", "syncd-endpoint"] {
        let properties = "MainPID,NRestarts,ActiveEnterTimestampMonotonic,ActiveState";
        units.insert(
            unit.to_owned(),
            node.output(&format!("systemctl show -p {properties} {unit}"))?,
        );
    }
    Ok(units)
}

/// `resourceVersion` of every object that an install makes.
fn versions(node: &Node) -> Result<BTreeMap<String, String>> {
    let all = objects(node, &format!("{KINDS} -A"))?;
    let name = |item: &Value| {
        let metadata = at(item, "/metadata");
        format!(
            "{} {} {}",
            at(item, "/kind"),
            at(metadata, "/namespace"),
            at(metadata, "/name")
        )
    };
    Ok(items(&all)
        // A bootstrap token that ends is removed by the cluster.
        .filter(|item| {
            at(item, "/type") != "bootstrap.kubernetes.io/token"
                && at(item, "/metadata/name") != "cluster-info"
        })
        .map(|item| {
            (
                name(item),
                at(item, "/metadata/resourceVersion").to_string(),
            )
        })
        .collect())
}

/// That two looks saw the same; names what is not.
pub(crate) fn require_same(
    what: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<()> {
    let keys = before.keys().chain(after.keys());
    let differing: Vec<String> = keys
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key}: {:?} became {:?}", before.get(key), after.get(key)))
        .collect();
    ensure!(
        differing.is_empty(),
        "{what} were changed:\n{}",
        differing.join("\n")
    );
    ensure!(!before.is_empty(), "no {what} were found at all");
    Ok(())
}
