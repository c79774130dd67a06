//! Writes OCI image layouts: gzip layers with fixed times and owners, configs, manifests, one index (image-spec).
//!
//! The same content gives the same bytes on every machine. Nothing here decides what an image holds.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use bundle::Digest;
use bundle::digest::Hasher;
use flate2::Compression;
use flate2::GzBuilder;
use serde_json::Value;
use serde_json::json;
use tar::EntryType;
use tar::Header;

/// The media type of an image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index over manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The time of everything in an image: that of the release that the tests make.
const TIME: u64 = 1_793_491_200;
const TIME_TEXT: &str = "2026-11-01T00:00:00Z";

/// Longest path that a ustar header takes without being split.
const PATH_BYTES_MAX: usize = 100;

/// A layer on disk.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Of the gzip file: its blob's name.
    pub digest: Digest,
    /// Of the tar inside.
    pub diff_id: Digest,
    /// Bytes of the gzip file.
    pub size: u64,
}

/// One image's own part of its config.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// As Go calls it: `amd64`, `arm64`.
    pub architecture: &'a str,
    /// The `config` object: entry point, environment, labels, user.
    pub settings: Value,
    /// What each layer's entry of the history says.
    pub made_by: &'a str,
}

/// What the index calls a manifest.
#[derive(Clone, Debug)]
pub struct Named {
    /// The full name with its tag.
    pub name: String,
    /// The manifest or index.
    pub digest: Digest,
    /// Its media type.
    pub media_type: &'static str,
}

/// An OCI image layout while it is being filled.
#[derive(Debug)]
pub struct LayoutWriter {
    root: PathBuf,
    /// Size of each blob by digest.
    pub blobs: BTreeMap<Digest, u64>,
}

impl LayoutWriter {
    /// Begins a layout below `root`.
    pub fn create(root: &Path) -> Result<Self> {
        let writer = Self {
            root: root.to_owned(),
            blobs: BTreeMap::new(),
        };
        let blobs = writer.blobs_directory();
        fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
        let marker = json!({"imageLayoutVersion": "1.0.0"});
        fs::write(root.join("oci-layout"), serde_json::to_vec(&marker)?)?;
        Ok(writer)
    }

