//! How a build tells what it is about and what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use api::event::Amount;
use bundle::Digest;
use bundle::index::BundleIndex;
use bundle::key::SecretKey;
use bundle::name::Platform;
use bundle::write::Written;
use serde::Serialize;

use super::settings::Settings;
use crate::failure::Outcome;
use crate::fetch::FetchedImage;
use crate::gather::Gathered;
use crate::output::Lines;
use crate::output::Output;
use crate::output::bytes;
use crate::output::count;

/// What a build would do.
#[derive(Debug, Serialize)]
pub(super) struct Planned {
    file: PathBuf,
    images: Vec<PlannedImage>,
    local_blobs: usize,
    fetch_bytes: u64,
    payload_bytes: u64,
}

#[derive(Debug, Serialize)]
struct PlannedImage {
    name: String,
    digest: Digest,
    blobs: usize,
    bytes: u64,
}

/// What a build made.
#[derive(Debug, Serialize)]
pub(super) struct Built {
    file: PathBuf,
    bundle: Digest,
    is_changed: bool,
    file_bytes: u64,
    payload_bytes: u64,
    images: usize,
    blobs: usize,
    signers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lacks: Option<String>,
    elapsed_ms: u64,
    #[serde(skip)]
    product: String,
}

/// The release, as the first line.
pub(super) fn title(settings: &Settings) -> String {
    let release = &settings.release;
    let platforms: Vec<&str> = settings
        .decided
        .platforms
        .iter()
        .map(Platform::as_str)
        .collect();
    format!(
        "{}/{} {} ({}, sequence {}) for {}",
        release.vendor,
        release.product,
        release.version,
        release.channel,
        settings.decided.sequence,
        platforms.join(", ")
    )
}

/// What the release is made of.
pub(super) fn found(images: &[FetchedImage], gathered: &Gathered, output: &Output) {
    let parts = [
        (images.len(), "image"),
        (gathered.charts.len(), "chart"),
        (gathered.manifests.len(), "manifest"),
        (gathered.files.len(), "file"),
        (gathered.licenses.len(), "license"),
        (gathered.documents.len(), "document"),
        (gathered.preflights.len(), "preflight"),
    ];
    let named = parts.iter().filter(|(number, _thing)| *number > 0);
    let parts: Vec<String> = named.map(|(number, thing)| count(*number, thing)).collect();
    let found = if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join(", ")
    };
    output.note(format!("  found    {found}"));
    if !(gathered.charts.is_empty() && gathered.manifests.is_empty()) {
        let hint = "images that charts and manifests mention are not searched for: list them under `images`";
        output.note(format!("           {hint}"));
    }
}

/// How the fetch went.
pub(super) fn fetched(images: usize, fetched: Amount, present: Amount, took: Duration) -> String {
    let images = count(images, "image");
    let blobs = count(fetched.items + present.items, "blob");
    let total = fetched.bytes + present.bytes;
    if fetched.items == 0 {
        return format!("{images}  {blobs}  {} in the cache already", bytes(total));
    }
    let seconds = took.as_secs_f64();
    format!(
        "{images}  {blobs}  {} of {} fetched  {seconds:.1} s",
        bytes(fetched.bytes),
        bytes(total)
    )
}

/// Bytes of all blobs, each once.
pub(super) fn payload_bytes(images: &[FetchedImage], gathered: &Gathered) -> u64 {
    let mut blobs = distinct(images);
    let local = gathered.blobs.iter();
    blobs.extend(local.map(|(blob, _stage)| (blob.digest, blob.size)));
    blobs.values().sum()
}

/// Milliseconds since a moment.
pub(super) fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn distinct(images: &[FetchedImage]) -> BTreeMap<Digest, u64> {
    let blobs = images.iter().flat_map(|image| &image.blobs);
    blobs.map(|blob| (blob.digest, blob.size)).collect()
}

