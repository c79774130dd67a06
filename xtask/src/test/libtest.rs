//! Runs `cargo test` and reads its lines: what ran, what failed with which output, what said `skipped: why`.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::say;
use crate::tally::Outcome;
use crate::tally::Tally;

/// What a person sees of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// How each program of tests ended, and all it said when it failed.
    Summaries,
    /// All of them, as they come.
    Everything,
}

/// Runs the tests and counts them.
pub(super) fn run(tests: Command, shown: Shown, tally: &mut Tally) -> Result<()> {
    let mut reader = Reader::default();
    let good = command::lines(tests, |line| match (reader.line(line), shown) {
        (_, Shown::Everything) => say!("{line}"),
        (Some(text), Shown::Summaries) => say!("{text}"),
        (None, Shown::Summaries) => {}
    })?;
    let failed = reader.finish(tally);
    if !good && !failed {
        // A test process that died leaves no result of its own.
        if shown == Shown::Summaries {
            say!("{}", reader.log.join("\n"));
        }
        tally.count(
            "a test process ended before its tests did",
            &Outcome::Failed(String::new()),
        );
    }
    Ok(())
}

/// State of reading: which program runs, how its tests ended, whose output this is.
#[derive(Debug, Default)]
struct Reader {
    program: String,
    section: Option<String>,
    outcomes: BTreeMap<String, Outcome>,
    log: Vec<String>,
}

impl Reader {
    /// Takes one line; gives what a person should see now.
    fn line(&mut self, line: &str) -> Option<String> {
        self.log.push(line.to_owned());
        if let Some(program) = program(line) {
            self.program = program;
            self.section = None;
            self.log.clear();
        } else if let Some(name) = line.strip_prefix("---- ").and_then(section) {
            self.section = Some(format!("{} {name}", self.program));
        } else if line.starts_with("test result: ") {
            self.section = None;
            return Some(self.program_ended(line));
        } else if self.section.is_some() {
            self.shown(line);
        } else if let Some((name, how)) = result(line) {
            self.result(name, how);
        } else if line.ends_with("has been running for over 60 seconds") {
            return Some(format!("{}: {line}", self.program));
        }
        None
    }

    fn program_ended(&self, line: &str) -> String {
        let summary = format!("{}: {line}", self.program);
        if line.starts_with("test result: FAILED") {
            return format!("{}\n{summary}", self.log.join("\n"));
        }
        summary
    }

    fn result(&mut self, name: &str, how: &str) {
        let outcome = match how {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed(String::new()),
            // Nothing may be switched off: a test that can't run here says why at run time.
            _ => Outcome::Failed(format!("unexpected result {how:?}")),
        };
        self.outcomes
            .insert(format!("{} {name}", self.program), outcome);
    }

    /// A line that a test printed.
    fn shown(&mut self, line: &str) {
        let Some(why) = line.strip_prefix("skipped: ") else {
            return;
        };
        let outcome = self
            .section
            .as_ref()
            .and_then(|name| self.outcomes.get_mut(name));
        if let Some(outcome @ Outcome::Passed) = outcome {
            *outcome = Outcome::Skipped(why.to_owned());
        }
    }

    /// Hands all outcomes to the tally; tells whether one failed.
    fn finish(&self, tally: &mut Tally) -> bool {
        for (name, outcome) in &self.outcomes {
            tally.count(name, outcome);
        }
        self.outcomes
            .values()
            .any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }
}

/// `     Running unittests src/lib.rs (target/debug/deps/bundle-0123456789abcdef)`, or doc tests.
fn program(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (_, path) = line.strip_prefix("Running ")?.rsplit_once('(')?;
    let file = path.trim_end_matches(')').rsplit('/').next()?;
    Some(
        file.rsplit_once('-')
            .map_or(file, |(name, _hash)| name)
            .to_owned(),
    )
}

/// `test name ... ok`.
fn result(line: &str) -> Option<(&str, &str)> {
    let (name, how) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    Some((name, how))
}

/// `---- name stdout ----` without its first dashes.
fn section(line: &str) -> Option<&str> {
    line.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
     Running unittests src/lib.rs (target/debug/deps/store-00aa)
running 3 tests
test journal::a ... ok
test journal::b ... FAILED
test disk::full ... ok

successes:

---- disk::full stdout ----
skipped: not root, so no small file system can be mounted

failures:

---- journal::b stdout ----
skipped: a failed test stays failed
test looks::like ... ok

test result: FAILED. 2 passed; 1 failed; 0 ignored
   Doc-tests bundle
test bundle/src/lib.rs - (line 3) ... ignored
";

    #[test]
    fn passed_failed_and_skipped_are_told_apart() {
        let mut reader = Reader::default();
        let said: Vec<String> = OUTPUT
            .lines()
            .filter_map(|line| reader.line(line))
            .collect();
        assert!(
            said[0].contains("---- journal::b stdout ----"),
            "the output of a failed test is shown"
        );
        let mut tally = Tally::default();
        assert!(reader.finish(&mut tally));
        assert_eq!(tally.to_string(), "1 passed, 2 failed, 1 skipped");
    }
}
