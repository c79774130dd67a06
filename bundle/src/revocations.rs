//! What a vendor has taken back, `revocations.json`: keys, bundles, licenses.
//!
//! Always the full list, with its own sequence, signed by the role `root`; the newest wins and none goes back. Carried
//! by bundles, importable alone. What is revoked is not accepted any more; what already runs is reported, not stopped.
//!
//! Attacks it answers: an older list shown again; two lists with one sequence; a list that takes back a key of the role
//! that signs lists (a root key is replaced by a new root, so that a list never decides about itself); a bundle that is
//! kept and revoked at once; entries twice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::digest::Digest;
use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;
use crate::head::SignedFile;
use crate::json;
use crate::json::JsonError;
use crate::key::PublicKey;
use crate::limits;
use crate::minisig::Purpose;
use crate::name::LicenseId;
use crate::name::Name;
use crate::root::RoleName;
use crate::root::TrustedRoot;
use crate::signers::Document;
use crate::signers::Signers;
use crate::signers::SignersError;
use crate::timestamp::Timestamp;

/// The document; not trusted by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// The document's type.
    #[serde(rename = "_type")]
    pub document_type: RevocationsType,
    /// Whose list it is.
    pub vendor: Name,
    /// Its number; a higher one replaces it.
    pub sequence: u64,
    /// When it was made, as the vendor says.
    pub issued_at: Timestamp,
    /// Keys whose signatures do not count any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<RevokedKey>,
    /// Bundles that are not accepted any more, by id, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bundles: BTreeMap<Digest, String>,
    /// Licenses that are not accepted any more, by id, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub licenses: BTreeMap<LicenseId, String>,
    /// Bundles that stay good although a revoked key signed them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keep: BTreeSet<Digest>,
}

/// `sealift/revocations/v1`, the only type of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevocationsType {
    /// Format version 1.
    #[serde(rename = "sealift/revocations/v1")]
    V1,
}

/// A key that is taken back. Named by the key itself: an id would spare its twin under another id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedKey {
    /// The key in minisign's base64 form.
    pub public: PublicKey,
    /// Why.
    pub reason: String,
}

/// A list that the root role has signed, with the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRevocations {
    list: Revocations,
    keys: BTreeSet<[u8; 32]>,
    file: SignedFile,
}

/// A list that is refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's sentence")]
pub enum RevocationsError {
    /// Not strict, not canonical, or other fields than the type has.
    #[error("the list of revocations can't be read")]
    Json(#[source] JsonError),
    /// Not signed by those who may.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// Another vendor's.
    #[error("the list of revocations is of vendor {actual}, expected {expected}")]
    Vendor { expected: Name, actual: Name },
    /// It takes back a key of the role that signs lists.
    #[error("the list of revocations names key {0} of the role root")]
    RootKey(crate::key::KeyId),
    /// Keys twice or out of order.
    #[error("the list of revocations names its keys twice or out of order")]
    KeyOrder,
    /// A bundle is kept and revoked.
    #[error("the list of revocations keeps and revokes bundle {0}")]
    KeptAndRevoked(Digest),
    /// A newer list is known.
    #[error("the list of revocations has sequence {actual}, the site knows {known}")]
    Older { known: u64, actual: u64 },
    /// Two lists have one sequence.
    #[error("there are two lists of revocations with sequence {sequence}")]
    Equivocation {
        sequence: u64,
        known: Digest,
        actual: Digest,
    },
}

impl Revocations {
    /// Parses and requires the canonical form. The result is not trusted.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevocationsError> {
        let list: Self = json::decode_canonical(bytes, limits::REVOCATIONS_BYTES_MAX)
            .map_err(RevocationsError::Json)?;
        list.validate()?;
        Ok(list)
    }

    /// Writes the exact bytes of `revocations.json`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RevocationsError> {
        self.validate()?;
        json::encode(self).map_err(RevocationsError::Json)
    }

    fn validate(&self) -> Result<(), RevocationsError> {
        if !self
            .keys
            .is_sorted_by(|a, b| a.public.raw() < b.public.raw())
        {
            return Err(RevocationsError::KeyOrder);
        }
        let kept = self.keep.iter().find(|id| self.bundles.contains_key(id));
        kept.map_or(Ok(()), |id| Err(RevocationsError::KeptAndRevoked(*id)))
    }

    /// What its signatures are made for.
    pub fn purpose(&self) -> Purpose<'_> {
        Purpose::Revocations {
            vendor: self.vendor.as_str(),
            sequence: self.sequence,
        }
    }
}

