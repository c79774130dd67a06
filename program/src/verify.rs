//! `verify`, the same in `bundler` and `installer`: every byte of a bundle whose head is verified, in one reading.

use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use api::event::Amount;
use api::event::Event;
use bundle::head::VerifiedHead;
use bundle::index::BlobMember;
use bundle::pieces::PieceList;
use bundle::read::PayloadSink;
use bundle::read::ReadEvent;
use bundle::read::Summary;
use bundle::read::read_payload;
use serde::Serialize;

use crate::failure::Outcome;
use crate::output::Lines;
use crate::output::Output;
use crate::output::bytes;
use crate::output::count;

#[derive(Serialize)]
struct Verified {
    file: PathBuf,
    bundle: String,
    vendor: String,
    product: String,
    channel: String,
    version: String,
    epoch: u64,
    sequence: u64,
    signers: Vec<String>,
    root_version: u32,
    images: usize,
    blobs: usize,
    left_out: u64,
    bytes: u64,
    file_bytes: u64,
    elapsed_ms: u64,
}

/// Verifies every byte behind a verified head and says who signed it.
pub fn payload(
    path: &Path,
    head: &VerifiedHead,
    reader: impl Read + Send,
    sums: bool,
    output: &Output,
) -> Outcome {
    let begun = Instant::now();
    let summary = read_all(head, reader, output)?;
    if sums {
        return print_sums(head, output);
    }
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let verified = Verified::of(path, head, summary, elapsed_ms);
    output.result(&verified, |out| verified.lines(out))
}

fn read_all(head: &VerifiedHead, file: impl Read + Send, output: &Output) -> Outcome<Summary> {
    let items = u64::try_from(head.index().blobs.len()).unwrap_or(u64::MAX);
    let step = "verify".to_owned();
    output.event(&Event::Started { step, total: None });
    let mut total = None;
    let summary = read_payload(head, file, &mut Nowhere, &mut |event| {
        let ReadEvent::Progress {
            plain_bytes,
            plain_bytes_total,
        } = event;
        if total.replace(plain_bytes_total) != Some(plain_bytes_total) {
            let total = Some(Amount {
                items,
                bytes: plain_bytes_total,
            });
            let step = "verify".to_owned();
            output.event(&Event::Started { step, total });
        }
        let done = Amount {
            items: 0,
            bytes: plain_bytes,
        };
        let step = "verify".to_owned();
        output.event(&Event::Progress { step, done });
    })?;
    Ok(summary)
}

fn print_sums(head: &VerifiedHead, output: &Output) -> Outcome {
    let carried = head.packing().carried(head.index());
    let sums: Vec<String> = carried.iter().map(|blob| blob.digest.to_hex()).collect();
    output.result(&sums, |out| {
        for hex in &sums {
            out.line(format!("{hex}  blobs/sha256/{hex}"));
        }
    })
}

/// A sink for those who want nothing but the checks.
struct Nowhere;

impl PayloadSink for Nowhere {
    fn has_already(&mut self, _blob: &BlobMember) -> io::Result<bool> {
        // What a delta leaves out is the business of the site; this file is whole without it.
        Ok(true)
    }

    fn wants(&mut self, _blob: &BlobMember) -> io::Result<bool> {
        Ok(false)
    }

    fn data(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _blob: &BlobMember, _pieces: Option<&PieceList>) -> io::Result<()> {
        Ok(())
    }
}

impl Verified {
    fn of(path: &Path, head: &VerifiedHead, summary: Summary, elapsed_ms: u64) -> Self {
        let index = head.index();
        Self {
            file: path.to_path_buf(),
            bundle: head.id().to_hex(),
            vendor: index.vendor.to_string(),
            product: index.product.to_string(),
            channel: index.channel.to_string(),
            version: index.version.to_string(),
            epoch: index.epoch,
            sequence: index.sequence,
            signers: head.signers().iter().map(ToString::to_string).collect(),
            root_version: index.root_version,
            images: index.images.len(),
            blobs: index.blobs.len(),
            left_out: summary.left_out,
            bytes: summary.bytes,
            file_bytes: head.file_bytes(),
            elapsed_ms,
        }
    }

    fn lines(&self, out: &mut Lines) {
        out.line(format!(
            "{}/{} {} ({}, sequence {}): verified",
            self.vendor, self.product, self.version, self.channel, self.sequence
        ));
        let signers = self.signers.join(", ");
        out.row(
            "signed",
            format!(
                "by key {signers} (bundle:{}, root {})",
                self.product, self.root_version
            ),
        );
        out.row(
            "carries",
            format!(
                "{}, {}, {}",
                count(u64::try_from(self.images).unwrap_or(u64::MAX), "image"),
                count(u64::try_from(self.blobs).unwrap_or(u64::MAX), "blob"),
                bytes(self.bytes)
            ),
        );
        if self.left_out > 0 {
            out.row(
                "delta",
                format!("leaves out {}", count(self.left_out, "member")),
            );
        }
        out.row(
            "sha256",
            format!("{}  the bundle's id: sha256 of bundle.json", self.bundle),
        );
        let seconds = std::time::Duration::from_millis(self.elapsed_ms).as_secs_f64();
        out.row(
            "read",
            format!("{} in {seconds:.1} s", bytes(self.file_bytes)),
        );
    }
}
