//! The door of a store: from a file or a peer's record to something that this site has accepted.
//!
//! For a bundle, in this order: 1. head read, verified with the pinned roots. 2. Held against the site's state, the
//! platform and the license. 3. Payload imported, record last. 4. Newer root, revocations and the sequence kept durably.
//! Whatever is refused on the way has changed neither the trust nor the state.
//!
//! A signature is checked before anything is parsed, so the vendor is not looked up by a name in the file: the roots
//! that the site has pinned are tried one after the other.

use std::io::Read;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::head::HeadFiles;
use bundle::head::UntrustedHead;
use bundle::head::VerifiedHead;
use bundle::index::BundleIndex;
use bundle::license::Action;
use bundle::license::LicenseError;
use bundle::license::VerifiedLicense;
use bundle::limits as bundle_limits;
use bundle::read::ReadError;
use bundle::state::PolicyError;
use bundle::state::Replace;
use bundle::state::Site;
use bundle::timestamp::Timestamp;
use bundle::verify::Trust;
use bundle::verify::TrustError;
use bundle::verify::VerifiedIndex;

use crate::error::StoreError;
use crate::fs::Fs;
use crate::import;
use crate::import::ImportError;
use crate::import::ImportEvent;
use crate::import::ImportOptions;
use crate::import::ImportSummary;
use crate::record::Kind;
use crate::record::Record;
use crate::records::Put;
use crate::store::Store;

