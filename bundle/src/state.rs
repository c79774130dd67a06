//! What a site has accepted so far, so that nothing older is accepted later.
//!
//! Each master keeps one; two of them merge by the component-wise maximum, so it does not matter in which order, how
//! often or from whom masters hear of each other. It only ever grows: judging takes `&self`, accepting judges first,
//! and what is refused changes nothing (CVE-2025-2888 is a client that took note of what it had just refused).
//!
//! Attacks it answers: an older bundle, license or list of revocations shown again; two releases under one sequence; a
//! release with the last sequence there is, by a stolen key (a new root raises the epoch, and counting begins anew);
//! a downgrade below what the vendor allows.

use std::collections::BTreeMap;

use semver::Version;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::ClockFloor;
use crate::digest::Digest;
use crate::json;
use crate::json::JsonError;
use crate::license::VerifiedLicense;
use crate::name::LicenseId;
use crate::name::Name;
use crate::name::Platform;
use crate::signers::Document;
use crate::timestamp::Timestamp;
use crate::verify::Trust;
use crate::verify::VerifiedIndex;

mod error;
mod key;

pub use error::PolicyError;
pub use key::Key;

/// The state of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustState {
    /// The document's type.
    #[serde(rename = "_type")]
    document_type: StateType,
    /// The newest root by vendor.
    #[serde(default)]
    roots: BTreeMap<Key<1>, Seen>,
    /// The newest list of revocations by vendor.
    #[serde(default)]
    revocations: BTreeMap<Key<1>, Seen>,
    /// The newest release by vendor, product and channel.
    #[serde(default)]
    bundles: BTreeMap<Key<3>, Accepted>,
    /// Licenses by vendor and product.
    #[serde(default)]
    licenses: BTreeMap<Key<2>, Licenses>,
    /// The earliest time that it can be.
    #[serde(default)]
    time_floor: Option<Timestamp>,
}

/// `sealift/state/v1`, the only type of this version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum StateType {
    #[default]
    #[serde(rename = "sealift/state/v1")]
    V1,
}

/// A numbered document that was accepted. Ordered by number, then digest, so that a merge has one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its version or sequence.
    pub sequence: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// The licenses of one product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    /// The newest that was accepted, by id.
    #[serde(default)]
    accepted: BTreeMap<LicenseId, Seen>,
    /// Up to which sequence a license is replaced by another one, by id.
    #[serde(default)]
    superseded: BTreeMap<LicenseId, u64>,
}

/// The newest release that was accepted, and how far the vendor lets a site go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The release.
    pub newest: Release,
    /// Nothing below it is accepted, not even by permit.
    pub floor: Position,
}

/// A release: its place in the order, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Its place.
    pub position: Position,
    /// The bundle's id.
    pub id: Digest,
    /// The version that people see; it follows from the id and decides nothing.
    pub version: Version,
}

/// A place in the order of releases: epoch first, then sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Raised by a new trust root only.
    pub epoch: u64,
    /// Raised by each release.
    pub sequence: u64,
}

/// What a bundle is held against, besides what was accepted before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The product that runs here; any when unknown.
    pub product: Option<Name>,
    /// The platform of the nodes; any when unknown.
    pub platform: Option<Platform>,
    /// Whether the vendor has permitted to go back.
    pub downgrade: Downgrade,
}

/// Whether an older release may be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Downgrade {
    /// No.
    #[default]
    Refused,
    /// Down to the floor, because a verified permit says so.
    Permitted,
}

/// How a license that is accepted relates to those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// Another license than the current one must name it in `supersedes`.
    #[default]
    BySupersedes,
    /// The operator confirmed the replacement.
    Confirmed,
}

/// A state file: one entry of some hundred bytes a product, license and vendor.
pub const STATE_BYTES_MAX: usize = 1 << 20;

