//! What was written in the file, the environment or the command line: one optional field a key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use api::sync::NodeName;
use clap::Args;
use serde::Deserialize;

use super::units::Rate;
use super::units::Span;
use crate::cli::RoleArg;

/// Every key, as flags, as environment and as a TOML file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Written {
    /// Name of this node, as in its certificate
    #[arg(long, env = "SEALIFT_NODE")]
    pub node: Option<NodeName>,
    /// What this node is; a worker has no store, and relays images from the masters [default: master]
    #[arg(long, env = "SEALIFT_ROLE", value_enum)]
    pub role: Option<RoleArg>,
    /// Directory of the store [default: /var/lib/sealift]
    #[arg(long, env = "SEALIFT_STORE", value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Where peers connect to [default: 0.0.0.0:7401]
    #[arg(long, env = "SEALIFT_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where machines that join the cluster come to, or `off` [default: 0.0.0.0:8800 on a master of a cluster]
    #[arg(long, env = "SEALIFT_LISTEN_PUBLIC", value_name = "ADDRESS:PORT")]
    pub listen_public: Option<Images>,
    /// The other masters, by name; in the file: peers = [{ name = "m2", address = "10.0.0.12:7401" }]
    #[arg(
        long,
        env = "SEALIFT_PEERS",
        value_name = "NAME=HOST:PORT",
        value_delimiter = ','
    )]
    pub peers: Option<Vec<Peer>>,
    /// The list of all masters, kept by the daemon [default: /etc/sealift/members.json]
    #[arg(long, env = "SEALIFT_MEMBERS", value_name = "FILE")]
    pub members: Option<PathBuf>,
    /// The facts of this node [default: /etc/sealift/site.json]
    #[arg(long, env = "SEALIFT_SITE", value_name = "FILE")]
    pub site: Option<PathBuf>,
    /// The list of API servers for `syncd endpoint`, kept by the daemon [default: /etc/sealift/endpoint.json]
    #[arg(long, env = "SEALIFT_TARGETS", value_name = "FILE")]
    pub targets: Option<PathBuf>,
    /// Certificate of the cluster's own authority [default: /etc/sealift/ca.pem]
    #[arg(long, env = "SEALIFT_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This node's certificate [default: /etc/sealift/node.pem]
    #[arg(long, env = "SEALIFT_CERTIFICATE", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Secret key of the certificate [default: /etc/sealift/node.key]
    #[arg(long, env = "SEALIFT_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Socket of the local commands [default: /run/sealift/syncd.sock]
    #[arg(long, env = "SEALIFT_CONTROL", value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Loopback address where containerd pulls images, or `off` [default: 127.0.0.1:7402]
    #[arg(long, env = "SEALIFT_IMAGES", value_name = "ADDRESS:PORT")]
    pub images: Option<Images>,
    /// Most that is sent to all peers, such as 200Mbit or 25MB; 0 is no limit [default: 0]
    #[arg(long, env = "SEALIFT_SEND_RATE", value_name = "RATE")]
    pub send_rate: Option<Rate>,
    /// Most that is received from all peers [default: 0]
    #[arg(long, env = "SEALIFT_RECEIVE_RATE", value_name = "RATE")]
    pub receive_rate: Option<Rate>,
    /// Most that is sent to any one peer [default: 0]
    #[arg(long, env = "SEALIFT_SEND_RATE_PER_PEER", value_name = "RATE")]
    pub send_rate_per_peer: Option<Rate>,
    /// Most that is received from any one peer [default: 0]
    #[arg(long, env = "SEALIFT_RECEIVE_RATE_PER_PEER", value_name = "RATE")]
    pub receive_rate_per_peer: Option<Rate>,
    /// How often each peer is asked what it has, such as 10s [default: 10s]
    #[arg(long, env = "SEALIFT_SUMMARY", value_name = "TIME")]
    pub summary: Option<Span>,
    /// How often everything is compared anew, from disk and from every peer [default: 1h]
    #[arg(long, env = "SEALIFT_FULL_PASS", value_name = "TIME")]
    pub full_pass: Option<Span>,
    /// After how long without a byte a connection is given up [default: 15s]
    #[arg(long, env = "SEALIFT_IDLE", value_name = "TIME")]
    pub idle: Option<Span>,
    /// How often the inbox is looked at without an event [default: 1m]
    #[arg(long, env = "SEALIFT_INBOX_POLL", value_name = "TIME")]
    pub inbox_poll: Option<Span>,
}

impl Written {
    /// Takes every key that is absent here from `lower`.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            node: self.node.or(lower.node),
            role: self.role.or(lower.role),
            store: self.store.or(lower.store),
            listen: self.listen.or(lower.listen),
            listen_public: self.listen_public.or(lower.listen_public),
            peers: self.peers.or(lower.peers),
            members: self.members.or(lower.members),
            site: self.site.or(lower.site),
            targets: self.targets.or(lower.targets),
            ca: self.ca.or(lower.ca),
            certificate: self.certificate.or(lower.certificate),
            key: self.key.or(lower.key),
            control: self.control.or(lower.control),
            images: self.images.or(lower.images),
            send_rate: self.send_rate.or(lower.send_rate),
            receive_rate: self.receive_rate.or(lower.receive_rate),
            send_rate_per_peer: self.send_rate_per_peer.or(lower.send_rate_per_peer),
            receive_rate_per_peer: self.receive_rate_per_peer.or(lower.receive_rate_per_peer),
            summary: self.summary.or(lower.summary),
            full_pass: self.full_pass.or(lower.full_pass),
            idle: self.idle.or(lower.idle),
            inbox_poll: self.inbox_poll.or(lower.inbox_poll),
        }
    }
}

/// Another master and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name, as in its certificate.
    pub name: NodeName,
    /// `host:port`; the host is looked up at every connection.
    #[serde(deserialize_with = "host_and_port")]
    pub address: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is no peer: expected NAME=HOST:PORT"))?;
        Ok(Self {
            name: name
                .parse()
                .map_err(|error: api::sync::NodeNameError| error.to_string())?,
            address: check_address(address)?,
        })
    }
}

fn host_and_port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    check_address(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn check_address(text: &str) -> Result<String, String> {
    let fits = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} is no address: expected HOST:PORT"))
}

/// Where something is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Images {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl Default for Images {
    fn default() -> Self {
        Self::At(([127, 0, 0, 1], 7402).into())
    }
}

impl FromStr for Images {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text
                .parse()
                .map(Self::At)
                .map_err(|_no_address| format!("{text:?} is neither `off` nor ADDRESS:PORT")),
        }
    }
}

impl TryFrom<String> for Images {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
