//! Helm charts: a `.tgz` is carried byte for byte, a directory is packed canonically.
//!
//! Packed means: sorted files, modes, owners and times fixed, one gzip member without name or time; so that one
//! directory gives one digest wherever and whenever it is packed. Of a foreign archive only `Chart.yaml` is read, with
//! a cap on what is unpacked on the way. Links and special files in a directory are refused.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::name::Name;
use semver::Version;
use serde::Deserialize;

use crate::durable;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::local::LocalBlob;

/// The media type of a packed chart (helm.sh, "Helm OCI media types").
pub const MEDIA_TYPE: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// A whole chart, unpacked: Helm itself stops at 100 MiB (`MaxDecompressedChartSize`).
const CHART_BYTES_MAX: u64 = 100 << 20;

/// `Chart.yaml`: Helm stops at 5 MiB a file (`MaxDecompressedFileSize`).
const CHART_YAML_BYTES_MAX: usize = 5 << 20;

/// A chart as it is carried.
#[derive(Clone, Debug)]
pub struct PackedChart {
    /// The version that its `Chart.yaml` says.
    pub version: Version,
    /// The `.tgz`.
    pub blob: LocalBlob,
}

/// A chart that can't be carried.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// No chart at all.
    #[error("{} is no chart: {problem}", path.display())]
    Form {
        /// The chart.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another chart than the release file says.
    #[error("{} is another chart than the release file says", path.display())]
    Other {
        /// The chart.
        path: PathBuf,
        /// `name` or `version`.
        field: &'static str,
        /// What `Chart.yaml` says.
        actual: String,
        /// What the release file says.
        expected: String,
    },
    /// Rules for leaving files out that this version can't follow.
    #[error("{} line {line}: {rule:?} is a rule that this version does not follow", path.display())]
    Ignore {
        /// `.helmignore`.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The rule.
        rule: String,
    },
}

/// What is looked at in a `Chart.yaml`; the rest is for Helm.
#[derive(Debug, Deserialize)]
struct ChartYaml {
    name: String,
    version: Version,
}

/// Packs a directory or takes a `.tgz`, and makes sure that it is the chart that is meant.
pub fn pack(path: &Path, name: &Name, version: Option<&str>) -> Outcome<PackedChart> {
    let (blob, yaml) = if path.is_dir() {
        let yaml = durable::read_capped(&path.join("Chart.yaml"), CHART_YAML_BYTES_MAX)?;
        let tgz = pack_directory(path, name)?;
        (LocalBlob::of_bytes(tgz, MEDIA_TYPE), yaml)
    } else {
        let blob = LocalBlob::of_file(path, Some(MEDIA_TYPE))?;
        (blob, yaml_of_archive(path)?)
    };
    let chart: ChartYaml = serde_saphyr::from_slice(&yaml).map_err(|error| ChartError::Form {
        path: path.to_path_buf(),
        problem: format!("Chart.yaml: {}", error.without_snippet()),
    })?;
    require(path, "name", &chart.name, name.as_str())?;
    if let Some(expected) = version {
        require(path, "version", &chart.version.to_string(), expected)?;
    }
    let version = chart.version;
    Ok(PackedChart { version, blob })
}

fn require(
    path: &Path,
    field: &'static str,
    actual: &str,
    expected: &str,
) -> Result<(), ChartError> {
    if actual == expected {
        return Ok(());
    }
    Err(ChartError::Other {
        path: path.to_path_buf(),
        field,
        actual: actual.to_owned(),
        expected: expected.to_owned(),
    })
}

fn pack_directory(folder: &Path, name: &Name) -> Outcome<Vec<u8>> {
    let ignored = Ignored::load(folder)?;
    let gzip = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    let mut tar = tar::Builder::new(gzip);
    let mut room = CHART_BYTES_MAX;
    for path in files(folder, &ignored)? {
        let failed = |source| FileError::new("read", &path, source);
        let inside = path.strip_prefix(folder).unwrap_or(&path);
        let bytes = durable::read_capped(&path, usize::try_from(room).unwrap_or(usize::MAX))?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        room = room.saturating_sub(size);
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        let inside = Path::new(name.as_str()).join(inside);
        tar.append_data(&mut header, inside, &*bytes)
            .map_err(failed)?;
    }
    let failed = |source| FileError::new("pack", folder, source);
    let gzip = tar.into_inner().map_err(failed)?;
    Ok(gzip.finish().map_err(failed)?)
}

