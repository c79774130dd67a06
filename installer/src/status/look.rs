//! Looking at the cluster from one of its masters; what can't be seen is left open, never guessed.

use std::path::Path;

use api::join::Queue;
use api::site::NodeSite;
use api::sync::ContentKind;
use api::sync::Copy;
use api::sync::Status;
use serde_json::Value;

use super::Available;
use super::Bundle;
use super::Etcd;
use super::Node;
use super::Seen;
use crate::machine::Call;
use crate::machine::Machine;
use crate::render::kubeadm::CONTROL_PLANE;
use crate::steps;
use crate::tools::control;
use crate::tools::kubectl;

/// Looks.
pub(crate) fn look(machine: &Machine, site: &NodeSite, socket: &Path) -> Seen {
    let mut seen = Seen {
        cluster_id: site.cluster_id.to_string(),
        ha: site.ha,
        load_balancer: site.load_balancer.clone(),
        first_master: site.first_master.to_string(),
        api: kubectl::is_ready(machine)
            .err()
            .map(|error| error.to_string()),
        ..Seen::default()
    };
    if seen.api.is_none() {
        look_at_cluster(machine, &mut seen);
    }
    seen.etcd = etcd(machine);
    match control::ask::<Status>(socket, "GET", "/v1/status", None::<&()>) {
        Ok(status) => look_at_store(&status, &mut seen),
        Err(error) => seen.troubles.push(error.to_string()),
    }
    if let Ok(queue) = control::ask::<Queue>(socket, "GET", "/v1/join/queue", None::<&()>) {
        let holder = queue
            .holder
            .map(|holder| format!("{holder} (since {} s)", queue.holder_age_s));
        seen.joining.extend(holder);
        let waiting = queue.waiting.iter().map(|node| format!("{node} waits"));
        seen.joining.extend(waiting);
    }
    seen
}

fn look_at_cluster(machine: &Machine, seen: &mut Seen) {
    if let Ok(Some(site)) = steps::recorded_site(machine) {
        seen.ha = site.ha;
        seen.load_balancer = site.load_balancer;
        seen.first_master = site.first_master.to_string();
    }
    if let Ok(Some(list)) = kubectl::get::<Value>(machine, &["nodes"]) {
        let items = list.get("items").and_then(Value::as_array);
        seen.nodes = items.into_iter().flatten().map(node).collect();
    }
    if let Ok(Some(dns)) =
        kubectl::get::<Value>(machine, &["-n", "kube-system", "deployment/coredns"])
    {
        let number = |path: &str| dns.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        seen.dns = Some(Available {
            wanted: number("/spec/replicas"),
            available: number("/status/availableReplicas"),
        });
    }
}

fn node(node: &Value) -> Node {
    let name = node.pointer("/metadata/name").and_then(Value::as_str);
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    Node {
        name: name.unwrap_or_default().to_owned(),
        master: labels.is_some_and(|labels| labels.contains_key(CONTROL_PLANE)),
        ready: steps::has_condition(node, "Ready"),
    }
}

fn etcdctl<const N: usize>(arguments: [&str; N]) -> Call {
    let pki = "/etc/kubernetes/pki/etcd";
    let mut call = Call::new(
        "etcdctl",
        ["--endpoints=https://127.0.0.1:2379", "-w", "json"],
    )
    .arg(format!("--cacert={pki}/ca.crt"))
    .arg(format!("--cert={pki}/healthcheck-client.crt"))
    .arg(format!("--key={pki}/healthcheck-client.key"));
    for argument in arguments {
        call = call.arg(argument);
    }
    call
}

fn etcd(machine: &Machine) -> Etcd {
    let read = |call: &Call| -> Option<Value> {
        // `endpoint status` fails when one of them is silent, and tells of the others all the same.
        let ran = machine.run(call).ok()?;
        serde_json::from_str(&ran.output).ok()
    };
    let listed = read(&etcdctl(["member", "list"]));
    let members = listed
        .as_ref()
        .and_then(|list| list.get("members"))
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut etcd = Etcd {
        members: members.len(),
        ..Etcd::default()
    };
    for member in &members {
        let is_learner = member.get("isLearner").and_then(Value::as_bool) == Some(true);
        etcd.learners += usize::from(is_learner);
        let Some(url) = member.pointer("/clientURLs/0").and_then(Value::as_str) else {
            continue;
        };
        let status = read(&etcdctl(["endpoint", "status"]).arg(format!("--endpoints={url}")));
        let Some(status) = status.as_ref().and_then(|list| list.pointer("/0/Status")) else {
            continue;
        };
        etcd.answering += 1;
        let id = status.pointer("/header/member_id").and_then(Value::as_u64);
        let leader = status.get("leader").and_then(Value::as_u64);
        if id.is_some() && id == leader {
            etcd.leader = member
                .get("name")
                .and_then(Value::as_str)
                .map(str::to_owned);
        }
    }
    etcd
}

fn look_at_store(status: &Status, seen: &mut Seen) {
    let shown = status
        .contents
        .iter()
        .filter(|content| matches!(content.kind, ContentKind::Bundle | ContentKind::License));
    seen.bundles = shown
        .map(|content| Bundle {
            title: content.title.clone(),
            license: content.kind == ContentKind::License,
            complete: content
                .copies
                .values()
                .filter(|copy| **copy == Copy::Complete)
                .count(),
            members: content.copies.len(),
        })
        .collect();
    let troubles = status.troubles.iter().map(|trouble| trouble.text.clone());
    seen.troubles.extend(troubles);
}
