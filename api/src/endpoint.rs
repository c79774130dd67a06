//! Where the API forwarder of a node sends connections, as it stands in [`FILE`]: the order is the rule.
//!
//! A master goes to its own API server first; then everybody to the load balancer, or without one to the first master,
//! and to the other masters only when that is lost.

use std::net::IpAddr;

use bundle::fault::Blame;
use bundle::fault::Fault;
use serde::Deserialize;
use serde::Serialize;

use crate::join::Role;
use crate::members::Members;
use crate::sync::NodeName;

/// Where a node keeps it.
pub const FILE: &str = "/etc/sealift/endpoint.json";

/// Where the forwarder listens, on loopback.
pub const PORT: u16 = 6444;

/// Where an API server listens.
pub const API_PORT: u16 = 6443;

/// Kubernetes' own authority, as kubeadm leaves it on every node.
pub const CA_FILE: &str = "/etc/kubernetes/pki/ca.crt";

/// Where a forwarder tells how it does.
pub const STATUS_SOCKET: &str = "/run/sealift/endpoint.sock";

/// Targets that are used; a list has one a master and one more.
pub const TARGETS_MAX: usize = 64;

/// Largest file: the targets at some 150 bytes each.
pub const BYTES_MAX: usize = 64 << 10;

/// The forwarder's orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The name that every API server's certificate has to have: `api.<cluster-id>.sealift.internal`.
    pub name: String,
    /// Kubernetes' authority; until it is there, nobody is believed to be ready.
    #[serde(default = "ca_file")]
    pub ca: String,
    /// The first that is ready gets the connection.
    pub targets: Vec<Target>,
}

/// One way to an API server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// What stands there.
    pub kind: Kind,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What stands at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The API server of this node.
    Local,
    /// The operator's load balancer in front of all masters.
    LoadBalancer,
    /// The master that all traffic goes to without a load balancer.
    FirstMaster,
    /// Another master.
    Master,
}

/// How a forwarder does, as it tells on [`STATUS_SOCKET`] with `GET /v1/targets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Every target in order; the first that is up gets new connections.
    pub targets: Vec<TargetReport>,
}

/// How one target does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// The target.
    #[serde(flatten)]
    pub target: Target,
    /// How it stands.
    pub state: TargetState,
    /// Connections that go there now.
    pub connections: usize,
}

/// How a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// Not asked yet, or there is no authority to believe.
    Unknown,
    /// Ready.
    Up,
    /// Not ready, or not reached.
    Down,
}

/// What the order of targets follows from.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// What it is.
    pub role: Role,
    /// Its address.
    pub address: IpAddr,
    /// Name and port of the API on every node: `api.<cluster-id>.sealift.internal:6444`.
    pub endpoint: &'a str,
    /// `host:port`, where there is one.
    pub load_balancer: Option<&'a str>,
    /// The first master.
    pub first_master: &'a NodeName,
    /// All masters.
    pub members: &'a Members,
}

