//! Manifests and indexes as they come from outside: read only as far as is needed to fetch them whole.
//!
//! The bytes themselves are what is carried; nothing is ever written again from what is parsed here.
//!
//! | attack | answer |
//! |---|---|
//! | one document that is a manifest to one reader and an index to another (CVE-2021-41190) | refused: `manifests` excludes `config`, `layers` and `fsLayers`; `mediaType` agrees with the shape and with whoever named it |
//! | duplicate keys | refused for every key that is read |
//! | 10 000 layers, sizes beyond any disk | `limits` |
//! | `urls`, `data` | not read |

use bundle::Digest;
use bundle::limits;
use bundle::name::Platform;
use serde::Deserialize;

/// Media types of documents that name other blobs, as a registry is asked for them.
pub(crate) const DOCUMENT_TYPES: [&str; 4] =
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A parsed document, with the media type that its bytes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// One of [`DOCUMENT_TYPES`].
    pub(crate) media_type: &'static str,
    /// What it names.
    pub(crate) content: Content,
}

/// What a document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// One image for one platform.
    Manifest {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, lowest first.
        layers: Vec<Descriptor>,
    },
    /// Several of them.
    Index(Vec<Descriptor>),
}

/// One named blob (OCI image-spec, `descriptor.md`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Descriptor {
    /// What it is.
    #[serde(rename = "mediaType")]
    pub(crate) media_type: String,
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// What it runs on, in an index.
    #[serde(default)]
    pub(crate) platform: Option<PlatformEntry>,
    /// Notes on it, of which only names are read.
    #[serde(default)]
    pub(crate) annotations: Option<Annotations>,
}

/// The platform of a descriptor, or of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct PlatformEntry {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: Option<String>,
}

/// The annotations that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Annotations {
    /// The name of an image in a layout: a tag, or a full name.
    #[serde(rename = "org.opencontainers.image.ref.name")]
    pub(crate) ref_name: Option<String>,
    /// The full name, as containerd writes it.
    #[serde(rename = "io.containerd.image.name")]
    pub(crate) containerd_name: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a manifest or an index; the error is what is wrong with it.
    ///
    /// `named` is the media type that whoever pointed to it gave: a descriptor's, or a `Content-Type`.
    pub(crate) fn parse(bytes: &[u8], named: Option<&str>) -> Result<Self, String> {
        if bytes.len() > limits::MANIFEST_BYTES_MAX {
            return Err(format!(
                "it is {} bytes, at most {} are taken",
                bytes.len(),
                limits::MANIFEST_BYTES_MAX
            ));
        }
        let wire: Wire = parse_object(bytes)?;
        if wire.schema_version != 2 || wire.fs_layers.is_some() {
            return Err(format!(
                "it has schema version {}, this program knows 2",
                wire.schema_version
            ));
        }
        let (content, types) = match (wire.manifests, wire.config, wire.layers) {
            (Some(manifests), None, None) => (Content::Index(manifests), [OCI_INDEX, DOCKER_LIST]),
            (None, Some(config), Some(layers)) => (
                Content::Manifest { config, layers },
                [OCI_MANIFEST, DOCKER_MANIFEST],
            ),
            (Some(_), _, _) => return Err("it is both a manifest and an index".to_owned()),
            (None, _, _) => return Err("it is neither a manifest nor an index".to_owned()),
        };
        content.check_limits()?;
        let named = named.filter(|named| DOCUMENT_TYPES.contains(named));
        let media_type = agree(wire.media_type.as_deref(), named, types)?;
        Ok(Self {
            media_type,
            content,
        })
    }
}

impl Content {
    fn check_limits(&self) -> Result<(), String> {
        let (named, count_max) = match self {
            Self::Manifest { layers, .. } => (layers, limits::LAYERS_MAX),
            Self::Index(manifests) => (manifests, limits::LAYERS_MAX),
        };
        if named.len() > count_max {
            return Err(format!(
                "it names {} blobs, at most {count_max} are taken",
                named.len()
            ));
        }
        match named.iter().find(|blob| blob.size > limits::BLOB_BYTES_MAX) {
            Some(blob) => Err(format!(
                "it says that {} is {} bytes",
                blob.digest, blob.size
            )),
            None => Ok(()),
        }
    }
}

impl Descriptor {
    /// Whether it names a manifest or an index.
    pub(crate) fn is_document(&self) -> bool {
        DOCUMENT_TYPES.contains(&self.media_type.as_str())
    }

    /// Whether it names an index.
    pub(crate) fn is_index(&self) -> bool {
        [OCI_INDEX, DOCKER_LIST].contains(&self.media_type.as_str())
    }

    /// Whether it names the config of a container image, which tells the platform.
    pub(crate) fn is_image_config(&self) -> bool {
        [OCI_CONFIG, DOCKER_CONFIG].contains(&self.media_type.as_str())
    }
}

