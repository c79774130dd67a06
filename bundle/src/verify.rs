//! From an untrusted head to a verified one.
//!
//! 1. The roots that the bundle carries are walked, from the one that this site trusts to the newest.
//! 2. The carried list of revocations is taken when it is newer than the known one.
//! 3. There is a signature, and each one by a key of any bundle role holds for the exact bytes of `bundle.json`.
//! 4. Only now the same buffer is parsed.
//! 5. Vendor, product, root version and epoch fit the root; enough keys of *this product's* role signed for exactly this
//!    vendor, product, channel, epoch, sequence and digest; neither the bundle nor its keys are revoked.
//!
//! Pure: what the site trusts comes in as a value, and what it should trust from now on goes out as one
//! ([`VerifiedIndex::trust`]). A refused bundle changes neither.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;
use crate::head::HeadFiles;
use crate::head::SignedFile;
use crate::head::UntrustedHead;
use crate::head::VerifiedHead;
use crate::index::BundleIndex;
use crate::index::IndexError;
use crate::key::KeyId;
use crate::key::PublicKey;
use crate::key::SecretKey;
use crate::limits;
use crate::minisig::Purpose;
use crate::minisig::Signature;
use crate::name::LicenseId;
use crate::name::Name;
use crate::read::ReadError;
use crate::revocations::RevocationsError;
use crate::revocations::TrustedRevocations;
use crate::root::RoleName;
use crate::root::RootError;
use crate::root::TrustedRoot;
use crate::signers::Document;
use crate::signers::Quorum;
use crate::signers::Signers;
use crate::signers::SignersError;

/// What a site trusts for one vendor: the root, and what was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    root: TrustedRoot,
    revocations: Option<TrustedRevocations>,
}

/// An index that is signed by those who may, with what was learnt on the way.
#[derive(Clone, Debug)]
pub struct VerifiedIndex {
    index: BundleIndex,
    id: Digest,
    signers: Vec<KeyId>,
    trust: Trust,
}

