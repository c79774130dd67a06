//! What a build is asked for, decided once from the command line and the release file.

use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fault;
use bundle::name::Name;
use bundle::name::Platform;
use bundle::root::RoleName;
use bundle::verify::Trust;
use bundle::write::Effort;

use crate::cli::BuildArgs;
use crate::clock;
use crate::durable;
use crate::failure::Outcome;
use crate::plan::Decided;
use crate::release::Release;
use crate::trust;

/// Everything that a build goes by.
#[derive(Debug)]
pub(super) struct Settings {
    /// The release file.
    pub(super) release: Release,
    /// Its folder, from which its paths count.
    pub(super) folder: PathBuf,
    /// What the release file leaves open.
    pub(super) decided: Decided,
    /// The trust root that the signers are held against.
    pub(super) trust: Trust,
    /// The file of the trust root.
    pub(super) root: PathBuf,
    /// Secret keys, none to leave the signature to others.
    pub(super) keys: Vec<PathBuf>,
    /// The bundle.
    pub(super) target: PathBuf,
    /// Where blobs are kept.
    pub(super) cache: PathBuf,
    /// How hard to compress.
    pub(super) effort: Effort,
}

/// What a build can't do without.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// No sequence.
    #[error("the release has no sequence")]
    NoSequence,
    /// No time.
    #[error("the release has no time")]
    NoTime,
    /// No key.
    #[error("there is no key to sign with")]
    NoKey,
    /// No place for the cache.
    #[error("there is no home folder to keep the cache in")]
    NoCache,
    /// Somebody else's root.
    #[error("the release is of vendor {release}, the trust root of {root}")]
    Vendor {
        /// In the release file.
        release: Name,
        /// In the root.
        root: Name,
    },
    /// A product that nobody may sign.
    #[error("the trust root names nobody who may sign bundles of {0}")]
    Product(Name),
    /// An epoch that the root does not allow.
    #[error("the release has epoch {release}, the trust root allows {root}")]
    Epoch {
        /// In the release file.
        release: u64,
        /// In the root.
        root: u64,
    },
}

impl Settings {
    /// Reads the release file and the trust root and decides what is open.
    pub(super) fn of(arguments: &BuildArgs) -> Outcome<Self> {
        let release = Release::load(&arguments.file)?;
        let folder = durable::parent(&arguments.file).to_path_buf();
        let root = root_path(arguments, &release, &folder);
        let trust = trust::load(&root, None)?;
        require_fits(&release, &trust)?;
        let decided = decide(arguments, &release, &trust)?;
        Ok(Self {
            keys: keys(arguments, &release, &folder)?,
            target: target(&arguments.output, &release, &decided.platforms),
            cache: cache_folder(arguments)?,
            effort: if arguments.fast {
                Effort::Fast
            } else {
                Effort::Release
            },
            release,
            folder,
            decided,
            trust,
            root,
        })
    }
}

fn decide(arguments: &BuildArgs, release: &Release, trust: &Trust) -> Outcome<Decided> {
    let sequence = arguments.sequence.or(release.sequence);
    let released_at = match release.released_at {
        Some(time) => Some(time),
        None => clock::source_date_epoch()?,
    };
    let asked = &arguments.platforms;
    let mut platforms = if asked.is_empty() {
        &release.platforms
    } else {
        asked
    }
    .clone();
    platforms.sort();
    platforms.dedup();
    Ok(Decided {
        sequence: sequence.ok_or(SettingsError::NoSequence)?,
        released_at: released_at.ok_or(SettingsError::NoTime)?,
        platforms,
        root_version: trust.root().root().version,
    })
}

/// What every site would refuse is found before anything is fetched.
fn require_fits(release: &Release, trust: &Trust) -> Result<(), SettingsError> {
    let root = trust.root().root();
    if release.vendor != root.vendor {
        return Err(SettingsError::Vendor {
            release: release.vendor.clone(),
            root: root.vendor.clone(),
        });
    }
    if release.epoch > root.epoch {
        return Err(SettingsError::Epoch {
            release: release.epoch,
            root: root.epoch,
        });
    }
    let role = RoleName::Bundle(release.product.clone());
    if root.roles.contains_key(&role) {
        Ok(())
    } else {
        Err(SettingsError::Product(release.product.clone()))
    }
}

fn root_path(arguments: &BuildArgs, release: &Release, folder: &Path) -> PathBuf {
    let in_release = || {
        let named = release.signing.root.as_deref();
        folder.join(named.unwrap_or(Path::new("root.json")))
    };
    arguments.root.clone().unwrap_or_else(in_release)
}

fn keys(arguments: &BuildArgs, release: &Release, folder: &Path) -> Outcome<Vec<PathBuf>> {
    if arguments.no_sign || arguments.dry_run {
        return Ok(Vec::new());
    }
    if !arguments.keys.is_empty() {
        return Ok(arguments.keys.clone());
    }
    let named = &release.signing.keys;
    if named.is_empty() {
        return Err(SettingsError::NoKey.into());
    }
    Ok(named.iter().map(|key| folder.join(key)).collect())
}

/// `<product>-<version>-<os>-<arch>.airgap` in a folder, or the file that was named.
fn target(output: &Path, release: &Release, platforms: &[Platform]) -> PathBuf {
    if output.extension().is_some_and(|ending| ending == "airgap") {
        return output.to_path_buf();
    }
    let platforms: Vec<String> = platforms
        .iter()
        .map(|platform| platform.as_str().replace('/', "-"))
        .collect();
    let Release {
        product, version, ..
    } = release;
    output.join(format!(
        "{product}-{version}-{}.airgap",
        platforms.join("_")
    ))
}

fn cache_folder(arguments: &BuildArgs) -> Result<PathBuf, SettingsError> {
    if let Some(folder) = &arguments.cache_dir {
        return Ok(folder.clone());
    }
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let absolute = |path: &PathBuf| path.is_absolute();
    // XDG Base Directory Specification: a relative value counts as not set.
    variable("XDG_CACHE_HOME")
        .filter(absolute)
        .or_else(|| Some(variable("HOME").filter(absolute)?.join(".cache")))
        .map(|folder| folder.join("sealift"))
        .ok_or(SettingsError::NoCache)
}

impl Fault for SettingsError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSequence | Self::NoTime => "RELEASE_INVALID",
            Self::NoKey => "KEY_MISSING",
            Self::NoCache => "CACHE_MISSING",
            Self::Vendor { .. } => "BUNDLE_VENDOR",
            Self::Product(_) => "BUNDLE_PRODUCT",
            Self::Epoch { .. } => "BUNDLE_EPOCH",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSequence => "write `sequence:` into the release file, or give --sequence",
            Self::NoTime => "write `released_at:` into the release file, or set SOURCE_DATE_EPOCH",
            Self::NoKey => {
                "name it under `signing.keys`, give --key, or leave it to others with --no-sign"
            }
            Self::NoCache => "give --cache-dir",
            Self::Vendor { .. } => "give the trust root of this vendor by --root",
            Self::Product(_) => {
                "name its key in the root: bundler root init --bundle PRODUCT=KEY.pub"
            }
            Self::Epoch { .. } => "an epoch is raised by a new trust root only",
        };
        Some(hint.to_owned())
    }
}
