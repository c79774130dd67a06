//! `network`: the manifests of the cluster itself, above all the pods' network.

use bundle::Digest;
use bundle::index::Document;
use bundle::index::Stage;
use program::Outcome;

use super::Ground;
use super::applications;
use super::input_of;
use super::objects;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::kubectl;

/// Applies the manifests of the cluster.
pub(crate) struct Network<'a>(pub(crate) &'a Ground<'a>);

impl Network<'_> {
    fn documents(&self) -> impl Iterator<Item = &Document> {
        let index = self.0.index;
        index
            .manifests
            .iter()
            .filter(|document| is_of_cluster(index, document))
    }
}

/// Whether a manifest belongs to the cluster and not to an application.
pub(crate) fn is_of_cluster(index: &bundle::index::BundleIndex, document: &Document) -> bool {
    index
        .blob(&document.digest)
        .is_some_and(|blob| blob.stage <= Stage::Cluster)
}

fn key(document: &Document) -> String {
    format!("manifest/{}", document.path)
}

impl Step for Network<'_> {
    fn id(&self) -> &'static str {
        "network"
    }

    fn input(&self) -> Digest {
        let digests: Vec<String> = self
            .documents()
            .map(|document| document.digest.to_hex())
            .collect();
        input_of(&digests.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let applied = objects::applied(self.0.machine)?;
        let names: Vec<String> = self
            .documents()
            .map(|document| document.path.to_string())
            .collect();
        let good = self
            .documents()
            .all(|document| applied.0.get(&key(document)) == Some(&document.digest));
        Ok(good.then(|| format!("{} for {}", names.join(", "), self.0.versions.pod_subnet)))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        for document in self.documents() {
            if applications::is_applied(self.0, &key(document), &document.digest)? {
                continue;
            }
            work.doing(&document.path.to_string());
            let file = applications::put_blob(self.0, &document.digest, "manifest.yaml")?;
            kubectl::apply(self.0.machine, &file)?;
            applications::keep_applied(self.0, key(document), document.digest)?;
        }
        Ok(())
    }
}