/// A bundle that is not trusted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's sentence")]
pub enum TrustError {
    /// Not signed by those who may.
    #[error(transparent)]
    Signers(SignersError),
    /// A carried root that is refused.
    #[error("the bundle carries a trust root that is refused")]
    Root(#[source] RootError),
    /// A carried list of revocations that is refused.
    #[error("the bundle carries a list of revocations that is refused")]
    Revocations(#[source] RevocationsError),
    /// Signed, and yet no index.
    #[error(transparent)]
    Index(IndexError),
    /// Another vendor's.
    #[error("the bundle is of vendor {actual}, this trust root is of {expected}")]
    Vendor { expected: Name, actual: Name },
    /// A product that the trust root knows no bundle keys for.
    #[error("the trust root names nobody who may sign bundles of {product}")]
    Product { product: Name, products: Vec<Name> },
    /// Signed under a root that neither the site nor the bundle has.
    #[error("the bundle was signed under trust root {needs}, the site knows {known}")]
    RootMissing { needs: u32, known: u32 },
    /// An epoch that no root allows yet.
    #[error("the bundle has epoch {actual}, its trust root allows {allowed}")]
    Epoch { allowed: u64, actual: u64 },
    /// Taken back by the vendor.
    #[error("this bundle was revoked by the vendor")]
    Revoked { id: Digest, reason: String },
    /// The packing beside the index does not fit it.
    #[error(transparent)]
    Packing(ReadError),
}

impl Trust {
    /// Trusts a root; nothing is known to be revoked.
    pub const fn new(root: TrustedRoot) -> Self {
        Self {
            root,
            revocations: None,
        }
    }

    /// Adds the list of revocations that the site has.
    #[must_use]
    pub fn with_revocations(self, revocations: Option<TrustedRevocations>) -> Self {
        Self {
            revocations,
            ..self
        }
    }

    /// The root.
    pub const fn root(&self) -> &TrustedRoot {
        &self.root
    }

    /// The list of revocations.
    pub const fn revocations(&self) -> Option<&TrustedRevocations> {
        self.revocations.as_ref()
    }

    /// Learns from a newer list of revocations; an older or other one is refused.
    pub fn advance_revocations(&self, file: &SignedFile) -> Result<Self, RevocationsError> {
        let next = TrustedRevocations::verify(file, &self.root)?;
        if let Some(known) = &self.revocations {
            next.require_not_older_than(known)?;
        }
        Ok(self.clone().with_revocations(Some(next)))
    }

    /// Walks carried roots forward and takes a newer list of revocations.
    fn walk(&self, files: &HeadFiles) -> Result<Self, TrustError> {
        if files.roots.len() > limits::ROOTS_MAX {
            let known = self.root.root().version;
            return Err(TrustError::RootMissing {
                needs: u32::MAX,
                known,
            });
        }
        let mut root = self.root.clone();
        let known = root.root().version;
        for (version, file) in files.roots.iter().filter(|(version, _)| **version > known) {
            root = root.advance(file).map_err(TrustError::Root)?;
            require_version(*version, root.root().version)?;
        }
        let walked = Self::new(root).with_revocations(self.revocations.clone());
        let Some(file) = &files.revocations else {
            return Ok(walked);
        };
        match walked.advance_revocations(file) {
            Ok(newer) => Ok(newer),
            // An older bundle carries an older list, perhaps by root keys that are gone; the site's own one counts.
            Err(RevocationsError::Older { .. }) => Ok(walked),
            Err(RevocationsError::Signers(error)) if error.is_untrusted() => Ok(walked),
            Err(error) => Err(TrustError::Revocations(error)),
        }
    }

    /// The keys of all roles of a kind, each once.
    pub(crate) fn keys_of(&self, is_kind: impl Fn(&RoleName) -> bool) -> Vec<&PublicKey> {
        let root = self.root.root();
        let roles = root.roles.iter().filter(|(name, _)| is_kind(name));
        let ids: BTreeSet<_> = roles.flat_map(|(_, role)| &role.keys).collect();
        let keys = ids.into_iter().filter_map(|id| root.keys.get(id));
        keys.map(|key| &key.public).collect()
    }

    /// The keys that count for a role; for a bundle that the vendor keeps, revoked ones as well.
    pub(crate) fn quorum(&self, role: RoleName, bundle: Option<&Digest>) -> Option<Quorum<'_>> {
        static NONE: BTreeSet<[u8; 32]> = BTreeSet::new();
        let revoked = match (&self.revocations, bundle) {
            (Some(list), Some(id)) if list.list().keep.contains(id) => &NONE,
            (Some(list), _) => list.keys(),
            (None, _) => &NONE,
        };
        self.root.root().quorum(role, revoked)
    }

    /// Why a license was taken back, if it was.
    pub(crate) fn license_revoked(&self, id: &LicenseId) -> Option<&str> {
        let list = self.revocations.as_ref()?.list();
        list.licenses.get(id).map(String::as_str)
    }

    /// Why a bundle was taken back, if it was. Also for bundles that are already here: they are reported, not stopped.
    pub fn bundle_revoked(&self, id: &Digest) -> Option<&str> {
        let list = self.revocations.as_ref()?.list();
        list.bundles.get(id).map(String::as_str)
    }
}

/// The number in a root's file name is the number in the root.
fn require_version(named: u32, actual: u32) -> Result<(), TrustError> {
    if named == actual {
        return Ok(());
    }
    Err(TrustError::Root(RootError::Version {
        expected: named,
        actual,
    }))
}

impl HeadFiles {
    /// Signs the index with one more key; the first becomes `bundle.json.minisig`. A key signs once.
    pub fn sign(&mut self, key: &SecretKey) -> Result<KeyId, IndexError> {
        let index = BundleIndex::parse(&self.bundle_json)?;
        let signature = Signature::sign(key, &self.bundle_json, &index.purpose());
        let id = signature.key_id();
        let first = self.signature.as_deref().map(Signature::parse);
        let is_first = first.is_none_or(|first| first.is_ok_and(|first| first.key_id() == id));
        let text = signature.to_file().into_bytes();
        if is_first {
            self.signature = Some(text);
        } else {
            self.more_signatures.insert(id, text);
        }
        Ok(id)
    }

