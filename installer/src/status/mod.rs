//! `installer status`: whether the site is well, what is missing, and what to do next, in about ten lines.
//!
//! What was seen comes in as plain data, what follows from it goes out; the one is gathered in `look.rs`, the other is
//! pure and tested as text.

mod look;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub(crate) use look::look;

/// What was seen, from a master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    /// The cluster's id.
    pub(crate) cluster_id: String,
    /// What is wanted.
    pub(crate) ha: bool,
    /// `host:port` in front of all masters.
    pub(crate) load_balancer: Option<String>,
    /// The master that all traffic goes to without a load balancer.
    pub(crate) first_master: String,
    /// Whether the API answers through this node's forwarder; why not.
    pub(crate) api: Option<String>,
    /// Nodes by name.
    pub(crate) nodes: Vec<Node>,
    /// Members of etcd.
    pub(crate) etcd: Etcd,
    /// Whether both replicas of the cluster's DNS are there.
    pub(crate) dns: Option<Available>,
    /// Bundles, and who has them.
    pub(crate) bundles: Vec<Bundle>,
    /// What this master's daemon has trouble with.
    pub(crate) troubles: Vec<String>,
    /// Who changes the control plane, and who waits.
    pub(crate) joining: Vec<String>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) master: bool,
    pub(crate) ready: bool,
}

/// Members of etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Etcd {
    pub(crate) members: usize,
    pub(crate) answering: usize,
    pub(crate) learners: usize,
    pub(crate) leader: Option<String>,
}

/// Pods of a deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Available {
    pub(crate) wanted: u64,
    pub(crate) available: u64,
}

/// A bundle or a license and its copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Bundle {
    pub(crate) title: String,
    pub(crate) license: bool,
    pub(crate) complete: usize,
    pub(crate) members: usize,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Whether everything that is wanted is so.
    pub(crate) well: bool,
    /// What is wrong, one sentence each.
    pub(crate) wrong: Vec<String>,
    /// What to do, one command or sentence each.
    pub(crate) to_do: Vec<String>,
}

/// Judges what was seen.
pub(crate) fn judge(seen: &Seen) -> Verdict {
    let mut verdict = Verdict {
        well: true,
        wrong: Vec::new(),
        to_do: Vec::new(),
    };
    if let Some(why) = &seen.api {
        verdict.wrong(format!("the API does not answer: {why}"));
        verdict.advise("look at the control plane: journalctl -u kubelet, and crictl or ctr -n k8s.io containers ls");
    }
    for node in seen.nodes.iter().filter(|node| !node.ready) {
        verdict.wrong(format!("{} is not ready", node.name));
        verdict.advise(format!(
            "start {} again; if it is lost for good, remove it",
            node.name
        ));
    }
    judge_etcd(seen, &mut verdict);
    judge_size(seen, &mut verdict);
    if let Some(dns) = seen.dns.filter(|dns| dns.available < dns.wanted) {
        verdict.wrong(format!(
            "CoreDNS has {} of {} pods",
            dns.available, dns.wanted
        ));
    }
    for bundle in seen.bundles.iter().filter(|it| it.complete < it.members) {
        verdict.wrong(format!(
            "{} is complete on {} of {} masters",
            bundle.title, bundle.complete, bundle.members
        ));
    }
    for trouble in &seen.troubles {
        verdict.wrong(trouble.clone());
    }
    verdict
}

fn judge_etcd(seen: &Seen, verdict: &mut Verdict) {
    let etcd = &seen.etcd;
    if etcd.learners > 0 && seen.joining.is_empty() {
        verdict.wrong("etcd has a member without a vote, and nobody is joining");
        verdict.advise("the next join removes it; or wait until syncd does, within 90 s");
    }
    if etcd.answering < etcd.members {
        verdict.wrong(format!(
            "etcd: {} of {} members answer",
            etcd.answering, etcd.members
        ));
    }
}

/// What was wanted of the size, and what the size means.
fn judge_size(seen: &Seen, verdict: &mut Verdict) {
    let masters = seen.nodes.iter().filter(|node| node.master).count();
    if seen.api.is_some() {
        return;
    }
    if seen.ha && masters < 3 {
        verdict.advise(format!(
            "add {}: installer join-script --master",
            match 3 - masters.min(3) {
                1 => "a third master".to_owned(),
                more => format!("{more} masters"),
            }
        ));
    } else if masters > 2 && masters.is_multiple_of(2) {
        verdict.advise(format!(
            "{masters} masters bear no more losses than {}: add one or remove one",
            masters - 1
        ));
    }
}

impl Verdict {
    fn wrong(&mut self, text: impl Into<String>) {
        self.well = false;
        self.wrong.push(text.into());
    }

    fn advise(&mut self, text: impl Into<String>) {
        self.to_do.push(text.into());
    }
}

/// The lines for people.
pub(crate) fn lines(seen: &Seen, verdict: &Verdict) -> Vec<String> {
    let state = if verdict.well { "WELL" } else { "NOT WELL" };
    let more = match verdict.to_do.len() {
        0 => String::new(),
        1 => ", with one thing to do".to_owned(),
        more => format!(", with {more} things to do"),
    };
    let mut lines = vec![format!("{}: {state}{more}", seen.cluster_id)];
    lines.push(row(
        "masters",
        &format!("{} · {} · {}", nodes(seen, true), etcd(seen), path(seen)),
    ));
    if seen.nodes.iter().any(|node| !node.master) {
        lines.push(row("workers", &nodes(seen, false)));
    }
    if !seen.bundles.is_empty() {
        lines.push(row("bundles", &copies(seen)));
    }
    if !seen.joining.is_empty() {
        lines.push(row("joining", &seen.joining.join(", ")));
    }
    lines.extend(verdict.wrong.iter().map(|text| format!("  ! {text}")));
    lines.extend(verdict.to_do.iter().map(|text| format!("to do: {text}")));
    lines
}

fn row(label: &str, text: &str) -> String {
    format!("  {label:<9} {text}")
}

fn nodes(seen: &Seen, masters: bool) -> String {
    let names = |ready: bool| {
        let nodes = seen
            .nodes
            .iter()
            .filter(|node| node.master == masters && node.ready == ready);
        nodes
            .map(|node| node.name.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (ready, lost) = (names(true), names(false));
    match (ready.is_empty(), lost.is_empty()) {
        (true, true) => "unknown".to_owned(),
        (false, true) => format!("{ready} ready"),
        (true, false) => format!("{lost} not ready"),
        (false, false) => format!("{ready} ready, {lost} not ready"),
    }
}

fn etcd(seen: &Seen) -> String {
    let etcd = &seen.etcd;
    let leader = etcd
        .leader
        .as_ref()
        .map_or_else(String::new, |leader| format!(", leader {leader}"));
    format!("etcd {} of {}{leader}", etcd.answering, etcd.members)
}

fn path(seen: &Seen) -> String {
    match &seen.load_balancer {
        Some(address) => format!("API by {address} (load balancer)"),
        None => format!("API by {}", seen.first_master),
    }
}

fn copies(seen: &Seen) -> String {
    let texts: Vec<String> = seen
        .bundles
        .iter()
        .map(|it| {
            let copies = if it.complete == 1 { "copy" } else { "copies" };
            format!("{} {copies} of {}", it.complete, it.title)
        })
        .collect();
    texts.join(" · ")
}
