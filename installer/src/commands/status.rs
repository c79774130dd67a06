//! `installer status`: whether the site is well, from a master; on a worker, whether this node is.

use std::path::Path;

use api::join::Role;
use api::site::NODE_FILE;
use api::site::NodeSite;
use bundle::fault::Blame;
use bundle::fault::Fault;
use program::Outcome;
use program::Output;
use serde::Serialize;

use crate::cli::StatusArgs;
use crate::machine::Machine;
use crate::machine::RealPrograms;
use crate::status;
use crate::status::Seen;
use crate::status::Verdict;
use crate::tools::syncd;
use crate::tools::systemctl;

/// A machine of no cluster.
#[derive(Debug, thiserror::Error)]
#[error("this machine is a node of no cluster")]
struct NoNode;

/// The node's record.
#[derive(Debug, thiserror::Error)]
#[error("{NODE_FILE} can't be understood")]
struct BadRecord(#[source] serde_json::Error);

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    seen: &'a Seen,
}

#[derive(Serialize)]
struct Worker {
    well: bool,
    node: String,
    cluster_id: String,
    units_down: Vec<&'static str>,
    endpoint: bool,
}

/// What runs on every node.
const UNITS: [&str; 4] = [
    "containerd.service",
    "kubelet.service",
    "syncd.service",
    "syncd-endpoint.service",
];

pub(super) fn run(arguments: &StatusArgs, output: &Output) -> Outcome {
    let machine = Machine::new(Path::new("/"), Box::new(RealPrograms::to_look()));
    let text = machine.read(NODE_FILE)?.ok_or(NoNode)?;
    let site: NodeSite = serde_json::from_str(&text).map_err(BadRecord)?;
    if site.role == Role::Worker {
        return worker(&machine, &site, output);
    }
    let seen = status::look(&machine, &site, &arguments.control);
    let verdict = status::judge(&seen);
    let told = Told {
        verdict: &verdict,
        seen: &seen,
    };
    output.result(&told, |out| {
        for line in status::lines(&seen, &verdict) {
            out.line(line);
        }
    })
}

/// A worker may not look at the others: it tells of itself.
fn worker(machine: &Machine, site: &NodeSite, output: &Output) -> Outcome {
    let down = UNITS
        .into_iter()
        .filter(|unit| !systemctl::is_active(machine, unit));
    let endpoint = syncd::listens([127, 0, 0, 1].into(), api::endpoint::PORT);
    let units_down: Vec<_> = down.collect();
    let worker = Worker {
        well: units_down.is_empty() && endpoint,
        node: site.node.to_string(),
        cluster_id: site.cluster_id.to_string(),
        units_down,
        endpoint,
    };
    output.result(&worker, |out| {
        let state = if worker.well { "WELL" } else { "NOT WELL" };
        out.line(format!(
            "{}, a worker of {}: {state}; installer status on a master tells of the site",
            worker.node, worker.cluster_id
        ));
        for unit in &worker.units_down {
            out.line(format!("  ! {unit} does not run"));
            out.line(format!("to do: systemctl start {unit}"));
        }
    })
}

impl Fault for NoNode {
    fn code(&self) -> &'static str {
        "NODE_OF_NO_CLUSTER"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "installer install makes it the first master; a join script makes it one more"
                .to_owned(),
        )
    }
}

impl Fault for BadRecord {
    fn code(&self) -> &'static str {
        "SITE_RECORD"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        Some("restore it from a backup; it says which cluster this node is of".to_owned())
    }
}
