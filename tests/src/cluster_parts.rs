//! What a real cluster is made of: programs and images that `cargo xtask binaries` built into the cache.
//!
//! The sources are below `testdata/cluster/`: module files and sums, one C file. Suites only look here for what is
//! there; a build takes many minutes and is never started by a test.
//!
//! ```text
//! ~/.cache/sealift/cluster/
//!   programs/GROUP-KEY/PROGRAM      one folder a group, whole or absent
//!   images-KEY/                     one OCI image layout with all images
//!   parts-KEY.json                  what belongs to the sources of which KEY is the digest
//!   vendor/                         keys, trust root, license of the vendor that the tests play
//!   bundles/KEY/                    release folder and bundle of one clone
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use bundle::digest::Digest;
pub use bundle::digest::Hasher;
use serde_json::json;

use crate::real_parts;

/// The groups of programs, in the order in which they are built: each is a folder of `testdata/cluster/`.
pub const GROUPS: [&str; 9] = [
    "kubernetes",
    "etcd",
    "containerd",
    "runc",
    "cni",
    "pause",
    "coredns",
    "flannel",
    "helm",
];

/// Programs and images of the sources in this clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The folder of each group's programs.
    pub programs: BTreeMap<String, PathBuf>,
    /// The OCI image layout that holds all images.
    pub images: PathBuf,
}

impl Parts {
    /// What is in the cache; the error is the reason for which a suite that needs it is skipped.
    pub fn find() -> Result<Self, String> {
        Self::read().map_err(|error| {
            format!("the parts of a cluster are not built ({error:#}); `cargo xtask binaries` does")
        })
    }

    fn read() -> Result<Self> {
        let path = record()?;
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let record: serde_json::Value = serde_json::from_slice(&text)?;
        let path_at = |pointer: &str| -> Result<PathBuf> {
            let text = record.pointer(pointer).and_then(serde_json::Value::as_str);
            let path = PathBuf::from(text.with_context(|| format!("no {pointer}"))?);
            anyhow::ensure!(path.is_dir(), "{} is gone", path.display());
            Ok(path)
        };
        let mut programs = BTreeMap::new();
        for group in GROUPS {
            programs.insert(group.to_owned(), path_at(&format!("/programs/{group}"))?);
        }
        let images = path_at("/images")?;
        Ok(Self { programs, images })
    }

    /// Remembers what was built of the sources in this clone.
    pub fn keep(&self) -> Result<()> {
        let path = record()?;
        let temporary = path.with_extension("new");
        let record = json!({"programs": self.programs, "images": self.images});
        fs::write(&temporary, serde_json::to_vec(&record)?)?;
        fs::rename(&temporary, &path)?;
        Ok(())
    }

    /// Where a program is, by its group and name.
    pub fn program(&self, group: &str, name: &str) -> Result<PathBuf> {
        let folder = self.programs.get(group);
        let path = folder
            .with_context(|| format!("no group {group}"))?
            .join(name);
        anyhow::ensure!(path.is_file(), "no program {}", path.display());
        Ok(path)
    }
}

/// Where the sources are.
pub fn sources() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join("testdata/cluster")
}

/// `~/.cache/sealift/cluster`, made when absent.
pub fn folder() -> Result<PathBuf> {
    let cache = real_parts::cache_folder().context("no home directory for a cache")?;
    let folder = cache.join("cluster");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Keeps every other process of this user out of a part of the cache until it is dropped.
pub fn lock(name: &str) -> Result<File> {
    let path = folder()?.join(format!(".lock-{name}"));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.lock().with_context(|| path.display().to_string())?;
    Ok(file)
}

/// Hashes names and contents of all files below a folder, in the order of their names.
pub fn hash_folder(hasher: &mut Hasher, folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        hasher.update(format!("\"{}\"\n", name.display()).as_bytes());
        if path.is_dir() {
            hash_folder(hasher, &path)?;
        } else {
            hasher.update(&fs::read(&path)?);
        }
        hasher.update(b"\n");
    }
    Ok(())
}

/// The digest of all sources of programs.
fn record() -> Result<PathBuf> {
    let mut hasher = Hasher::new();
    for group in GROUPS {
        hash_folder(&mut hasher, &sources().join(group))?;
    }
    Ok(folder()?.join(format!("parts-{}.json", short(hasher.finish()))))
}

/// The first 16 hexadecimal digits: enough for the name of what can be made again.
pub fn short(digest: Digest) -> String {
    digest.to_hex().chars().take(16).collect()
}

/// Whether a text can be what [`short`] gives.
pub fn is_short(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