/// Bytes that are no orders of a forwarder.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Too long, or too many targets.
    #[error("the list of API targets has {actual} {what}, at most {limit} are allowed")]
    Size {
        /// `bytes` or `targets`.
        what: &'static str,
        /// How many there are.
        actual: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Not of this shape.
    #[error("the list of API targets can't be understood")]
    Shape(#[from] serde_json::Error),
}

impl Endpoint {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, EndpointError> {
        within("bytes", bytes.len(), BYTES_MAX)?;
        let endpoint: Self = serde_json::from_slice(bytes)?;
        within("targets", endpoint.targets.len(), TARGETS_MAX)?;
        Ok(endpoint)
    }

    /// The file, for people too.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EndpointError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The orders that follow from the facts. Each place is listed once, under its first kind.
    pub fn plan(facts: &Facts<'_>) -> Self {
        let name = split_port(facts.endpoint, PORT).0;
        let mut targets: Vec<Target> = Vec::new();
        let mut add = |kind, host: String, port| {
            let is_known = |known: &Target| known.host == host && known.port == port;
            if !targets.iter().any(is_known) && targets.len() < TARGETS_MAX {
                targets.push(Target { kind, host, port });
            }
        };
        if facts.role == Role::Master {
            add(Kind::Local, facts.address.to_string(), API_PORT);
        }
        if let Some(balancer) = facts.load_balancer {
            let (host, port) = split_port(balancer, API_PORT);
            add(Kind::LoadBalancer, host, port);
        }
        if let Some((_, first)) = facts
            .members
            .present()
            .find(|(name, _)| *name == facts.first_master)
        {
            add(Kind::FirstMaster, first.address.to_string(), API_PORT);
        }
        for (_, master) in facts.members.present() {
            add(Kind::Master, master.address.to_string(), API_PORT);
        }
        Self {
            name,
            ca: ca_file(),
            targets,
        }
    }
}

/// Splits `host:port`, `[v6]:port`, a bare host or a bare address.
pub fn split_port(text: &str, usual: u16) -> (String, u16) {
    let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
    if text.parse::<IpAddr>().is_ok() {
        return (text.to_owned(), usual);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (bare(host), port.parse().unwrap_or(usual)),
        Some(_) | None => (bare(text), usual),
    }
}

fn ca_file() -> String {
    CA_FILE.to_owned()
}

const fn within(what: &'static str, actual: usize, limit: usize) -> Result<(), EndpointError> {
    if actual <= limit {
        return Ok(());
    }
    Err(EndpointError::Size {
        what,
        actual,
        limit,
    })
}

impl Fault for EndpointError {
    fn code(&self) -> &'static str {
        "ENDPOINT_FORMAT"
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }

    fn hint(&self) -> Option<String> {
        Some(format!("remove {FILE}: syncd writes it anew"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn site() -> Members {
        let mut members = Members::default();
        for (node, last) in [("m1", 1), ("m2", 2), ("m3", 3), ("m4", 4)] {
            members.admit(&name(node), ([10, 0, 0, last], 7401).into());
        }
        members.remove(&name("m4"), Role::Master);
        members
    }

    /// Targets as `kind host:port`, for a node with this name.
    fn planned(node: &str, role: Role, last: u8, load_balancer: Option<&str>) -> Vec<String> {
        let endpoint = Endpoint::plan(&Facts {
            node: &name(node),
            role,
            address: [10, 0, 0, last].into(),
            endpoint: "api.abcdefghij.sealift.internal:6444",
            load_balancer,
            first_master: &name("m2"),
            members: &site(),
        });
        assert_eq!(endpoint.name, "api.abcdefghij.sealift.internal");
        let targets = endpoint.targets.iter();
        targets
            .map(|target| format!("{:?} {}:{}", target.kind, target.host, target.port))
            .collect()
    }

    #[test]
    fn a_worker_goes_to_the_first_master_and_then_to_the_others() {
        assert_eq!(
            planned("w1", Role::Worker, 9, None),
            [
                "FirstMaster 10.0.0.2:6443",
                "Master 10.0.0.1:6443",
                "Master 10.0.0.3:6443"
            ]
        );
    }

    #[test]
    fn a_master_goes_to_itself_then_to_the_load_balancer() {
        assert_eq!(
            planned("m3", Role::Master, 3, Some("lb.site")),
            [
                "Local 10.0.0.3:6443",
                "LoadBalancer lb.site:6443",
                "FirstMaster 10.0.0.2:6443",
                "Master 10.0.0.1:6443"
            ]
        );
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let split = |text| split_port(text, 6443);
        assert_eq!(split("lb:8443"), ("lb".to_owned(), 8443));
        assert_eq!(split("lb"), ("lb".to_owned(), 6443));
        assert_eq!(split("fd00::1"), ("fd00::1".to_owned(), 6443));
        assert_eq!(split("[fd00::1]:1"), ("fd00::1".to_owned(), 1));
        assert_eq!(split("[fd00::1]"), ("fd00::1".to_owned(), 6443));
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let text =
            br#"{"name": "a", "targets": [{"kind": "load_balancer", "host": "lb", "port": 1}]}"#;
        let endpoint = Endpoint::parse(text).unwrap();
        assert_eq!(endpoint.ca, CA_FILE);
        let bytes = endpoint.to_bytes().unwrap();
        assert_eq!(Endpoint::parse(&bytes).unwrap(), endpoint);
        assert!(Endpoint::parse(b"{}").is_err());
    }
}
