//! `installer join`: what a join script runs on a new machine.
//!
//! The masters, by the cluster's own authority; the vendor's root, by its fingerprint; the bundle's head, by the vendor's
//! signature. Then the preflights, beside the cluster that is there; up to here nothing is changed. Then the steps,
//! journalled.

use std::path::Path;
use std::time::Duration;

use api::join::JoinRequest;
use api::join::Master;
use api::join::Role;
use api::join::Site;
use api::join::TrustFiles;
use api::site::ClusterId;
use api::site::NODE_FILE;
use api::site::NodeSite;
use api::sync::NodeName;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::index::FileRole;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;
use bundle::verify::VerifiedIndex;
use program::Outcome;
use program::Output;
use program::durable::read_capped;
use serde::Serialize;
use store::Record;

use super::install::TURN;
use super::preflight;
use crate::cli::JoinArgs;
use crate::clock;
use crate::join::BundleCopy;
use crate::join::Client;
use crate::join::Fetch;
use crate::join::FolderBlobs;
use crate::join::Identity;
use crate::join::JOINED;
use crate::join::Join;
use crate::join::JoinStore;
use crate::join::STEP;
use crate::machine::Machine;
use crate::machine::NODE_DIRECTORY;
use crate::machine::RealPrograms;
use crate::observe::Host;
use crate::place;
use crate::preflight::Check;
use crate::preflight::Cluster;
use crate::preflight::Subject;
use crate::run;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Turn;
use crate::steps;
use crate::steps::Ground;
use crate::tools::systemctl;

/// How long a run waits for what a killed one has left running.
const PATIENCE: Duration = Duration::from_mins(20);

/// Largest request: some hundred masters and a certificate.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Why this machine can't join.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    /// The request is none.
    #[error("{} is no request to join", file.display())]
    Request {
        file: std::path::PathBuf,
        source: serde_json::Error,
    },
    /// This node's record.
    #[error("{NODE_FILE} can't be understood")]
    Record(#[source] serde_json::Error),
    /// A node of another cluster, or of another role.
    #[error("this machine is {is} already")]
    Another { is: String, wanted: String },
    /// The masters name another cluster than the script.
    #[error("the masters are of cluster {is}, the script is for {wanted}")]
    OtherCluster { is: String, wanted: String },
    /// The cluster runs no bundle.
    #[error("the cluster runs no bundle that could be joined with")]
    NoBundle,
    /// What was sent as a head is of another bundle.
    #[error("the masters sent the head of another bundle")]
    OtherHead { asked: Digest, came: Digest },
    /// The host's name.
    #[error("{name:?} can't be a node's name")]
    Name { name: String },
    /// No address.
    #[error("this machine has no address that others could reach it by")]
    Address,
}

#[derive(Serialize)]
struct Joined {
    cluster_id: String,
    node: String,
    role: Role,
    changed: bool,
}

/// What was learnt of the cluster, verified.
struct Known {
    site: Site,
    trust: Trust,
    verified: VerifiedIndex,
}

/// Joins.
pub(super) fn run(directory: &Path, arguments: &JoinArgs, output: &Output) -> Outcome {
    let request = read_request(&arguments.request)?;
    let look = Machine::new(Path::new("/"), Box::new(RealPrograms::to_look()));
    let before = node_record(&look)?;
    refuse_another(before.as_ref(), &request)?;
    let journal_path = look.path(&format!("{NODE_DIRECTORY}/install.journal"));
    let command = format!("join {}", request.cluster_id);
    if let Some(site) = &before
        && is_well(&look, &Journal::open(&journal_path, &command)?)
    {
        forget(&arguments.request);
        return tell(site, false, output);
    }
    let client = Client::new(&request)?;
    let known = learn(&client, &request)?;
    let host = Host::observe(Path::new("/"), directory);
    let site = node_site(before, &known, &request, &host, arguments)?;
    greet(&known, &site, output);
    let checks = checks(&client, &known, &host, &site, arguments)?;
    crate::preflight::require(&checks, site.role)?;
    preflight::tell(&checks, output);
    let turn = Turn::take(Path::new(TURN), PATIENCE, output)?;
    let machine = Machine::new(Path::new("/"), Box::new(RealPrograms::of_run(turn)));
    let mut journal = Journal::open(&journal_path, &command)?;
    super::tell_stopped(&journal, output);
    let work = Joining {
        machine: &machine,
        directory,
        request: &request,
        client: &client,
        known: &known,
        host: &host,
        site: &site,
    };
    work.apply(&mut journal, output)?;
    FolderBlobs::clear(&machine)?;
    forget(&arguments.request);
    tell(&site, true, output)
}

