//! The trust root, `root.json`: which keys may sign what, and how many of them it takes.
//!
//! - **First trust** is a fingerprint (SHA-256 of `root.json`) that a person brings: [`TrustedRoot::pin`].
//! - **Every later one** is a step from N to exactly N + 1, signed by enough root keys of N *and* of N + 1
//!   ([`TrustedRoot::advance`]; TUF 5.3). There is no other way to a [`TrustedRoot`] but reading back what was stored.
//!
//! Attacks it answers: a skipped or repeated version (CVE-2025-2885); a root signed by the old or the new keys only;
//! a threshold of zero, or above what its keys can reach; one key under two ids; a weak key; an epoch that goes back;
//! another vendor's root; endless roots (64 KiB each, 1024 in one walk). A root never expires: no clock is asked.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::digest::Digest;
use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;
use crate::head::SignedFile;
use crate::json;
use crate::json::JsonError;
use crate::key::KeyId;
use crate::key::PublicKey;
use crate::limits;
use crate::minisig::Purpose;
use crate::name::Name;
use crate::name::NameError;
use crate::signers::Document;
use crate::signers::Quorum;
use crate::signers::Signers;
use crate::signers::SignersError;
use crate::timestamp::Timestamp;

/// The document of a trust root; not trusted by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The document's type.
    #[serde(rename = "_type")]
    pub document_type: RootType,
    /// Whose root it is.
    pub vendor: Name,
    /// Its number, from 1 without a gap.
    pub version: u32,
    /// The highest epoch that a bundle may have; raising it resets the sequences of all channels.
    pub epoch: u64,
    /// When it was made, as the vendor says.
    pub issued_at: Timestamp,
    /// All keys by id.
    pub keys: BTreeMap<KeyId, RootKey>,
    /// Who may sign what.
    pub roles: BTreeMap<RoleName, Role>,
}

/// `sealift/root/v1`, the only root type of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootType {
    /// Format version 1.
    #[serde(rename = "sealift/root/v1")]
    V1,
}

/// A key as a root lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootKey {
    /// How it signs.
    pub alg: KeyAlgorithm,
    /// The key in minisign's base64 form.
    pub public: PublicKey,
}

/// How a key signs. Further algorithms can join without a new document type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// minisign with a prehash: Ed25519 over BLAKE2b-512.
    #[serde(rename = "minisign-ED")]
    MinisignPrehashed,
}

/// A right to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Who has it.
    pub keys: BTreeSet<KeyId>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// What a role may sign.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// `root`: the next root, and revocations.
    Root,
    /// `bundle:<product>`: bundles of a product.
    Bundle(Name),
    /// `license:<product>`: licenses of a product.
    License(Name),
}

/// A root that this site trusts, with the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot {
    root: Root,
    json: Vec<u8>,
}

/// Something in a root that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's sentence")]
pub enum RootProblem {
    /// Versions count from 1.
    #[error("version is 0, they count from 1")]
    VersionZero,
    /// Somebody must be able to sign the next root.
    #[error("there is no role `root`")]
    NoRootRole,
    /// A key is listed under an id that is not its own.
    #[error("key {listed} is listed, but its id is {actual}")]
    KeyId { listed: KeyId, actual: KeyId },
    /// One key under two ids.
    #[error("keys {first} and {second} are one key")]
    SameKey { first: KeyId, second: KeyId },
    /// A role names a key that is not listed.
    #[error("role {role} names key {key}, which is not listed")]
    UnknownKey { role: RoleName, key: KeyId },
    /// A threshold that no or any signature meets.
    #[error("role {role} has {keys} keys and a threshold of {threshold}")]
    Threshold {
        role: RoleName,
        keys: usize,
        threshold: u32,
    },
}

