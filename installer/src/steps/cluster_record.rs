//! `cluster-record`: what is wanted of the cluster, kept where every master can read it.

use api::site::ClusterSite;
use bundle::Digest;
use program::Outcome;

use super::Ground;
use super::input_of;
use super::objects;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;

/// Records the wish.
pub(crate) struct ClusterRecord<'a>(pub(crate) &'a Ground<'a>);

impl ClusterRecord<'_> {
    /// The wish, with the bundles that the cluster runs beside this one.
    fn wanted(&self, recorded: Option<&ClusterSite>) -> ClusterSite {
        let mut wanted = self.0.site.of_cluster();
        if let Some(recorded) = recorded {
            let others = recorded
                .bundles
                .iter()
                .filter(|id| **id != self.0.site.kubernetes);
            wanted.bundles.extend(others);
            wanted.first_master.clone_from(&recorded.first_master);
        }
        wanted
    }
}

impl Step for ClusterRecord<'_> {
    fn id(&self) -> &'static str {
        "cluster-record"
    }

    fn input(&self) -> Digest {
        input_of(&[&self.wanted(None).to_json()])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let recorded = objects::site(self.0.machine)?;
        let same = recorded.as_ref() == Some(&self.wanted(recorded.as_ref()));
        let wish = if self.0.site.ha {
            "high availability wanted"
        } else {
            "one master wanted"
        };
        let path = self.0.site.load_balancer.as_ref().map_or_else(
            || format!("API traffic to {}", self.0.site.first_master),
            |balancer| format!("API traffic by {balancer}"),
        );
        Ok(same.then(|| format!("{wish}; {path}")))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        let recorded = objects::site(self.0.machine)?;
        objects::keep_site(self.0.machine, &self.wanted(recorded.as_ref()))
    }
}
