//! What a verified license allows: pure functions of the license, of signed dates, and of a time that is given.

use std::time::Duration;

use crate::clock;
use crate::index::BundleIndex;
use crate::license::LicenseError;
use crate::license::VerifiedLicense;
use crate::name::Name;
use crate::timestamp::Timestamp;

/// What somebody is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A first installation.
    Install,
    /// To a later release.
    Upgrade,
    /// More nodes than before.
    Grow,
    /// A new machine for a lost one.
    Replace,
    /// Recovery of a cluster that is down.
    Recover,
    /// Pods, replication, renewal of certificates.
    Run,
}

/// A feature that a license can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Installing from a bundle.
    Airgap,
    /// More than one master.
    Ha,
    /// More than one node.
    MultiNode,
}

/// Where a license stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts, and has no end.
    Endless,
    /// It counts.
    Valid {
        /// Its end.
        until: Timestamp,
    },
    /// It has ended and still counts.
    Grace {
        /// The end of the grace.
        until: Timestamp,
    },
    /// It has ended.
    Expired {
        /// Since when.
        since: Timestamp,
    },
}

const DAY: Duration = Duration::from_hours(24);

impl Action {
    /// Whether an ended license stops it. What already runs, and what keeps it running, is never stopped.
    const fn needs_time_left(self) -> bool {
        match self {
            Self::Install | Self::Upgrade | Self::Grow => true,
            Self::Replace | Self::Recover | Self::Run => false,
        }
    }
}

impl Feature {
    const fn word(self) -> &'static str {
        match self {
            Self::Airgap => "airgap",
            Self::Ha => "ha",
            Self::MultiNode => "multi_node",
        }
    }
}

impl VerifiedLicense {
    /// The main rule, without a clock: a release of its product and channels, out until `updates_until`.
    pub fn allows_release(&self, index: &BundleIndex) -> Result<(), LicenseError> {
        if index.vendor != self.license.vendor {
            return Err(LicenseError::Vendor {
                expected: index.vendor.clone(),
                actual: self.license.vendor.clone(),
            });
        }
        self.require_product(&index.product)?;
        if !self.license.channels.contains(&index.channel) {
            return Err(LicenseError::Channel {
                bundle: index.channel.clone(),
                license: self.license.channels.clone(),
            });
        }
        if index.released_at > self.license.updates_until {
            return Err(LicenseError::UpdatesEnded {
                released_at: index.released_at,
                updates_until: self.license.updates_until,
            });
        }
        Ok(())
    }

    /// Where it stands at `now`, which is [`clock::ClockFloor::now`], never a bare clock.
    pub fn standing(&self, now: Timestamp) -> Standing {
        let Some(end) = self.license.expires_at else {
            return Standing::Endless;
        };
        let grace_end = clock::add(end, DAY * u32::from(self.license.grace_days));
        if now < end {
            Standing::Valid { until: end }
        } else if now < grace_end {
            Standing::Grace { until: grace_end }
        } else {
            Standing::Expired { since: end }
        }
    }

    /// Whether an action may be done at `now`.
    pub fn allows_action(&self, action: Action, now: Timestamp) -> Result<Standing, LicenseError> {
        let standing = self.standing(now);
        if let Standing::Expired { since } = standing
            && action.needs_time_left()
        {
            return Err(LicenseError::Expired { since, now });
        }
        Ok(standing)
    }

    /// Whether a feature may be used.
    pub fn allows_feature(&self, feature: Feature) -> Result<(), LicenseError> {
        let features = self.license.features;
        let allowed = match feature {
            Feature::Airgap => features.airgap,
            Feature::Ha => features.ha,
            Feature::MultiNode => features.multi_node,
        };
        if allowed {
            return Ok(());
        }
        Err(LicenseError::Feature(feature.word()))
    }

    /// Whether a cluster may be this large; the caller counts under the join lease, so that two joins count one another.
    pub fn allows_size(&self, masters: u32, nodes: u32) -> Result<(), LicenseError> {
        let limits = self.license.limits;
        for (what, wanted, limit) in [
            ("masters", masters, limits.masters),
            ("nodes", nodes, limits.nodes),
        ] {
            if let Some(limit) = limit.filter(|limit| wanted > *limit) {
                return Err(LicenseError::Limit {
                    what,
                    wanted,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Whether it may be used in a cluster.
    pub fn allows_cluster(&self, cluster_id: &str) -> Result<(), LicenseError> {
        match &self.license.bind.cluster_id {
            Some(bound) if bound != cluster_id => Err(LicenseError::Cluster {
                bound: bound.clone(),
                actual: cluster_id.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Requires that it was given for this product.
    pub fn require_product(&self, product: &Name) -> Result<(), LicenseError> {
        if *product == self.license.product {
            return Ok(());
        }
        Err(LicenseError::Product {
            bundle: product.clone(),
            license: self.license.product.clone(),
        })
    }
}
