//! A run: steps one after the other, each of which may be killed at any line and started again.
//!
//! 1. Probe: is it done already, made from the same input? Then nothing is touched, not even the journal.
//! 2. Journal the intent. 3. Apply. 4. Verify, by the same probe. 5. Journal the result.
//!
//! What a step finds on the machine decides; the journal adds what can't be seen there: where a run stopped, and which
//! half-made thing is this installer's own and may be thrown away.

mod journal;
mod lock;
#[cfg(test)]
mod tests;

use std::time::Instant;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fault;
use program::Failure;
use program::Outcome;
use program::Output;

pub(crate) use journal::Journal;
pub(crate) use journal::Record;
pub(crate) use lock::Turn;

/// One idempotent action.
pub(crate) trait Step {
    /// Stable id, as in the journal: `control-plane`.
    fn id(&self) -> &'static str;

    /// The same for people: `control plane`.
    fn title(&self) -> String {
        self.id().replace('-', " ")
    }

    /// What it is made from; with another input it counts as another action.
    fn input(&self) -> Digest;

    /// Looks whether it is done, and changes nothing: what is there, with its figures, or `None`.
    fn probe(&self, past: &Journal) -> Outcome<Option<String>>;

    /// Does it, from whatever a killed try has left.
    fn apply(&self, work: &mut Work<'_>) -> Outcome;
}

/// What a step may use while it is applied.
pub(crate) struct Work<'a> {
    step: &'static str,
    title: &'a str,
    journal: &'a mut Journal,
    output: &'a Output,
}

/// A step that says that it is done and can't be found afterwards.
#[derive(Debug, thiserror::Error)]
#[error("{step} was done, but a look at the machine does not find it")]
pub(crate) struct Unverified {
    step: &'static str,
}

/// What a run has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Steps that there was something to do for.
    pub(crate) applied: usize,
    /// Steps that were done already.
    pub(crate) found: usize,
}

/// Brings every step about, in order; the first failure ends the run.
pub(crate) fn apply(
    steps: &[Box<dyn Step + '_>],
    journal: &mut Journal,
    output: &Output,
) -> Outcome<Done> {
    let done = apply_part(steps, journal, output)?;
    if done.applied > 0 || journal.stopped().is_some() {
        journal.write(&Record::Finished)?;
    }
    Ok(done)
}

/// The same for the steps that a run begins with; others follow.
pub(crate) fn apply_part(
    steps: &[Box<dyn Step + '_>],
    journal: &mut Journal,
    output: &Output,
) -> Outcome<Done> {
    let mut done = Done::default();
    for step in steps {
        if one(step.as_ref(), journal, output).map_err(changed)? {
            done.applied += 1;
        } else {
            done.found += 1;
        }
    }
    Ok(done)
}

/// Whether there was something to do.
fn one(step: &dyn Step, journal: &mut Journal, output: &Output) -> Outcome<bool> {
    let begun = Instant::now();
    let title = step.title();
    if let Some(found) = step.probe(journal)? {
        output.check(&title, &found, begun.elapsed());
        return Ok(false);
    }
    let (id, input) = (step.id(), step.input());
    output.doing(&title, "");
    journal.write(&Record::started(id, input))?;
    step.apply(&mut Work {
        step: id,
        title: &title,
        journal,
        output,
    })?;
    let found = step.probe(journal)?.ok_or(Unverified { step: id })?;
    journal.write(&Record::done(id, input))?;
    output.check(&title, &found, begun.elapsed());
    Ok(true)
}

/// Whatever failed here failed in the middle of a run.
fn changed(failure: Failure) -> Failure {
    failure.into_partial()
}

impl Work<'_> {
    /// Tells what is going on just now.
    pub(crate) fn doing(&self, what: &str) {
        self.output.doing(self.title, what);
    }

    /// Notes a fact that a look at the machine can't give, durably.
    pub(crate) fn note(&mut self, fact: &'static str) -> Outcome {
        Ok(self.journal.write(&Record::note(self.step, fact))?)
    }

    /// Notes that what earlier tries of this step have made is thrown away, and that it begins anew.
    pub(crate) fn begin_again(&mut self, input: Digest) -> Outcome {
        self.journal
            .write(&Record::note(self.step, journal::UNDONE))?;
        Ok(self.journal.write(&Record::started(self.step, input))?)
    }

    /// What earlier runs and this one have noted.
    pub(crate) fn past(&self) -> &Journal {
        self.journal
    }

    /// Where warnings and progress go.
    pub(crate) fn output(&self) -> &Output {
        self.output
    }
}

impl Fault for Unverified {
    fn code(&self) -> &'static str {
        "STEP_UNVERIFIED"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        Some("run the same command again: it goes on where this one stopped".to_owned())
    }
}
