//! An OCI image layout directory as a source (image-spec, `image-layout.md`).
//!
//! Everything is opened below the directory without following a link anywhere, and only regular files are read, so a
//! layout that somebody else made can't make a bundle carry a file of this machine.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::limits;
use bundle::name::ImageName;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::openat2;
use serde::Deserialize;

use super::SourceError;
use super::document::Content;
use super::document::Descriptor;
use super::document::Document;
use super::document::parse_object;
use crate::cache::Cache;
use crate::cache::CachedBlob;
use crate::cache::Claim;
use crate::cache::Partial;
use crate::cache::Published;
use crate::cache::READ_BYTES;

/// `oci-layout` holds one short line.
const MARKER_BYTES_MAX: u64 = 4 << 10;

/// An open layout.
#[derive(Debug)]
pub(crate) struct Layout {
    directory: File,
    path: PathBuf,
    images: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Layout {
    /// Opens a layout and reads its index.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let directory =
            File::open(path).map_err(|error| failed(path, "it can't be opened", error))?;
        let mut layout = Self {
            directory,
            path: path.to_owned(),
            images: Vec::new(),
        };
        let marker: Marker = parse_object(&layout.read("oci-layout", MARKER_BYTES_MAX)?)
            .map_err(|reason| layout.refused("oci-layout", reason))?;
        if marker.version != "1.0.0" {
            let reason = format!(
                "its version is {}, this program knows 1.0.0",
                marker.version
            );
            return Err(layout.refused("oci-layout", reason));
        }
        let index = layout.read("index.json", bytes_max())?;
        let index =
            Document::parse(&index, None).map_err(|reason| layout.refused("index.json", reason))?;
        match index.content {
            Content::Index(images) => layout.images = images,
            Content::Manifest { .. } => {
                return Err(layout.refused("index.json", "it is a manifest".to_owned()));
            }
        }
        Ok(layout)
    }

    /// Where it is, as messages say it.
    pub(crate) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Finds an image: by digest; else by its full name, by its tag, or because it is the only one.
    pub(crate) fn find(
        &self,
        name: &ImageName,
        digest: Option<&Digest>,
    ) -> Result<Descriptor, SourceError> {
        let full = |image: &&Descriptor| {
            image.annotations.as_ref().is_some_and(|notes| {
                [&notes.ref_name, &notes.containerd_name]
                    .into_iter()
                    .any(|it| it.as_deref() == Some(name.as_str()))
            })
        };
        let tagged = |image: &&Descriptor| {
            let ref_name = image
                .annotations
                .as_ref()
                .and_then(|notes| notes.ref_name.as_deref());
            ref_name == Some(name.tag())
        };
        let mut found: Vec<&Descriptor> = match digest {
            Some(digest) => self
                .images
                .iter()
                .filter(|image| image.digest == *digest)
                .collect(),
            None => self.images.iter().filter(full).collect(),
        };
        if found.is_empty() && digest.is_none() {
            found = self.images.iter().filter(tagged).collect();
        }
        if found.is_empty() && digest.is_none() && self.images.len() == 1 {
            found = self.images.iter().collect();
        }
        found.dedup_by_key(|image| image.digest);
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(SourceError::NotFound {
                what: digest.map_or_else(|| name.to_string(), |digest| format!("{name}@{digest}")),
                place: self.place(),
            }),
            several => {
                let reason = format!("it has {} images called {name}", several.len());
                Err(self.refused("index.json", reason))
            }
        }
    }

    /// Reads a manifest, an index or a config whole. Its digest is the caller's to check.
    pub(crate) fn read_document(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        self.read(&blob_name(digest), bytes_max())
    }

    /// Copies a blob into the cache, hashing it on the way.
    pub(crate) fn copy_blob(
        &self,
        cache: &Cache,
        digest: &Digest,
        size: u64,
        progress: &dyn Fn(u64),
    ) -> Result<CachedBlob, SourceError> {
        let mut partial = match cache.claim(digest, size)? {
            Claim::Present(blob) => return Ok(blob),
            Claim::Mine(partial) => partial,
        };
        loop {
            let may_be_ours = partial.is_of_another_run();
            self.fill(&mut partial, digest, progress)?;
            match partial.publish()? {
                Published::Right(blob) => return Ok(blob),
                Published::Wrong { partial: empty, .. } if may_be_ours => partial = empty,
                Published::Wrong { actual, partial } => {
                    partial.discard()?;
                    return Err(SourceError::Digest {
                        what: format!("blob {digest}"),
                        place: self.place(),
                        expected: *digest,
                        actual,
                    });
                }
            }
        }
    }

    fn fill(
        &self,
        partial: &mut Partial,
        digest: &Digest,
        progress: &dyn Fn(u64),
    ) -> Result<(), SourceError> {
        let name = blob_name(digest);
        let mut file = self.open_file(&name)?;
        let read_failed = |error| failed(&self.path.join(&name), "it can't be read", error);
        let actual = file.metadata().map_err(read_failed)?.len();
        if actual != partial.size() {
            return Err(SourceError::Size {
                what: format!("blob {digest}"),
                place: self.place(),
                expected: partial.size(),
                actual,
            });
        }
        file.seek(SeekFrom::Start(partial.length()))
            .map_err(read_failed)?;
        let mut file = file.take(partial.size() - partial.length());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    partial.append(buffer.get(..count).unwrap_or_default())?;
                    progress(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_failed(error)),
            }
        }
    }

    fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, SourceError> {
        let file = self.open_file(name)?;
        let mut bytes = Vec::new();
        file.take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&self.path.join(name), "it can't be read", error))?;
        if u64::try_from(bytes.len()).is_ok_and(|count| count <= bytes_max) {
            return Ok(bytes);
        }
        Err(SourceError::TooLarge {
            what: name.to_owned(),
            place: self.place(),
            limit: format!("{bytes_max} bytes"),
        })
    }

    fn open_file(&self, name: &str) -> Result<File, SourceError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let opened = openat2(&self.directory, name, flags, Mode::empty(), inside).map(File::from);
        let path = self.path.join(name);
        let file = opened.map_err(|error| match error {
            rustix::io::Errno::NOENT if name.starts_with("blobs/") => SourceError::NotFound {
                what: name.replace("blobs/sha256/", "blob sha256:"),
                place: self.place(),
            },
            rustix::io::Errno::NOENT => failed(&path, "it is absent", error.into()),
            rustix::io::Errno::LOOP | rustix::io::Errno::XDEV => {
                failed(&path, "it leads out of the directory", error.into())
            }
            other => failed(&path, "it can't be opened", other.into()),
        })?;
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(file),
            Ok(_other) => Err(self.refused(name, "it is no regular file".to_owned())),
            Err(error) => Err(failed(&path, "it can't be looked at", error)),
        }
    }

    fn refused(&self, name: &str, reason: String) -> SourceError {
        SourceError::Layout {
            path: self.path.join(name),
            reason,
            source: None,
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.to_hex())
}

fn bytes_max() -> u64 {
    u64::try_from(limits::MANIFEST_BYTES_MAX).unwrap_or(u64::MAX)
}

fn failed(path: &Path, reason: &str, source: io::Error) -> SourceError {
    SourceError::Layout {
        path: path.to_owned(),
        reason: reason.to_owned(),
        source: Some(source),
    }
}

#[cfg(test)]
mod tests;