impl PlatformEntry {
    /// Reads the platform out of the config of an image.
    pub(crate) fn of_config(bytes: &[u8]) -> Result<Self, String> {
        parse_object(bytes)
    }

    /// Whether what is for this platform runs on `wanted`. A variant counts only where one is asked for.
    pub(crate) fn is_for(&self, wanted: &Platform) -> bool {
        self.os == wanted.os()
            && self.architecture == wanted.architecture()
            && wanted
                .variant()
                .is_none_or(|variant| self.variant.as_deref() == Some(variant))
    }
}

impl std::fmt::Display for PlatformEntry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(out, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Parses one JSON object; serde would also take an array for a struct, which other readers do not.
pub(crate) fn parse_object<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| format!("it can't be parsed: {error}"))
}

/// Finds the one media type that the document itself, its name giver and its shape agree on.
fn agree(
    own: Option<&str>,
    named: Option<&str>,
    types: [&'static str; 2],
) -> Result<&'static str, String> {
    let [oci, _docker] = types;
    if let (Some(own), Some(named)) = (own, named)
        && own != named
    {
        return Err(format!(
            "its media type is {own}, but it was named as {named}"
        ));
    }
    let Some(said) = own.or(named) else {
        return Ok(oci);
    };
    let known = types.into_iter().find(|known| *known == said);
    known.ok_or_else(|| format!("its media type is {said}, which is not what it looks like"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    fn blob(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": Digest::of(b"x"), "size": 1})
    }

    fn manifest() -> Value {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blob(OCI_CONFIG), "layers": [blob("layer")]})
    }

    fn parse(value: &Value, named: Option<&str>) -> Result<Document, String> {
        Document::parse(value.to_string().as_bytes(), named)
    }

    #[test]
    fn both_families_of_documents_are_known() {
        assert_eq!(parse(&manifest(), None).unwrap().media_type, OCI_MANIFEST);
        let mut docker = manifest();
        docker["mediaType"] = json!(DOCKER_MANIFEST);
        assert_eq!(
            parse(&docker, Some(DOCKER_MANIFEST)).unwrap().media_type,
            DOCKER_MANIFEST
        );
        let index = json!({"schemaVersion": 2, "manifests": [blob(OCI_MANIFEST)]});
        assert_eq!(parse(&index, None).unwrap().media_type, OCI_INDEX);
        assert_eq!(
            parse(&index, Some(DOCKER_LIST)).unwrap().media_type,
            DOCKER_LIST
        );
    }

    #[test]
    fn a_document_that_can_be_read_in_two_ways_is_refused() {
        for key in ["manifests", "fsLayers"] {
            let mut confused = manifest();
            confused[key] = json!([blob(OCI_MANIFEST)]);
            assert!(parse(&confused, None).is_err(), "{key}");
        }
        let twice = manifest().to_string().replacen('{', r#"{"layers":[],"#, 1);
        assert!(
            Document::parse(twice.as_bytes(), None)
                .unwrap_err()
                .contains("duplicate")
        );
        assert!(Document::parse(format!("[{}]", manifest()).as_bytes(), None).is_err());
    }

    #[test]
    fn the_media_type_agrees_with_whoever_named_the_document() {
        assert!(parse(&manifest(), Some(OCI_INDEX)).is_err());
        assert!(parse(&manifest(), Some(DOCKER_MANIFEST)).is_err());
        assert!(parse(&manifest(), Some("application/json")).is_ok());
        let mut index = manifest();
        index["mediaType"] = json!(OCI_INDEX);
        assert!(parse(&index, None).is_err());
    }

    #[test]
    fn digests_sizes_and_counts_have_limits() {
        for (key, value) in [
            ("digest", json!("sha256:../../etc/passwd")),
            ("digest", json!(format!("md5:{}", "0".repeat(32)))),
            ("size", json!(-1)),
            ("size", json!(u64::MAX)),
        ] {
            let mut bad = manifest();
            bad["layers"][0][key] = value;
            assert!(parse(&bad, None).is_err(), "{bad}");
        }
        let mut many = manifest();
        many["layers"] = json!(vec![blob("layer"); limits::LAYERS_MAX + 1]);
        assert!(parse(&many, None).is_err());
        assert!(Document::parse(&vec![b' '; limits::MANIFEST_BYTES_MAX + 1], None).is_err());
    }

    #[test]
    fn a_variant_counts_only_where_one_is_asked_for() {
        let entry = PlatformEntry::of_config(
            br#"{"os":"linux","architecture":"arm","variant":"v7","rootfs":{}}"#,
        )
        .unwrap();
        assert!(entry.is_for(&"linux/arm".parse().unwrap()));
        assert!(entry.is_for(&"linux/arm/v7".parse().unwrap()));
        assert!(!entry.is_for(&"linux/arm/v6".parse().unwrap()));
        assert!(!entry.is_for(&"linux/arm64".parse().unwrap()));
    }
}
