//! What a machine that wants to join says to the masters, and what they answer.
//!
//! All of it travels over TLS to the daemon's public port ([`PORT`]), whose certificate the cluster's own authority has
//! issued: the join script carries that authority, so a machine that knows nothing else can't be led astray. Each request
//! carries the script's token as `Authorization: Bearer …`. What is *installed* is believed for another reason: the
//! vendor's signature, checked against the root whose fingerprint the script carries.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/join/site` | | [`Site`] |
//! | `GET /v1/join/root` | | the pinned root and its signatures, [`TrustFiles`] |
//! | `GET /v1/join/head/{id}` | | the head of a bundle as masters exchange it: a record of the store, `store::Record::parse` |
//! | `GET /v1/join/blob/{hex}` | | a blob, with ranges |
//! | `POST /v1/join/certificate` | [`CertificateWish`] | [`NodeCertificate`] |
//! | `POST /v1/join/turn` | [`TurnWish`] | [`Turn`]; repeated every [`TURN_MS`], it is also the sign of life |
//! | `POST /v1/join/done` | [`Attempt`] | [`Joined`] once the broker has seen it from outside |
//! | `POST /v1/join/abandon` | [`Attempt`] | nothing |
//!
//! Whatever is refused has a status of 400 or above and a [`Refusal`] as its body. A worker's turn comes at once; its `done`
//! and `abandon` are the same as a master's. `done` is answered within [`DONE_MS`]: a refusal that says `again` means that
//! the node is not seen yet, and the machine asks once more.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use bundle::Digest;
use bundle::name::Name;
use bundle::timestamp::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::sync::NodeName;

/// Where a daemon answers joining machines (and later the console).
pub const PORT: u16 = 8800;

/// How often a waiting or joining machine repeats its [`TurnWish`], milliseconds.
pub const TURN_MS: u64 = 2_000;

/// After how long without a sign of life a joining machine has lost its turn, milliseconds.
pub const SILENCE_MS: u64 = 45_000;

/// How long a master may look for a joined machine before it answers [`Attempt`] at `done`, milliseconds.
pub const DONE_MS: u64 = 20_000;

/// Why a request was not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable code, as in `docs/errors.md`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Whether the same request can be granted later, without anybody doing anything.
    #[serde(default)]
    pub again: bool,
}

/// What a machine is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the control plane and holds a copy of the store.
    Master,
    /// Runs applications.
    Worker,
}

/// A master as others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Master {
    /// Its name, as in its certificate and in Kubernetes.
    pub name: NodeName,
    /// Its address.
    pub address: IpAddr,
}

/// What a join script carries, as the file that `installer join --request FILE` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The cluster's id, 10 of a-z and 0-9.
    pub cluster_id: String,
    /// What this script makes.
    pub role: Role,
    /// Every master there was when the script was printed, the first master first.
    pub masters: Vec<Master>,
    /// The certificate of the cluster's own authority, PEM.
    pub ca_pem: String,
    /// The join token; one script's, for as many machines as paste it until it ends.
    pub token: String,
    /// When the token ends, by the masters' clocks.
    pub expires_at: Timestamp,
    /// The vendor whose signature counts.
    pub vendor: Name,
    /// SHA-256 of the vendor's pinned root.json.
    pub root_fingerprint: Digest,
}

/// The cluster, as a machine that joins it needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The cluster's id.
    pub cluster_id: String,
    /// Name and port of the API on every node: `api.<cluster-id>.sealift.internal:6444`.
    pub endpoint: String,
    /// Whether it is, or is to become, highly available.
    pub ha: bool,
    /// The load balancer in front of all masters, `host:port`.
    pub load_balancer: Option<String>,
    /// Whether application pods are kept off the masters.
    pub taint_control_plane: bool,
    /// The master that all API traffic goes to without a load balancer.
    pub first_master: NodeName,
    /// All masters, the first master first.
    pub masters: Vec<Master>,
    /// Ids of the bundles that the site runs, the one with Kubernetes first.
    pub bundles: Vec<Digest>,
    /// The masters' clock.
    pub now: Timestamp,
    /// Names and machine ids that are taken: two machines must not share one.
    pub taken: Vec<Taken>,
}

