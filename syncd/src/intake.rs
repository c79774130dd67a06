//! One way in for files, whether a command or the inbox brings them: a bundle or a license, told apart by its first bytes.

use std::io::Cursor;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use bundle::Digest;
use bundle::head::VerifiedHead;
use bundle::index::BundleIndex;
use bundle::limits::LICENSE_BYTES_MAX;
use bundle::state::Replace;
use bundle::state::Site;
use bundle::timestamp::Timestamp;
use program::FileError;
use program::Outcome;
use store::Fs;
use store::Store;
use store::import::ImportEvent;
use store::import::ImportOptions;
use store::import::ImportSummary;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What peers call it: the bundle's id, or the digest of the license file.
    pub id: Digest,
    /// What people call it.
    pub title: String,
    /// What was written, for a bundle.
    pub summary: Option<ImportSummary>,
}

/// Verifies a file and takes it into the store; reads it once, so it may be a pipe. `from` names it in errors.
pub fn take_in<F: Fs>(
    store: &Store<F>,
    origin: &str,
    from: &Path,
    mut reader: impl Read + Send,
    told: &mut dyn FnMut(Told<'_>),
) -> Outcome<Taken> {
    let unreadable = |error| FileError::new("read", from, error);
    let mut begin = Vec::new();
    let length = u64::try_from(LICENSE_BEGINS.len()).unwrap_or(u64::MAX);
    reader
        .by_ref()
        .take(length)
        .read_to_end(&mut begin)
        .map_err(unreadable)?;
    let is_license = begin == LICENSE_BEGINS;
    let mut whole = Cursor::new(begin).chain(reader);
    let options = ImportOptions {
        origin: origin.to_owned(),
    };
    if is_license {
        let limit = u64::try_from(LICENSE_BYTES_MAX).unwrap_or(u64::MAX);
        let mut file = Vec::new();
        // One byte more than allowed: the verifier refuses it by its own name.
        whole
            .take(limit.saturating_add(1))
            .read_to_end(&mut file)
            .map_err(unreadable)?;
        return take_license(store, &file, &options);
    }
    let site = Site::default();
    let head = store.open_bundle(&mut whole, &site, wall_clock())?;
    told(Told::Head(&head));
    let mut events = |event| told(Told::Import(event));
    let summary = store
        .admit_bundle(&head, whole, &site, &options, &mut events)
        .map_err(program::Failure::partial)?;
    Ok(Taken {
        id: head.id(),
        title: bundle_title(head.index()),
        summary: Some(summary),
    })
}

fn take_license<F: Fs>(store: &Store<F>, file: &[u8], options: &ImportOptions) -> Outcome<Taken> {
    let (license, _put) = store.admit_license(file, Replace::BySupersedes, options)?;
    Ok(Taken {
        id: Digest::of(license.file()),
        title: format!("license {}", license.license().license_id),
        summary: None,
    })
}

/// A bundle as people name it.
pub fn bundle_title(index: &BundleIndex) -> String {
    format!("{}/{} {}", index.vendor, index.product, index.version)
}

/// This machine's clock, which licenses see only through the site's floor of the time.
fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_unix_seconds(seconds).unwrap_or(Timestamp::LATEST)
}
