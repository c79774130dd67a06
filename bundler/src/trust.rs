//! The trust root as the vendor's tools take it: from a file that the caller vouches for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::head::SignedFile;
use bundle::limits;
use bundle::root::Root;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;

use crate::durable;
use crate::durable::FileError;
use crate::failure::Outcome;

/// There is no trust root where one is looked for.
#[derive(Debug, thiserror::Error)]
pub enum NoRoot {
    /// None at all.
    #[error("there is no trust root at {}", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A version between the first and this one.
    #[error("trust root {version} is missing beside {}", path.display())]
    Gap {
        /// The missing version.
        version: u32,
        /// The newest root.
        path: PathBuf,
    },
}

/// Takes a trust root from a file; a fingerprint, if given, has to be its own.
pub fn load(path: &Path, fingerprint: Option<Digest>) -> Outcome<Trust> {
    let json = read(path)?;
    let fingerprint = fingerprint.unwrap_or_else(|| Digest::of(&json));
    Ok(Trust::new(TrustedRoot::pin(json, &fingerprint)?))
}

/// The roots 2 to N that a bundle carries, so that a site with an older one can walk: `<N>.root.json` beside the
/// newest, each with its signatures `<N>.root.json.<KEYID>.minisig`.
pub fn load_chain(path: &Path, trust: &Trust) -> Outcome<BTreeMap<u32, SignedFile>> {
    let mut chain = BTreeMap::new();
    for version in 2..=trust.root().root().version {
        let file = durable::parent(path).join(format!("{version}.root.json"));
        let gap = || NoRoot::Gap {
            version,
            path: path.to_path_buf(),
        };
        if !file.exists() {
            return Err(gap().into());
        }
        chain.insert(version, load_signed(&file)?);
    }
    Ok(chain)
}

/// Where the signature of a root by one key lies: `root.json.<KEYID>.minisig`.
pub fn signature_path(root: &Path, key: &impl std::fmt::Display) -> PathBuf {
    let mut path = root.as_os_str().to_owned();
    path.push(format!(".{key}.minisig"));
    path.into()
}

fn load_signed(path: &Path) -> Outcome<SignedFile> {
    let json = read(path)?;
    let root = Root::parse(&json)?;
    let mut signatures = BTreeMap::new();
    for key in root.keys.keys() {
        let file = signature_path(path, key);
        if file.exists() {
            let bytes = durable::read_capped(&file, limits::SIGNATURE_BYTES_MAX)?;
            signatures.insert(*key, bytes);
        }
    }
    Ok(SignedFile { json, signatures })
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    durable::read_capped(path, limits::ROOT_BYTES_MAX).map_err(|error: FileError| {
        if error.kind() == io::ErrorKind::NotFound {
            let path = path.to_path_buf();
            NoRoot::Absent { path }.into()
        } else {
            error.into()
        }
    })
}

impl Fault for NoRoot {
    fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "TRUST_NO_ROOT",
            Self::Gap { .. } => "TRUST_ROOT_MISSING",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn facts(&self) -> Vec<Fact> {
        Vec::new()
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Absent { .. } => "give it by --root, or make one: bundler root init --help",
            Self::Gap { .. } => {
                "put every version as <N>.root.json, with its signatures, into that folder"
            }
        };
        Some(hint.to_owned())
    }
}
