//! `store`: the bundle into this node's store, and the license beside it. The file is read once, from front to back.

use std::cell::RefCell;
use std::fs::File;

use api::event::Amount;
use api::event::Event;
use bundle::Digest;
use bundle::head::VerifiedHead;
use bundle::state::Replace;
use bundle::state::Site;
use program::Outcome;
use program::Output;
use program::output::bytes;
use program::output::count;
use store::Store;
use store::import::ImportEvent;
use store::import::ImportOptions;
use store::record::Kind;

use crate::machine::Machine;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::syncd;

/// Imports a bundle whose head is verified.
pub(crate) struct Import<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) store: &'a Store,
    pub(crate) head: &'a VerifiedHead,
    /// Stands behind the head; read once.
    pub(crate) payload: RefCell<Option<File>>,
    /// A license that was given by itself.
    pub(crate) license: Option<Vec<u8>>,
    /// This node's name, for the records.
    pub(crate) origin: String,
}

impl Step for Import<'_> {
    fn id(&self) -> &'static str {
        "store"
    }

    fn input(&self) -> Digest {
        self.head.id()
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let records = self.store.records()?;
        let has = |kind, payload: &[u8]| {
            let mut records = records.iter();
            records.any(|record| record.kind == kind && record.payload == payload)
        };
        if !has(Kind::Bundle, &self.head.head_files().bundle_json) {
            return Ok(None);
        }
        if self
            .license
            .as_ref()
            .is_some_and(|file| !has(Kind::License, file))
        {
            return Ok(None);
        }
        let members = self.head.index().members();
        let mut total = 0;
        for member in &members {
            if !self.store.has(&member.digest)? {
                return Ok(None);
            }
            total += member.size;
        }
        Ok(Some(format!(
            "{}, {}: each byte is the vendor's",
            count(members.len().try_into().unwrap_or(u64::MAX), "blob"),
            bytes(total)
        )))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let options = ImportOptions {
            origin: self.origin.clone(),
        };
        if let Some(file) = &self.license {
            self.store
                .admit_license(file, Replace::BySupersedes, &options)?;
        }
        // Taken once: a step is applied once in a run.
        if let Some(payload) = self.payload.take() {
            let output = work.output();
            let mut events = |event| tell(event, output);
            let site = Site::default();
            self.store
                .admit_bundle(self.head, payload, &site, &options, &mut events)?;
        }
        if let Err(error) = syncd::rescan(self.machine) {
            work.output().warn(
                "SYNCD_RESCAN",
                format!("syncd looks at its store within the hour: {error}"),
            );
        }
        Ok(())
    }
}

fn tell(event: ImportEvent, output: &Output) {
    let step = "store".to_owned();
    match event {
        ImportEvent::Planned { blobs, bytes, .. } => {
            let total = Some(Amount {
                items: blobs,
                bytes,
            });
            output.event(&Event::Started { step, total });
        }
        ImportEvent::Progress { plain_bytes, .. } => {
            let done = Amount {
                items: 0,
                bytes: plain_bytes,
            };
            output.event(&Event::Progress { step, done });
        }
        ImportEvent::Published { .. } => {}
    }
}
