//! The release file, `sealift.yaml`: what one bundle shall carry, parsed strictly.
//!
//! Unknown and duplicate keys, anchors that explode, second documents and values of another type are errors with line
//! and column. Nothing that is written in the file is ignored: what this version can't do yet is refused by name.

mod entry;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::index::Kubernetes;
use bundle::name::Name;
use bundle::name::Platform;
use bundle::timestamp::Timestamp;
use serde::Deserialize;

pub use entry::Chart;
pub use entry::Document;
pub use entry::File;
pub use entry::Image;
pub use entry::ImageFrom;
pub use entry::Stage;

use crate::durable;
use crate::durable::FileError;

/// A release file is written by hand; this many bytes of it hold ten thousand images.
pub const RELEASE_BYTES_MAX: usize = 1 << 20;

/// A release as the vendor wrote it. Paths are relative to the folder of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The version of this file's grammar.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// Who releases.
    pub vendor: Name,
    /// What is released.
    pub product: Name,
    /// The stream of releases that it belongs to.
    #[serde(default = "stable")]
    pub channel: Name,
    /// The version people know it by.
    pub version: semver::Version,
    /// Raised only to begin sequences anew; releases are ordered by (epoch, sequence).
    #[serde(default = "one")]
    pub epoch: u64,
    /// Grows with every release.
    pub sequence: Option<u64>,
    /// Releases below this sequence can't be gone back to, not even with a permit.
    #[serde(default)]
    pub rollback_floor: u64,
    /// The time of the release, or that of `SOURCE_DATE_EPOCH`.
    pub released_at: Option<Timestamp>,
    /// What it runs on.
    #[serde(default = "linux_amd64")]
    pub platforms: Vec<Platform>,
    /// The cluster that it brings; absent in a bundle of applications only.
    pub kubernetes: Option<Kubernetes>,
    /// Images, each by its full name.
    #[serde(default)]
    pub images: Vec<Image>,
    /// Charts, in the order of their application.
    #[serde(default)]
    pub charts: Vec<Chart>,
    /// What is applied before charts.
    #[serde(default)]
    pub cluster: Cluster,
    /// Patterns of manifests, applied after charts.
    #[serde(default)]
    pub manifests: Vec<String>,
    /// Files for the nodes.
    #[serde(default)]
    pub files: Vec<File>,
    /// Patterns of signed licenses.
    #[serde(default)]
    pub licenses: Vec<String>,
    /// Documents for the operator.
    #[serde(default)]
    pub documents: Vec<Document>,
    /// Patterns of further host checks.
    #[serde(default)]
    pub preflights: Vec<String>,
    /// The versions that it may be installed over; all, when absent.
    pub upgrade_from: Option<semver::VersionReq>,
    /// Whether an upgrade may not skip it.
    #[serde(default)]
    pub required: bool,
    /// How registries are reached.
    #[serde(default)]
    pub registries: Registries,
    /// Images that are mentioned and left out on purpose.
    #[serde(default)]
    pub allow_missing: Vec<serde_json::Value>,
    /// What the bundle is signed with.
    #[serde(default)]
    pub signing: Signing,
}

/// The grammar of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ApiVersion {
    /// The one that there is.
    #[serde(rename = "sealift/v1")]
    V1,
}

/// What makes the cluster itself work.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Patterns of manifests, applied before all else: network, storage and the like.
    #[serde(default)]
    pub manifests: Vec<String>,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    /// Hosts to ask before the registry itself, in this order.
    #[serde(default)]
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries that are spoken to without TLS.
    #[serde(default)]
    pub insecure: Vec<String>,
}

/// What the bundle is signed with; options of `bundler build` override both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// The trust root.
    pub root: Option<PathBuf>,
    /// Secret keys of the role bundle:PRODUCT.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
}

/// Why a release file can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what this version takes.
    #[error("{} line {line}, column {column}: {problem}", path.display())]
    Syntax {
        /// The release file.
        path: PathBuf,
        /// From 1; 0 when the whole file is meant.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Well-formed, and impossible.
    #[error("{} has {} that can't be followed", path.display(), count(problems))]
    Problems {
        /// The release file.
        path: PathBuf,
        /// All of them.
        problems: Vec<String>,
    },
    /// Meant for a later version of the bundler.
    #[error("{} asks for {feature}, which this version does not do yet", path.display())]
    NotYet {
        /// The release file.
        path: PathBuf,
        /// The key and what is not done.
        feature: &'static str,
        /// What to do meanwhile.
        instead: &'static str,
    },
}

