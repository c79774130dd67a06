//! `installer import`: a bundle or a license into the store of this machine, in one pass.

use std::io;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use api::event::Amount;
use api::event::Event;
use program::Failure;
use program::Outcome;
use program::Output;
use program::output::bytes;
use program::output::count;
use serde::Serialize;
use store::import::ImportEvent;
use store::import::ImportOptions;
use store::intake::Taken;
use store::intake::Told;

use crate::cli::ImportArgs;
use crate::clock;
use crate::place;

#[derive(Serialize)]
struct Imported {
    id: String,
    title: String,
    written_blobs: u64,
    written_bytes: u64,
    skipped_blobs: u64,
    skipped_bytes: u64,
    elapsed_ms: u128,
}

/// Takes a file in.
pub(super) fn run(store: &Path, arguments: &ImportArgs, output: &Output) -> Outcome {
    let begun = Instant::now();
    let store = place::open(store)?;
    let options = ImportOptions { origin: origin() };
    let mut tell = |told: Told<'_>| tell(&told, output);
    let taken = store
        .take_in(open(&arguments.file)?, clock::now(), &options, &mut tell)
        .map_err(|error| {
            if error.is_partial() {
                Failure::partial(error)
            } else {
                error.into()
            }
        })?;
    let imported = Imported::of(&taken, begun.elapsed().as_millis());
    output.result(&imported, |lines| {
        lines.line(format!("{} is in the store.", imported.title));
        if imported.written_blobs + imported.skipped_blobs > 0 {
            let blobs = |number, size| format!("{}, {}", count(number, "blob"), bytes(size));
            lines.row(
                "written",
                blobs(imported.written_blobs, imported.written_bytes),
            );
            lines.row(
                "present",
                blobs(imported.skipped_blobs, imported.skipped_bytes),
            );
        }
        lines.row("sha256", &imported.id);
    })
}

fn open(path: &Path) -> Outcome<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(super::open(path)?))
}

/// The name that this machine's records carry.
fn origin() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn tell(told: &Told<'_>, output: &Output) {
    let step = "import".to_owned();
    match told {
        Told::Head(head) => {
            let index = head.index();
            let signers: Vec<_> = head.signers().iter().map(ToString::to_string).collect();
            output.note(format!(
                "{}/{} {} ({}, sequence {}), signed by key {}",
                index.vendor,
                index.product,
                index.version,
                index.channel,
                index.sequence,
                signers.join(", ")
            ));
        }
        Told::Import(ImportEvent::Planned { blobs, bytes, .. }) => {
            let total = Some(Amount {
                items: *blobs,
                bytes: *bytes,
            });
            output.event(&Event::Started { step, total });
        }
        Told::Import(ImportEvent::Progress { plain_bytes, .. }) => {
            let done = Amount {
                items: 0,
                bytes: *plain_bytes,
            };
            output.event(&Event::Progress { step, done });
        }
        Told::Import(ImportEvent::Published { .. }) => {}
    }
}

impl Imported {
    fn of(taken: &Taken, elapsed_ms: u128) -> Self {
        let summary = match taken {
            Taken::Bundle { summary, .. } => Some(summary),
            Taken::License(_) => None,
        };
        Self {
            id: taken.id().to_hex(),
            title: taken.title(),
            written_blobs: summary.map_or(0, |summary| summary.written_blobs),
            written_bytes: summary.map_or(0, |summary| summary.written_bytes),
            skipped_blobs: summary.map_or(0, |summary| summary.skipped_blobs),
            skipped_bytes: summary.map_or(0, |summary| summary.skipped_bytes),
            elapsed_ms,
        }
    }
}
