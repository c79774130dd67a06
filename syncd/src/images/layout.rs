//! Images of an OCI image layout directory (image-spec `image-layout.md`), named by their `ref.name` annotation.
//!
//! The index is read for every tag, so images may be added while the endpoint runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::limits;
use serde::Deserialize;

use super::Content;
use super::ImageSource;
use super::Repository;
use super::name::split_tag;

/// The annotation that carries an image's name in `index.json` (image-spec `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An OCI layout directory as a source of images.
#[derive(Clone, Debug)]
pub struct LayoutSource {
    directory: PathBuf,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl LayoutSource {
    /// Takes a directory that holds `oci-layout`.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        File::open(directory.join("oci-layout"))?;
        Ok(Self { directory })
    }

    /// The names in the index with their manifests' digests; entries without a name are left out.
    fn names(&self) -> io::Result<Vec<(String, Digest)>> {
        let content = open_file(&self.directory.join("index.json"))?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the layout has no index.json")
        })?;
        let bytes = content
            .read_small(limits::INDEX_BYTES_MAX)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "index.json is too large"))?;
        let index: Index = serde_json::from_slice(&bytes)?;
        Ok(index
            .manifests
            .into_iter()
            .filter_map(|mut entry| Some((entry.annotations.remove(REF_NAME)?, entry.digest)))
            .collect())
    }

    /// The tags of one repository.
    fn tagged(&self, repository: &Repository) -> io::Result<BTreeMap<String, Digest>> {
        let tagged = self.names()?.into_iter().filter_map(|(name, digest)| {
            let (full, tag) = split_tag(&name)?;
            repository.is(full).then(|| (tag.to_owned(), digest))
        });
        Ok(tagged.collect())
    }
}

impl ImageSource for LayoutSource {
    fn resolve(&self, repository: &Repository, tag: &str) -> io::Result<Option<Digest>> {
        Ok(self.tagged(repository)?.remove(tag))
    }

    fn tags(&self, repository: &Repository) -> io::Result<Option<Vec<String>>> {
        let tagged = self.tagged(repository)?;
        Ok((!tagged.is_empty()).then(|| tagged.into_keys().collect()))
    }

    fn open(&self, _repository: &Repository, digest: &Digest) -> io::Result<Option<Content>> {
        open_file(&self.directory.join("blobs/sha256").join(digest.to_hex()))
    }
}

/// Opens a regular file; `None` when there is none.
fn open_file(path: &Path) -> io::Result<Option<Content>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    Ok(Some(Content {
        size,
        reader: Box::new(file),
    }))
}