/// A root that is refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's sentence")]
pub enum RootError {
    /// Not strict, not canonical, or other fields than the type has.
    #[error("the trust root can't be read")]
    Json(#[source] JsonError),
    /// Readable, but what it says can't be.
    #[error("the trust root contradicts itself: {}", join(.0))]
    Contradiction(Vec<RootProblem>),
    /// Not the root that the fingerprint is of.
    #[error("the trust root has another fingerprint than the one given")]
    Fingerprint { expected: Digest, actual: Digest },
    /// Not signed by those who may.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// Not the next version.
    #[error("the trust root has version {actual}, expected {expected}")]
    Version { expected: u32, actual: u32 },
    /// Another vendor's.
    #[error("the trust root is of vendor {actual}, expected {expected}")]
    Vendor { expected: Name, actual: Name },
    /// An epoch never goes back.
    #[error("the trust root has epoch {actual}, the one before it has {before}")]
    Epoch { before: u64, actual: u64 },
}

fn join(problems: &[RootProblem]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

impl Root {
    /// Parses, requires the canonical form, and validates. The result is not trusted.
    pub fn parse(bytes: &[u8]) -> Result<Self, RootError> {
        let root: Self =
            json::decode_canonical(bytes, limits::ROOT_BYTES_MAX).map_err(RootError::Json)?;
        match root.validate() {
            problems if problems.is_empty() => Ok(root),
            problems => Err(RootError::Contradiction(problems)),
        }
    }

    /// Writes the exact bytes of `root.json`; refuses a root that no reader would take.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RootError> {
        let problems = self.validate();
        if !problems.is_empty() {
            return Err(RootError::Contradiction(problems));
        }
        let bytes = json::encode(self).map_err(RootError::Json)?;
        if bytes.len() > limits::ROOT_BYTES_MAX {
            return Err(RootError::Json(JsonError::Size {
                actual: bytes.len(),
                limit: limits::ROOT_BYTES_MAX,
            }));
        }
        Ok(bytes)
    }

    /// Everything that is wrong with it.
    pub fn validate(&self) -> Vec<RootProblem> {
        let mut problems = Vec::new();
        if self.version == 0 {
            problems.push(RootProblem::VersionZero);
        }
        if !self.roles.contains_key(&RoleName::Root) {
            problems.push(RootProblem::NoRootRole);
        }
        let mut raw_keys: BTreeMap<[u8; 32], KeyId> = BTreeMap::new();
        for (id, key) in &self.keys {
            let actual = key.public.id();
            if actual != *id {
                problems.push(RootProblem::KeyId {
                    listed: *id,
                    actual,
                });
            }
            if let Some(first) = raw_keys.insert(*key.public.raw(), *id) {
                problems.push(RootProblem::SameKey { first, second: *id });
            }
        }
        for (name, role) in &self.roles {
            problems.extend(self.role_problems(name, role));
        }
        problems
    }

    fn role_problems(&self, name: &RoleName, role: &Role) -> Vec<RootProblem> {
        let unknown = role.keys.iter().filter(|key| !self.keys.contains_key(key));
        let mut problems: Vec<_> = unknown
            .map(|key| RootProblem::UnknownKey {
                role: name.clone(),
                key: *key,
            })
            .collect();
        let keys = role.keys.len();
        let reachable = usize::try_from(role.threshold).is_ok_and(|threshold| threshold <= keys);
        if role.threshold == 0 || !reachable {
            problems.push(RootProblem::Threshold {
                role: name.clone(),
                keys,
                threshold: role.threshold,
            });
        }
        problems
    }

    /// The keys of a role and its threshold; `None` when there is no such role.
    pub(crate) fn quorum<'a>(
        &'a self,
        role: RoleName,
        revoked: &'a BTreeSet<[u8; 32]>,
    ) -> Option<Quorum<'a>> {
        let Role { keys, threshold } = self.roles.get(&role)?;
        let keys = keys.iter().filter_map(|id| self.keys.get(id));
        Some(Quorum {
            role,
            keys: keys.map(|key| &key.public).collect(),
            threshold: *threshold,
            revoked,
        })
    }

    /// All keys, of whatever role.
    pub(crate) fn public_keys(&self) -> Vec<&PublicKey> {
        self.keys.values().map(|key| &key.public).collect()
    }

    /// Requires that enough of this root's own root keys signed for `comment`.
    fn require_root_role(&self, signers: &Signers, comment: &str) -> Result<(), RootError> {
        let none_revoked = BTreeSet::new();
        let quorum = self
            .quorum(RoleName::Root, &none_revoked)
            .ok_or_else(|| RootError::Contradiction(vec![RootProblem::NoRootRole]))?;
        signers.require(&quorum, comment)?;
        Ok(())
    }

    /// What its signatures are made for.
    pub fn purpose(&self) -> Purpose<'_> {
        Purpose::Root {
            vendor: self.vendor.as_str(),
            version: self.version,
        }
    }
}

impl TrustedRoot {
    /// Trusts a root because somebody brought its fingerprint, the SHA-256 of its bytes.
    pub fn pin(json: Vec<u8>, fingerprint: &Digest) -> Result<Self, RootError> {
        let actual = Digest::of(&json);
        if actual != *fingerprint {
            return Err(RootError::Fingerprint {
                expected: *fingerprint,
                actual,
            });
        }
        let root = Root::parse(&json)?;
        Ok(Self { root, json })
    }