struct Joining<'a> {
    machine: &'a Machine,
    directory: &'a Path,
    request: &'a JoinRequest,
    client: &'a Client,
    known: &'a Known,
    host: &'a Host,
    site: &'a NodeSite,
}

impl Joining<'_> {
    fn apply(&self, journal: &mut Journal, output: &Output) -> Outcome {
        let folder = FolderBlobs::of(self.machine);
        let versions = preflight::versions(self.known.verified.index());
        let ground = Ground {
            machine: self.machine,
            site: self.site,
            index: self.known.verified.index(),
            versions: &versions,
            features: self.host.features,
            platform: &self.host.platform,
            blobs: &folder,
        };
        match self.site.role {
            Role::Master => self.master(&ground, journal, output),
            Role::Worker => {
                let mut all = self.begin(&ground, None);
                all.push(self.syncd(&ground));
                all.extend(self.end(&ground));
                run::apply(&all, journal, output).map(drop)
            }
        }
    }

    /// A master gets its daemon first, and everything else out of its own store.
    fn master(&self, ground: &Ground<'_>, journal: &mut Journal, output: &Output) -> Outcome {
        let mut first = self.begin(ground, Some(FileRole::Syncd));
        first.push(Box::new(JoinStore {
            machine: self.machine,
            directory: self.directory,
            trust: &self.known.trust,
        }));
        first.push(self.syncd(ground));
        first.push(Box::new(BundleCopy {
            directory: self.directory,
            id: self.site.kubernetes,
            index: ground.index,
        }));
        run::apply_part(&first, journal, output)?;
        let store = place::open(self.directory)?;
        let ground = Ground {
            blobs: &store,
            ..*ground
        };
        let mut rest: Vec<Box<dyn Step + '_>> = vec![Box::new(steps::NodeFiles {
            ground: &ground,
            only: None,
        })];
        rest.extend(self.end(&ground));
        run::apply(&rest, journal, output).map(drop)
    }

    fn begin<'s>(
        &'s self,
        ground: &'s Ground<'s>,
        only: Option<FileRole>,
    ) -> Vec<Box<dyn Step + 's>> {
        vec![
            Box::new(steps::SiteFile(ground)),
            Box::new(Fetch {
                files: steps::NodeFiles { ground, only },
                client: self.client,
            }),
            Box::new(steps::NodeFiles { ground, only }),
            Box::new(Identity {
                ground,
                request: self.request,
                client: self.client,
            }),
        ]
    }

    fn syncd<'s>(&'s self, ground: &'s Ground<'s>) -> Box<dyn Step + 's> {
        Box::new(steps::Syncd {
            ground,
            founds: None,
            masters: &self.known.site.masters,
        })
    }

    fn end<'s>(&'s self, ground: &'s Ground<'s>) -> Vec<Box<dyn Step + 's>> {
        vec![
            Box::new(steps::Kernel(ground)),
            Box::new(steps::Containerd(ground)),
            Box::new(steps::Images(ground)),
            Box::new(Join {
                ground,
                client: self.client,
                machine_id: &self.host.machine_id,
            }),
        ]
    }
}

/// Takes the token off this machine's disk; what stays if that fails opens nothing after its time.
fn forget(request: &Path) {
    let _stays = std::fs::remove_file(request);
}

fn read_request(file: &Path) -> Outcome<JoinRequest> {
    let bytes = read_capped(file, REQUEST_BYTES_MAX)?;
    Ok(
        serde_json::from_slice(&bytes).map_err(|source| JoinError::Request {
            file: file.to_owned(),
            source,
        })?,
    )
}

