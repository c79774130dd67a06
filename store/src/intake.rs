//! One way in for files, whoever brings them: a bundle or a license, told apart by its first bytes, read once.

use std::io;
use std::io::Cursor;
use std::io::Read;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::head::VerifiedHead;
use bundle::license::VerifiedLicense;
use bundle::limits::LICENSE_BYTES_MAX;
use bundle::state::Replace;
use bundle::state::Site;
use bundle::timestamp::Timestamp;

use crate::admit::AdmitError;
use crate::fs::Fs;
use crate::import::ImportEvent;
use crate::import::ImportOptions;
use crate::import::ImportSummary;
use crate::store::Store;

/// What a minisign signature, and so a license, begins with.
const LICENSE_BEGINS: &[u8] = b"untrusted comment:";

/// What is told while a file comes in.
#[derive(Debug)]
pub enum Told<'a> {
    /// A bundle's head is verified and may come in.
    Head(&'a VerifiedHead),
    /// Its payload is read.
    Import(ImportEvent),
}

/// What has come in.
#[derive(Debug)]
pub enum Taken {
    /// A bundle.
    Bundle {
        /// Its head.
        head: Box<VerifiedHead>,
        /// What was written.
        summary: ImportSummary,
    },
    /// A license.
    License(Box<VerifiedLicense>),
}

/// A file that did not come in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It can't be read.
    #[error("can't read the file")]
    Read(#[source] io::Error),
    /// It is refused; nothing has changed.
    #[error(transparent)]
    Refused(AdmitError),
    /// It broke off in the payload; finished blobs stay and a rerun goes on.
    #[error(transparent)]
    Partial(AdmitError),
}

impl Taken {
    /// What peers call it: the bundle's id, or the digest of the license file.
    pub fn id(&self) -> Digest {
        match self {
            Self::Bundle { head, .. } => head.id(),
            Self::License(license) => Digest::of(license.file()),
        }
    }

    /// What people call it.
    pub fn title(&self) -> String {
        match self {
            Self::Bundle { head, .. } => {
                let index = head.index();
                format!("{}/{} {}", index.vendor, index.product, index.version)
            }
            Self::License(license) => format!("license {}", license.license().license_id),
        }
    }
}

impl<F: Fs> Store<F> {
    /// Verifies a file and takes it in; it may be a pipe. `clock` is this machine's.
    pub fn take_in(
        &self,
        mut reader: impl Read + Send,
        clock: Timestamp,
        options: &ImportOptions,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<Taken, IntakeError> {
        let mut begin = Vec::new();
        let length = u64::try_from(LICENSE_BEGINS.len()).unwrap_or(u64::MAX);
        let first = reader.by_ref().take(length).read_to_end(&mut begin);
        first.map_err(IntakeError::Read)?;
        let is_license = begin == LICENSE_BEGINS;
        let whole = Cursor::new(begin).chain(reader);
        if is_license {
            return self.take_license(whole, options);
        }
        self.take_bundle(whole, clock, options, told)
    }

    fn take_bundle(
        &self,
        mut reader: impl Read + Send,
        clock: Timestamp,
        options: &ImportOptions,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<Taken, IntakeError> {
        let site = Site::default();
        let head = self
            .open_bundle(&mut reader, &site, clock)
            .map_err(IntakeError::Refused)?;
        told(Told::Head(&head));
        let mut events = |event| told(Told::Import(event));
        let summary = self
            .admit_bundle(&head, reader, &site, options, &mut events)
            .map_err(IntakeError::Partial)?;
        Ok(Taken::Bundle {
            head: Box::new(head),
            summary,
        })
    }

    fn take_license(
        &self,
        reader: impl Read,
        options: &ImportOptions,
    ) -> Result<Taken, IntakeError> {
        // One byte more than allowed: the verifier refuses it by its own name.
        let limit = u64::try_from(LICENSE_BYTES_MAX)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let mut file = Vec::new();
        reader
            .take(limit)
            .read_to_end(&mut file)
            .map_err(IntakeError::Read)?;
        let (license, _put) = self
            .admit_license(&file, Replace::BySupersedes, options)
            .map_err(IntakeError::Refused)?;
        Ok(Taken::License(Box::new(license)))
    }
}

impl IntakeError {
    /// Whether finished blobs may have stayed in the store.
    pub const fn is_partial(&self) -> bool {
        matches!(self, Self::Partial(_))
    }
}

impl Fault for IntakeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "FILE_IO",
            Self::Refused(error) | Self::Partial(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Read(_) => Blame::Machine,
            Self::Refused(error) | Self::Partial(error) => error.blame(),
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Read(_) => Vec::new(),
            Self::Refused(error) | Self::Partial(error) => error.facts(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(_) => {
                Some("try the medium in another machine, or copy the file first".to_owned())
            }
            Self::Refused(error) | Self::Partial(error) => error.hint(),
        }
    }
}
