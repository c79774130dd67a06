//! The parts of Kubernetes' objects that the daemon reads and writes (`k8s.io/api` coordination/v1 and core/v1).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;

/// `metadata` of any object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The object's name.
    pub name: String,
    /// Its namespace; absent for nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What it is found by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is told about it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Changes with every write; a write that carries an old one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Tells an object from its successor of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When the API server made it, by its clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
}

/// `coordination.k8s.io/v1` Lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    /// Name, labels and version.
    pub metadata: Meta,
    /// Who holds it.
    #[serde(default)]
    pub spec: LeaseSpec,
}

/// `spec` of a Lease. Times are for people and other programs; nothing here is decided by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who holds it; nobody when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// For how long after the last change it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<u32>,
    /// When the holder took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<String>,
    /// When the holder last renewed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<String>,
    /// How often it has changed hands: the fencing token.
    pub lease_transitions: u64,
}

/// Core Secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    /// Name, labels and version.
    pub metadata: Meta,
    /// What kind of secret it is.
    #[serde(rename = "type", default)]
    pub secret_type: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// Core ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMap {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    /// Name, labels and version.
    pub metadata: Meta,
    /// The texts in it.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}

/// Core Node, as far as joins look at it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// Name and labels.
    pub metadata: Meta,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    conditions: Vec<Condition>,
    addresses: Vec<Address>,
    node_info: NodeInfo,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct NodeInfo {
    #[serde(rename = "machineID")]
    machine_id: String,
}

/// A list of objects.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    #[serde(default = "Vec::new")]
    pub(super) items: Vec<T>,
}

/// The namespace that all of ours is in.
const NAMESPACE: &str = "kube-system";

fn ours(name: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        namespace: Some(NAMESPACE.to_owned()),
        ..Meta::default()
    }
}

impl Lease {
    /// A lease in `kube-system` that nobody holds.
    pub fn named(name: &str) -> Self {
        Self {
            api_version: "coordination.k8s.io/v1".to_owned(),
            kind: "Lease".to_owned(),
            metadata: ours(name),
            spec: LeaseSpec::default(),
        }
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<&str> {
        let holder = self.spec.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    /// An annotation, empty when it is not there.
    pub fn told(&self, key: &str) -> &str {
        let found = self.metadata.annotations.get(key);
        found.map_or("", String::as_str)
    }

    /// Its version, empty before it was written.
    pub fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or("")
    }

    /// Gives a list's item the type that the API leaves out of lists.
    #[must_use]
    pub fn typed(mut self) -> Self {
        "coordination.k8s.io/v1".clone_into(&mut self.api_version);
        "Lease".clone_into(&mut self.kind);
        self
    }
}

impl Secret {
    /// A secret in `kube-system` with these texts.
    pub fn named<'a>(
        name: &str,
        secret_type: &str,
        texts: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let texts = texts.into_iter();
        Self {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            metadata: ours(name),
            secret_type: secret_type.to_owned(),
            data: texts
                .map(|(key, text)| (key.to_owned(), STANDARD.encode(text)))
                .collect(),
        }
    }

    /// A text in it.
    pub fn text(&self, key: &str) -> Option<String> {
        let bytes = STANDARD.decode(self.data.get(key)?).ok()?;
        String::from_utf8(bytes).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Secret")
            .field("name", &self.metadata.name)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Whether the kubelet says that it is ready, and was heard lately.
    pub fn is_ready(&self) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    /// Whether it runs the control plane.
    pub fn is_master(&self) -> bool {
        let label = "node-role.kubernetes.io/control-plane";
        self.metadata.labels.contains_key(label)
    }

    /// Its address inside the cluster.
    pub fn address(&self) -> Option<IpAddr> {
        let mut addresses = self.status.addresses.iter();
        addresses
            .find(|address| address.kind == "InternalIP")?
            .address
            .parse()
            .ok()
    }

    /// Its `/etc/machine-id`.
    pub fn machine_id(&self) -> &str {
        &self.status.node_info.machine_id
    }
}
