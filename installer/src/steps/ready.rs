//! `ready`: this node takes pods, and names are answered.

use std::time::Duration;

use bundle::Digest;
use program::Outcome;
use serde_json::Value;

use super::Ground;
use super::input_of;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::kubectl;

/// How long a network and two pods may take to come up from loopback.
const LIMIT: Duration = Duration::from_mins(10);

/// Waits.
pub(crate) struct Ready<'a>(pub(crate) &'a Ground<'a>);

/// Whether an object's condition is `True`.
pub(crate) fn has_condition(object: &Value, condition: &str) -> bool {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|found| {
            found.get("type").and_then(Value::as_str) == Some(condition)
                && found.get("status").and_then(Value::as_str) == Some("True")
        })
    })
}

impl Step for Ready<'_> {
    fn id(&self) -> &'static str {
        "ready"
    }

    fn input(&self) -> Digest {
        input_of(&[self.0.site.node.as_str()])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let machine = self.0.machine;
        let node = format!("node/{}", self.0.site.node);
        let node: Option<Value> = kubectl::get(machine, &[&node])?;
        let dns: Option<Value> =
            kubectl::get(machine, &["-n", "kube-system", "deployment/coredns"])?;
        let good = node.is_some_and(|node| has_condition(&node, "Ready"))
            && dns.is_some_and(|dns| has_condition(&dns, "Available"));
        Ok(good.then(|| format!("{} takes pods, CoreDNS answers", self.0.site.node)))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let machine = self.0.machine;
        let node = format!("node/{}", self.0.site.node);
        work.doing("waiting for the node");
        kubectl::wait(machine, "Ready", &node, "default", LIMIT)?;
        work.doing("waiting for CoreDNS");
        kubectl::wait(
            machine,
            "Available",
            "deployment/coredns",
            "kube-system",
            LIMIT,
        )?;
        Ok(())
    }
}