/// All files of a chart in the order of their paths' bytes.
fn files(folder: &Path, ignored: &Ignored) -> Outcome<Vec<PathBuf>> {
    let walk = walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .min_depth(1);
    let mut paths = Vec::new();
    let wanted = |entry: &walkdir::DirEntry| !ignored.matches(entry);
    for entry in walk.into_iter().filter_entry(wanted) {
        let entry = entry.map_err(|error| FileError::new("read", folder, error.into()))?;
        let kind = entry.file_type();
        if kind.is_file() {
            paths.push(entry.into_path());
        } else if !kind.is_dir() {
            return Err(ChartError::Form {
                path: entry.into_path(),
                problem: "it is a link or a special file".to_owned(),
            }
            .into());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The `.helmignore` of a chart: names and `*` patterns, with a `/` at the end for directories only.
struct Ignored(Vec<(glob::Pattern, bool)>);

impl Ignored {
    fn load(folder: &Path) -> Outcome<Self> {
        let path = folder.join(".helmignore");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(FileError::new("read", &path, error).into()),
        };
        let mut rules = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let rule = line.trim();
            if rule.is_empty() || rule.starts_with('#') {
                continue;
            }
            let (pattern, directories_only) = match rule.strip_suffix('/') {
                Some(pattern) => (pattern, true),
                None => (rule, false),
            };
            let parsed = glob::Pattern::new(pattern).ok();
            match parsed.filter(|_| !pattern.starts_with('!') && !pattern.contains('/')) {
                Some(pattern) => rules.push((pattern, directories_only)),
                None => {
                    return Err(ChartError::Ignore {
                        path,
                        line: number,
                        rule: rule.to_owned(),
                    }
                    .into());
                }
            }
        }
        Ok(Self(rules))
    }

    fn matches(&self, entry: &walkdir::DirEntry) -> bool {
        let name = entry.file_name().to_string_lossy();
        let is_directory = entry.file_type().is_dir();
        self.0.iter().any(|(pattern, directories_only)| {
            pattern.matches(&name) && (is_directory || !directories_only)
        })
    }
}

/// The `Chart.yaml` of a foreign archive: the one in its top folder.
fn yaml_of_archive(path: &Path) -> Outcome<Vec<u8>> {
    let failed = |source| FileError::new("read", path, source);
    let file = File::open(path).map_err(failed)?;
    let plain = flate2::read::MultiGzDecoder::new(file).take(CHART_BYTES_MAX);
    let mut archive = tar::Archive::new(plain);
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let inside = entry.path().map_err(failed)?.into_owned();
        let is_top = inside.components().count() == 2 && inside.ends_with("Chart.yaml");
        if is_top {
            let mut yaml = Vec::new();
            let cap = u64::try_from(CHART_YAML_BYTES_MAX).unwrap_or(u64::MAX);
            entry.take(cap).read_to_end(&mut yaml).map_err(failed)?;
            return Ok(yaml);
        }
    }
    Err(ChartError::Form {
        path: path.to_path_buf(),
        problem: "it holds no Chart.yaml".to_owned(),
    }
    .into())
}

impl Fault for ChartError {
    fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "CHART_FORM",
            Self::Other { .. } => "CHART_OTHER",
            Self::Ignore { .. } => "NOT_IN_THIS_VERSION",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Form { .. } => Blame::Input,
            Self::Other { .. } | Self::Ignore { .. } => Blame::Usage,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Other {
                field,
                actual,
                expected,
                ..
            } => vec![
                Fact::new("field", field),
                Fact::new("chart", actual),
                Fact::new("release", expected),
            ],
            Self::Form { .. } | Self::Ignore { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Ignore { .. } => {
                Some("pack the chart with `helm package` and name the .tgz by `path`".to_owned())
            }
            Self::Form { .. } | Self::Other { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(folder: &Path) -> PathBuf {
        let path = folder.join("shop");
        fs::create_dir_all(path.join("templates")).unwrap();
        fs::write(
            path.join("Chart.yaml"),
            "apiVersion: v2\nname: shop\nversion: 1.4.0\n",
        )
        .unwrap();
        fs::write(path.join("templates/web.yaml"), "kind: Deployment\n").unwrap();
        fs::write(path.join("editor.swp"), "x").unwrap();
        fs::write(path.join(".helmignore"), "# editors\n*.swp\n.git/\n").unwrap();
        path
    }

    fn names(tgz: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tgz));
        let entries = archive.entries().unwrap();
        entries
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    fn bytes(chart: &PackedChart) -> Vec<u8> {
        let mut bytes = Vec::new();
        chart
            .blob
            .content
            .open()
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn a_directory_gives_the_same_bytes_wherever_it_is() {
        let name: Name = "shop".parse().unwrap();
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = pack(&chart(here.path()), &name, Some("1.4.0")).unwrap();
        let second = pack(&chart(there.path()), &name, None).unwrap();
        assert_eq!(first.blob.digest, second.blob.digest);
        assert_eq!(
            names(&bytes(&first)),
            [
                "shop/.helmignore",
                "shop/Chart.yaml",
                "shop/templates/web.yaml"
            ]
        );
    }

    #[test]
    fn an_archive_is_carried_byte_for_byte_and_told_by_its_chart_yaml() {
        let folder = tempfile::tempdir().unwrap();
        let name: Name = "shop".parse().unwrap();
        let packed = pack(&chart(folder.path()), &name, None).unwrap();
        let tgz = folder.path().join("shop.tgz");
        fs::write(&tgz, bytes(&packed)).unwrap();
        let carried = pack(&tgz, &name, None).unwrap();
        assert_eq!(carried.blob.digest, packed.blob.digest);
        assert_eq!(carried.version, Version::new(1, 4, 0));
        let other: Name = "other".parse().unwrap();
        assert_eq!(
            pack(&tgz, &other, None).unwrap_err().fault().code(),
            "CHART_OTHER"
        );
        assert_eq!(
            pack(&tgz, &name, Some("2.0.0")).unwrap_err().fault().code(),
            "CHART_OTHER"
        );
    }

    #[test]
    fn links_and_unknown_rules_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name: Name = "shop".parse().unwrap();
        let path = chart(folder.path());
        fs::write(path.join(".helmignore"), "!keep\n").unwrap();
        assert_eq!(
            pack(&path, &name, None).unwrap_err().fault().code(),
            "NOT_IN_THIS_VERSION"
        );
        fs::remove_file(path.join(".helmignore")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path.join("templates/secret")).unwrap();
        assert_eq!(
            pack(&path, &name, None).unwrap_err().fault().code(),
            "CHART_FORM"
        );
    }
}
