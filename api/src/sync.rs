//! What peers say to each other over `/v1`, and what `syncd status` tells people.
//!
//! Everything here is plain data from outside: shapes are checked by the types, truth never is. A node believes a peer
//! about what the peer *has*, and nothing about what the bytes *are*.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bundle::Digest;
use serde::Deserialize;
use serde::Serialize;

/// The version of the peer protocol, `major.minor`; a node speaks its own and the previous minor.
pub const PROTOCOL: Protocol = Protocol { major: 1, minor: 0 };

/// `major.minor` of the peer protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Another major can't be spoken with.
    pub major: u16,
    /// Minors add fields that others ignore.
    pub minor: u16,
}

impl Protocol {
    /// Whether this build can talk with a peer that speaks `other`.
    pub const fn speaks(self, other: Self) -> bool {
        self.major == other.major && self.minor.abs_diff(other.minor) <= 1
    }
}

/// The name of a master, as in its certificate: `^[a-z0-9][a-z0-9.-]{0,62}$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Text that is no node name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a node name: expected 1 to 63 of a-z, 0-9, '.', '-', first a letter or digit"
)]
pub struct NodeNameError(String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        let rest = text
            .bytes()
            .all(|byte| plain(byte) || byte == b'.' || byte == b'-');
        if first && rest && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(NodeNameError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, NodeNameError> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One start of a node. What a peer confirmed in an earlier boot counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Boot(u128);

/// Text that is no boot id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot id is 32 hexadecimal digits")]
pub struct BootError;

impl Boot {
    /// Takes 16 bytes that the caller drew at random.
    pub const fn new(drawn: u128) -> Self {
        Self(drawn)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl From<Boot> for String {
    fn from(boot: Boot) -> Self {
        boot.to_string()
    }
}

impl TryFrom<String> for Boot {
    type Error = BootError;

    fn try_from(text: String) -> Result<Self, BootError> {
        if text.len() != 32 || text.starts_with('+') {
            return Err(BootError);
        }
        u128::from_str_radix(&text, 16)
            .map(Self)
            .map_err(|_not_hex| BootError)
    }
}

/// Who answers, in which boot, and how far its log of changes has come. Every answer of a peer begins with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Protocol that the answer is written in.
    pub protocol: Protocol,
    /// The node that answers.
    pub node: NodeName,
    /// Its current boot.
    pub boot: Boot,
    /// Number of the last change that the answer includes.
    pub at: u64,
}

/// `GET /v1/summary`: everything that a node holds, as one digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Who and when.
    pub stamp: Stamp,
    /// SHA-256 over the sorted digests of published blobs and of records.
    pub digest: Digest,
}

/// `GET /v1/inventory`: everything that a node holds, in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Who and when.
    pub stamp: Stamp,
    /// Published blobs, sorted.
    pub blobs: Vec<Digest>,
    /// Verified pieces of unfinished blobs.
    pub partials: Vec<Pieces>,
    /// Digests of records, sorted.
    pub records: Vec<Digest>,
}

/// Which pieces of one blob are verified, as runs of (first, count), ascending and apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// The blob.
    pub blob: Digest,
    /// Runs of verified pieces.
    pub runs: Vec<(u64, u64)>,
}

/// `GET /v1/have/{hex}`: what a node can serve of one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Who and when.
    pub stamp: Stamp,
    /// The whole blob is published.
    pub published: bool,
    /// Verified pieces when it is not.
    pub pieces: Pieces,
}

/// `GET /v1/have?boot=B&after=N&wait_ms=W`: what changed since, as soon as anything did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Who and when.
    pub stamp: Stamp,
    /// Digest of the summary after these changes.
    pub digest: Digest,
    /// The changes in order; absent when they can't be told any more and the inventory has to be read.
    pub changes: Option<Vec<Change>>,
}

/// One thing that changed at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A blob was published: durable and verified.
    Published(Digest),
    /// Pieces of an unfinished blob were verified.
    Pieces {
        /// The blob.
        blob: Digest,
        /// First piece of the run.
        first: u64,
        /// Pieces in the run.
        count: u64,
    },
    /// A record was accepted and is durable.
    Record(Digest),
    /// A blob, a partial or a record is not there any more: damaged, discarded, or replaced by a newer one.
    Gone(Digest),
}

/// `POST /v1/records`: which records the caller wants. The answer is a sequence of (u32 length, record bytes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantRecords {
    /// Digests of the wanted records.
    pub want: Vec<Digest>,
}

/// `POST /v1/nudge`: come and look at the caller now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nudge {
    /// Blobs of which the receiver of this nudge served bytes that did not verify; it should read them again.
    pub suspects: Vec<Digest>,
}

/// How many masters must hold everything before an import returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// This node alone.
    Local,
    /// More than half of the members, this node included.
    #[default]
    Majority,
    /// Every member.
    All,
}

