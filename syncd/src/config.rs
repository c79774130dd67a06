//! The daemon's configuration: what was written, by which way, and what it means.
//!
//! Every key of the TOML file is also a flag of the same name and an environment variable `SEALIFT_<NAME>`. A flag wins
//! over the environment, and the environment over the file. Unknown keys are refused, and all problems are told at once.

mod problem;
mod units;
mod written;

pub use problem::ConfigError;
pub use units::Rate;
pub use units::Span;
pub use written::Images;
pub use written::Peer;
pub use written::Written;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use api::endpoint;
use api::join::Role;
use api::members;
use api::site;
use api::sync::Boot;
use api::sync::NodeName;

use crate::cli::RoleArg;
use crate::settings::Bandwidth;
use crate::settings::Budget;
use crate::settings::Settings;
use crate::settings::Timing;

/// The file that is read when no other is named; it may be absent.
pub const DEFAULT_FILE: &str = "/etc/sealift/syncd.toml";

/// Largest configuration file: some hundred peers.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that the daemon is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node's name, the one in its certificate.
    pub node: NodeName,
    /// What this node is.
    pub role: Role,
    /// Directory of the store.
    pub store: PathBuf,
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// Where machines that join the cluster come to, unless it is off.
    pub listen_public: Option<SocketAddr>,
    /// The other masters.
    pub peers: Vec<Peer>,
    /// The list of all masters.
    pub members: PathBuf,
    /// The facts of this node.
    pub site: PathBuf,
    /// The list of API servers.
    pub targets: PathBuf,
    /// Certificate of the cluster's own authority.
    pub ca: PathBuf,
    /// This node's certificate.
    pub certificate: PathBuf,
    /// Its secret key.
    pub key: PathBuf,
    /// Socket of the local commands.
    pub control: PathBuf,
    /// Loopback address of the image endpoint, unless it is off.
    pub images: Option<SocketAddr>,
    /// Limits of bytes per second.
    pub bandwidth: Bandwidth,
    /// When replication does what.
    pub timing: Timing,
    /// How much it does at once.
    pub budget: Budget,
    /// How often the inbox is looked at, with or without an event.
    pub inbox_poll: Duration,
}

impl Config {
    /// Reads the file and lays what was typed over it.
    ///
    /// A file that is named must exist; [`DEFAULT_FILE`] need not.
    pub fn load(file: Option<&Path>, typed: Written) -> Result<Self, ConfigError> {
        Self::settle(load_written(file, typed)?)
    }

