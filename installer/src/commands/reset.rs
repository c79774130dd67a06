//! `installer reset`: a machine whose join failed becomes one of no cluster again.
//!
//! A master whose etcd has a vote is refused: its data is a part of the cluster's, and only the others can let it go. The
//! same goes for a node that has joined and runs; that is what removing a node is for.

use std::path::Path;
use std::time::Duration;

use api::join::Role;
use api::site::NODE_FILE;
use api::site::NodeSite;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::Outcome;
use program::Output;
use serde::Serialize;

use super::install::TURN;
use crate::cli::ResetArgs;
use crate::join::JOINED;
use crate::join::STEP;
use crate::machine::Machine;
use crate::machine::Mode;
use crate::machine::NODE_DIRECTORY;
use crate::machine::RealPrograms;
use crate::render::units;
use crate::run::Journal;
use crate::run::Record;
use crate::run::Turn;
use crate::steps::CONTROL_PLANE_STEP;
use crate::tools::kubeadm;
use crate::tools::systemctl;

/// How long a reset waits for what a killed run has left running.
const PATIENCE: Duration = Duration::from_mins(1);

/// Files that make a machine a node; the store and its bundles are not among them.
const FILES: [&str; 10] = [
    "/etc/sealift/ca.pem",
    "/etc/sealift/ca.key",
    "/etc/sealift/node.pem",
    "/etc/sealift/node.key",
    "/etc/sealift/members.json",
    "/etc/sealift/endpoint.json",
    "/etc/sealift/syncd.toml",
    "/var/lib/sealift-node/join/attempt",
    "/var/lib/sealift-node/join/kubeadm.yaml",
    // The last one: while it is there, another reset goes on where this one was killed.
    NODE_FILE,
];

/// Why a machine is left what it is.
#[derive(Debug, thiserror::Error)]
enum ResetError {
    /// Nothing is here.
    #[error("this machine is a node of no cluster")]
    NoNode,
    /// The node's record.
    #[error("{NODE_FILE} can't be understood")]
    Record(#[source] serde_json::Error),
    /// Another cluster was named, or none.
    #[error("this machine is of another cluster than was named")]
    Cluster { is: String, named: String },
    /// It is a part of a cluster that runs.
    #[error("{node} is a node of a cluster that runs")]
    InUse { node: String },
}

#[derive(Serialize)]
struct WasReset {
    node: String,
    cluster_id: String,
}

pub(super) fn run(arguments: &ResetArgs, output: &Output) -> Outcome {
    let look = Machine::new(Path::new("/"), Box::new(RealPrograms::to_look()));
    let text = look.read(NODE_FILE)?.ok_or(ResetError::NoNode)?;
    let site: NodeSite = serde_json::from_str(&text).map_err(ResetError::Record)?;
    let named = arguments.cluster.clone().unwrap_or_default();
    if named != site.cluster_id.as_str() {
        let is = site.cluster_id.to_string();
        return Err(ResetError::Cluster { is, named }.into());
    }
    let path = look.path(&format!("{NODE_DIRECTORY}/install.journal"));
    let journal = Journal::open(&path, "reset")?;
    refuse_in_use(&look, &site, &journal)?;
    let turn = Turn::take(Path::new(TURN), PATIENCE, output)?;
    let machine = Machine::new(Path::new("/"), Box::new(RealPrograms::of_run(turn)));
    reset(&machine, &site, journal, output).map_err(program::Failure::into_partial)?;
    let was = WasReset {
        node: site.node.to_string(),
        cluster_id: site.cluster_id.to_string(),
    };
    output.result(&was, |lines| {
        lines.line(format!(
            "{} is of no cluster any more. Its store was left as it is.",
            was.node
        ));
    })
}

fn refuse_in_use(machine: &Machine, site: &NodeSite, journal: &Journal) -> Outcome {
    let joined = journal.has_note(STEP, JOINED);
    let founded = journal.has_note(CONTROL_PLANE_STEP, "api-ready");
    let voter = site.role == Role::Master && crate::join::is_voter(machine);
    if joined || founded || voter {
        return Err(ResetError::InUse {
            node: site.node.to_string(),
        }
        .into());
    }
    Ok(())
}

fn reset(machine: &Machine, site: &NodeSite, mut journal: Journal, output: &Output) -> Outcome {
    output.doing("reset", "kubeadm");
    if machine.has("/etc/kubernetes") || machine.has("/var/lib/kubelet/config.yaml") {
        kubeadm::reset_join(machine)?;
    }
    for unit in ["kubelet.service", "syncd-endpoint.service", "syncd.service"] {
        if systemctl::is_active(machine, unit) {
            systemctl::stop(machine, unit)?;
        }
        if systemctl::is_enabled(machine, unit) {
            systemctl::disable(machine, unit)?;
        }
    }
    machine.remove_folder("/etc/kubernetes")?;
    machine.remove_folder("/var/lib/etcd")?;
    let line = units::hosts_line(&site.cluster_id);
    if let Some(hosts) = machine.read("/etc/hosts")? {
        let lines = hosts.split_inclusive('\n');
        let kept: String = lines.filter(|known| known.trim() != line).collect();
        machine.write("/etc/hosts", &kept, Mode::Plain)?;
    }
    journal.write(&Record::undone(STEP))?;
    journal.write(&Record::undone(CONTROL_PLANE_STEP))?;
    for file in FILES {
        machine.remove(file)?;
    }
    Ok(journal.write(&Record::Finished)?)
}

impl Fault for ResetError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoNode => "NODE_OF_NO_CLUSTER",
            Self::Record(_) => "SITE_RECORD",
            Self::Cluster { .. } => "RESET_CLUSTER",
            Self::InUse { .. } => "RESET_IN_USE",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoNode | Self::Cluster { .. } | Self::InUse { .. } => Blame::Usage,
            Self::Record(_) => Blame::Machine,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Cluster { is, named } => vec![Fact::new("is", is), Fact::new("named", named)],
            Self::NoNode | Self::Record(_) | Self::InUse { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoNode => None,
            Self::Record(_) => Some(format!("restore {NODE_FILE} from a backup")),
            Self::Cluster { is, .. } => Some(format!("name it: installer reset --cluster {is}")),
            Self::InUse { .. } => Some(
                "a later version removes nodes; a failed join goes on when its script is run again"
                    .to_owned(),
            ),
        }
    }
}
