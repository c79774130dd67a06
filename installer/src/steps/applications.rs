//! `manifest …` and `chart …`: what the bundle puts into the cluster, one after the other in the vendor's order.
//!
//! What was applied is recorded in the cluster by its digest. A rerun, on this master or another, leaves what has not
//! changed in the bundle alone: also what operators have tuned since.

use std::io::Read as _;

use bundle::Digest;
use bundle::index;
use program::FileError;
use program::Outcome;

use super::Ground;
use super::objects;
use crate::machine::Mode;
use crate::machine::NODE_DIRECTORY;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::helm;
use crate::tools::kubectl;

/// Applies one manifest.
pub(crate) struct Manifest<'a> {
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) document: &'a index::Document,
}

/// Installs one chart and waits for it.
pub(crate) struct Chart<'a> {
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) chart: &'a index::Chart,
}

/// Puts a blob into a file that another program can read.
pub(super) fn put_blob(ground: &Ground<'_>, digest: &Digest, name: &str) -> Outcome<String> {
    let path = format!("{NODE_DIRECTORY}/apply/{name}");
    let failed = |source| FileError::new("read the blob for", path.as_ref(), source);
    let reader = ground.blobs.open(digest).map_err(failed)?;
    ground
        .machine
        .place(&path, reader.take(u64::MAX), Mode::Secret)?;
    Ok(ground.machine.path(&path).to_string_lossy().into_owned())
}

pub(super) fn is_applied(ground: &Ground<'_>, key: &str, digest: &Digest) -> Outcome<bool> {
    Ok(objects::applied(ground.machine)?.0.get(key) == Some(digest))
}

pub(super) fn keep_applied(ground: &Ground<'_>, key: String, digest: Digest) -> Outcome {
    let mut applied = objects::applied(ground.machine)?;
    applied.0.insert(key, digest);
    objects::keep_applied(ground.machine, &applied)
}

impl Manifest<'_> {
    fn key(&self) -> String {
        format!("manifest/{}", self.document.path)
    }
}

impl Step for Manifest<'_> {
    fn id(&self) -> &'static str {
        "manifest"
    }

    fn input(&self) -> Digest {
        self.document.digest
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let applied = is_applied(self.ground, &self.key(), &self.input())?;
        Ok(applied.then(|| format!("{} applied", self.document.path)))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        work.doing(&self.document.path.to_string());
        let file = put_blob(self.ground, &self.document.digest, "manifest.yaml")?;
        kubectl::apply(self.ground.machine, &file)?;
        keep_applied(self.ground, self.key(), self.input())
    }
}

impl Chart<'_> {
    fn key(&self) -> String {
        format!("chart/{}/{}", self.chart.namespace, self.chart.release)
    }
}

impl Step for Chart<'_> {
    fn id(&self) -> &'static str {
        "chart"
    }

    fn input(&self) -> Digest {
        match &self.chart.values {
            Some(values) => super::input_of(&[&self.chart.digest.to_hex(), &values.to_hex()]),
            None => self.chart.digest,
        }
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let chart = self.chart;
        let applied = is_applied(self.ground, &self.key(), &self.input())?;
        Ok(applied.then(|| {
            format!(
                "{}/{}: {} {} ready",
                chart.namespace, chart.release, chart.name, chart.version
            )
        }))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let chart = self.chart;
        work.doing(&format!("{}/{}", chart.namespace, chart.release));
        let file = put_blob(self.ground, &chart.digest, "chart.tgz")?;
        let values = match &chart.values {
            Some(values) => Some(put_blob(self.ground, values, "values.yaml")?),
            None => None,
        };
        helm::upgrade(
            self.ground.machine,
            &helm::Release {
                name: chart.release.as_str(),
                namespace: chart.namespace.as_str(),
                chart: &file,
                values: values.as_deref(),
            },
        )?;
        keep_applied(self.ground, self.key(), self.input())
    }
}
