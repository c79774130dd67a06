//! The two files that make an unpacked bundle an OCI image layout (image-spec `image-layout.md`).
//!
//! Both follow from `bundle.json` alone: a reader does not parse them, it requires the bytes that it derives.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::digest::Digest;
use crate::index::BlobEntry;
use crate::index::BundleIndex;
use crate::json;
use crate::json::JsonError;

/// Media types of a manifest or an index, of OCI and of Docker before it.
pub const MANIFEST_MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LayoutIndex<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations<'a>>,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: &'a str,
}

/// Whether blobs of this media type are image manifests or indexes.
pub fn is_manifest(media_type: &str) -> bool {
    MANIFEST_MEDIA_TYPES.contains(&media_type)
}

/// The bytes of `oci-layout`.
pub fn oci_layout_bytes() -> &'static [u8] {
    b"{\"imageLayoutVersion\":\"1.0.0\"}\n"
}

/// The bytes of `index.json`: each image under its full name, then what refers to images, in the index's order.
///
/// A name is given as `org.opencontainers.image.ref.name`, so that `skopeo copy oci:DIR:NAME` finds it.
pub fn oci_index_bytes(index: &BundleIndex) -> Result<Vec<u8>, JsonError> {
    let blobs = index.blobs_by_digest();
    let descriptor =
        |digest: &Digest, name| blobs.get(digest).map(|blob| Descriptor::new(blob, name));
    let named = index.images.iter().filter_map(|image| {
        let name = image.name.as_str();
        descriptor(&image.digest, Some(name))
    });
    let referrers = index.images.iter().flat_map(|image| &image.referrers);
    let unnamed = referrers.filter_map(|digest| descriptor(digest, None));
    encode(named.chain(unnamed).collect())
}

/// The bytes of an `index.json` for a directory with the blobs of several bundles, the one that counts most first.
///
/// Images whose digest `has` does not know are left out; a name that two bundles give belongs to the first of them.
pub fn oci_index_of_several(
    indexes: &[BundleIndex],
    has: impl Fn(&Digest) -> bool,
) -> Result<Vec<u8>, JsonError> {
    let mut names = BTreeSet::new();
    let mut manifests = Vec::new();
    for index in indexes {
        let blobs = index.blobs_by_digest();
        for image in index.images.iter().filter(|image| has(&image.digest)) {
            let name = image.name.as_str();
            let blob = blobs.get(&image.digest);
            if let Some(blob) = blob.filter(|_there| names.insert(name)) {
                manifests.push(Descriptor::new(blob, Some(name)));
            }
        }
    }
    encode(manifests)
}

impl<'a> Descriptor<'a> {
    fn new(blob: &'a BlobEntry, name: Option<&'a str>) -> Self {
        Self {
            media_type: &blob.media_type,
            digest: blob.digest,
            size: blob.size,
            annotations: name.map(|name| Annotations { name }),
        }
    }
}

fn encode(manifests: Vec<Descriptor<'_>>) -> Result<Vec<u8>, JsonError> {
    json::encode(&LayoutIndex {
        schema_version: 2,
        media_type: "application/vnd.oci.image.index.v1+json",
        manifests,
    })
}
