//! Counting what passed, failed and was skipped, and saying so.

use std::fmt;

use crate::say;

/// How one test or check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It looked and found nothing wrong.
    Passed,
    /// It looked and found this.
    Failed(String),
    /// It could not look here, for this reason.
    Skipped(String),
}

/// Counts of outcomes, and what to repeat at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Tally {
    /// Counts one outcome.
    pub(crate) fn count(&mut self, name: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(_) => self.failed.push(name.to_owned()),
            Outcome::Skipped(why) => self.skipped.push(format!("{name}: {why}")),
        }
    }

    /// Whether nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        self.failed.is_empty()
    }

    /// Repeats what failed and what was skipped, then the one line that others parse.
    pub(crate) fn say(&self) {
        for skipped in &self.skipped {
            say!("skipped  {skipped}");
        }
        for failed in &self.failed {
            say!("FAILED   {failed}");
        }
        say!("{self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed, skipped) = (self.passed, self.failed.len(), self.skipped.len());
        write!(out, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}
