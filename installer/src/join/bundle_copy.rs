//! `bundle`: this master's own copy, which its syncd fetches from the others. What a node needs comes first.

use std::path::Path;
use std::time::Duration;

use api::event::Amount;
use api::event::Event;
use bundle::Digest;
use bundle::index::BundleIndex;
use bundle::index::Stage;
use program::Outcome;
use program::output::bytes;
use store::record::Kind;

use crate::machine::wait_for;
use crate::place;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;

/// How long replication may take; it is told while it goes on, and a rerun waits again.
const LIMIT: Duration = Duration::from_hours(6);

/// Waits for what the node itself needs.
pub(crate) struct BundleCopy<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) id: Digest,
    pub(crate) index: &'a BundleIndex,
}

impl BundleCopy<'_> {
    /// Bytes that are here, and bytes that are needed.
    fn progress(&self) -> Outcome<(u64, u64)> {
        let store = place::open(self.directory)?;
        let id = self.id.to_hex();
        let mut records = store.records()?.into_iter();
        let has_record = records.any(|record| record.kind == Kind::Bundle && record.id == id);
        let (mut here, mut needed) = (0, 0);
        for blob in self
            .index
            .blobs
            .iter()
            .filter(|blob| blob.stage <= Stage::Cluster)
        {
            needed += blob.size;
            if has_record && store.has(&blob.digest)? {
                here += blob.size;
            }
        }
        Ok((here, needed))
    }
}

impl Step for BundleCopy<'_> {
    fn id(&self) -> &'static str {
        "bundle"
    }

    fn input(&self) -> Digest {
        self.id
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let (here, needed) = self.progress()?;
        Ok((here == needed).then(|| format!("{} from the other masters", bytes(here))))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let output = work.output();
        let amount = |bytes| Amount { items: 0, bytes };
        output.event(&Event::Started {
            step: "bundle".to_owned(),
            total: Some(amount(self.progress()?.1)),
        });
        wait_for("the bundle is here", LIMIT, || {
            let (here, needed) = self.progress().map_err(|failure| format!("{failure:?}"))?;
            output.event(&Event::Progress {
                step: "bundle".to_owned(),
                done: amount(here),
            });
            if here == needed {
                Ok(())
            } else {
                Err(format!("{} of {} are here", bytes(here), bytes(needed)))
            }
        })
    }
}
