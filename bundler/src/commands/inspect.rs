//! `bundler inspect`: what a bundle says it carries, from its head alone.
//!
//! No decompressor runs and no payload is read. Without a root nothing shown is more than a claim, and the first line
//! says so.

use std::fs::File;
use std::path::PathBuf;

use bundle::Digest;
use bundle::head::UntrustedHead;
use bundle::index::BundleIndex;
use bundle::name::Platform;
use serde::Serialize;

use crate::cli::InspectArgs;
use crate::cli::InspectPart;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::output::Lines;
use crate::output::Output;
use crate::output::bytes;
use crate::trust;

#[derive(Serialize)]
struct Inspected<'a> {
    file: &'a PathBuf,
    verified: bool,
    signers: &'a [String],
    bundle: String,
    index: &'a BundleIndex,
}

/// Shows the head of a bundle.
pub(super) fn run(arguments: &InspectArgs, output: &Output) -> Outcome {
    let path = &arguments.file;
    let mut file = File::open(path).map_err(|source| FileError::new("read", path, source))?;
    let head = UntrustedHead::read(&mut file)?;
    let id = Digest::of(head.bundle_json());
    let (index, signers) = match &arguments.root {
        Some(root) => {
            let head = head.verify(&trust::load(root, None)?)?;
            let signers = head.signers().iter().map(ToString::to_string).collect();
            (head.index().clone(), signers)
        }
        None => (head.index_unverified()?, Vec::new()),
    };
    let inspected = Inspected {
        file: path,
        verified: arguments.root.is_some(),
        signers: &signers,
        bundle: id.to_hex(),
        index: &index,
    };
    output.result(&inspected, |out| {
        out.line(claim(&signers));
        part(arguments.part, &index, &id, out);
    })
}

fn claim(signers: &[String]) -> String {
    if signers.is_empty() {
        "NOT VERIFIED: no --root was given, so this is only what the file claims".to_owned()
    } else {
        format!(
            "head verified, signed by key {}; the payload was not read",
            signers.join(", ")
        )
    }
}

fn part(part: InspectPart, index: &BundleIndex, id: &Digest, out: &mut Lines) {
    match part {
        InspectPart::Summary => summary(index, id, out),
        InspectPart::Images => images(index, out),
        InspectPart::Files => files(index, out),
        InspectPart::Charts => charts(index, out),
        InspectPart::Licenses => licenses(index, out),
        InspectPart::Blobs => blobs(index, out),
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