impl TrustedRevocations {
    /// Verifies a list with the root keys of a trusted root.
    pub fn verify(file: &SignedFile, trusted: &TrustedRoot) -> Result<Self, RevocationsError> {
        let root = trusted.root();
        if file.json.len() > limits::REVOCATIONS_BYTES_MAX {
            return Err(RevocationsError::Json(JsonError::Size {
                actual: file.json.len(),
                limit: limits::REVOCATIONS_BYTES_MAX,
            }));
        }
        let files = file.signatures.values().map(Vec::as_slice);
        let signers = Signers::of(
            Document::Revocations,
            &file.json,
            files,
            &root.public_keys(),
        )?;
        let list = Revocations::parse(&file.json)?;
        if list.vendor != root.vendor {
            return Err(RevocationsError::Vendor {
                expected: root.vendor.clone(),
                actual: list.vendor,
            });
        }
        let keys: BTreeSet<_> = list.keys.iter().map(|key| *key.public.raw()).collect();
        let none_revoked = BTreeSet::new();
        if let Some(quorum) = root.quorum(RoleName::Root, &none_revoked) {
            if let Some(key) = quorum.keys.iter().find(|key| keys.contains(key.raw())) {
                return Err(RevocationsError::RootKey(key.id()));
            }
            let comment = list.purpose().comment(&Digest::of(&file.json));
            signers.require(&quorum, &comment)?;
        }
        Ok(Self {
            list,
            keys,
            file: file.clone(),
        })
    }

    /// Takes back a list that this site has verified before, from the place where it keeps it.
    ///
    /// It needs no signature then: the keys that signed it may be gone from the root since.
    pub fn restore(file: SignedFile) -> Result<Self, RevocationsError> {
        let list = Revocations::parse(&file.json)?;
        let keys = list.keys.iter().map(|key| *key.public.raw()).collect();
        Ok(Self { list, keys, file })
    }

    /// Requires that this list may follow `known`: it is newer, or the same bytes.
    pub fn require_not_older_than(&self, known: &Self) -> Result<(), RevocationsError> {
        let (sequence, known_sequence) = (self.list.sequence, known.list.sequence);
        if sequence < known_sequence {
            return Err(RevocationsError::Older {
                known: known_sequence,
                actual: sequence,
            });
        }
        if sequence == known_sequence && self.digest() != known.digest() {
            return Err(RevocationsError::Equivocation {
                sequence,
                known: known.digest(),
                actual: self.digest(),
            });
        }
        Ok(())
    }

    /// What it says.
    pub const fn list(&self) -> &Revocations {
        &self.list
    }

    /// Its exact bytes and signatures, to be kept and passed on.
    pub const fn file(&self) -> &SignedFile {
        &self.file
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.file.json)
    }

    /// Raw keys that do not count.
    pub(crate) const fn keys(&self) -> &BTreeSet<[u8; 32]> {
        &self.keys
    }
}

impl Fault for RevocationsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::RootKey(_) | Self::KeyOrder | Self::KeptAndRevoked(_) => {
                "REVOCATIONS_FORM"
            }
            Self::Signers(error) => error.code(),
            Self::Vendor { .. } => "REVOCATIONS_VENDOR",
            Self::Older { .. } => "REVOCATIONS_ROLLBACK",
            Self::Equivocation { .. } => "REVOCATIONS_EQUIVOCATION",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Older { .. } => Blame::Policy,
            Self::Json(_)
            | Self::Signers(_)
            | Self::Vendor { .. }
            | Self::RootKey(_)
            | Self::KeyOrder
            | Self::KeptAndRevoked(_)
            | Self::Equivocation { .. } => Blame::Input,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Signers(error) => error.facts(),
            Self::Equivocation { known, actual, .. } => {
                vec![Fact::new("site", known), Fact::new("list", actual)]
            }
            Self::Json(_)
            | Self::Vendor { .. }
            | Self::RootKey(_)
            | Self::KeyOrder
            | Self::KeptAndRevoked(_)
            | Self::Older { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Signers(error) => return error.hint(),
            Self::RootKey(_) => "a root key is taken back by a new root that does not list it",
            Self::Older { .. } => "nothing is to be done: the site has a newer list",
            Self::Equivocation { .. } => "tell the vendor: one of the two lists should not exist",
            Self::Json(_) | Self::Vendor { .. } | Self::KeyOrder | Self::KeptAndRevoked(_) => {
                "ask the vendor for the list of revocations"
            }
        };
        Some(hint.to_owned())
    }
}