impl Release {
    /// Reads, parses and checks a release file.
    pub fn load(path: &Path) -> Result<Self, ReleaseError> {
        let bytes = durable::read_capped(path, RELEASE_BYTES_MAX)?;
        let release = Self::parse(path, &bytes)?;
        let problems = release.problems();
        if !problems.is_empty() {
            let path = path.to_path_buf();
            return Err(ReleaseError::Problems { path, problems });
        }
        release.refuse_what_is_not_yet_done(path)?;
        Ok(release)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ReleaseError> {
        let options = serde_saphyr::options! { with_snippet: false, reject_unsupported_tags: true };
        serde_saphyr::from_slice_with_options(bytes, options)
            .map_err(|error| syntax_error(path, &error))
    }

    fn refuse_what_is_not_yet_done(&self, path: &Path) -> Result<(), ReleaseError> {
        let refuse = |feature, instead| {
            Err(ReleaseError::NotYet {
                path: path.to_path_buf(),
                feature,
                instead,
            })
        };
        if self.files.iter().any(|file| file.url.is_some()) {
            return refuse(
                "files by url",
                "download the file and name it by `path` and `sha256`",
            );
        }
        if self.charts.iter().any(|chart| chart.oci.is_some()) {
            return refuse(
                "charts by oci",
                "pull the chart with `helm pull` and name the .tgz by `path`",
            );
        }
        if !self.allow_missing.is_empty() {
            return refuse(
                "allow_missing",
                "take the key out: only images under `images` are packed, nothing is searched for",
            );
        }
        Ok(())
    }

    /// Everything that is wrong at once.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.platforms.is_empty() {
            problems.push("platforms: is empty".to_owned());
        }
        entry::find_repeats("platforms", &self.platforms, &mut problems);
        let names: Vec<_> = self.images.iter().map(|image| &image.name).collect();
        entry::find_repeats("images", &names, &mut problems);
        let charts: Vec<_> = self.charts.iter().map(|chart| &chart.name).collect();
        entry::find_repeats("charts", &charts, &mut problems);
        problems.extend(self.charts.iter().filter_map(Chart::problem));
        problems.extend(self.files.iter().filter_map(File::problem));
        problems
    }
}

fn syntax_error(path: &Path, error: &serde_saphyr::Error) -> ReleaseError {
    let at = error.location();
    let text = error.render_with_options(serde_saphyr::render_options! {
        formatter: &serde_saphyr::UserMessageFormatter,
        snippets: serde_saphyr::SnippetMode::Off,
    });
    let line = at.map_or(0, |at| at.line());
    let column = at.map_or(0, |at| at.column());
    // The place stands in front already.
    let place = format!(" at line {line}, column {column}");
    let problem = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    ReleaseError::Syntax {
        path: path.to_path_buf(),
        line,
        column,
        problem,
    }
}

fn count(problems: &[String]) -> String {
    match problems.len() {
        1 => "1 entry".to_owned(),
        more => format!("{more} entries"),
    }
}

fn one() -> u64 {
    1
}

fn stable() -> Name {
    entry::constant("stable")
}

fn linux_amd64() -> Vec<Platform> {
    vec![entry::constant("linux/amd64")]
}

impl Fault for ReleaseError {
    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Syntax { .. } => "RELEASE_SYNTAX",
            Self::Problems { .. } => "RELEASE_INVALID",
            Self::NotYet { .. } => "NOT_IN_THIS_VERSION",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::File(error) => error.blame(),
            Self::Syntax { .. } | Self::Problems { .. } | Self::NotYet { .. } => Blame::Usage,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::File(error) => error.facts(),
            Self::Problems { problems, .. } => {
                let fact = |problem| Fact::new("entry", problem);
                problems.iter().map(fact).collect()
            }
            Self::Syntax { .. } | Self::NotYet { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Syntax { .. } | Self::Problems { .. } => {
                Some("bundler init FOLDER  writes an example with every key explained".into())
            }
            Self::NotYet { instead, .. } => Some((*instead).into()),
        }
    }
}

#[cfg(test)]
mod tests;