    /// Verifies everything in a head that is signed. Peers do this with records, readers with a whole head.
    pub fn verify(&self, trust: &Trust) -> Result<VerifiedIndex, TrustError> {
        let trust = trust.walk(self)?;
        let keys = trust.keys_of(|role| matches!(role, RoleName::Bundle(_)));
        let signers = Signers::of(
            Document::Bundle,
            &self.bundle_json,
            self.signatures(),
            &keys,
        )
        .map_err(TrustError::Signers)?;
        let index = BundleIndex::parse(&self.bundle_json).map_err(TrustError::Index)?;
        let id = Digest::of(&self.bundle_json);
        require_fits(&index, &trust)?;
        let signers = require_role(&index, &id, &signers, &trust)?;
        if let Some(reason) = trust.bundle_revoked(&id) {
            let reason = reason.to_owned();
            return Err(TrustError::Revoked { id, reason });
        }
        Ok(VerifiedIndex {
            index,
            id,
            signers,
            trust,
        })
    }
}

fn require_fits(index: &BundleIndex, trust: &Trust) -> Result<(), TrustError> {
    let root = trust.root.root();
    if index.vendor != root.vendor {
        return Err(TrustError::Vendor {
            expected: root.vendor.clone(),
            actual: index.vendor.clone(),
        });
    }
    if index.root_version > root.version {
        return Err(TrustError::RootMissing {
            needs: index.root_version,
            known: root.version,
        });
    }
    if index.epoch > root.epoch {
        return Err(TrustError::Epoch {
            allowed: root.epoch,
            actual: index.epoch,
        });
    }
    Ok(())
}

fn require_role(
    index: &BundleIndex,
    id: &Digest,
    signers: &Signers,
    trust: &Trust,
) -> Result<Vec<KeyId>, TrustError> {
    let role = RoleName::Bundle(index.product.clone());
    let quorum = trust.quorum(role, Some(id)).ok_or_else(|| {
        let roles = trust.root.root().roles.keys();
        let products = roles.filter_map(|role| match role {
            RoleName::Bundle(product) => Some(product.clone()),
            RoleName::Root | RoleName::License(_) => None,
        });
        TrustError::Product {
            product: index.product.clone(),
            products: products.collect(),
        }
    })?;
    signers
        .require(&quorum, &index.purpose().comment(id))
        .map_err(TrustError::Signers)
}

impl BundleIndex {
    /// What its signatures are made for.
    pub fn purpose(&self) -> Purpose<'_> {
        Purpose::Bundle {
            vendor: self.vendor.as_str(),
            product: self.product.as_str(),
            channel: self.channel.as_str(),
            epoch: self.epoch,
            sequence: self.sequence,
        }
    }
}

impl UntrustedHead {
    /// Verifies the head; the one way to a [`VerifiedHead`].
    pub fn verify(self, trust: &Trust) -> Result<VerifiedHead, TrustError> {
        let verified = self.head_files().verify(trust)?;
        self.into_verified(verified).map_err(TrustError::Packing)
    }
}

impl VerifiedIndex {
    /// What the bundle carries.
    pub const fn index(&self) -> &BundleIndex {
        &self.index
    }

    /// The bundle's id: the SHA-256 of `bundle.json`.
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// The keys whose signatures counted.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// What the site should trust from now on: the newest root and revocations that it and the bundle have.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }
}

impl TrustError {
    /// Whether no key of the vendor has signed at all; another vendor's root may still know the signer.
    pub const fn is_untrusted(&self) -> bool {
        matches!(self, Self::Signers(error) if error.is_untrusted())
    }
}

impl Fault for TrustError {
    fn code(&self) -> &'static str {
        match self {
            Self::Signers(error) => error.code(),
            Self::Root(error) => error.code(),
            Self::Revocations(error) => error.code(),
            Self::Index(error) => error.code(),
            Self::Vendor { .. } => "BUNDLE_VENDOR",
            Self::Product { .. } => "BUNDLE_PRODUCT",
            Self::RootMissing { .. } => "TRUST_ROOT_MISSING",
            Self::Epoch { .. } => "BUNDLE_EPOCH",
            Self::Revoked { .. } => "BUNDLE_REVOKED",
            Self::Packing(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Signers(error) => error.blame(),
            Self::Root(error) => error.blame(),
            Self::Revocations(error) => error.blame(),
            Self::Index(error) => error.blame(),
            Self::Packing(error) => error.blame(),
            Self::Vendor { .. }
            | Self::Product { .. }
            | Self::RootMissing { .. }
            | Self::Epoch { .. } => Blame::Input,
            Self::Revoked { .. } => Blame::Policy,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Signers(error) => error.facts(),
            Self::Root(error) => error.facts(),
            Self::Revocations(error) => error.facts(),
            Self::Index(error) => error.facts(),
            Self::Packing(error) => error.facts(),
            Self::Product { product, products } => {
                let known: Vec<_> = products.iter().map(Name::as_str).collect();
                vec![
                    Fact::new("bundle", product),
                    Fact::new("root", known.join(", ")),
                ]
            }
            Self::Revoked { id, reason } => {
                vec![Fact::new("bundle", id), Fact::new("reason", reason)]
            }
            Self::Vendor { .. } | Self::RootMissing { .. } | Self::Epoch { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Signers(error) => return error.hint(),
            Self::Root(error) => return error.hint(),
            Self::Revocations(error) => return error.hint(),
            Self::Index(error) => return error.hint(),
            Self::Packing(error) => return error.hint(),
            Self::Vendor { .. } => {
                "trust this vendor first: installer trust add root.json --fingerprint HEX"
            }
            Self::Product { .. } => "ask the vendor for a bundle of a product that the root names",
            Self::RootMissing { .. } => {
                "import a bundle that carries the missing trust roots, or add the newest root by its fingerprint"
            }
            Self::Epoch { .. } => "tell the vendor: an epoch is raised by a new trust root only",
            Self::Revoked { .. } => "ask the vendor for the release that replaces it",
        };
        Some(hint.to_owned())
    }
}