fn node_record(machine: &Machine) -> Outcome<Option<NodeSite>> {
    let Some(text) = machine.read(NODE_FILE)? else {
        return Ok(None);
    };
    Ok(serde_json::from_str(&text).map_err(JoinError::Record)?)
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Master => "a master",
        Role::Worker => "a worker",
    }
}

/// A machine that is something else already is left what it is.
fn refuse_another(before: Option<&NodeSite>, request: &JoinRequest) -> Outcome {
    let Some(site) = before else {
        return Ok(());
    };
    let is = format!("{} of cluster {}", word(site.role), site.cluster_id);
    let wanted = format!("{} of cluster {}", word(request.role), request.cluster_id);
    if is == wanted {
        return Ok(());
    }
    Err(JoinError::Another { is, wanted }.into())
}

/// Joined, and running.
fn is_well(machine: &Machine, journal: &Journal) -> bool {
    journal.has_note(STEP, JOINED)
        && journal.stopped().is_none()
        && machine.has("/etc/kubernetes/kubelet.conf")
        && ["kubelet.service", "syncd.service", "syncd-endpoint.service"]
            .iter()
            .all(|unit| systemctl::is_active(machine, unit))
}

/// Asks the masters, and believes each thing for its own reason.
fn learn(client: &Client, request: &JoinRequest) -> Outcome<Known> {
    let site: Site = client.get("/v1/join/site")?;
    if site.cluster_id != request.cluster_id {
        return Err(JoinError::OtherCluster {
            is: site.cluster_id,
            wanted: request.cluster_id.clone(),
        }
        .into());
    }
    let files: TrustFiles = client.get("/v1/join/root")?;
    let root = TrustedRoot::pin(files.root_json.into_bytes(), &request.root_fingerprint)?;
    let trust = Trust::new(root);
    let id = *site.bundles.first().ok_or(JoinError::NoBundle)?;
    let bytes = client.get_bytes(&format!("/v1/join/head/{}", id.to_hex()))?;
    let files = Record::parse(&bytes)?.head_files()?;
    if files.id() != id {
        return Err(JoinError::OtherHead {
            asked: id,
            came: files.id(),
        }
        .into());
    }
    let verified = files.verify(&trust)?;
    Ok(Known {
        site,
        trust,
        verified,
    })
}

fn node_site(
    before: Option<NodeSite>,
    known: &Known,
    request: &JoinRequest,
    host: &Host,
    arguments: &JoinArgs,
) -> Outcome<NodeSite> {
    if let Some(site) = before {
        return Ok(site);
    }
    let name = host.name.clone();
    let node: NodeName = name.parse().map_err(|_no_name| JoinError::Name { name })?;
    let address = arguments
        .address
        .or(host.address)
        .ok_or(JoinError::Address)?;
    let cluster_id: ClusterId =
        request
            .cluster_id
            .parse()
            .map_err(|_no_id| JoinError::OtherCluster {
                is: known.site.cluster_id.clone(),
                wanted: request.cluster_id.clone(),
            })?;
    Ok(NodeSite {
        endpoint: cluster_id.endpoint(),
        cluster_id,
        node,
        role: request.role,
        address,
        vendor: request.vendor.clone(),
        kubernetes: known.verified.id(),
        first_master: known.site.first_master.clone(),
        load_balancer: known.site.load_balancer.clone(),
        ha: known.site.ha,
        taint_control_plane: known.site.taint_control_plane,
    })
}

fn greet(known: &Known, site: &NodeSite, output: &Output) {
    let index = known.verified.index();
    let masters: Vec<String> = known
        .site
        .masters
        .iter()
        .map(|it: &Master| it.name.to_string())
        .collect();
    output.note(format!(
        "{}/{} {}, signed by {}; cluster {} with {}",
        index.vendor,
        index.product,
        index.version,
        index.vendor,
        site.cluster_id,
        masters.join(", ")
    ));
    output.note(format!(
        "This machine, {} at {}, will become {}.",
        site.node,
        site.address,
        word(site.role)
    ));
}

