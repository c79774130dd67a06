//! Layouts that are in order, and layouts that somebody prepared.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::fault::Fault as _;
use bundle::name::ImageName;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::Layout;
use crate::cache::Cache;
use crate::source::SourceError;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

struct Made {
    directory: TempDir,
}

impl Made {
    fn new(images: &[(&str, &[u8])]) -> Self {
        let made = Self {
            directory: TempDir::new().unwrap(),
        };
        fs::create_dir_all(made.path("blobs/sha256")).unwrap();
        fs::write(
            made.path("oci-layout"),
            r#"{"imageLayoutVersion": "1.0.0"}"#,
        )
        .unwrap();
        let images: Vec<Value> = images
            .iter()
            .map(|(name, bytes)| {
                json!({
                    "mediaType": MANIFEST,
                    "digest": made.blob(bytes),
                    "size": bytes.len(),
                    "annotations": {"org.opencontainers.image.ref.name": name},
                })
            })
            .collect();
        made.index(&json!({"schemaVersion": 2, "manifests": images}));
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("layout").join(name)
    }

    fn index(&self, value: &Value) {
        fs::write(self.path("index.json"), value.to_string()).unwrap();
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(self.blob_path(&digest), bytes).unwrap();
        digest
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.to_hex())
    }

    fn open(&self) -> Result<Layout, SourceError> {
        Layout::open(&self.path(""))
    }

    fn cache(&self) -> Cache {
        Cache::open(&self.directory.path().join("cache")).unwrap()
    }

    fn copy(&self, digest: &Digest, size: u64) -> Result<(), SourceError> {
        self.open()?
            .copy_blob(&self.cache(), digest, size, &|_bytes| {})
            .map(|_blob| ())
    }
}

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn found(layout: &Layout, text: &str) -> Option<Digest> {
    layout
        .find(&name(text), None)
        .ok()
        .map(|image| image.digest)
}

#[test]
fn an_image_is_found_by_its_full_name_then_by_its_tag() {
    let made = Made::new(&[("a.example/web:1", b"full"), ("1", b"tag"), ("2", b"other")]);
    let layout = made.open().unwrap();
    assert_eq!(found(&layout, "a.example/web:1"), Some(Digest::of(b"full")));
    assert_eq!(found(&layout, "b.example/web:1"), Some(Digest::of(b"tag")));
    assert_eq!(found(&layout, "b.example/web:3"), None);
    let by_digest = layout
        .find(&name("c.example/web:9"), Some(&Digest::of(b"other")))
        .unwrap();
    assert_eq!(by_digest.digest, Digest::of(b"other"));
    assert!(
        layout
            .find(&name("a.example/web:1"), Some(&Digest::of(b"absent")))
            .is_err()
    );
}

#[test]
fn the_only_image_needs_no_name_and_two_with_one_name_are_refused() {
    let only = Made::new(&[("latest", b"one")]).open().unwrap();
    assert_eq!(found(&only, "a.example/web:1"), Some(Digest::of(b"one")));
    let two = Made::new(&[("1", b"one"), ("1", b"two")]).open().unwrap();
    let error = two.find(&name("a.example/web:1"), None).unwrap_err();
    assert_eq!(error.code(), "SOURCE_LAYOUT");
}

#[test]
fn a_blob_is_copied_and_checked() {
    let made = Made::new(&[]);
    let digest = made.blob(b"layer");
    made.copy(&digest, 5).unwrap();
    assert_eq!(
        made.cache().read(&digest, 10).unwrap().as_deref(),
        Some(&b"layer"[..])
    );
    assert_eq!(
        made.copy(&Digest::of(b"absent"), 6).unwrap_err().code(),
        "SOURCE_NOT_FOUND"
    );
    let other = Digest::of(b"wrong");
    fs::write(made.blob_path(&other), b"bytes").unwrap();
    assert_eq!(made.copy(&other, 5).unwrap_err().code(), "SOURCE_DIGEST");
    assert_eq!(made.copy(&other, 6).unwrap_err().code(), "SOURCE_SIZE");
    assert_eq!(made.cache().read(&other, 10).unwrap(), None);
}

#[test]
fn a_copy_that_was_stopped_goes_on_even_from_a_rotten_start() {
    let made = Made::new(&[]);
    let cache = made.cache();
    let partial = |digest: &Digest| {
        made.directory
            .path()
            .join("cache/partial")
            .join(digest.to_hex())
    };
    for (blob, start) in [(b"layer one", b"laye"), (b"layer two", b"lxye")] {
        let digest = made.blob(blob);
        fs::write(partial(&digest), start).unwrap();
        made.copy(&digest, 9).unwrap();
        assert_eq!(cache.read(&digest, 10).unwrap().as_deref(), Some(&blob[..]));
    }
}

#[test]
fn nothing_outside_of_the_directory_is_read() {
    let made = Made::new(&[]);
    let secret = made.directory.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    let digest = Digest::of(b"secret");
    let targets: [&Path; 2] = [&secret, Path::new("../../../secret")];
    for target in targets {
        symlink(target, made.blob_path(&digest)).unwrap();
        assert_eq!(made.copy(&digest, 6).unwrap_err().code(), "SOURCE_LAYOUT");
        fs::remove_file(made.blob_path(&digest)).unwrap();
    }
    fs::remove_dir_all(made.path("blobs")).unwrap();
    fs::create_dir(made.directory.path().join("sha256")).unwrap();
    fs::write(
        made.directory.path().join("sha256").join(digest.to_hex()),
        b"secret",
    )
    .unwrap();
    symlink(made.directory.path(), made.path("blobs")).unwrap();
    assert_eq!(made.copy(&digest, 6).unwrap_err().code(), "SOURCE_LAYOUT");
}

#[test]
fn what_is_no_layout_is_refused() {
    let without_marker = Made::new(&[]);
    fs::remove_file(without_marker.path("oci-layout")).unwrap();
    let of_the_future = Made::new(&[]);
    fs::write(
        of_the_future.path("oci-layout"),
        r#"{"imageLayoutVersion": "2.0.0"}"#,
    )
    .unwrap();
    let with_a_directory_as_index = Made::new(&[]);
    fs::remove_file(with_a_directory_as_index.path("index.json")).unwrap();
    fs::create_dir(with_a_directory_as_index.path("index.json")).unwrap();
    let with_a_manifest_as_index = Made::new(&[]);
    with_a_manifest_as_index.index(&json!({"schemaVersion": 2, "config": {}, "layers": []}));
    for made in [
        without_marker,
        of_the_future,
        with_a_directory_as_index,
        with_a_manifest_as_index,
    ] {
        assert_eq!(made.open().unwrap_err().code(), "SOURCE_LAYOUT");
    }
    assert!(Layout::open(Path::new("/nonexistent")).is_err());
}