    /// Takes back a root that this site has trusted before, from the place where it keeps it.
    pub fn restore(json: Vec<u8>) -> Result<Self, RootError> {
        let root = Root::parse(&json)?;
        Ok(Self { root, json })
    }

    /// Steps to the next root.
    pub fn advance(&self, next: &SignedFile) -> Result<Self, RootError> {
        if next.json.len() > limits::ROOT_BYTES_MAX {
            return Err(RootError::Json(JsonError::Size {
                actual: next.json.len(),
                limit: limits::ROOT_BYTES_MAX,
            }));
        }
        let files = || next.signatures.values().map(Vec::as_slice);
        let old_signers = Signers::of(
            Document::Root,
            &next.json,
            files(),
            &self.root.public_keys(),
        )?;
        let root = Root::parse(&next.json)?;
        self.check_step(&root)?;
        let comment = root.purpose().comment(&Digest::of(&next.json));
        self.root.require_root_role(&old_signers, &comment)?;
        let new_signers = Signers::of(Document::Root, &next.json, files(), &root.public_keys())?;
        root.require_root_role(&new_signers, &comment)?;
        Ok(Self {
            root,
            json: next.json.clone(),
        })
    }

    fn check_step(&self, next: &Root) -> Result<(), RootError> {
        if next.vendor != self.root.vendor {
            return Err(RootError::Vendor {
                expected: self.root.vendor.clone(),
                actual: next.vendor.clone(),
            });
        }
        if Some(next.version) != self.root.version.checked_add(1) {
            return Err(RootError::Version {
                expected: self.root.version.saturating_add(1),
                actual: next.version,
            });
        }
        if next.epoch < self.root.epoch {
            return Err(RootError::Epoch {
                before: self.root.epoch,
                actual: next.epoch,
            });
        }
        Ok(())
    }

    /// What it says.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Its exact bytes, to be kept for [`TrustedRoot::restore`].
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// What people compare.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.json)
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => out.write_str("root"),
            Self::Bundle(product) => write!(out, "bundle:{product}"),
            Self::License(product) => write!(out, "license:{product}"),
        }
    }
}

/// Text that is not the name of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleNameError {
    /// A kind of role that is not known.
    #[error("{0:?} is not a role: expected root, bundle:<product> or license:<product>")]
    Kind(String),
    /// A product that is not a name.
    #[error(transparent)]
    Product(#[from] NameError),
}

impl FromStr for RoleName {
    type Err = RoleNameError;

    fn from_str(text: &str) -> Result<Self, RoleNameError> {
        match text.split_once(':') {
            None if text == "root" => Ok(Self::Root),
            Some(("bundle", product)) => Ok(Self::Bundle(product.parse()?)),
            Some(("license", product)) => Ok(Self::License(product.parse()?)),
            _ => Err(RoleNameError::Kind(text.chars().take(80).collect())),
        }
    }
}

impl Serialize for RoleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Fault for RootError {
    fn code(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::Contradiction(_) => "ROOT_FORM",
            Self::Fingerprint { .. } => "TRUST_FINGERPRINT",
            Self::Signers(error) => error.code(),
            Self::Version { .. } => "ROOT_VERSION",
            Self::Vendor { .. } => "ROOT_VENDOR",
            Self::Epoch { .. } => "ROOT_EPOCH",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Fingerprint { expected, actual } => vec![
                Fact::new("given", expected.to_hex()),
                Fact::new("root", actual.to_hex()),
            ],
            Self::Signers(error) => error.facts(),
            Self::Json(_)
            | Self::Contradiction(_)
            | Self::Version { .. }
            | Self::Vendor { .. }
            | Self::Epoch { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Signers(error) => return error.hint(),
            Self::Fingerprint { .. } => {
                "compare the fingerprint with the vendor over another way than the one the file came"
            }
            Self::Json(_) | Self::Contradiction(_) => {
                "ask the vendor for the root.json of this release"
            }
            Self::Version { .. } => {
                "give the roots one after the other; each newer bundle carries all of them"
            }
            Self::Vendor { .. } => "each vendor has a trust root of its own: installer trust show",
            Self::Epoch { .. } => "ask the vendor: an epoch only ever goes up",
        };
        Some(hint.to_owned())
    }
}
