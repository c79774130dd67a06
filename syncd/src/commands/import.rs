//! `syncd import`: the file goes into this node's store here, in this process; the daemon then tells how many have it.
//!
//! A daemon that is needed for the answer is asked before anything is written.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use api::event::Amount;
use api::event::Event;
use api::sync::Wait;
use bundle::head::VerifiedHead;
use program::Failure;
use program::FileError;
use program::Outcome;
use program::Output;
use program::output::bytes;
use program::output::count;
use serde::Serialize;
use store::import::ImportEvent;
use store::import::ImportOptions;
use store::import::ImportSummary;
use store::intake::Taken;
use store::intake::Told;

use super::pace::Pace;
use super::place::Place;
use crate::cli::ImportArgs;
use crate::cli::WaitArg;
use crate::clock;
use crate::config;
use crate::config::Config;
use crate::control::Client;
use crate::control::Progress;

/// What `--json` prints.
#[derive(Serialize)]
struct Result {
    id: bundle::Digest,
    title: String,
    written_blobs: u64,
    written_bytes: u64,
    skipped_blobs: u64,
    skipped_bytes: u64,
    /// Masters that hold it; absent when nobody was asked.
    copies: Option<Progress>,
    elapsed_ms: u128,
}

pub(super) fn run(file: Option<&Path>, arguments: &ImportArgs, output: &Output) -> Outcome {
    let written = config::load_written(file, arguments.place.written())?;
    let place = Place::of(&written);
    let config = Config::settle(written)?;
    let daemon = place.daemon()?;
    let is_daemon_needed = arguments.wait != WaitArg::Local;
    if is_daemon_needed {
        daemon.status()?;
    }
    let store = place.open_store()?;
    let begun = Instant::now();
    let mut tell = Teller::new(output);
    let reader = open(&arguments.file)?;
    let options = ImportOptions {
        origin: config.node.to_string(),
    };
    let taken = store
        .take_in(reader, clock::now(), &options, &mut |told| tell.told(&told))
        .map_err(|error| {
            if error.is_partial() {
                Failure::partial(error)
            } else {
                error.into()
            }
        })?;
    tell.done(&taken);
    let copies = spread(&daemon, &taken, arguments.wait, output)?;
    show(&taken, copies, begun.elapsed(), output)
}

fn open(path: &Path) -> Outcome<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|error| FileError::new("read", path, error))?;
    Ok(Box::new(file))
}

/// Tells the daemon, and waits for as many masters as are wanted.
fn spread(
    daemon: &Client,
    taken: &Taken,
    wait: WaitArg,
    output: &Output,
) -> Outcome<Option<Progress>> {
    let wait = match wait {
        WaitArg::Local => {
            if daemon.rescan().is_err() {
                output.note(
                    "No syncd is running here: the other masters get it as soon as one does.",
                );
            }
            return Ok(None);
        }
        WaitArg::Majority => Wait::Majority,
        WaitArg::All => Wait::All,
    };
    let told = &mut |progress: Progress| output.note(copies_line(progress));
    let waited = daemon
        .rescan()
        .and_then(|()| daemon.wait_copies(&taken.id(), wait, told));
    // The import itself stands, whatever became of the wait.
    Ok(Some(waited.map_err(Failure::partial)?))
}

fn copies_line(progress: Progress) -> String {
    let Progress {
        complete,
        wanted,
        members,
    } = progress;
    let rest = if progress.is_enough() {
        String::new()
    } else {
        format!(", waiting for {wanted}")
    };
    format!(
        "  copies   {complete} of {}{rest}",
        count(members, "master")
    )
}

fn show(taken: &Taken, copies: Option<Progress>, elapsed: Duration, output: &Output) -> Outcome {
    let summary = written(taken);
    let result = Result {
        id: taken.id(),
        title: taken.title(),
        written_blobs: summary.map_or(0, |summary| summary.written_blobs),
        written_bytes: summary.map_or(0, |summary| summary.written_bytes),
        skipped_blobs: summary.map_or(0, |summary| summary.skipped_blobs),
        skipped_bytes: summary.map_or(0, |summary| summary.skipped_bytes),
        copies,
        elapsed_ms: elapsed.as_millis(),
    };
    output.result(&result, |lines| {
        lines.line(match copies {
            Some(copies) => format!(
                "{} is on {} of {}.",
                taken.title(),
                copies.complete,
                count(copies.members, "master")
            ),
            None => format!("{} is on this master.", taken.title()),
        });
    })
}

/// What a bundle's import has written.
fn written(taken: &Taken) -> Option<&ImportSummary> {
    match taken {
        Taken::Bundle { summary, .. } => Some(summary),
        Taken::License(_) => None,
    }
}

/// Turns what an import tells into events, not more of them than a person can read.
struct Teller<'a> {
    output: &'a Output,
    begun: Instant,
    pace: Pace,
    total: Amount,
    published: u64,
}

impl<'a> Teller<'a> {
    fn new(output: &'a Output) -> Self {
        Self {
            output,
            begun: Instant::now(),
            pace: Pace::default(),
            total: Amount::default(),
            published: 0,
        }
    }

    fn told(&mut self, told: &Told<'_>) {
        match told {
            Told::Head(head) => self.head(head),
            Told::Import(ImportEvent::Planned { blobs, bytes, .. }) => {
                self.total = Amount {
                    items: *blobs,
                    bytes: *bytes,
                };
                self.output.event(&Event::Started {
                    step: "import".to_owned(),
                    total: Some(self.total),
                });
            }
            Told::Import(ImportEvent::Published { blobs }) => self.published = *blobs,
            Told::Import(ImportEvent::Progress { plain_bytes, .. }) => self.progress(*plain_bytes),
        }
    }

    fn head(&self, head: &VerifiedHead) {
        let index = head.index();
        let signers: Vec<_> = head.signers().iter().map(ToString::to_string).collect();
        self.output.note(format!(
            "{}/{} {} ({}, sequence {}), signed by key {}",
            index.vendor,
            index.product,
            index.version,
            index.channel,
            index.sequence,
            signers.join(", ")
        ));
    }

    fn progress(&mut self, plain_bytes: u64) {
        if !self.pace.is_due() {
            return;
        }
        self.output.event(&Event::Progress {
            step: "import".to_owned(),
            done: Amount {
                items: self.published,
                bytes: plain_bytes.min(self.total.bytes),
            },
        });
    }

    fn done(&self, taken: &Taken) {
        let summary = match written(taken) {
            Some(summary) => {
                let written = count(summary.written_blobs, "blob");
                let size = bytes(summary.written_bytes);
                match summary.skipped_blobs {
                    0 => format!("{written}, {size}"),
                    skipped => format!("{written}, {size}; {skipped} more were here"),
                }
            }
            None => taken.title(),
        };
        self.output.event(&Event::Done {
            step: "import".to_owned(),
            summary,
            elapsed_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }
}
