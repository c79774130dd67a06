//! Why a license is refused, or does not allow something.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;
use crate::json::JsonError;
use crate::name::LicenseId;
use crate::name::Name;
use crate::signers::SignersError;
use crate::timestamp::Timestamp;

/// Something in a license that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LicenseProblem {
    /// It would cover no release.
    #[error("`channels` is empty")]
    NoChannel,
    /// A trial has an end.
    #[error("a trial has no `expires_at`")]
    EndlessTrial,
    /// It would allow no cluster.
    #[error("the limit of {0} is 0; write null for no limit")]
    ZeroLimit(&'static str),
    /// It would replace itself.
    #[error("it supersedes itself")]
    SupersedesItself,
    /// A value that is not of its type.
    #[error("the value of entitlement {0} is not of its type")]
    EntitlementType(Name),
}

/// A license that is refused, or does not allow something.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's sentence")]
pub enum LicenseError {
    /// No license file at all.
    #[error("this is no license file but {0}")]
    Foreign(&'static str),
    /// A signature, and nothing behind it.
    #[error("the license file ends before its document")]
    NoDocument,
    /// Not strict, not canonical, or other fields than the type has.
    #[error("the license can't be read")]
    Json(#[source] JsonError),
    /// Readable, but what it says can't be.
    #[error("the license contradicts itself: {}", join(.0))]
    Contradiction(Vec<LicenseProblem>),
    /// Not signed by those who may.
    #[error(transparent)]
    Signers(SignersError),
    /// Another vendor's.
    #[error("the license is of vendor {actual}, expected {expected}")]
    Vendor { expected: Name, actual: Name },
    /// A product that the trust root knows no license keys for.
    #[error("the trust root names nobody who may sign licenses of {0}")]
    NoRole(Name),
    /// Taken back by the vendor.
    #[error("license {id} was revoked by the vendor")]
    Revoked { id: LicenseId, reason: String },
    /// Not the file that the bundle pins.
    #[error("the license in the bundle is not the one that its index names")]
    Digest { expected: Digest, actual: Digest },
    /// Not the license that the bundle names.
    #[error("the license in the bundle has the id {actual}, its index says {expected}")]
    Id {
        expected: LicenseId,
        actual: LicenseId,
    },
    /// For another product.
    #[error("the license is for another product")]
    Product { bundle: Name, license: Name },
    /// For other channels.
    #[error("the license does not cover this channel")]
    Channel {
        bundle: Name,
        license: BTreeSet<Name>,
    },
    /// The release is later than the license covers.
    #[error("this release came out after the license's updates ended")]
    UpdatesEnded {
        released_at: Timestamp,
        updates_until: Timestamp,
    },
    /// It has ended, grace included.
    #[error("the license has expired")]
    Expired { since: Timestamp, now: Timestamp },
    /// A feature that it does not hold.
    #[error("the license does not hold the feature {0}")]
    Feature(&'static str),
    /// A larger cluster than it allows.
    #[error("the license allows {limit} {what}, this would be {wanted}")]
    Limit {
        what: &'static str,
        wanted: u32,
        limit: u32,
    },
    /// For another cluster.
    #[error("the license is bound to another cluster")]
    Cluster { bound: String, actual: String },
}

fn join(problems: &[LicenseProblem]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

fn join_names(names: &BTreeSet<Name>) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}

impl LicenseError {
    /// Whether no key of the vendor has signed at all; another vendor's root may still know the signer.
    pub const fn is_untrusted(&self) -> bool {
        matches!(self, Self::Signers(error) if error.is_untrusted())
    }
}

impl Fault for LicenseError {
    fn code(&self) -> &'static str {
        match self {
            Self::Foreign(_) | Self::NoDocument | Self::Json(_) | Self::Contradiction(_) => {
                "LICENSE_FORM"
            }
            Self::Signers(error) => error.code(),
            Self::Vendor { .. } => "LICENSE_VENDOR",
            Self::NoRole(_) | Self::Product { .. } => "LICENSE_PRODUCT",
            Self::Revoked { .. } => "LICENSE_REVOKED",
            Self::Digest { .. } => "LICENSE_DIGEST",
            Self::Id { .. } => "LICENSE_ID",
            Self::Channel { .. } => "LICENSE_CHANNEL",
            Self::UpdatesEnded { .. } => "LICENSE_UPDATES_ENDED",
            Self::Expired { .. } => "LICENSE_EXPIRED",
            Self::Feature(_) => "LICENSE_FEATURE",
            Self::Limit { .. } => "LICENSE_LIMIT",
            Self::Cluster { .. } => "LICENSE_CLUSTER",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Foreign(_)
            | Self::NoDocument
            | Self::Json(_)
            | Self::Contradiction(_)
            | Self::Signers(_)
            | Self::Vendor { .. }
            | Self::NoRole(_)
            | Self::Digest { .. }
            | Self::Id { .. } => Blame::Input,
            Self::Revoked { .. }
            | Self::Product { .. }
            | Self::Channel { .. }
            | Self::UpdatesEnded { .. }
            | Self::Expired { .. }
            | Self::Feature(_)
            | Self::Limit { .. }
            | Self::Cluster { .. } => Blame::Policy,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Signers(error) => error.facts(),
            Self::Revoked { reason, .. } => vec![Fact::new("reason", reason)],
            Self::Digest { expected, actual } => {
                vec![Fact::new("index", expected), Fact::new("file", actual)]
            }
            Self::Product { bundle, license } => {
                vec![Fact::new("bundle", bundle), Fact::new("license", license)]
            }
            Self::Channel { bundle, license } => vec![
                Fact::new("bundle", bundle),
                Fact::new("license", join_names(license)),
            ],
            Self::UpdatesEnded {
                released_at,
                updates_until,
            } => vec![
                Fact::new("release", released_at),
                Fact::new("license", format!("updates until {updates_until}")),
            ],
            Self::Expired { since, now } => {
                vec![Fact::new("expired", since), Fact::new("now", now)]
            }
            Self::Cluster { bound, actual } => {
                vec![Fact::new("license", bound), Fact::new("cluster", actual)]
            }
            Self::Foreign(_)
            | Self::NoDocument
            | Self::Json(_)
            | Self::Contradiction(_)
            | Self::Vendor { .. }
            | Self::NoRole(_)
            | Self::Id { .. }
            | Self::Feature(_)
            | Self::Limit { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Signers(error) => return error.hint(),
            Self::Foreign(_) | Self::NoDocument | Self::Json(_) => {
                "give the .lic file as the vendor sent it, byte for byte"
            }
            Self::Contradiction(_) | Self::Digest { .. } | Self::Id { .. } => {
                "tell the vendor: the license was made wrong"
            }
            Self::Vendor { .. } | Self::NoRole(_) => {
                "make sure that the trust root is this vendor's newest: installer trust show"
            }
            Self::UpdatesEnded { .. } => {
                "install a release from before that day, or ask the vendor for a license with later updates"
            }
            Self::Expired { .. } => {
                "what runs goes on; ask the vendor for a new license to install, upgrade or grow"
            }
            Self::Revoked { .. }
            | Self::Product { .. }
            | Self::Channel { .. }
            | Self::Feature(_)
            | Self::Limit { .. }
            | Self::Cluster { .. } => "ask the vendor for a license that covers this",
        };
        Some(hint.to_owned())
    }
}
