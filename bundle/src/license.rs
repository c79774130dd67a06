//! A customer's license, `<customer>.lic`: what may be installed, how large, until when.
//!
//! One file: the four lines of a minisign signature, then the JSON, so that minisign alone can check it:
//! `tail -n +5 x.lic | minisign -V -H -x x.lic -m /dev/stdin -p license.pub`.
//!
//! A license counts only as a [`VerifiedLicense`]. Its rules (`rules.rs`) are functions of values: an upgrade is judged
//! by two dates that the vendor signed, and a clock comes in only where a license itself has an end.
//!
//! Attacks it answers: an edited field; another vendor's, product's, channel's or cluster's license; a signature that
//! was made for something else; an older license shown again and two licenses with one sequence (`state.rs`); a value
//! that is not of its type; negative or huge limits; a file that is no license at all.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::digest::Digest;
use crate::json;
use crate::json::JsonError;
use crate::key::KeyId;
use crate::key::SecretKey;
use crate::limits;
use crate::minisig::Purpose;
use crate::minisig::Signature;
use crate::name::LicenseId;
use crate::name::Name;
use crate::timestamp::Timestamp;

mod error;
mod rules;
mod verify;

pub use error::LicenseError;
pub use error::LicenseProblem;
pub use rules::Action;
pub use rules::Feature;
pub use rules::Standing;

/// The document; not trusted by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct License {
    /// The document's type.
    #[serde(rename = "_type")]
    pub document_type: LicenseType,
    /// Its name, the same for all sequences of it.
    pub license_id: LicenseId,
    /// Its number; a higher one replaces it.
    pub sequence: u64,
    /// Who gave it.
    pub vendor: Name,
    /// For what.
    pub product: Name,
    /// To whom.
    pub customer: Customer,
    /// What for.
    pub kind: LicenseKind,
    /// The channels whose releases it covers.
    pub channels: BTreeSet<Name>,
    /// When it was made, as the vendor says.
    pub issued_at: Timestamp,
    /// Releases up to this moment may be installed, for ever.
    pub updates_until: Timestamp,
    /// When it ends; never when `null`.
    pub expires_at: Option<Timestamp>,
    /// Days after the end in which it still counts.
    pub grace_days: u16,
    /// What may be used.
    pub features: Features,
    /// How large a cluster may be.
    pub limits: Limits,
    /// Named rights for the application.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entitlements: BTreeMap<Name, Entitlement>,
    /// What it is bound to.
    pub bind: Bind,
    /// Licenses that this one replaces.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub supersedes: BTreeSet<LicenseId>,
}

/// `sealift/license/v1`, the only type of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LicenseType {
    /// Format version 1.
    #[serde(rename = "sealift/license/v1")]
    V1,
}

/// To whom a license was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The vendor's name for the customer.
    pub id: String,
    /// The name that people see.
    pub name: String,
    /// Where to write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What a license is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LicenseKind {
    /// Paid for.
    Production,
    /// To look at it; must have an end.
    Trial,
    /// To develop with.
    Development,
}

/// What may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Installing from a bundle.
    pub airgap: bool,
    /// More than one master.
    pub ha: bool,
    /// More than one node.
    pub multi_node: bool,
}

/// How large a cluster may be; without a limit when `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Masters.
    pub masters: Option<u32>,
    /// Nodes, masters included.
    pub nodes: Option<u32>,
}

/// A named right for the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entitlement {
    /// What its value is.
    #[serde(rename = "type")]
    pub value_type: EntitlementType,
    /// The value, of that type.
    pub value: EntitlementValue,
    /// The name that people see.
    pub title: String,
    /// Whether people see it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// What an entitlement's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntitlementType {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// Text.
    String,
}

/// An entitlement's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EntitlementValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    String(String),
}

/// What a license is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The cluster (the UID of its `kube-system` namespace); any when `null`.
    pub cluster_id: Option<String>,
}

/// A license that the vendor's license role has signed, with the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLicense {
    license: License,
    digest: Digest,
    signers: Vec<KeyId>,
    file: Vec<u8>,
}

impl License {
    /// Parses, requires the canonical form, and validates. The result is not trusted.
    pub fn parse(json: &[u8]) -> Result<Self, LicenseError> {
        let license: Self =
            json::decode_canonical(json, limits::LICENSE_BYTES_MAX).map_err(LicenseError::Json)?;
        match license.validate() {
            problems if problems.is_empty() => Ok(license),
            problems => Err(LicenseError::Contradiction(problems)),
        }
    }

    /// Writes the exact bytes of the JSON part; refuses a license that no reader would take.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LicenseError> {
        let problems = self.validate();
        if problems.is_empty() {
            return json::encode(self).map_err(LicenseError::Json);
        }
        Err(LicenseError::Contradiction(problems))
    }

    /// Writes the license file: the signature's four lines, then the JSON.
    pub fn to_file(&self, key: &SecretKey) -> Result<Vec<u8>, LicenseError> {
        let json = self.to_bytes()?;
        let signature = Signature::sign(key, &json, &self.purpose());
        let mut file = signature.to_file().into_bytes();
        file.extend_from_slice(&json);
        if file.len() > limits::LICENSE_BYTES_MAX {
            return Err(LicenseError::Json(JsonError::Size {
                actual: file.len(),
                limit: limits::LICENSE_BYTES_MAX,
            }));
        }
        Ok(file)
    }

    /// Everything that is wrong with it.
    pub fn validate(&self) -> Vec<LicenseProblem> {
        let mut problems = Vec::new();
        if self.channels.is_empty() {
            problems.push(LicenseProblem::NoChannel);
        }
        if self.kind == LicenseKind::Trial && self.expires_at.is_none() {
            problems.push(LicenseProblem::EndlessTrial);
        }
        for (what, limit) in [
            ("masters", self.limits.masters),
            ("nodes", self.limits.nodes),
        ] {
            if limit == Some(0) {
                problems.push(LicenseProblem::ZeroLimit(what));
            }
        }
        if self.supersedes.contains(&self.license_id) {
            problems.push(LicenseProblem::SupersedesItself);
        }
        let mistyped = self
            .entitlements
            .iter()
            .filter(|(_, right)| !right.is_typed());
        problems.extend(mistyped.map(|(name, _)| LicenseProblem::EntitlementType(name.clone())));
        problems
    }

    /// What its signature is made for.
    pub fn purpose(&self) -> Purpose<'_> {
        Purpose::License {
            vendor: self.vendor.as_str(),
            product: self.product.as_str(),
            id: self.license_id.as_str(),
            sequence: self.sequence,
        }
    }
}

impl Entitlement {
    const fn is_typed(&self) -> bool {
        matches!(
            (self.value_type, &self.value),
            (EntitlementType::Boolean, EntitlementValue::Boolean(_))
                | (EntitlementType::Integer, EntitlementValue::Integer(_))
                | (EntitlementType::String, EntitlementValue::String(_))
        )
    }
}

impl VerifiedLicense {
    /// What it says.
    pub const fn license(&self) -> &License {
        &self.license
    }

    /// The digest of its JSON part.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The keys whose signatures counted.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// The whole file, to be kept and passed on.
    pub fn file(&self) -> &[u8] {
        &self.file
    }
}
