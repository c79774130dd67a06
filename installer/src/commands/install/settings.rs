//! What an install is to bring about: from the command line, the answers, the node's own record and the cluster's.
//!
//! What was once given is remembered: `ha` can't be taken back by leaving it out, and a load balancer stays.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::PathBuf;

use api::endpoint::split_port;
use api::join::Role;
use api::site::API_PORT;
use api::site::ClusterId;
use api::site::ClusterSite;
use api::site::NODE_FILE;
use api::site::NodeSite;
use api::sync::NodeName;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::head::VerifiedHead;
use bundle::index::Stage;
use bundle::license::VerifiedLicense;
use bundle::limits;
use program::FileError;
use program::Outcome;
use program::Output;
use program::durable::read_capped;
use serde::Deserialize;
use store::Store;

use super::NotInThisVersion;
use crate::cli::InstallArgs;
use crate::commands::preflight;
use crate::machine::Machine;
use crate::observe::Host;
use crate::plan;
use crate::plan::Wanted;
use crate::steps;
use crate::tools::kubectl;

/// Largest file of answers.
const ANSWERS_BYTES_MAX: usize = 64 << 10;

/// What an install is to bring about.
pub(super) struct Settings {
    /// Who this node is to be.
    pub(super) site: NodeSite,
    /// A license that was given by itself.
    pub(super) license_file: Option<Vec<u8>>,
}

/// The file of `--answers`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Answers {
    load_balancer_address: Option<String>,
    ha: Option<bool>,
    taint_control_plane: Option<bool>,
    license: Option<PathBuf>,
}