fn checks(
    client: &Client,
    known: &Known,
    host: &Host,
    site: &NodeSite,
    arguments: &JoinArgs,
) -> Outcome<Vec<Check>> {
    let host = if host.kubernetes.ours || site.role == Role::Worker {
        host.clone()
    } else {
        host.clone().with_fsync_measured(Path::new("/var/lib/etcd"))
    };
    let index = known.verified.index();
    let platforms: Vec<String> = index.platforms.iter().map(ToString::to_string).collect();
    let cluster = Cluster {
        taken: known.site.taken.clone(),
        clock_ahead_s: clock::now().unix_seconds() - known.site.now.unix_seconds(),
        unreachable: client.unreachable(),
        address: Some(site.address),
    };
    let all: u64 = index.blobs.iter().map(|blob| blob.size).sum();
    let fresh = !host.kubernetes.ours;
    let mut checks = crate::preflight::check(&Subject {
        host: &host,
        role: site.role,
        platforms: &platforms,
        store_bytes: if fresh && site.role == Role::Master {
            all
        } else {
            0
        },
        node_bytes: if fresh {
            preflight::node_bytes(index)
        } else {
            0
        },
        brings_kubernetes: true,
        cluster: Some(&cluster),
    });
    crate::preflight::ignore(&mut checks, &arguments.ignore)?;
    Ok(checks)
}

fn tell(site: &NodeSite, changed: bool, output: &Output) -> Outcome {
    let joined = Joined {
        cluster_id: site.cluster_id.to_string(),
        node: site.node.to_string(),
        role: site.role,
        changed,
    };
    output.result(&joined, |lines| {
        let what = word(site.role);
        if changed {
            lines.line(format!(
                "{} is {what} of cluster {}.",
                site.node, site.cluster_id
            ));
        } else {
            lines.line(format!(
                "{} is {what} of cluster {} already, and runs: nothing was changed.",
                site.node, site.cluster_id
            ));
        }
    })
}

impl Fault for JoinError {
    fn code(&self) -> &'static str {
        match self {
            Self::Request { .. } => "JOIN_REQUEST",
            Self::Record(_) => "SITE_RECORD",
            Self::Another { .. } => "NODE_OF_ANOTHER_CLUSTER",
            Self::OtherCluster { .. } => "JOIN_OTHER_CLUSTER",
            Self::NoBundle => "JOIN_NO_BUNDLE",
            Self::OtherHead { .. } => "JOIN_HEAD",
            Self::Name { .. } => "NODE_NAME",
            Self::Address => "NODE_ADDRESS",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Request { .. } | Self::OtherCluster { .. } => Blame::Usage,
            Self::Record(_) | Self::Another { .. } | Self::Name { .. } | Self::Address => {
                Blame::Machine
            }
            Self::NoBundle => Blame::Policy,
            Self::OtherHead { .. } => Blame::Network,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Another { is, wanted } | Self::OtherCluster { is, wanted } => {
                vec![Fact::new("is", is), Fact::new("wanted", wanted)]
            }
            Self::OtherHead { asked, came } => {
                vec![Fact::new("asked", asked), Fact::new("came", came)]
            }
            Self::Request { .. }
            | Self::Record(_)
            | Self::NoBundle
            | Self::Name { .. }
            | Self::Address => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Request { .. } => "paste the whole script that installer join-script printed",
            Self::Record(_) => "restore it from a backup; it says which cluster this node is of",
            Self::Another { .. } => "installer reset makes it a machine of no cluster again",
            Self::OtherCluster { .. } => "print a new script on a master of the right cluster",
            Self::NoBundle => "finish installer install on the first master first",
            Self::OtherHead { .. } => "on the masters run syncd verify --all",
            Self::Name { .. } => "hostnamectl set-hostname NAME, of a-z, 0-9, '-' and '.'",
            Self::Address => "set a default route, or name the address with --address",
        };
        Some(text.to_owned())
    }
}
