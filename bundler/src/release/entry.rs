//! The entries of a release file: images, charts, node files, documents.

use std::fmt;
use std::fmt::Debug;
use std::path::PathBuf;
use std::str::FromStr;

use bundle::Digest;
use bundle::index;
use bundle::index::FileMode;
use bundle::index::FileRole;
use bundle::name::EntryPath;
use bundle::name::ImageName;
use bundle::name::Name;
use bundle::name::Platform;
use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;

/// When an image is needed on a new machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Before the cluster works: its own images.
    Cluster,
    /// After that.
    #[default]
    Application,
}

impl Stage {
    /// The stage of its layers in the bundle.
    pub const fn of_blobs(self) -> index::Stage {
        match self {
            Self::Cluster => index::Stage::Cluster,
            Self::Application => index::Stage::Application,
        }
    }
}

/// Where an image is fetched from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageFrom {
    /// The registry of its own name, or a mirror of it.
    #[default]
    Registry,
    /// An OCI image layout directory, relative to the release file.
    OciLayout(PathBuf),
}

/// One image: its name at the site, and where its bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The full name by which it is known at the site.
    pub name: ImageName,
    /// The digest that the name must have now.
    pub digest: Option<Digest>,
    /// Where it is fetched from.
    pub from: ImageFrom,
    /// When it is needed.
    pub stage: Stage,
}

/// One chart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// Its name, as its Chart.yaml says it.
    pub name: Name,
    /// A directory or a `.tgz`, relative to the release file.
    pub path: Option<PathBuf>,
    /// A repository of charts.
    pub oci: Option<String>,
    /// The version that its Chart.yaml must have.
    pub version: Option<String>,
    /// The namespace to install it into.
    pub namespace: Name,
    /// The name of the installed release; that of the chart, when absent.
    pub release: Option<Name>,
    /// A file of values, relative to the release file.
    pub values: Option<PathBuf>,
}

/// One file for the nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where it is, relative to the release file.
    pub path: Option<PathBuf>,
    /// Where it is in the world.
    pub url: Option<String>,
    /// What it is; decides where it goes on a node.
    pub role: FileRole,
    /// Its name below the role's directory; the last part of `path`, when absent.
    pub name: Option<EntryPath>,
    /// Its permission bits; 0755 when its owner may run it here, else 0644.
    pub mode: Option<FileMode>,
    /// The platform that it is for; all, when absent.
    pub platform: Option<Platform>,
    /// The SHA-256 that it must have, as 64 hexadecimal digits.
    #[serde(default, deserialize_with = "hex_digest")]
    pub sha256: Option<Digest>,
}

/// One document for the operator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Where it is, relative to the release file.
    pub path: PathBuf,
    /// Whether it must be accepted before an install.
    #[serde(default)]
    pub accept: bool,
}

impl Chart {
    /// What is wrong with where it comes from.
    pub(super) fn problem(&self) -> Option<String> {
        match (&self.path, &self.oci) {
            (Some(_), None) | (None, Some(_)) => None,
            _neither_or_both => Some(format!(
                "charts: {} needs `path` or `oci`, one of them",
                self.name
            )),
        }
    }
}

impl File {
    /// What is wrong with where it comes from.
    pub(super) fn problem(&self) -> Option<String> {
        match (&self.path, &self.url, &self.sha256) {
            (Some(_), None, _) | (None, Some(_), Some(_)) => None,
            (None, Some(url), None) => Some(format!(
                "files: {url} needs `sha256`: a url can change what it gives"
            )),
            _neither_or_both => Some(format!(
                "files: {:?} needs `path` or `url`, one of them",
                self.role
            )),
        }
    }
}

/// Adds a problem for each value that stands there twice.
pub(super) fn find_repeats<T: Ord + Debug>(key: &str, values: &[T], problems: &mut Vec<String>) {
    let mut sorted: Vec<&T> = values.iter().collect();
    sorted.sort();
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && first == second
        {
            problems.push(format!("{key}: {first:?} is listed twice"));
        }
    }
}

/// Parses a text of this file's own.
#[expect(
    clippy::expect_used,
    reason = "only called with literals, which a test parses"
)]
pub(super) fn constant<T: FromStr<Err: Debug>>(literal: &'static str) -> T {
    literal.parse().expect("the literal is in the grammar")
}

fn hex_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let parse = |text: String| Digest::from_hex(&text).map_err(de::Error::custom);
    text.map(parse).transpose()
}

/// An image as a mapping.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageEntry {
    image: ImageText,
    #[serde(default)]
    from: ImageFrom,
    #[serde(default)]
    stage: Stage,
}

/// `registry/repository:tag` and maybe `@sha256:…`.
struct ImageText(ImageName, Option<Digest>);

impl FromStr for ImageText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|error| format!("{error}"))?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let parsed = name.parse().map_err(|error| match name.split_once('/') {
            Some((registry, _rest)) if registry.contains(['.', ':']) => format!("{error}"),
            // What is short for Docker Hub elsewhere has its whole name here.
            Some(_) => format!("{error}; Docker Hub's is docker.io/{name}"),
            None => format!("{error}; Docker Hub's is docker.io/library/{name}"),
        })?;
        Ok(Self(parsed, digest))
    }
}

impl<'de> Deserialize<'de> for ImageText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ImageFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            Some(("oci-layout", path)) if !path.is_empty() => Ok(Self::OciLayout(path.into())),
            _other => Err(de::Error::custom(format!(
                "{text:?} is no source of images: this version knows oci-layout:DIRECTORY, and the registry when `from` is absent"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrMapping)
    }
}

struct TextOrMapping;

impl<'de> Visitor<'de> for TextOrMapping {
    type Value = Image;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an image name, or a mapping with `image`, `from` and `stage`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Image, E> {
        let ImageText(name, digest) = text.parse().map_err(E::custom)?;
        Ok(Image {
            name,
            digest,
            from: ImageFrom::default(),
            stage: Stage::default(),
        })
    }

    fn visit_map<M: MapAccess<'de>>(self, mapping: M) -> Result<Image, M::Error> {
        let ImageEntry { image, from, stage } =
            ImageEntry::deserialize(MapAccessDeserializer::new(mapping))?;
        let ImageText(name, digest) = image;
        Ok(Image {
            name,
            digest,
            from,
            stage,
        })
    }
}