impl Planned {
    pub(super) fn of(
        settings: &Settings,
        images: &[FetchedImage],
        gathered: &Gathered,
        missing: u64,
    ) -> Self {
        let image = |image: &FetchedImage| PlannedImage {
            name: image.name.to_string(),
            digest: image.digest,
            blobs: image.blobs.len(),
            bytes: image.blobs.iter().map(|blob| blob.size).sum(),
        };
        Self {
            file: settings.target.clone(),
            images: images.iter().map(image).collect(),
            local_blobs: gathered.blobs.len(),
            fetch_bytes: missing,
            payload_bytes: payload_bytes(images, gathered),
        }
    }

    pub(super) fn print(&self, output: &Output) -> Outcome {
        output.result(self, |out| {
            for image in &self.images {
                let blobs = count(image.blobs, "blob");
                out.row(
                    "image",
                    format!(
                        "{}  {}  {blobs}, {}",
                        image.name,
                        image.digest,
                        bytes(image.bytes)
                    ),
                );
            }
            out.row("local", count(self.local_blobs, "blob"));
            out.row(
                "fetch",
                format!("{} that the cache has not", bytes(self.fetch_bytes)),
            );
            let file = self.file.display();
            out.row(
                "write",
                format!("{file}  {} before compression", bytes(self.payload_bytes)),
            );
            out.line("Nothing was fetched or written.");
        })
    }
}

impl Built {
    pub(super) fn new(
        settings: &Settings,
        index: &BundleIndex,
        written: &Written,
        keys: &[SecretKey],
        lacks: Option<String>,
        begun: Instant,
    ) -> Self {
        Self {
            lacks,
            file_bytes: written.size,
            signers: keys
                .iter()
                .map(|key| key.public().id().to_string())
                .collect(),
            ..Self::of(settings, index, written.id, true, begun)
        }
    }

    pub(super) fn unchanged(
        settings: &Settings,
        index: &BundleIndex,
        bundle: Digest,
        begun: Instant,
    ) -> Self {
        Self {
            file_bytes: settings.target.metadata().map_or(0, |found| found.len()),
            ..Self::of(settings, index, bundle, false, begun)
        }
    }

    fn of(
        settings: &Settings,
        index: &BundleIndex,
        bundle: Digest,
        is_changed: bool,
        begun: Instant,
    ) -> Self {
        Self {
            file: settings.target.clone(),
            bundle,
            is_changed,
            file_bytes: 0,
            payload_bytes: index.blobs.iter().map(|blob| blob.size).sum(),
            images: index.images.len(),
            blobs: index.blobs.len(),
            signers: Vec::new(),
            lacks: None,
            elapsed_ms: milliseconds(begun),
            product: index.product.to_string(),
        }
    }

    pub(super) fn print(&self, output: &Output) -> Outcome {
        output.result(self, |out| self.lines(out))
    }

    fn lines(&self, out: &mut Lines) {
        let file = self.file.display();
        let blobs = count(self.blobs, "blob");
        out.row(
            "write",
            format!("{file}  {}, {blobs}", bytes(self.file_bytes)),
        );
        if self.is_changed {
            out.row("sign", self.signed());
        }
        if let Some(lacks) = &self.lacks {
            out.row(
                "lacks",
                format!("{lacks}: bundler sign {file} --key KEY.key"),
            );
        }
        out.row(
            "sha256",
            format!(
                "{}  the bundle's id: sha256 of bundle.json",
                self.bundle.to_hex()
            ),
        );
        let seconds = Duration::from_millis(self.elapsed_ms).as_secs_f64();
        if self.is_changed {
            out.line(format!(
                "Built in {seconds:.1} s. Check it anywhere:  bundler verify {file}"
            ));
        } else {
            out.line(format!(
                "Nothing has changed since it was built ({seconds:.1} s)."
            ));
        }
    }

    fn signed(&self) -> String {
        if self.signers.is_empty() {
            return format!(
                "not signed: bundler sign {} --key KEY.key",
                self.file.display()
            );
        }
        format!("key {} (bundle:{})", self.signers.join(", "), self.product)
    }
}
