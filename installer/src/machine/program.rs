//! Running another program: typed in, both outputs out, its words in the error, and a time limit that holds.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::child;

use crate::run::Turn;

/// Where programs are looked for: node files first.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many last lines of an output are told in an error.
const LINES_TOLD: usize = 12;

/// Runs programs.
pub(crate) trait Programs: Send + Sync {
    /// Runs one to its end.
    fn run(&self, call: &Call) -> Result<Ran, ProgramError>;
}

/// One call of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    program: &'static str,
    arguments: Vec<String>,
    environment: BTreeMap<&'static str, String>,
    limit: Duration,
}

/// What a program that ended with 0 has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Its standard output.
    pub(crate) output: String,
}

/// A program that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// It is not there, or can't be run.
    #[error("{program} can't be run")]
    Missing {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("{} failed", .call)]
    Failed {
        /// What was called.
        call: String,
        /// How it ended.
        ended: String,
        /// The end of what it said.
        said: String,
    },
    /// It took too long and was ended.
    #[error("{} did not end in {limit_s} s", .call)]
    Slow {
        /// What was called.
        call: String,
        /// The limit.
        limit_s: u64,
        /// The end of what it said.
        said: String,
    },
}

impl Call {
    /// Calls a program that answers within half a minute.
    pub(crate) fn new<const N: usize>(program: &'static str, arguments: [&str; N]) -> Self {
        Self {
            program,
            arguments: arguments.map(str::to_owned).into(),
            environment: BTreeMap::new(),
            limit: Duration::from_secs(30),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub(crate) fn arg(mut self, argument: impl fmt::Display) -> Self {
        self.arguments.push(argument.to_string());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    /// Gives it another time limit.
    #[must_use]
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.program)?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(out, " {argument}"))
    }
}

/// The programs of this machine; each holds the run's turn until it has ended.
#[derive(Debug)]
pub(crate) struct RealPrograms {
    turn: Option<Turn>,
}

impl RealPrograms {
    /// Programs of a run.
    pub(crate) const fn of_run(turn: Turn) -> Self {
        Self { turn: Some(turn) }
    }

    /// Programs that only look.
    pub(crate) const fn to_look() -> Self {
        Self { turn: None }
    }

    fn command(&self, call: &Call) -> io::Result<Command> {
        let stdin = match &self.turn {
            Some(turn) => turn.stdin()?,
            None => Stdio::null(),
        };
        let mut command = Command::new(call.program);
        command
            .args(&call.arguments)
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/root")
            .envs(&call.environment)
            .stdin(stdin);
        Ok(command)
    }
}

impl Programs for RealPrograms {
    fn run(&self, call: &Call) -> Result<Ran, ProgramError> {
        let failed = |source| ProgramError::Missing {
            program: call.program,
            source,
        };
        let mut command = self.command(call).map_err(failed)?;
        let ended = child::run(&mut command, call.limit).map_err(failed)?;
        let said = if ended.errors.trim().is_empty() {
            &ended.output
        } else {
            &ended.errors
        };
        match ended.status {
            Some(status) if status.success() => Ok(Ran {
                output: ended.output,
            }),
            Some(status) => Err(ProgramError::Failed {
                call: call.to_string(),
                ended: status.to_string(),
                said: last_lines(said),
            }),
            None => Err(ProgramError::Slow {
                call: call.to_string(),
                limit_s: call.limit.as_secs(),
                said: last_lines(said),
            }),
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(LINES_TOLD);
    lines.get(from..).unwrap_or_default().join("\n")
}

impl Fault for ProgramError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "PROGRAM_MISSING",
            Self::Failed { .. } => "PROGRAM_FAILED",
            Self::Slow { .. } => "PROGRAM_SLOW",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Missing { .. } => Vec::new(),
            Self::Failed { ended, said, .. } => {
                vec![Fact::new("ended", ended), Fact::new("said", said)]
            }
            Self::Slow { said, .. } => vec![Fact::new("said", said)],
        }
    }

    fn hint(&self) -> Option<String> {
        Some("run the same command again: it goes on where this one stopped".to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine on which nothing can be run.
    pub(crate) struct NoPrograms;

    impl Programs for NoPrograms {
        fn run(&self, call: &Call) -> Result<Ran, ProgramError> {
            Err(ProgramError::Missing {
                program: call.program,
                source: io::ErrorKind::NotFound.into(),
            })
        }
    }

    #[test]
    fn a_program_is_heard_in_success_and_in_failure() {
        let programs = RealPrograms::to_look();
        let ran = programs.run(&Call::new("sh", ["-c", "echo yes"])).unwrap();
        assert_eq!(ran.output, "yes\n");
        let error = programs
            .run(&Call::new("sh", ["-c", "echo why >&2; exit 3"]))
            .unwrap_err();
        assert_eq!(error.code(), "PROGRAM_FAILED");
        assert_eq!(error.facts()[1].value, "why");
        let error = programs.run(&Call::new("no-such-program", [])).unwrap_err();
        assert_eq!(error.code(), "PROGRAM_MISSING");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let call = Call::new("sleep", ["600"]).within(Duration::from_millis(50));
        let error = RealPrograms::to_look().run(&call).unwrap_err();
        assert_eq!(error.code(), "PROGRAM_SLOW");
    }

    #[test]
    fn a_program_holds_its_runs_turn_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let output = program::Output::for_process(true);
        let turn = Turn::take(&lock, Duration::ZERO, &output).unwrap();
        let programs = RealPrograms::of_run(turn);
        let mut cat = programs.command(&Call::new("cat", ["/dev/zero"])).unwrap();
        let mut child = cat.stdout(Stdio::piped()).spawn().unwrap();
        // The command keeps its own copy of the lock, as the run does.
        drop((programs, cat));
        assert!(Turn::take(&lock, Duration::ZERO, &output).is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        Turn::take(&lock, Duration::ZERO, &output).unwrap();
    }
}