/// A node that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Its `/etc/machine-id`, from the node's status.
    pub machine_id: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Whether it is ready now.
    pub ready: bool,
}

/// A pinned root, for a machine that compares it with its script's fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustFiles {
    /// `root.json`.
    pub root_json: String,
}

/// A node's wish for its own certificate; the secret key stays on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateWish {
    /// The node's name.
    pub node: NodeName,
    /// A PKCS #10 request signed with the node's key, PEM.
    pub request_pem: String,
}

/// What makes a machine one of the nodes.
#[derive(Clone, Serialize, Deserialize)]
pub struct NodeCertificate {
    /// The node's certificate, PEM.
    pub certificate_pem: String,
    /// The authority's secret key, PEM, for masters alone: every master can admit the next one.
    pub ca_key_pem: Option<String>,
}

/// A try of a machine to join, told apart from the same machine's other tries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The node.
    pub node: NodeName,
    /// Drawn by the node when the try begins, 32 hexadecimal digits.
    pub attempt: String,
}

/// Asks for the machine's turn, and says that it still lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnWish {
    /// Who, in which try.
    pub who: Attempt,
    /// Where the node will be reached.
    pub address: IpAddr,
    /// The node's `/etc/machine-id`.
    pub machine_id: String,
    /// What the machine does just now, one line for people.
    pub doing: String,
    /// The machine is about to run kubeadm, and nothing of an earlier run of it counts: a member without a vote that etcd
    /// may still have of it has lost its data, and is removed before the machine goes.
    #[serde(default)]
    pub begins: bool,
}

/// Whether it is the machine's turn.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "turn", rename_all = "lowercase")]
pub enum Turn {
    /// Not yet; or, for a machine that is under way already, go on: another master has told it its credentials.
    Wait {
        /// How many are before it, the holder included; 0 when the turn is the machine's own.
        position: u32,
        /// Who changes the control plane now, and what it does.
        holder: Option<String>,
        /// Since when it does, seconds.
        holder_age_s: u64,
        /// Why nobody may go on, where that is so: etcd is not well.
        blocked: Option<String>,
    },
    /// Now: the lease is held for it as long as it goes on asking.
    Go {
        /// What kubeadm needs.
        credentials: Credentials,
    },
}

/// What `kubeadm join` needs, minted for one try and gone after it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// A bootstrap token, `id.secret`.
    pub token: String,
    /// `sha256:…` of the public keys of Kubernetes' authority.
    pub ca_cert_hashes: Vec<String>,
    /// Decrypts the shared certificates, 64 hexadecimal digits; for masters alone.
    pub certificate_key: Option<String>,
}

/// A join, seen from outside by the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Voting members of etcd after it.
    pub etcd_members: u32,
    /// All masters after it, the first master first.
    pub masters: Vec<Master>,
}

/// What `installer join-script` asks of the daemon on its master, over the control socket: `POST /v1/join/script`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptWish {
    /// What the script is to make.
    pub role: Role,
    /// For how long, seconds.
    pub ttl_s: u64,
}

/// What a join script is made of.
#[derive(Clone, Serialize, Deserialize)]
pub struct ScriptParts {
    /// Names the token, to revoke it; no secret.
    pub token_id: String,
    /// The file that the script writes.
    pub request: JoinRequest,
    /// The vendor's installer in the site's bundle, by platform: what the script fetches and checks first.
    pub installers: BTreeMap<String, Digest>,
}

/// A join token, without its secret: `GET /v1/join/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLine {
    /// Its name.
    pub id: String,
    /// What it makes.
    pub role: Role,
    /// When it was made, by the API server's clock.
    pub made_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Who changes the control plane, and who waits for it: `GET /v1/join/queue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Who holds the lease, and what it does.
    pub holder: Option<String>,
    /// Since when, seconds.
    pub holder_age_s: u64,
    /// Names of the nodes that wait, the next one first.
    pub waiting: Vec<NodeName>,
}

// Secrets are inside: what is shown of them is that they are there.

impl fmt::Debug for ScriptParts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("ScriptParts");
        shown
            .field("token_id", &self.token_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeCertificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NodeCertificate").finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Wait { .. } => "Wait",
            Self::Go { .. } => "Go",
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials").finish_non_exhaustive()
    }
}