/// Something that does not come in. Neither the trust nor the state of the site has changed.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// No root was pinned, so nobody can be believed.
    #[error("this site trusts no vendor yet")]
    NoRoot,
    /// The head can't be read.
    #[error(transparent)]
    Head(ReadError),
    /// Not signed by those who may.
    #[error(transparent)]
    Trust(TrustError),
    /// Signed, and not for here or not now.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The license does not allow it, or is none.
    #[error(transparent)]
    License(#[from] LicenseError),
    /// The payload or the store failed.
    #[error(transparent)]
    Import(ImportError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdmitError {
    fn inner(&self) -> Option<&dyn Fault> {
        match self {
            Self::NoRoot => None,
            Self::Head(error) => Some(error),
            Self::Trust(error) => Some(error),
            Self::Policy(error) => Some(error),
            Self::License(error) => Some(error),
            Self::Import(error) => Some(error),
            Self::Store(error) => Some(error),
        }
    }
}

impl Fault for AdmitError {
    fn code(&self) -> &'static str {
        self.inner().map_or("TRUST_NO_ROOT", Fault::code)
    }

    fn blame(&self) -> Blame {
        self.inner().map_or(Blame::Policy, Fault::blame)
    }

    fn facts(&self) -> Vec<Fact> {
        self.inner().map_or_else(Vec::new, Fault::facts)
    }

    fn hint(&self) -> Option<String> {
        self.inner().map_or_else(
            || Some("run installer trust add root.json --fingerprint HEX".to_owned()),
            Fault::hint,
        )
    }
}

impl<F: Fs> Store<F> {
    /// Reads and verifies a head, and holds it against the site. Changes nothing; the payload comes next in `reader`.
    ///
    /// `clock` is this machine's; a license is judged by the later of it and what the vendor has signed before.
    pub fn open_bundle(
        &self,
        reader: &mut impl Read,
        site: &Site,
        clock: Timestamp,
    ) -> Result<VerifiedHead, AdmitError> {
        let head = UntrustedHead::read(reader).map_err(AdmitError::Head)?;
        let head = self.verify_head(&head)?;
        self.trust_state()?.judge_bundle(head.verified(), site)?;
        if let Some(license) = self.license_for(head.index())? {
            license.allows_release(head.index())?;
            license.allows_action(Action::Upgrade, self.judging_time(clock)?)?;
        }
        Ok(head)
    }

    /// Verifies a head with the pinned roots, and holds it against nothing else.
    pub fn verify_head(&self, head: &UntrustedHead) -> Result<VerifiedHead, AdmitError> {
        let verify = |trust: &Trust| head.clone().verify(trust);
        self.first_trusted(verify, TrustError::is_untrusted, AdmitError::Trust)
    }

    /// Imports the payload behind a head that [`Store::open_bundle`] gave, and keeps what the site has learnt by it.
    pub fn admit_bundle(
        &self,
        head: &VerifiedHead,
        reader: impl Read + Send,
        site: &Site,
        options: &ImportOptions,
        events: &mut dyn FnMut(ImportEvent),
    ) -> Result<ImportSummary, AdmitError> {
        let summary =
            import::import(self, head, reader, options, events).map_err(AdmitError::Import)?;
        self.change_trust_state(|state| {
            state
                .accept_bundle(head.verified(), site)
                .map_err(AdmitError::from)
        })?;
        self.keep_trust(head.verified().trust())?;
        self.admit_carried(head, options)?;
        Ok(summary)
    }

    /// Verifies a license file and puts it into the store as a record.
    pub fn admit_license(
        &self,
        file: &[u8],
        replace: Replace,
        options: &ImportOptions,
    ) -> Result<(VerifiedLicense, Put), AdmitError> {
        let license = self.verify_license(file)?;
        self.change_trust_state(|state| {
            state
                .accept_license(&license, replace)
                .map_err(AdmitError::from)
        })?;
        let counter = self.next_counter(&options.origin)?;
        let record = Record::of_license(&license, self.incarnation(), &options.origin, counter);
        let put = self.put_record(&record)?;
        Ok((license, put))
    }

    /// Verifies a license file with the pinned roots.
    pub fn verify_license(&self, file: &[u8]) -> Result<VerifiedLicense, AdmitError> {
        let verify = |trust: &Trust| VerifiedLicense::verify(file.to_vec(), trust);
        self.first_trusted(verify, LicenseError::is_untrusted, AdmitError::License)
    }

    /// The license in force for a bundle's product, if the site has one.
    pub fn license_for(&self, index: &BundleIndex) -> Result<Option<VerifiedLicense>, AdmitError> {
        let current = self
            .trust_state()?
            .current_licenses(&index.vendor, &index.product);
        for record in self.records()? {
            if record.kind != Kind::License {
                continue;
            }
            let license = self.verify_license(&record.payload)?;
            let document = license.license();
            let fits = document.vendor == index.vendor && document.product == index.product;
            if fits && current.contains(&document.license_id) {
                return Ok(Some(license));
            }
        }
        Ok(None)
    }

    /// Verifies the record of a bundle for this node itself and remembers what it teaches.
    ///
    /// Only signatures count: an older release than the newest, one beside another of its place, or one that was revoked
    /// after a master had accepted it is held like any other, or a lost master could not be replaced.
    pub fn judge_bundle_record(&self, files: &HeadFiles) -> Result<VerifiedIndex, AdmitError> {
        let verify = |trust: &Trust| match files.verify(trust) {
            Err(TrustError::Revoked { .. }) => files.verify(&trust.clone().with_revocations(None)),
            outcome => outcome,
        };
        let verified = self.first_trusted(verify, TrustError::is_untrusted, AdmitError::Trust)?;
        let accepted = self.change_trust_state(|state| {
            state
                .accept_bundle(&verified, &Site::default())
                .map_err(AdmitError::from)
        });
        match accepted {
            Ok(()) => self.keep_trust(verified.trust())?,
            Err(AdmitError::Policy(_history)) => {}
            Err(error) => return Err(error),
        }
        Ok(verified)
    }

    /// Verifies the record of a license for this node itself and remembers its sequence.
    ///
    /// One that another has replaced, or that was revoked, is held like any other; it entitles to nothing.
    pub fn judge_license_record(&self, file: &[u8]) -> Result<VerifiedLicense, AdmitError> {
        let verify = |trust: &Trust| {
            VerifiedLicense::verify(file.to_vec(), &trust.clone().with_revocations(None))
        };
        let license =
            self.first_trusted(verify, LicenseError::is_untrusted, AdmitError::License)?;
        let accepted = self.change_trust_state(|state| {
            state
                .accept_license(&license, Replace::BySupersedes)
                .map_err(AdmitError::from)
        });
        match accepted {
            Ok(()) | Err(AdmitError::Policy(_)) => Ok(license),
            Err(error) => Err(error),
        }
    }

    /// Licenses that travel in a bundle come in like any other; one that is not for this site is left where it is.
    fn admit_carried(
        &self,
        head: &VerifiedHead,
        options: &ImportOptions,
    ) -> Result<(), AdmitError> {
        for carried in &head.index().licenses {
            let size = u64::try_from(bundle_limits::LICENSE_BYTES_MAX).unwrap_or(u64::MAX);
            let file = self.read_blob(&carried.digest, size)?;
            let trust = head.verified().trust();
            VerifiedLicense::verify_carried(file.clone(), carried, head.index(), trust)?;
            match self.admit_license(&file, Replace::BySupersedes, options) {
                Ok(_) | Err(AdmitError::Policy(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tries what the site trusts of each vendor; the answer of one whose key is in play outranks "not by our keys".
    fn first_trusted<T, E>(
        &self,
        verify: impl Fn(&Trust) -> Result<T, E>,
        is_untrusted: impl Fn(&E) -> bool,
        wrap: impl Fn(E) -> AdmitError,
    ) -> Result<T, AdmitError> {
        let mut refusal = None;
        for vendor in self.vendors()? {
            let Some(trust) = self.trust(&vendor)? else {
                continue;
            };
            match verify(&trust) {
                Ok(verified) => return Ok(verified),
                Err(error) if is_untrusted(&error) && refusal.is_some() => {}
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.map_or(AdmitError::NoRoot, wrap))
    }

    /// The time to judge licenses by: this machine's clock, never before the floor.
    pub fn judging_time(&self, clock: Timestamp) -> Result<Timestamp, StoreError> {
        let floor = self.trust_state()?.clock_floor();
        Ok(floor.map_or(clock, |floor| floor.now(clock)))
    }

    /// What the next record of `origin` counts as.
    pub(crate) fn next_counter(&self, origin: &str) -> Result<u64, StoreError> {
        let records = self.records()?;
        let own = records.iter().filter(|record| record.origin == origin);
        Ok(own
            .map(|record| record.counter)
            .max()
            .map_or(1, |newest| newest.saturating_add(1)))
    }
}

impl Record {
    /// Makes the record of a verified license.
    pub fn of_license(
        license: &VerifiedLicense,
        incarnation: crate::id::Incarnation,
        origin: &str,
        counter: u64,
    ) -> Self {
        let document = license.license();
        Self {
            kind: Kind::License,
            id: format!(
                "{}/{}/{}",
                document.vendor, document.product, document.license_id
            ),
            incarnation,
            origin: origin.to_owned(),
            counter,
            order: crate::record::Order {
                epoch: 0,
                sequence: document.sequence,
            },
            payload: license.file().to_vec(),
            proof: Vec::new(),
        }
    }
}
