//! What a bootstrap will do to this machine, as plain data: from what is wanted and what was seen, without touching anything.
//!
//! The order of the steps is that of kubeadm's own phases with the store in front: nothing starts before its bytes are
//! verified and on disk. A step that is already true says so; a check that fails stops the plan before its first step.

use std::fmt;

use serde::Serialize;

use crate::observe::Host;
use crate::preflight::Check;
use crate::preflight::Verdict;

/// What the operator asked for and the bundle brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `vendor/product version`, for the title.
    pub release: String,
    /// The Kubernetes version; none for a bundle of applications only.
    pub kubernetes: Option<Kubernetes>,
    /// Node files by role, sorted, with how many there are of each.
    pub node_files: Vec<(String, usize)>,
    /// Images that the cluster's own parts need, then those of applications.
    pub images: (usize, usize),
    /// Blobs that the store lacks, and their bytes.
    pub missing: (usize, u64),
    /// Manifests of the network and the like, applied first; then those of applications.
    pub manifests: usize,
    /// `namespace/release` of each chart, in order.
    pub charts: Vec<String>,
    /// The options of `install`.
    pub options: Options,
}

/// The part of a bundle that makes it bring a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// Version without `v`.
    pub version: String,
    /// The pods' network, CIDR.
    pub pod_subnet: String,
}

/// What was given to `install`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Wanted to become highly available.
    pub ha: bool,
    /// `HOST:PORT` in front of all masters.
    pub load_balancer: Option<String>,
    /// No application pods on masters.
    pub taint_control_plane: bool,
}

/// A bootstrap, ready to be read or to be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// One line: what becomes of this machine.
    pub title: String,
    /// What was checked on this machine.
    pub checks: Vec<Check>,
    /// What will be done, in order.
    pub steps: Vec<Step>,
}

/// One idempotent action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Stable id, as in the journal.
    pub id: &'static str,
    /// What it does, with its figures.
    pub does: String,
    /// What it will leave on the machine or in the cluster.
    pub leaves: Vec<String>,
    /// What was seen shows that it is done already.
    pub done: bool,
}

impl Plan {
    /// Plans the bootstrap of `host` as the first master, with the checks that were made on it.
    pub fn bootstrap(wanted: &Wanted, host: &Host, checks: Vec<Check>) -> Self {
        let what = if wanted.kubernetes.is_none() {
            "applications for the cluster that is here"
        } else if host.kubernetes.control_plane {
            "this machine is a master already; what is missing will be added"
        } else if wanted.options.ha {
            "this machine becomes the first master of a new highly available cluster"
        } else {
            "this machine becomes the only master of a new cluster"
        };
        Self {
            title: format!("{}: {what}", wanted.release),
            checks,
            steps: steps(wanted, host),
        }
    }

    /// The checks that stop this plan.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.verdict == Verdict::Fail)
    }
}

fn steps(wanted: &Wanted, host: &Host) -> Vec<Step> {
    let (missing, bytes) = wanted.missing;
    let mut steps = vec![step(
        "store",
        format!(
            "import {missing} blobs, {}; the file is read once",
            mib(bytes)
        ),
        ["/var/lib/sealift".to_owned()],
        missing == 0,
    )];
    if let Some(kubernetes) = &wanted.kubernetes {
        steps.extend(node_steps(wanted, host));
        steps.extend(cluster_steps(wanted, kubernetes, host));
    }
    if wanted.manifests > 0 {
        steps.push(step(
            "manifests",
            format!("apply {} manifests", wanted.manifests),
            [],
            false,
        ));
    }
    steps.extend(wanted.charts.iter().map(|chart| {
        step(
            "chart",
            format!("install {chart} and wait for it"),
            [],
            false,
        )
    }));
    steps
}

fn node_steps(wanted: &Wanted, host: &Host) -> Vec<Step> {
    let (of_cluster, of_applications) = wanted.images;
    let roles: Vec<_> = wanted
        .node_files
        .iter()
        .map(|(role, count)| format!("{count} {role}"))
        .collect();
    vec![
        step(
            "node-files",
            format!("place node files: {}", roles.join(", ")),
            [],
            false,
        ),
        step(
            "containerd",
            format!(
                "start containerd; {of_cluster} cluster images and {of_applications} of applications come from this node's syncd"
            ),
            [
                "/etc/containerd/config.toml".to_owned(),
                "containerd.service".to_owned(),
            ],
            false,
        ),
        step(
            "syncd",
            "start syncd and the API endpoint on loopback".to_owned(),
            [
                "/etc/sealift".to_owned(),
                "syncd.service".to_owned(),
                "syncd-endpoint.service".to_owned(),
            ],
            host.ports_taken.contains(&6444),
        ),
    ]
}

fn cluster_steps(wanted: &Wanted, kubernetes: &Kubernetes, host: &Host) -> Vec<Step> {
    let targets = match &wanted.options.load_balancer {
        Some(address) => format!("load balancer {address}"),
        None => "the first master; another takes over only when it is lost".to_owned(),
    };
    let mut steps = vec![
        step(
            "control-plane",
            format!(
                "kubeadm init, Kubernetes {}; API traffic goes to {targets}",
                kubernetes.version
            ),
            ["/etc/kubernetes".to_owned(), "/var/lib/etcd".to_owned()],
            host.kubernetes.control_plane,
        ),
        step(
            "network",
            format!("apply the pod network for {}", kubernetes.pod_subnet),
            [],
            false,
        ),
        step(
            "cluster-record",
            format!(
                "record the wish for {}",
                if wanted.options.ha {
                    "high availability"
                } else {
                    "one master"
                }
            ),
            ["ConfigMap kube-system/sealift-cluster".to_owned()],
            false,
        ),
    ];
    if wanted.options.taint_control_plane {
        steps.push(step(
            "taint",
            "keep application pods off the masters".to_owned(),
            [],
            false,
        ));
    }
    steps
}

fn step<const N: usize>(id: &'static str, does: String, leaves: [String; N], done: bool) -> Step {
    Step {
        id,
        does,
        leaves: leaves.into(),
        done,
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n\nchecks", self.title)?;
        for check in &self.checks {
            let mark = match check.verdict {
                Verdict::Pass => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
                Verdict::Ignored => "skip",
            };
            writeln!(out, "  {mark}  {:<10} {}", check.id, check.text)?;
        }
        writeln!(out, "\nsteps")?;
        for (number, step) in (1..).zip(&self.steps) {
            let done = if step.done { "  (done already)" } else { "" };
            writeln!(out, "  {number:>2}  {:<15} {}{done}", step.id, step.does)?;
            for left in &step.leaves {
                writeln!(out, "      {:<15} leaves {left}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
