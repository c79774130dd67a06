//! The bundle index, `bundle.json`: what a bundle carries. It is what gets signed; its SHA-256 names the bundle.
//!
//! Wire type and working type are one, because the text is canonical: parsing and writing give the same bytes, so an
//! index that was read is exactly what was signed. A list that is empty and an option that is absent are not written.

use std::collections::BTreeMap;
use std::fmt;

use semver::Version;
use semver::VersionReq;
use serde::Deserialize;
use serde::Serialize;

use crate::digest::Digest;
use crate::fault::Blame;
use crate::fault::Fault;
use crate::json;
use crate::json::JsonError;
use crate::limits;
use crate::name::EntryPath;
use crate::name::ImageName;
use crate::name::LicenseId;
use crate::name::Name;
use crate::name::Platform;
use crate::timestamp::Timestamp;

mod check;
mod members;
#[cfg(test)]
mod tests;

pub use check::Problem;
pub use members::BlobMember;
pub(crate) use members::MemberHasher;
pub use members::MemberKind;

/// What every reader of format version 1 has to be at least; written into `min_reader`.
pub const MIN_READER: Version = Version::new(0, 1, 0);

/// The table of everything in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleIndex {
    /// The document's type.
    #[serde(rename = "_type")]
    pub document_type: IndexType,
    /// The oldest Sealift that understands this bundle.
    pub min_reader: Version,
    /// Who built it.
    pub vendor: Name,
    /// What it is.
    pub product: Name,
    /// The stream of releases that it belongs to.
    pub channel: Name,
    /// The version that people see. It orders nothing.
    pub version: Version,
    /// First part of the order of releases; raised only together with a new trust root.
    pub epoch: u64,
    /// Second part of the order of releases.
    pub sequence: u64,
    /// The sequence of this epoch below which a site may not go back, once it has accepted this bundle.
    pub rollback_floor: u64,
    /// When the vendor released it, as the vendor says.
    pub released_at: Timestamp,
    /// What it runs on.
    pub platforms: Vec<Platform>,
    /// The versions from which it may be reached; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_from: Option<VersionReq>,
    /// Whether a site on its way to a later release must stop at this one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// Container images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Helm charts, in the order in which they are applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charts: Vec<Chart>,
    /// Kubernetes manifests, in the order in which they are applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Document>,
    /// Files for nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<NodeFile>,
    /// The cluster that this bundle brings; absent for an application alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// Texts for people; those with `accept` must be agreed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Document>,
    /// SBOMs: documents in the SPDX or the `CycloneDX` format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sboms: Vec<Document>,
    /// Customer licenses that travel with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<CarriedLicense>,
    /// Extra host checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preflights: Vec<Document>,
    /// The version of the trust root that the signer used.
    pub root_version: u32,
    /// Every blob once, by stage and then digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<BlobEntry>,
}

/// `sealift/bundle/v1`, the only index type of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexType {
    /// Format version 1.
    #[serde(rename = "sealift/bundle/v1")]
    V1,
}

/// When a streaming reader needs a blob; earlier stages come first in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Stage {
    /// 0: manifests, indexes and configs.
    Metadata,
    /// 1: files for nodes.
    Node,
    /// 2: images of the cluster itself.
    Cluster,
    /// 3: application images and charts.
    Application,
    /// 4: SBOMs and documents.
    Documents,
}

/// A number that is no stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stage is {0}, expected 0 to 4")]
pub struct StageError(u8);

impl TryFrom<u8> for Stage {
    type Error = StageError;

    fn try_from(number: u8) -> Result<Self, StageError> {
        match number {
            0 => Ok(Self::Metadata),
            1 => Ok(Self::Node),
            2 => Ok(Self::Cluster),
            3 => Ok(Self::Application),
            4 => Ok(Self::Documents),
            _ => Err(StageError(number)),
        }
    }
}

impl From<Stage> for u8 {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Metadata => 0,
            Stage::Node => 1,
            Stage::Cluster => 2,
            Stage::Application => 3,
            Stage::Documents => 4,
        }
    }
}

/// A container image: reachable by tag and by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The full name with its tag.
    pub name: ImageName,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The platforms that are carried.
    pub platforms: Vec<Platform>,
    /// When it is needed.
    pub stage: Stage,
    /// Manifests that refer to it: signatures, attestations, SBOMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<Digest>,
}

/// A Helm chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// The chart's name.
    pub name: Name,
    /// The chart's version.
    pub version: Version,
    /// The chart's `.tgz`.
    pub digest: Digest,
    /// The namespace that it goes into.
    pub namespace: Name,
    /// The name of its release.
    pub release: Name,
    /// A values file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Digest>,
}

/// A document that is carried under a path: a manifest, a text, an SBOM, a preflight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Its name inside the bundle.
    pub path: EntryPath,
    /// Its bytes.
    pub digest: Digest,
    /// Whether somebody must agree to it before an install.
    #[serde(default, skip_serializing_if = "is_false")]
    pub accept: bool,
}

/// A customer license that travels with a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedLicense {
    /// The license's id.
    pub id: LicenseId,
    /// The `.lic` file.
    pub digest: Digest,
}

