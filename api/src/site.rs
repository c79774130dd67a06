//! What a site is, as each of its nodes knows it, and as the cluster keeps it.
//!
//! Two documents, both JSON and neither secret:
//!
//! | document | where | says |
//! |---|---|---|
//! | [`NodeSite`] | `/etc/sealift/site.json` on every node | who this node is, and in which cluster |
//! | [`ClusterSite`] | ConfigMap [`CONFIG_MAP`] in [`NAMESPACE`], key [`SITE_KEY`] | what is wanted of the whole cluster |
//!
//! The node's document is written before anything else of a cluster is made on it; the cluster's one wins where both say
//! something, because every master can change it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use bundle::Digest;
use bundle::name::Name;
use serde::Deserialize;
use serde::Serialize;

use crate::join::Role;
use crate::sync::NodeName;

/// Where a node keeps its [`NodeSite`].
pub const NODE_FILE: &str = "/etc/sealift/site.json";

/// The namespace of everything that Sealift keeps in Kubernetes.
pub const NAMESPACE: &str = "kube-system";

/// The ConfigMap that holds the [`ClusterSite`].
pub const CONFIG_MAP: &str = "sealift-cluster";

/// The key of the [`ClusterSite`] in it.
pub const SITE_KEY: &str = "site.json";

/// The ConfigMap of what the installer has applied, key [`APPLIED_KEY`].
pub const APPLIED_MAP: &str = "sealift-applied";

/// The key of [`Applied`] in it.
pub const APPLIED_KEY: &str = "applied.json";

/// The port on which every node's forwarder answers for the API.
pub const ENDPOINT_PORT: u16 = 6444;

/// The port of an API server itself, and of a load balancer that names none.
pub const API_PORT: u16 = 6443;

/// A cluster's id: 10 of a-z and 0-9, drawn at the first install and never changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(String);

/// Text that is no cluster id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cluster id: expected 10 of a-z and 0-9")]
pub struct ClusterIdError(String);

/// A node's own facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSite {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// This node's name, in Kubernetes and in its certificate.
    pub node: NodeName,
    /// What it is.
    pub role: Role,
    /// Where others reach it.
    pub address: IpAddr,
    /// Name and port of the API on every node: `api.<cluster-id>.sealift.internal:6444`.
    pub endpoint: String,
    /// The vendor whose signature counts.
    pub vendor: Name,
    /// The bundle that brought this node's Kubernetes.
    pub kubernetes: Digest,
    /// The master that all API traffic goes to without a load balancer.
    pub first_master: NodeName,
    /// The load balancer in front of all masters, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<String>,
    /// Whether the cluster is, or is to become, highly available.
    pub ha: bool,
    /// Whether application pods are kept off the masters.
    pub taint_control_plane: bool,
}

/// What is wanted of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSite {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Name and port of the API on every node.
    pub endpoint: String,
    /// The vendor whose signature counts.
    pub vendor: Name,
    /// Whether the cluster is, or is to become, highly available.
    pub ha: bool,
    /// The load balancer in front of all masters, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<String>,
    /// Whether application pods are kept off the masters.
    pub taint_control_plane: bool,
    /// The master that all API traffic goes to without a load balancer.
    pub first_master: NodeName,
    /// Ids of the bundles that the site runs, the one with Kubernetes first.
    pub bundles: Vec<Digest>,
}

/// What the installer has applied, by `manifest/<path>` and `chart/<namespace>/<release>`: the digest of what it was
/// made from. A rerun leaves alone what has not changed, and with it what operators have tuned since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Applied(pub BTreeMap<String, Digest>);

impl ClusterId {
    /// Makes an id of 10 bytes that the caller drew at random.
    pub fn from_random(bytes: [u8; 10]) -> Self {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        // 256 is no multiple of 36: the first letters are a little likelier, which hurts no name.
        let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied();
        let text = bytes.iter().filter_map(letter).map(char::from).collect();
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The constant name of the cluster's API, on loopback of every node.
    pub fn endpoint_name(&self) -> String {
        format!("api.{}.sealift.internal", self.0)
    }

    /// Name and port of the cluster's API on every node.
    pub fn endpoint(&self) -> String {
        format!("{}:{ENDPOINT_PORT}", self.endpoint_name())
    }
}

impl NodeSite {
    /// The text of the file.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// What a cluster of this node alone is told to be.
    pub fn of_cluster(&self) -> ClusterSite {
        ClusterSite {
            cluster_id: self.cluster_id.clone(),
            endpoint: self.endpoint.clone(),
            vendor: self.vendor.clone(),
            ha: self.ha,
            load_balancer: self.load_balancer.clone(),
            taint_control_plane: self.taint_control_plane,
            first_master: self.first_master.clone(),
            bundles: vec![self.kubernetes],
        }
    }
}

impl ClusterSite {
    /// The text of the ConfigMap's key.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

impl Applied {
    /// The text of the ConfigMap's key.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

fn to_json(document: &impl Serialize) -> String {
    // Strings, flags and maps of strings: writing them can't fail.
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if text.len() == 10 && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ClusterIdError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for ClusterId {
    type Error = ClusterIdError;

    fn try_from(text: String) -> Result<Self, ClusterIdError> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_ten_letters_and_names_the_endpoint() {
        let id = ClusterId::from_random([0, 25, 26, 35, 36, 255, 1, 2, 3, 4]);
        assert_eq!(id.as_str(), "az09adbcde");
        assert_eq!(id.endpoint(), "api.az09adbcde.sealift.internal:6444");
        assert_eq!(id.as_str().parse(), Ok(id));
        for text in ["", "az09adbcd", "az09adbcdeF", "AZ09ADBCDE", "a.b09adbcd"] {
            assert!(text.parse::<ClusterId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_nodes_document_comes_back_as_it_was_written() {
        let site = NodeSite {
            cluster_id: ClusterId::from_random([7; 10]),
            node: "m1".parse().unwrap(),
            role: Role::Master,
            address: [10, 0, 0, 11].into(),
            endpoint: ClusterId::from_random([7; 10]).endpoint(),
            vendor: "acme".parse().unwrap(),
            kubernetes: Digest::of(b"bundle"),
            first_master: "m1".parse().unwrap(),
            load_balancer: None,
            ha: true,
            taint_control_plane: false,
        };
        assert_eq!(
            serde_json::from_str::<NodeSite>(&site.to_json()).unwrap(),
            site
        );
        insta::assert_snapshot!(site.to_json(), @r#"
        {
          "cluster_id": "hhhhhhhhhh",
          "node": "m1",
          "role": "master",
          "address": "10.0.0.11",
          "endpoint": "api.hhhhhhhhhh.sealift.internal:6444",
          "vendor": "acme",
          "kubernetes": "sha256:1e6ed65d77d6364eeaed5a745ba5c4985ae2b700dd85d7cf7f027bdf294a33fc",
          "first_master": "m1",
          "ha": true,
          "taint_control_plane": false
        }
        "#);
    }
}
