//! One try of one machine to join, and how leases and secrets name it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::join::Attempt;
use api::join::TurnWish;

use super::fault::JoinError;
use crate::etcd::Joiner;
use crate::kubernetes::Lease;

/// Annotation or label: the node's name.
pub(super) const NODE: &str = "sealift.io/join-node";

/// Annotation or label: the attempt.
pub(super) const ATTEMPT: &str = "sealift.io/join-attempt";

/// Annotation: the node's address.
pub(super) const ADDRESS: &str = "sealift.io/join-address";

/// Annotation of the lease: the machine has been told to go, so what etcd shows of it is its own work and no leftover.
pub(super) const STAGE: &str = "sealift.io/join-stage";

/// The value of [`STAGE`].
pub(super) const GOING: &str = "going";

/// What has to be known of a try to clean up after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) who: Attempt,
    pub(super) address: IpAddr,
}

impl Trial {
    pub(super) fn of(wish: &TurnWish) -> Self {
        Self {
            who: wish.who.clone(),
            address: wish.address,
        }
    }

    /// The try that a lease was held for, or stands in the queue for.
    pub(super) fn in_lease(lease: &Lease) -> Option<Self> {
        Some(Self {
            who: Attempt {
                node: lease.told(NODE).parse().ok()?,
                attempt: lease.told(ATTEMPT).to_owned(),
            },
            address: lease.told(ADDRESS).parse().ok()?,
        })
    }

    /// What a lease says about it.
    pub(super) fn facts(&self) -> BTreeMap<String, String> {
        let facts = [
            (NODE, self.who.node.to_string()),
            (ATTEMPT, self.who.attempt.clone()),
            (ADDRESS, self.address.to_string()),
        ];
        facts
            .into_iter()
            .map(|(key, text)| (key.to_owned(), text))
            .collect()
    }

    /// As etcd would know it.
    pub(super) fn joiner(&self) -> Joiner {
        Joiner {
            name: self.who.node.to_string(),
            address: self.address,
        }
    }
}

/// The holder of a lease for a try.
pub(super) fn holder(who: &Attempt) -> String {
    format!("{} {}", who.node, who.attempt)
}

/// An attempt becomes part of labels and names: it is exactly 32 hexadecimal digits.
pub(super) fn check(who: &Attempt) -> Result<(), JoinError> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if who.attempt.len() == 32 && who.attempt.bytes().all(is_hex) {
        Ok(())
    } else {
        Err(JoinError::Request(
            "an attempt is 32 hexadecimal digits".to_owned(),
        ))
    }
}