/// A file for nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Its name below the directory that its role allows.
    pub path: EntryPath,
    /// What it is; decides the directory.
    pub role: FileRole,
    /// Its permission bits.
    pub mode: FileMode,
    /// Its bytes.
    pub digest: Digest,
    /// The platform that it is for; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What a node file is. The installer knows the one directory that each role may write below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "each is the name of the program or file that it stands for"
)]
pub enum FileRole {
    CniPlugin,
    Config,
    Containerd,
    Crictl,
    Etcdctl,
    Helm,
    Installer,
    Kubeadm,
    Kubectl,
    Kubelet,
    Runc,
    Syncd,
    SystemdUnit,
}

/// Permission bits of a node file; nothing else can be asked for, above all no setuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileMode {
    /// Read by all.
    #[serde(rename = "0644")]
    Plain,
    /// Read and run by all.
    #[serde(rename = "0755")]
    Program,
}

/// The cluster that a bundle brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Version of Kubernetes.
    pub version: Version,
    /// Network of the pods, CIDR; kubeadm's `networking.podSubnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_subnet: Option<String>,
    /// Network of the services, CIDR; kubeadm's `networking.serviceSubnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_subnet: Option<String>,
}

/// A blob of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobEntry {
    /// What its bytes hash to.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// What it is.
    pub media_type: String,
    /// When it is needed.
    pub stage: Stage,
    /// The digest of its piece list; there for every blob over 8 MiB and for no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Digest>,
}

/// A `bundle.json` that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not strict, not canonical, or other fields than the type has.
    #[error("bundle.json can't be read")]
    Json(#[source] JsonError),
    /// Made for a later Sealift.
    #[error("bundle is of type {document_type:?} and needs Sealift {needs}, this is {this}")]
    TooNew {
        /// The document's type.
        document_type: String,
        /// The version that it asks for.
        needs: Version,
        /// The version that runs.
        this: Version,
    },
    /// Readable, but what it says can't be.
    #[error("bundle.json contradicts itself: {}", Problems(.0))]
    Contradiction(Vec<Problem>),
}

impl Fault for IndexError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooNew { .. } => "BUNDLE_TOO_NEW",
            Self::Json(_) | Self::Contradiction(_) => "BUNDLE_FORMAT",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::TooNew { needs, .. } => Some(format!("use Sealift {needs} or later")),
            Self::Json(_) | Self::Contradiction(_) => Some(
                "tell the vendor: the index was made by something else than bundler build"
                    .to_owned(),
            ),
        }
    }
}

struct Problems<'a>(&'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(5).enumerate() {
            write!(out, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        match self.0.len() {
            0..=5 => Ok(()),
            many => write!(out, "; and {} more", many - 5),
        }
    }
}

/// What is looked at before anything else, so that an old reader can say what it needs.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "_type")]
    document_type: String,
    min_reader: Version,
}

impl BundleIndex {
    /// Parses, requires the canonical form, and validates.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let probe: Probe =
            json::decode(bytes, limits::INDEX_BYTES_MAX).map_err(IndexError::Json)?;
        let this = reader_version();
        let newer_type = probe.document_type != "sealift/bundle/v1"
            && probe.document_type.starts_with("sealift/bundle/v");
        if probe.min_reader > this || newer_type {
            return Err(IndexError::TooNew {
                document_type: probe.document_type,
                needs: probe.min_reader,
                this,
            });
        }
        let index: Self =
            json::decode_canonical(bytes, limits::INDEX_BYTES_MAX).map_err(IndexError::Json)?;
        match index.validate() {
            problems if problems.is_empty() => Ok(index),
            problems => Err(IndexError::Contradiction(problems)),
        }
    }

    /// Writes the exact bytes of `bundle.json`; refuses an index that no reader would take.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IndexError> {
        let problems = self.validate();
        if !problems.is_empty() {
            return Err(IndexError::Contradiction(problems));
        }
        let bytes = json::encode(self).map_err(IndexError::Json)?;
        if bytes.len() > limits::INDEX_BYTES_MAX {
            return Err(IndexError::Json(JsonError::Size {
                actual: bytes.len(),
                limit: limits::INDEX_BYTES_MAX,
            }));
        }
        Ok(bytes)
    }

    /// Puts the blobs in their order and drops repetitions.
    pub fn sort_blobs(&mut self) {
        self.blobs.sort_by_key(BlobEntry::order);
        self.blobs.dedup();
    }

    /// Finds a blob. Blobs are sorted by stage first, so for many look-ups use [`BundleIndex::blobs_by_digest`].
    pub fn blob(&self, digest: &Digest) -> Option<&BlobEntry> {
        self.blobs.iter().find(|blob| blob.digest == *digest)
    }

    /// The blobs by digest.
    pub fn blobs_by_digest(&self) -> BTreeMap<Digest, &BlobEntry> {
        self.blobs.iter().map(|blob| (blob.digest, blob)).collect()
    }
}

impl BlobEntry {
    pub(crate) fn order(&self) -> (Stage, Digest) {
        (self.stage, self.digest)
    }
}

/// The version of this program, against which `min_reader` is held.
pub fn reader_version() -> Version {
    let part = |text: &str| text.parse().unwrap_or(0);
    Version::new(
        part(env!("CARGO_PKG_VERSION_MAJOR")),
        part(env!("CARGO_PKG_VERSION_MINOR")),
        part(env!("CARGO_PKG_VERSION_PATCH")),
    )
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}