/// Something that an install can't be made from.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// The file of answers.
    #[error("{} holds no answers", file.display())]
    Answers {
        /// The file.
        file: PathBuf,
        /// Why.
        source: toml::de::Error,
    },
    /// The host's name.
    #[error("{name:?} can't be a node's name")]
    Name {
        /// The host name.
        name: String,
    },
    /// No address.
    #[error("this machine has no address that others could reach it by")]
    Address,
    /// This node's record.
    #[error("{NODE_FILE} can't be understood")]
    Record(#[source] serde_json::Error),
    /// A worker.
    #[error("this machine is a worker of cluster {cluster}")]
    Worker {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The load balancer's address.
    #[error("{text:?} is no address of a load balancer")]
    LoadBalancer {
        /// What was given.
        text: String,
    },
    /// The system's randomness.
    #[error("the system gives no random bytes")]
    Random,
}

impl Settings {
    /// Puts everything together; asks only a person at a terminal, and only what was left open.
    pub(super) fn of(
        arguments: &InstallArgs,
        head: &VerifiedHead,
        host: &Host,
        machine: &Machine,
        output: &Output,
    ) -> Outcome<Self> {
        let answers = Answers::read(arguments)?;
        let known = known_site(machine)?;
        let recorded = match &known {
            Some(_) if kubectl::is_ready(machine).is_ok() => steps::recorded_site(machine)?,
            Some(_) | None => None,
        };
        refuse_upgrade(known.as_ref(), recorded.as_ref(), head)?;
        let before = Before::of(known.as_ref(), recorded.as_ref());
        let ha = arguments.ha || answers.ha.unwrap_or(false) || before.ha;
        let load_balancer = load_balancer(arguments, &answers, &before, ha, output)?;
        let taint = arguments
            .taint_control_plane
            .as_deref()
            .map(|text| text == "1");
        let site = NodeSite {
            ha,
            load_balancer,
            taint_control_plane: taint
                .or(answers.taint_control_plane)
                .unwrap_or(before.taint),
            ..identity(known, arguments, head, host)?
        };
        let license = arguments.license.as_ref().or(answers.license.as_ref());
        let license_file = match license {
            Some(path) => Some(read_capped(path, limits::LICENSE_BYTES_MAX)?),
            None => None,
        };
        Ok(Self { site, license_file })
    }

    /// Says what is going to be installed, before it is.
    pub(super) fn greet(head: &VerifiedHead, license: Option<&VerifiedLicense>, output: &Output) {
        let index = head.index();
        let signers: Vec<_> = head.signers().iter().map(ToString::to_string).collect();
        let licensed = license.map_or_else(
            || "license inside".to_owned(),
            |license| format!("license {:?}", license.license().customer.name),
        );
        output.note(format!(
            "{}/{} {}, signed by {} (root {}, key {}), {licensed}",
            index.vendor,
            index.product,
            index.version,
            index.vendor,
            index.root_version,
            signers.join(", "),
        ));
    }

    /// What the plan is made from.
    pub(super) fn wanted(&self, store: &Store, head: &VerifiedHead) -> Outcome<Wanted> {
        let index = head.index();
        let mut node_files = BTreeMap::<_, usize>::new();
        for file in &index.files {
            *node_files
                .entry(format!("{:?}", file.role).to_lowercase())
                .or_default() += 1;
        }
        let of_cluster = index
            .images
            .iter()
            .filter(|image| image.stage <= Stage::Cluster)
            .count();
        let versions = preflight::versions(index);
        Ok(Wanted {
            release: format!("{}/{} {}", index.vendor, index.product, index.version),
            kubernetes: index.kubernetes.as_ref().map(|_brings| plan::Kubernetes {
                version: versions.kubernetes,
                pod_subnet: versions.pod_subnet,
            }),
            node_files: node_files.into_iter().collect(),
            images: (of_cluster, index.images.len() - of_cluster),
            missing: preflight::missing(store, index)?,
            manifests: index.manifests.len(),
            charts: index
                .charts
                .iter()
                .map(|chart| format!("{}/{}", chart.namespace, chart.release))
                .collect(),
            options: plan::Options {
                ha: self.site.ha,
                load_balancer: self.site.load_balancer.clone(),
                taint_control_plane: self.site.taint_control_plane,
            },
        })
    }
}

/// What was given in earlier runs, here or on another master.
#[derive(Default)]
struct Before {
    ha: bool,
    load_balancer: Option<String>,
    taint: bool,
    /// A control plane is there, so its certificates are made.
    made: bool,
}

impl Before {
    fn of(known: Option<&NodeSite>, recorded: Option<&ClusterSite>) -> Self {
        match (recorded, known) {
            (Some(site), _) => Self {
                ha: site.ha,
                load_balancer: site.load_balancer.clone(),
                taint: site.taint_control_plane,
                made: true,
            },
            (None, Some(site)) => Self {
                ha: site.ha,
                load_balancer: site.load_balancer.clone(),
                taint: site.taint_control_plane,
                made: false,
            },
            (None, None) => Self::default(),
        }
    }
}

impl Answers {
    fn read(arguments: &InstallArgs) -> Outcome<Self> {
        let Some(file) = &arguments.answers else {
            return Ok(Self::default());
        };
        let bytes = read_capped(file, ANSWERS_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(
            toml::from_str(&text).map_err(|source| SettingsError::Answers {
                file: file.clone(),
                source,
            })?,
        )
    }
}

/// This node's record of itself.
fn known_site(machine: &Machine) -> Outcome<Option<NodeSite>> {
    let Some(text) = machine.read(NODE_FILE)? else {
        return Ok(None);
    };
    let site: NodeSite = serde_json::from_str(&text).map_err(SettingsError::Record)?;
    if site.role == Role::Worker {
        return Err(SettingsError::Worker {
            cluster: site.cluster_id,
        }
        .into());
    }
    Ok(Some(site))
}

/// The same bundle may be installed again; another one that brings Kubernetes is an upgrade.
fn refuse_upgrade(
    known: Option<&NodeSite>,
    recorded: Option<&ClusterSite>,
    head: &VerifiedHead,
) -> Outcome {
    let other = known.is_some_and(|site| site.kubernetes != head.id());
    if other && recorded.is_some() && head.index().kubernetes.is_some() {
        return Err(NotInThisVersion("upgrade a cluster").into());
    }
    Ok(())
}

/// Who this node is: as it was, or new.
fn identity(
    known: Option<NodeSite>,
    arguments: &InstallArgs,
    head: &VerifiedHead,
    host: &Host,
) -> Outcome<NodeSite> {
    if let Some(site) = known {
        return Ok(site);
    }
    let mut drawn = [0; 10];
    getrandom::fill(&mut drawn).map_err(|_error| SettingsError::Random)?;
    let cluster_id = ClusterId::from_random(drawn);
    let name = host.name.clone();
    let node: NodeName = name
        .parse()
        .map_err(|_no_name| SettingsError::Name { name })?;
    let address = arguments.address.or(host.address);
    Ok(NodeSite {
        endpoint: cluster_id.endpoint(),
        cluster_id,
        first_master: node.clone(),
        node,
        role: Role::Master,
        address: address.ok_or(SettingsError::Address)?,
        vendor: head.index().vendor.clone(),
        kubernetes: head.id(),
        load_balancer: None,
        ha: false,
        taint_control_plane: false,
    })
}

/// Given, remembered, or asked for; blank means none.
fn load_balancer(
    arguments: &InstallArgs,
    answers: &Answers,
    before: &Before,
    ha: bool,
    output: &Output,
) -> Outcome<Option<String>> {
    let given = arguments.load_balancer_address.as_ref();
    let given = given.or(answers.load_balancer_address.as_ref());
    if let Some(text) = given {
        let wanted = normal_address(text)?;
        if before.made && wanted != before.load_balancer {
            return Err(
                NotInThisVersion("change the load balancer of a cluster that is up").into(),
            );
        }
        return Ok(wanted);
    }
    let asks = ha && !before.made && !before.ha && !arguments.yes && arguments.answers.is_none();
    if asks && output.can_ask() {
        return ask(output);
    }
    Ok(before.load_balancer.clone())
}

fn ask(output: &Output) -> Outcome<Option<String>> {
    output.note("Load balancer address (host:port), blank for none:");
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|source| FileError::new("read", "the terminal".as_ref(), source))?;
    let address = normal_address(&line)?;
    if address.is_none() {
        output.note("  none: all API traffic goes to the first master; another master takes over only when it is lost");
    }
    Ok(address)
}

/// `host:port` with the port written out; blank is none.
fn normal_address(text: &str) -> Result<Option<String>, SettingsError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || SettingsError::LoadBalancer {
        text: text.to_owned(),
    };
    let (host, port) = split_port(text, API_PORT);
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    if host.is_empty() || !host.bytes().all(letters) || port == 0 {
        return Err(wrong());
    }
    let is_v6 = host.contains(':');
    if is_v6 && host.parse::<std::net::Ipv6Addr>().is_err() {
        return Err(wrong());
    }
    Ok(Some(if is_v6 {
        format!("[{host}]:{port}")
    } else {
        format!("{}:{port}", host.to_ascii_lowercase())
    }))
}