impl Wait {
    /// How many of `members` nodes that is; a cluster of two needs both.
    pub const fn copies(self, members: usize) -> usize {
        match self {
            Self::Local => 1,
            Self::Majority => members / 2 + 1,
            Self::All => members,
        }
    }
}

/// `GET /v1/status`: what this node knows of the cluster, for people, metrics and the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who and when.
    pub stamp: Stamp,
    /// Every other member.
    pub peers: Vec<PeerStatus>,
    /// Every record, bundles first.
    pub contents: Vec<ContentStatus>,
    /// For every member: what would be lost with it.
    pub nodes: Vec<NodeStatus>,
    /// Blobs on their way to this node.
    pub transfers: Vec<TransferStatus>,
    /// What does not work at the moment.
    pub troubles: Vec<Trouble>,
    /// Bytes and events since this boot.
    pub counters: Counters,
}

/// How the link to a peer does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Its inventory is known and it answers.
    Up,
    /// Not reached since this boot or lost; why.
    Down(String),
}

/// One peer as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: NodeName,
    /// How the link does.
    pub link: Link,
    /// Milliseconds since its last answer; absent when there was none in this boot.
    pub silent_ms: Option<u64>,
    /// Bytes of known contents that it has not published.
    pub lag_bytes: u64,
    /// Records known here that it lacks.
    pub lag_records: u64,
}

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentKind {
    /// The signed head of a bundle, referencing blobs.
    Bundle,
    /// A customer's license.
    License,
    /// A trust root.
    Root,
    /// The vendor's list of revocations.
    Revocations,
    /// A control fact of the cluster itself.
    Control,
}

/// One record and who has all that it references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentStatus {
    /// Bundle id for a bundle, else the digest of the record.
    pub id: Digest,
    /// What it is.
    pub kind: ContentKind,
    /// For people: `vendor/product 1.2.3`.
    pub title: String,
    /// Its number in the order of its line, as signed; an epoch before it is left out.
    pub sequence: u64,
    /// Bytes of all referenced blobs.
    pub bytes: u64,
    /// Number of referenced blobs.
    pub blobs: u64,
    /// Each member's copy.
    pub copies: BTreeMap<NodeName, Copy>,
}

/// One member's copy of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copy {
    /// Published and synced, said so in its current boot.
    Complete,
    /// Lacks the record or blobs.
    Incomplete {
        /// Blobs that it has not published.
        missing_blobs: u64,
        /// Their bytes.
        missing_bytes: u64,
    },
    /// The member does not answer.
    Unknown,
}

/// Whether a member can be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The member.
    pub name: NodeName,
    /// Nothing known would be lost with it.
    pub safe_to_lose: bool,
    /// What only this member has, for each content.
    pub only_here: Vec<OnlyHere>,
}

/// The part of one content that a single member holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyHere {
    /// [`ContentStatus::id`].
    pub id: Digest,
    /// [`ContentStatus::title`].
    pub title: String,
    /// Blobs that nobody else has published; 0 when it is the record alone.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A blob on its way to this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// The blob.
    pub blob: Digest,
    /// Its size.
    pub bytes: u64,
    /// Verified bytes.
    pub have_bytes: u64,
    /// Members that can serve at least a part of what is missing.
    pub sources: Vec<NodeName>,
}

/// Something that does not work and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Stable code.
    pub code: String,
    /// The blob or record that it is about.
    pub object: Option<Digest>,
    /// The peer that it is about.
    pub peer: Option<NodeName>,
    /// One sentence.
    pub text: String,
    /// Milliseconds until the next try.
    pub retry_ms: u64,
}

/// Bytes and events since this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes of blobs received, by source.
    pub received_bytes: BTreeMap<NodeName, u64>,
    /// Bytes of blobs sent, by receiver.
    pub sent_bytes: BTreeMap<NodeName, u64>,
    /// Pieces and blobs whose hash was wrong, by source.
    pub refused_pieces: BTreeMap<NodeName, u64>,
    /// Bytes found verified in partials at start, so not fetched again.
    pub resumed_bytes: u64,
    /// Blobs published by this node's transfers.
    pub published_blobs: u64,
    /// Blobs found damaged at rest and put into quarantine.
    pub damaged_blobs: u64,
    /// Full passes made.
    pub full_passes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_a_host_label_and_nothing_else() {
        for good in ["m1", "master-1.site", "0", &"a".repeat(63)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "M1", "-m", ".m", "m/1", "m 1", "m\n", &"a".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_majority_of_two_is_both() {
        let copies = |members| Wait::Majority.copies(members);
        assert_eq!([1, 2, 3, 4, 5].map(copies), [1, 2, 2, 3, 3]);
        assert_eq!(Wait::All.copies(3), 3);
    }

    #[test]
    fn a_node_speaks_its_own_and_the_next_minor() {
        let at = |major, minor| Protocol { major, minor };
        assert!(at(1, 3).speaks(at(1, 2)) && at(1, 3).speaks(at(1, 4)));
        assert!(!at(1, 3).speaks(at(1, 1)) && !at(1, 3).speaks(at(2, 3)));
    }
}