impl TrustState {
    /// Reads what [`TrustState::to_bytes`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        json::decode_canonical(bytes, STATE_BYTES_MAX)
    }

    /// Writes it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, JsonError> {
        json::encode(self)
    }

    /// What two sites know together: the maximum of every component.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        raise_all(&mut self.roots, &other.roots);
        raise_all(&mut self.revocations, &other.revocations);
        for (key, accepted) in &other.bundles {
            raise_accepted(&mut self.bundles, key, accepted);
        }
        for (key, licenses) in &other.licenses {
            self.licenses
                .entry(key.clone())
                .or_default()
                .merge(licenses);
        }
        self.time_floor = self.time_floor.max(other.time_floor);
        self
    }

    /// Whether a bundle may be accepted here.
    pub fn judge_bundle(&self, bundle: &VerifiedIndex, site: &Site) -> Result<(), PolicyError> {
        let index = bundle.index();
        if let Some(product) = site.product.as_ref().filter(|it| **it != index.product) {
            return Err(PolicyError::Product {
                bundle: index.product.clone(),
                site: product.clone(),
            });
        }
        let platform = site.platform.as_ref();
        if let Some(platform) = platform.filter(|it| !index.platforms.contains(it)) {
            return Err(PolicyError::Platform {
                bundle: index.platforms.clone(),
                site: platform.clone(),
            });
        }
        self.judge_trust(bundle.trust())?;
        let Some(accepted) = self.bundles.get(&stream(bundle)) else {
            return Ok(());
        };
        judge_release(&release(bundle), accepted, site.downgrade).map_err(|problem| {
            PolicyError::Release {
                product: product(bundle),
                bundle: Box::new(release(bundle)),
                site: Box::new(accepted.newest.clone()),
                floor: accepted.floor,
                problem,
            }
        })
    }

    /// Takes note of a bundle; refuses what [`TrustState::judge_bundle`] refuses, and changes nothing then.
    pub fn accept_bundle(
        &mut self,
        bundle: &VerifiedIndex,
        site: &Site,
    ) -> Result<(), PolicyError> {
        self.judge_bundle(bundle, site)?;
        let accepted = Accepted {
            newest: release(bundle),
            floor: Position {
                epoch: bundle.index().epoch,
                sequence: bundle.index().rollback_floor,
            },
        };
        raise_accepted(&mut self.bundles, &stream(bundle), &accepted);
        self.accept_trust(bundle.trust())?;
        self.raise_time_floor(bundle.index().released_at);
        Ok(())
    }

    /// Whether a root and revocations may be accepted: none older than those that the site has had.
    pub fn judge_trust(&self, trust: &Trust) -> Result<(), PolicyError> {
        let root = trust.root();
        let vendor = Key::of([&root.root().vendor]);
        let version = u64::from(root.root().version);
        let seen = Seen {
            sequence: version,
            digest: root.fingerprint(),
        };
        judge_seen(Document::Root, &seen, self.roots.get(&vendor))?;
        let known = self.revocations.get(&vendor);
        match (trust.revocations(), known) {
            (Some(list), _) => judge_seen(Document::Revocations, &seen_list(list), known),
            (None, Some(known)) => Err(PolicyError::RevocationsMissing {
                sequence: known.sequence,
            }),
            (None, None) => Ok(()),
        }
    }

    /// Takes note of a root and revocations.
    pub fn accept_trust(&mut self, trust: &Trust) -> Result<(), PolicyError> {
        self.judge_trust(trust)?;
        let root = trust.root();
        let vendor = Key::of([&root.root().vendor]);
        let seen = Seen {
            sequence: u64::from(root.root().version),
            digest: root.fingerprint(),
        };
        raise(&mut self.roots, &vendor, seen);
        self.raise_time_floor(root.root().issued_at);
        if let Some(list) = trust.revocations() {
            raise(&mut self.revocations, &vendor, seen_list(list));
        }
        Ok(())
    }

    /// Whether a license may take its place: not older than itself, and not beside another that it does not replace.
    pub fn judge_license(
        &self,
        license: &VerifiedLicense,
        replace: Replace,
    ) -> Result<(), PolicyError> {
        let document = license.license();
        let id = &document.license_id;
        let Some(known) = self.licenses.get(&license_key(license)) else {
            return Ok(());
        };
        judge_seen(
            Document::License,
            &seen_license(license),
            known.accepted.get(id),
        )?;
        if known.is_superseded(id, document.sequence) {
            return Err(PolicyError::LicenseSuperseded { id: id.clone() });
        }
        let mut others = known.current().filter(|other| *other != id);
        let other = others.find(|other| !document.supersedes.contains(other));
        match other {
            Some(current) if replace == Replace::BySupersedes => Err(PolicyError::LicenseOther {
                current: current.clone(),
                offered: id.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Takes note of a license; those that it replaces are out from then on.
    pub fn accept_license(
        &mut self,
        license: &VerifiedLicense,
        replace: Replace,
    ) -> Result<(), PolicyError> {
        self.judge_license(license, replace)?;
        let document = license.license();
        let known = self.licenses.entry(license_key(license)).or_default();
        if replace == Replace::Confirmed {
            known.supersede_all_but(&document.license_id);
        }
        for id in &document.supersedes {
            known.superseded.insert(id.clone(), u64::MAX);
        }
        raise(
            &mut known.accepted,
            &document.license_id,
            seen_license(license),
        );
        self.raise_time_floor(document.issued_at);
        Ok(())
    }

    /// The ids of the licenses of a product that nothing has replaced: one, unless two sites were apart.
    pub fn current_licenses(&self, vendor: &Name, product: &Name) -> Vec<LicenseId> {
        let known = self.licenses.get(&Key::of([vendor, product]));
        known.map_or_else(Vec::new, |known| known.current().cloned().collect())
    }

    /// The newest release of a channel.
    pub fn newest(&self, vendor: &Name, product: &Name, channel: &Name) -> Option<&Accepted> {
        self.bundles.get(&Key::of([vendor, product, channel]))
    }

    /// The floor of the time, once there is one.
    pub fn clock_floor(&self) -> Option<ClockFloor> {
        self.time_floor.map(ClockFloor::at)
    }

    /// Raises the floor of the time; a lower one changes nothing.
    pub fn raise_time_floor(&mut self, time: Timestamp) {
        self.time_floor = self.time_floor.max(Some(time));
    }
}

impl Licenses {
    fn merge(&mut self, other: &Self) {
        raise_all(&mut self.accepted, &other.accepted);
        for (id, sequence) in &other.superseded {
            self.supersede(id, *sequence);
        }
    }

    fn supersede(&mut self, id: &LicenseId, sequence: u64) {
        let entry = self.superseded.entry(id.clone()).or_insert(sequence);
        *entry = sequence.max(*entry);
    }

    /// The operator said so: the others are out as they are now; the vendor may issue them anew.
    fn supersede_all_but(&mut self, id: &LicenseId) {
        for (other, seen) in self.accepted.clone() {
            if other != *id {
                self.supersede(&other, seen.sequence);
            }
        }
    }

    fn is_superseded(&self, id: &LicenseId, sequence: u64) -> bool {
        let out = self.superseded.get(id);
        out.is_some_and(|out| sequence <= *out)
    }

    fn current(&self) -> impl Iterator<Item = &LicenseId> {
        let accepted = self.accepted.iter();
        accepted
            .filter(|(id, seen)| !self.is_superseded(id, seen.sequence))
            .map(|(id, _)| id)
    }
}

/// What is wrong with a release's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseProblem {
    /// Older than the newest that was accepted.
    Older,
    /// Older than what the vendor lets a site go back to.
    BelowFloor,
    /// Another bundle with the same place.
    Equivocation,
}

fn judge_release(
    release: &Release,
    accepted: &Accepted,
    downgrade: Downgrade,
) -> Result<(), ReleaseProblem> {
    let newest = &accepted.newest;
    if release.position == newest.position && release.id != newest.id {
        return Err(ReleaseProblem::Equivocation);
    }
    if release.position < accepted.floor {
        return Err(ReleaseProblem::BelowFloor);
    }
    if release.position < newest.position && downgrade == Downgrade::Refused {
        return Err(ReleaseProblem::Older);
    }
    Ok(())
}

fn judge_seen(document: Document, offered: &Seen, known: Option<&Seen>) -> Result<(), PolicyError> {
    let Some(known) = known else { return Ok(()) };
    let error = |problem| PolicyError::Document {
        document,
        known: *known,
        offered: *offered,
        problem,
    };
    if offered.sequence < known.sequence {
        return Err(error(ReleaseProblem::Older));
    }
    if offered.sequence == known.sequence && offered.digest != known.digest {
        return Err(error(ReleaseProblem::Equivocation));
    }
    Ok(())
}

fn raise<K: Ord + Clone>(map: &mut BTreeMap<K, Seen>, key: &K, seen: Seen) {
    let entry = map.entry(key.clone()).or_insert(seen);
    *entry = (*entry).max(seen);
}

fn raise_all<K: Ord + Clone>(map: &mut BTreeMap<K, Seen>, other: &BTreeMap<K, Seen>) {
    for (key, seen) in other {
        raise(map, key, *seen);
    }
}

fn raise_accepted(map: &mut BTreeMap<Key<3>, Accepted>, key: &Key<3>, accepted: &Accepted) {
    let entry = map.entry(key.clone()).or_insert_with(|| accepted.clone());
    if entry.newest < accepted.newest {
        entry.newest = accepted.newest.clone();
    }
    entry.floor = entry.floor.max(accepted.floor);
}

fn stream(bundle: &VerifiedIndex) -> Key<3> {
    let index = bundle.index();
    Key::of([&index.vendor, &index.product, &index.channel])
}

fn product(bundle: &VerifiedIndex) -> String {
    format!("{}/{}", bundle.index().vendor, bundle.index().product)
}

fn position(bundle: &VerifiedIndex) -> Position {
    Position {
        epoch: bundle.index().epoch,
        sequence: bundle.index().sequence,
    }
}

fn release(bundle: &VerifiedIndex) -> Release {
    Release {
        position: position(bundle),
        id: bundle.id(),
        version: bundle.index().version.clone(),
    }
}

fn license_key(license: &VerifiedLicense) -> Key<2> {
    Key::of([&license.license().vendor, &license.license().product])
}

fn seen_license(license: &VerifiedLicense) -> Seen {
    Seen {
        sequence: license.license().sequence,
        digest: license.digest(),
    }
}

fn seen_list(list: &crate::revocations::TrustedRevocations) -> Seen {
    Seen {
        sequence: list.list().sequence,
        digest: list.digest(),
    }
}