    /// Gives every key its value or default, and checks what keys say together.
    pub fn settle(written: Written) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        if written.node.is_none() {
            problems.push("node: is missing; it is the name in this node's certificate".to_owned());
        }
        problems.extend(peer_problems(&written));
        let images = match written.images.unwrap_or_default() {
            Images::Off => None,
            Images::At(address) => Some(address),
        };
        if let Some(address) = images.filter(|address| !address.ip().is_loopback()) {
            problems.push(format!(
                "images: {address} is not on loopback; images are for this node only"
            ));
        }
        let ca = written.ca.clone().unwrap_or_else(default_ca);
        let timing = timing(&written);
        for (key, value) in [
            ("summary", timing.summary),
            ("full-pass", timing.full_pass),
            ("idle", timing.idle),
        ] {
            if value < Duration::from_millis(100) {
                problems.push(format!(
                    "{key}: {} ms is too short, the least is 100ms",
                    value.as_millis()
                ));
            }
        }
        match written.node {
            Some(node) if problems.is_empty() => Ok(Self {
                node,
                role: written.role.unwrap_or(RoleArg::Master).role(),
                store: written.store.unwrap_or_else(default_store),
                listen: written
                    .listen
                    .unwrap_or_else(|| ([0, 0, 0, 0], 7401).into()),
                listen_public: listen_public(written.listen_public, &ca),
                peers: written.peers.unwrap_or_default(),
                ca,
                members: written.members.unwrap_or_else(|| members::FILE.into()),
                site: written.site.unwrap_or_else(|| site::NODE_FILE.into()),
                targets: written.targets.unwrap_or_else(|| endpoint::FILE.into()),
                certificate: written
                    .certificate
                    .unwrap_or_else(|| "/etc/sealift/node.pem".into()),
                key: written
                    .key
                    .unwrap_or_else(|| "/etc/sealift/node.key".into()),
                control: written.control.unwrap_or_else(default_control),
                images,
                bandwidth: Bandwidth {
                    send: written.send_rate.and_then(Rate::limit),
                    receive: written.receive_rate.and_then(Rate::limit),
                    send_per_peer: written.send_rate_per_peer.and_then(Rate::limit),
                    receive_per_peer: written.receive_rate_per_peer.and_then(Rate::limit),
                },
                timing,
                budget: Budget::default(),
                inbox_poll: written
                    .inbox_poll
                    .map_or(Duration::from_mins(1), Span::duration),
            }),
            Some(_) | None => Err(ConfigError::Values { problems }),
        }
    }

    /// What the replication engine is told, for one start of the daemon.
    pub fn settings(&self, peers: Vec<NodeName>, boot: Boot, seed: u64) -> Settings {
        Settings {
            node: self.node.clone(),
            peers,
            boot,
            seed,
            bandwidth: self.bandwidth,
            timing: self.timing,
            budget: self.budget,
        }
    }
}

/// Reads the file and lays what was typed over it, without asking whether that is enough for a daemon.
pub fn load_written(file: Option<&Path>, typed: Written) -> Result<Written, ConfigError> {
    Ok(typed.over(read_file(file)?))
}

/// Where the store is when nothing else is said.
pub fn default_store() -> PathBuf {
    "/var/lib/sealift".into()
}

/// Where the authority's certificate is when nothing else is said.
pub fn default_ca() -> PathBuf {
    "/etc/sealift/ca.pem".into()
}

/// Where the daemon listens for local commands when nothing else is said.
pub fn default_control() -> PathBuf {
    "/run/sealift/syncd.sock".into()
}

fn read_file(file: Option<&Path>) -> Result<Written, ConfigError> {
    let path = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    let unreadable = |source| ConfigError::Unreadable {
        file: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(unreadable(std::io::Error::other("it is larger than 1 MiB")));
        }
        Ok(_) => {}
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Written::default());
        }
        Err(error) => return Err(unreadable(error)),
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text).map_err(|error| ConfigError::syntax(path, &text, &error))
}

/// A node of a cluster has the cluster's facts beside its certificates; without them there is nothing to join.
fn listen_public(written: Option<Images>, ca: &Path) -> Option<SocketAddr> {
    let site = Path::new(api::site::NODE_FILE).file_name()?;
    match written {
        Some(Images::At(address)) => Some(address),
        None if ca.with_file_name(site).exists() => Some(([0, 0, 0, 0], api::join::PORT).into()),
        Some(Images::Off) | None => None,
    }
}

fn peer_problems(written: &Written) -> Vec<String> {
    let mut names = BTreeSet::new();
    let peers = written.peers.iter().flatten();
    peers
        .filter_map(|peer| {
            let name = &peer.name;
            if Some(name) == written.node.as_ref() {
                Some(format!(
                    "peers: {name} is this node itself; list the others only"
                ))
            } else if !names.insert(name) {
                Some(format!("peers: {name} is listed twice"))
            } else {
                None
            }
        })
        .collect()
}

fn timing(written: &Written) -> Timing {
    let usual = Timing::default();
    let or = |span: Option<Span>, usual| span.map_or(usual, Span::duration);
    Timing {
        summary: or(written.summary, usual.summary),
        full_pass: or(written.full_pass, usual.full_pass),
        idle: or(written.idle, usual.idle),
        ..usual
    }
}

#[cfg(test)]
mod tests;