    /// Where blobs are, each named by its digest.
    pub fn blobs_directory(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Adds a layer that [`write_layer`] made in [`LayoutWriter::blobs_directory`].
    pub fn add_layer(&mut self, layer: &Layer) {
        self.blobs.insert(layer.digest, layer.size);
    }

    /// Adds a document; gives its digest.
    pub fn put_json(&mut self, value: &Value) -> Result<Digest> {
        let bytes = serde_json::to_vec(value)?;
        let digest = Digest::of(&bytes);
        fs::write(self.blobs_directory().join(digest.to_hex()), &bytes)?;
        self.blobs.insert(digest, u64::try_from(bytes.len())?);
        Ok(digest)
    }

    /// Writes config and manifest of one platform; gives the manifest's digest and all blobs below and with it.
    pub fn put_manifest(
        &mut self,
        config: &Config<'_>,
        layers: &[Layer],
    ) -> Result<(Digest, Vec<Digest>)> {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        let history = json!({"created_by": config.made_by});
        let config = self.put_json(&json!({
            "architecture": config.architecture, "os": "linux", "created": TIME_TEXT,
            "config": config.settings,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": vec![history; layers.len()],
        }))?;
        let list: Vec<Value> = layers
            .iter()
            .map(|layer| {
                json!({"mediaType": LAYER_GZIP, "digest": layer.digest, "size": layer.size})
            })
            .collect();
        let manifest = self.put_json(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": self.blobs.get(&config)},
            "layers": list,
        }))?;
        let mut blobs: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        blobs.extend([config, manifest]);
        Ok((manifest, blobs))
    }

    /// Writes `index.json`, which names the images.
    pub fn write_index(&self, images: &[Named]) -> Result<()> {
        let entries: Vec<Value> = images
            .iter()
            .map(|image| {
                json!({
                    "mediaType": image.media_type, "digest": image.digest,
                    "size": self.blobs.get(&image.digest),
                    "annotations": {"org.opencontainers.image.ref.name": image.name},
                })
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        fs::write(self.root.join("index.json"), serde_json::to_vec(&index)?)?;
        Ok(())
    }
}

/// The tar of a layer while it is being filled.
pub type LayerTar = tar::Builder<HashingWriter<Compressor>>;
type Compressor = flate2::write::GzEncoder<HashingWriter<BufWriter<File>>>;

/// Writes one layer into `blobs`, under `.making-NAME` until it is whole.
pub fn write_layer(
    blobs: &Path,
    name: &str,
    content: impl FnOnce(&mut LayerTar) -> Result<()>,
) -> Result<Layer> {
    let temporary = blobs.join(format!(".making-{name}"));
    let file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(HashingWriter::new(file), Compression::fast());
    let mut archive = tar::Builder::new(HashingWriter::new(gzip));
    content(&mut archive)?;
    let (gzip, diff_id, _) = archive.into_inner()?.finish();
    let (file, digest, size) = gzip.finish()?.finish();
    file.into_inner().context("write the layer")?;
    fs::rename(&temporary, blobs.join(digest.to_hex()))?;
    Ok(Layer {
        digest,
        diff_id,
        size,
    })
}

/// Adds a directory; its path ends in `/`.
pub fn append_directory(tar: &mut tar::Builder<impl Write>, path: &str) -> Result<()> {
    append(
        tar,
        path,
        header(EntryType::Directory, 0o755, 0),
        io::empty(),
    )
}

/// Adds a file of known size.
pub fn append_file(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    size: u64,
    content: impl Read,
) -> Result<()> {
    append(tar, path, header(EntryType::Regular, mode, size), content)
}

/// Adds a symbolic link.
pub fn append_link(tar: &mut tar::Builder<impl Write>, path: &str, target: &Path) -> Result<()> {
    let mut header = header(EntryType::Symlink, 0o777, 0);
    header.set_link_name(target)?;
    append(tar, path, header, io::empty())
}

/// Adds everything below a directory, sorted; only directories, files and links are known.
pub fn append_tree(tar: &mut tar::Builder<impl Write>, folder: &Path) -> Result<()> {
    append_below(tar, folder, "")
}

fn append_below(tar: &mut tar::Builder<impl Write>, folder: &Path, prefix: &str) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut entries: Vec<fs::DirEntry> = entries.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().context("a file name is not UTF-8")?;
        let (path, from) = (format!("{prefix}{name}"), entry.path());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            append_directory(tar, &format!("{path}/"))?;
            append_below(tar, &from, &format!("{path}/"))?;
        } else if metadata.is_symlink() {
            append_link(tar, &path, &fs::read_link(&from)?)?;
        } else {
            let mode = metadata.permissions().mode() & 0o7777;
            append_file(tar, &path, mode, metadata.len(), File::open(&from)?)?;
        }
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_size(size);
    header
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    mut header: Header,
    content: impl Read,
) -> Result<()> {
    anyhow::ensure!(path.len() <= PATH_BYTES_MAX, "{path} is too long for ustar");
    header.set_path(path)?;
    header.set_cksum();
    tar.append(&header, content)?;
    Ok(())
}

/// Hashes and counts what it passes on.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
            size: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("usr/bin"))?;
        fs::write(folder.join("usr/bin/run"), "run")?;
        fs::set_permissions(
            folder.join("usr/bin/run"),
            fs::Permissions::from_mode(0o755),
        )?;
        symlink("usr/bin", folder.join("bin"))?;
        Ok(())
    }

    #[test]
    fn one_tree_in_two_places_is_one_layer() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let mut digests = Vec::new();
        for name in ["a", "b"] {
            let folder = scratch.path().join(name);
            tree(&folder)?;
            let writer = LayoutWriter::create(&scratch.path().join(format!("layout-{name}")))?;
            let layer = write_layer(&writer.blobs_directory(), name, |tar| {
                append_tree(tar, &folder)
            })?;
            digests.push(layer.digest);
        }
        assert_eq!(digests.first(), digests.get(1));
        Ok(())
    }

    #[test]
    fn a_layer_holds_directories_modes_and_links() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let folder = scratch.path().join("tree");
        tree(&folder)?;
        let writer = LayoutWriter::create(&scratch.path().join("layout"))?;
        let blobs = writer.blobs_directory();
        let layer = write_layer(&blobs, "one", |tar| append_tree(tar, &folder))?;
        let file = File::open(blobs.join(layer.digest.to_hex()))?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut entries = Vec::new();
        for entry in archive.entries()? {
            let entry = entry?;
            let header = entry.header();
            let path = entry.path()?.display().to_string();
            entries.push((path, header.entry_type(), header.mode()?, header.uid()?));
        }
        let wanted = [
            ("bin", EntryType::Symlink, 0o777),
            ("usr/", EntryType::Directory, 0o755),
            ("usr/bin/", EntryType::Directory, 0o755),
            ("usr/bin/run", EntryType::Regular, 0o755),
        ];
        let wanted = wanted.map(|(path, kind, mode)| (path.to_owned(), kind, mode, 0));
        assert_eq!(entries, wanted);
        Ok(())
    }
}
