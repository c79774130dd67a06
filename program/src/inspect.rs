//! `inspect`, the same in `bundler` and `installer`: what a bundle says it carries, from its head alone.
//!
//! No decompressor runs and no payload is read. Without a root nothing shown is more than a claim, and the first line
//! says so.

use std::path::Path;

use bundle::Digest;
use bundle::index::BundleIndex;
use bundle::key::KeyId;
use bundle::name::Platform;
use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Outcome;
use crate::output::Lines;
use crate::output::Output;
use crate::output::bytes;

#[derive(Serialize)]
struct Inspected<'a> {
    file: &'a Path,
    verified: bool,
    signers: &'a [String],
    bundle: String,
    index: &'a BundleIndex,
}

/// What of an index is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Identity, counts and sizes.
    Summary,
    /// Images by name, digest and stage.
    Images,
    /// Node files by role.
    Files,
    /// Charts and manifests in the order of their application.
    Charts,
    /// Licenses and documents.
    Licenses,
    /// Every blob.
    Blobs,
}

/// Shows a part of an index; without signers it is only what the file claims, and the first line says so.
pub fn show(
    file: &Path,
    index: &BundleIndex,
    id: &Digest,
    signers: &[KeyId],
    list: Part,
    output: &Output,
) -> Outcome {
    let signers: Vec<String> = signers.iter().map(ToString::to_string).collect();
    let inspected = Inspected {
        file,
        verified: !signers.is_empty(),
        signers: &signers,
        bundle: id.to_hex(),
        index,
    };
    output.result(&inspected, |out| {
        out.line(claim(&signers));
        part(list, index, id, out);
    })
}

fn claim(signers: &[String]) -> String {
    if signers.is_empty() {
        "NOT VERIFIED: nobody's signature was held against a root, so this is only what the file claims".to_owned()
    } else {
        format!(
            "head verified, signed by key {}; the payload was not read",
            signers.join(", ")
        )
    }
}

fn part(part: Part, index: &BundleIndex, id: &Digest, out: &mut Lines) {
    match part {
        Part::Summary => summary(index, id, out),
        Part::Images => images(index, out),
        Part::Files => files(index, out),
        Part::Charts => charts(index, out),
        Part::Licenses => licenses(index, out),
        Part::Blobs => blobs(index, out),
    }
}

fn summary(index: &BundleIndex, id: &Digest, out: &mut Lines) {
    let platforms: Vec<&str> = index.platforms.iter().map(Platform::as_str).collect();
    let total: u64 = index.blobs.iter().map(|blob| blob.size).sum();
    out.line(format!(
        "{}/{} {} ({}, epoch {}, sequence {}) for {}",
        index.vendor,
        index.product,
        index.version,
        index.channel,
        index.epoch,
        index.sequence,
        platforms.join(", ")
    ));
    out.row(
        "sha256",
        format!("{}  the bundle's id: sha256 of bundle.json", id.to_hex()),
    );
    out.row("released", index.released_at);
    out.row("root", format!("version {}", index.root_version));
    if let Some(kubernetes) = &index.kubernetes {
        out.row("cluster", format!("Kubernetes {}", kubernetes.version));
    }
    if let Some(range) = &index.upgrade_from {
        out.row("upgrade", format!("from {range}"));
    }
    for (label, number) in [
        ("images", index.images.len()),
        ("charts", index.charts.len()),
        ("manifests", index.manifests.len()),
        ("files", index.files.len()),
        ("licenses", index.licenses.len()),
        ("documents", index.documents.len()),
    ] {
        if number > 0 {
            out.row(label, number);
        }
    }
    out.row("blobs", format!("{}, {}", index.blobs.len(), bytes(total)));
}

fn images(index: &BundleIndex, out: &mut Lines) {
    for image in &index.images {
        let stage = u8::from(image.stage);
        out.line(format!("{}  {}  stage {stage}", image.name, image.digest));
    }
}

fn files(index: &BundleIndex, out: &mut Lines) {
    for file in &index.files {
        out.line(format!("{:?}  {}  {}", file.role, file.path, file.digest));
    }
}

fn charts(index: &BundleIndex, out: &mut Lines) {
    for chart in &index.charts {
        out.line(format!(
            "chart {} {} in {} as {}  {}",
            chart.name, chart.version, chart.namespace, chart.release, chart.digest
        ));
    }
    for manifest in &index.manifests {
        out.line(format!("manifest {}  {}", manifest.path, manifest.digest));
    }
}

fn licenses(index: &BundleIndex, out: &mut Lines) {
    for license in &index.licenses {
        out.line(format!("license {}  {}", license.id, license.digest));
    }
    for document in &index.documents {
        let accept = if document.accept {
            "  must be accepted"
        } else {
            ""
        };
        out.line(format!(
            "document {}  {}{accept}",
            document.path, document.digest
        ));
    }
}

fn blobs(index: &BundleIndex, out: &mut Lines) {
    for blob in &index.blobs {
        let stage = u8::from(blob.stage);
        out.line(format!(
            "{}  {}  stage {stage}  {}",
            blob.digest, blob.size, blob.media_type
        ));
    }
}
