//! `site`: who this node is, before anything of a cluster is made on it.

use api::site::NODE_FILE;
use bundle::Digest;
use program::Outcome;

use super::Ground;
use super::input_of;
use crate::machine::Mode;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;

/// Writes `/etc/sealift/site.json`.
pub(crate) struct SiteFile<'a>(pub(crate) &'a Ground<'a>);

impl Step for SiteFile<'_> {
    fn id(&self) -> &'static str {
        "site"
    }

    fn input(&self) -> Digest {
        input_of(&[&self.0.site.to_json()])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let site = self.0.site;
        let holds = self
            .0
            .machine
            .holds(NODE_FILE, &site.to_json(), Mode::Plain);
        Ok(holds.then(|| {
            format!(
                "{} at {}, cluster {}",
                site.node, site.address, site.cluster_id
            )
        }))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        self.0
            .machine
            .write(NODE_FILE, &self.0.site.to_json(), Mode::Plain)?;
        Ok(())
    }
}