impl Fault for SettingsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Answers { .. } => "ANSWERS_SYNTAX",
            Self::Name { .. } => "NODE_NAME",
            Self::Address => "NODE_ADDRESS",
            Self::Record(_) => "SITE_RECORD",
            Self::Worker { .. } => "NODE_IS_WORKER",
            Self::LoadBalancer { .. } => "LOAD_BALANCER_ADDRESS",
            Self::Random => "RANDOM",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Answers { .. } | Self::LoadBalancer { .. } => Blame::Usage,
            Self::Name { .. }
            | Self::Address
            | Self::Record(_)
            | Self::Worker { .. }
            | Self::Random => Blame::Machine,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        Vec::new()
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Answers { .. } => {
                "keys are load-balancer-address, ha, taint-control-plane and license"
            }
            Self::Name { .. } => "hostnamectl set-hostname NAME, of a-z, 0-9, '-' and '.'",
            Self::Address => "set a default route, or name the address with --address",
            Self::Record(_) => "restore it from a backup; it says which cluster this node is of",
            Self::Worker { .. } => "run install on a master, or on a machine of no cluster",
            Self::LoadBalancer { .. } => "write HOST:PORT; without a port it is 6443",
            Self::Random => return None,
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_load_balancers_are_compared_in_one_form() {
        for (text, normal) in [
            ("", None),
            ("  \n", None),
            ("LB.site", Some("lb.site:6443")),
            ("10.0.0.5:8443", Some("10.0.0.5:8443")),
            ("fd00::5", Some("[fd00::5]:6443")),
            ("[fd00::5]:1", Some("[fd00::5]:1")),
        ] {
            assert_eq!(normal_address(text).unwrap().as_deref(), normal, "{text}");
        }
        for text in [":6443", "a b:1", "lb/:1", "fd00::z:1"] {
            assert!(normal_address(text).is_err(), "{text}");
        }
    }
}
