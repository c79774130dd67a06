//! Preflights: whether a machine can become what it is to become, said before anything is changed.
//!
//! Each check has an id that never changes, a sentence with both values, and a threshold. The checks are pure: what was
//! seen comes in, what follows goes out. `--ignore ID` turns a refusal into a remark; some can't be ignored, because what
//! would follow could not be taken back.

mod host;
mod peers;
#[cfg(test)]
pub(crate) mod tests;

use api::join::Role;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use serde::Serialize;

use crate::observe::Host;

pub use peers::Cluster;

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The machine.
    pub host: &'a Host,
    /// What it is to become.
    pub role: Role,
    /// Platforms that the bundle runs on.
    pub platforms: &'a [String],
    /// Bytes that the bundle will take in the store, beyond what is there.
    pub store_bytes: u64,
    /// Bytes of node files and unpacked images.
    pub node_bytes: u64,
    /// Whether the bundle brings Kubernetes.
    pub brings_kubernetes: bool,
    /// The cluster that it is to join.
    pub cluster: Option<&'a Cluster>,
}

/// One check of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable id, as `--ignore` takes it.
    pub id: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What it wants, in a few words.
    pub threshold: &'static str,
    /// A plain sentence with both values.
    pub text: String,
    /// What to do where it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<&'static str>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Good.
    Pass,
    /// Works, below what is recommended.
    Warn,
    /// Would not work.
    Fail,
    /// Would not work, and the operator knows better.
    Ignored,
}

/// Checks that came out badly.
#[derive(Debug, thiserror::Error)]
#[error("this machine can't become {what} as it is: {} of {all} checks failed", .failed.len())]
pub struct PreflightError {
    what: &'static str,
    all: usize,
    failed: Vec<Check>,
}

/// An id that is no check's.
#[derive(Debug, thiserror::Error)]
#[error("{id:?} is no check that can be ignored")]
pub struct UnknownCheck {
    id: String,
    known: String,
}

/// Checks whose refusal can't be talked away: another cluster's data, or two machines that are one.
const FINAL: [&str; 6] = [
    "platform",
    "root",
    "remains",
    "cluster",
    "hostname",
    "machine-id",
];

/// Makes every check, in the order in which an operator would.
pub fn check(subject: &Subject<'_>) -> Vec<Check> {
    let mut checks = host::checks(subject);
    if let Some(cluster) = subject.cluster {
        checks.extend(peers::checks(subject, cluster));
    }
    checks
}

/// Turns refusals that the operator ignores into remarks.
pub fn ignore(checks: &mut [Check], ids: &[String]) -> Result<(), UnknownCheck> {
    for id in ids {
        let known: Vec<&str> = checks
            .iter()
            .map(|check| check.id)
            .filter(|id| !FINAL.contains(id))
            .collect();
        if !known.contains(&id.as_str()) {
            return Err(UnknownCheck {
                id: id.clone(),
                known: known.join(", "),
            });
        }
        for check in checks.iter_mut().filter(|check| check.id == id) {
            if check.verdict == Verdict::Fail {
                check.verdict = Verdict::Ignored;
            }
        }
    }
    Ok(())
}

/// Refuses a machine with a failed check.
pub fn require(checks: &[Check], role: Role) -> Result<(), PreflightError> {
    let failed: Vec<Check> = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Fail)
        .cloned()
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(PreflightError {
        what: match role {
            Role::Master => "a master",
            Role::Worker => "a worker",
        },
        all: checks.len(),
        failed,
    })
}

/// `23 passed, 1 warning`.
pub fn summary(checks: &[Check]) -> String {
    let number = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let mut text = format!("{} passed", number(Verdict::Pass));
    match number(Verdict::Warn) {
        0 => {}
        1 => text.push_str(", 1 warning"),
        more => text = format!("{text}, {more} warnings"),
    }
    match number(Verdict::Ignored) {
        0 => {}
        some => text = format!("{text}, {some} ignored"),
    }
    text
}

impl Check {
    fn new(id: &'static str, threshold: &'static str, verdict: Verdict, text: String) -> Self {
        Self {
            id,
            verdict,
            threshold,
            text,
            help: None,
        }
    }

    /// A check with two outcomes.
    fn of(id: &'static str, threshold: &'static str, good: bool, pass: &str, fail: &str) -> Self {
        let (verdict, text) = if good {
            (Verdict::Pass, pass)
        } else {
            (Verdict::Fail, fail)
        };
        Self::new(id, threshold, verdict, text.to_owned())
    }

    /// Says what to do where it is not good.
    fn help(mut self, help: &'static str) -> Self {
        if self.verdict != Verdict::Pass {
            self.help = Some(help);
        }
        self
    }
}

impl Fault for PreflightError {
    fn code(&self) -> &'static str {
        "PREFLIGHT_FAILED"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        let fact = |check: &Check| match check.help {
            Some(help) => Fact::new(check.id, format!("{}\n{help}", check.text)),
            None => Fact::new(check.id, &check.text),
        };
        self.failed.iter().map(fact).collect()
    }

    fn hint(&self) -> Option<String> {
        let can: Vec<&str> = self
            .failed
            .iter()
            .map(|check| check.id)
            .filter(|id| !FINAL.contains(id))
            .collect();
        let first = "repair it and run the same command again";
        match can.first() {
            Some(id) => Some(format!(
                "{first}; at your own risk go on with --ignore {id}"
            )),
            None => Some(first.to_owned()),
        }
    }
}

impl Fault for UnknownCheck {
    fn code(&self) -> &'static str {
        "PREFLIGHT_UNKNOWN"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("known", &self.known)]
    }
}
