//! `taint`: keeps application pods off the masters, or lets them on, as was asked.

use bundle::Digest;
use program::Outcome;
use serde::Deserialize;

use super::Ground;
use super::input_of;
use crate::render::kubeadm::CONTROL_PLANE;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::kubectl;

/// Taints masters, or takes it back.
pub(crate) struct Taint<'a>(pub(crate) &'a Ground<'a>);

#[derive(Deserialize)]
struct Nodes {
    items: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Vec<TaintOfNode>,
}

#[derive(Deserialize)]
struct TaintOfNode {
    key: String,
}

impl Taint<'_> {
    /// Masters that are not as they should be, and how many there are.
    fn wrong(&self) -> Outcome<(Vec<String>, usize)> {
        let nodes: Option<Nodes> = kubectl::get(self.0.machine, &["nodes", "-l", CONTROL_PLANE])?;
        let nodes = nodes.map(|nodes| nodes.items).unwrap_or_default();
        let number = nodes.len();
        let is_tainted = |node: &Node| {
            node.spec
                .taints
                .iter()
                .any(|taint| taint.key == CONTROL_PLANE)
        };
        let wrong = nodes
            .into_iter()
            .filter(|node| is_tainted(node) != self.0.site.taint_control_plane);
        Ok((wrong.map(|node| node.metadata.name).collect(), number))
    }
}

impl Step for Taint<'_> {
    fn id(&self) -> &'static str {
        "taint"
    }

    fn input(&self) -> Digest {
        input_of(&[if self.0.site.taint_control_plane {
            "1"
        } else {
            "0"
        }])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let (wrong, number) = self.wrong()?;
        let text = if self.0.site.taint_control_plane {
            "applications stay off the masters"
        } else {
            "applications run on masters, too"
        };
        Ok((wrong.is_empty() && number > 0).then(|| text.to_owned()))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        let minus = if self.0.site.taint_control_plane {
            ""
        } else {
            "-"
        };
        for node in self.wrong()?.0 {
            kubectl::taint(
                self.0.machine,
                &node,
                &format!("{CONTROL_PLANE}:NoSchedule{minus}"),
            )?;
        }
        Ok(())
    }
}
