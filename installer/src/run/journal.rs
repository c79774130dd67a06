//! The journal of runs on this node: append-only, one JSON object a line, each line synced before anything relies on it.
//!
//! A line counts from its line feed on, so a line that a crash has cut is as if it had never been begun; it is cut away
//! before the next one is written. A whole line that can't be read is damage, and a refusal.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::timestamp::Timestamp;
use program::FileError;
use program::durable::parent;
use program::durable::read_capped;
use program::durable::sync_parent;
use serde::Deserialize;
use serde::Serialize;

use crate::clock;

/// Largest journal: some ten thousand runs.
const BYTES_MAX: usize = 64 << 20;

/// The journal of this node, as far as it is written.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// What the run that is about to begin is for.
    command: String,
    lines: Vec<Line>,
    /// Bytes of whole lines in the file.
    bytes: u64,
    file: Option<File>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    #[serde(flatten)]
    record: Record,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub(crate) enum Record {
    /// A run begins.
    Run {
        /// What it is for.
        command: String,
    },
    /// A step is about to change something.
    Started {
        /// The step.
        step: String,
        /// What it is made from.
        input: Digest,
    },
    /// Something to know about a step under way.
    Note {
        /// The step.
        step: String,
        /// The fact.
        fact: String,
    },
    /// A step is done and was verified.
    Done {
        /// The step.
        step: String,
        /// What it was made from.
        input: Digest,
    },
    /// The run has done everything.
    Finished,
}

/// Where the last run stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// When it had begun.
    pub(crate) at: Timestamp,
    /// The step that was under way, unless it stopped between two.
    pub(crate) step: Option<String>,
}

/// A journal that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A whole line is no record.
    #[error("line {line} of {} is no record of a run", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

impl Record {
    pub(crate) fn started(step: &str, input: Digest) -> Self {
        Self::Started {
            step: step.to_owned(),
            input,
        }
    }

    pub(crate) fn done(step: &str, input: Digest) -> Self {
        Self::Done {
            step: step.to_owned(),
            input,
        }
    }

    /// What came before it counts no more.
    pub(crate) fn undone(step: &str) -> Self {
        Self::note(step, UNDONE)
    }

    pub(crate) fn note(step: &str, fact: &str) -> Self {
        Self::Note {
            step: step.to_owned(),
            fact: fact.to_owned(),
        }
    }
}

impl Journal {
    /// Reads the journal, which need not exist; `command` is what the next run is for.
    pub(crate) fn open(path: &Path, command: &str) -> Result<Self, JournalError> {
        let bytes = match read_capped(path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let bytes = bytes.get(..whole).unwrap_or_default();
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            let damaged = |source| JournalError::Damaged {
                path: path.to_owned(),
                line: number,
                source,
            };
            lines.push(serde_json::from_slice(line).map_err(damaged)?);
        }
        Ok(Self {
            path: path.to_owned(),
            command: command.to_owned(),
            lines,
            bytes: u64::try_from(whole).unwrap_or(u64::MAX),
            file: None,
        })
    }

    /// Adds a record durably; the first one of this process begins a run.
    pub(crate) fn write(&mut self, record: &Record) -> Result<(), JournalError> {
        if self.file.is_none() {
            self.file = Some(self.begin()?);
            let command = self.command.clone();
            self.append(Record::Run { command })?;
        }
        self.append(record.clone())
    }

    /// Where the last run stopped, unless it has finished.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        let mut stopped = None;
        for line in &self.lines {
            match &line.record {
                Record::Run { .. } => {
                    stopped = Some(Stopped {
                        at: line.at,
                        step: None,
                    });
                }
                Record::Started { step, .. } => set_step(&mut stopped, Some(step)),
                Record::Done { .. } => set_step(&mut stopped, None),
                Record::Note { .. } => {}
                Record::Finished => stopped = None,
            }
        }
        stopped
    }

    /// Whether a fact was noted about a step since it was last undone.
    pub(crate) fn has_note(&self, step: &str, fact: &str) -> bool {
        let wanted = Record::note(step, fact);
        self.since_undone(step).any(|record| *record == wanted)
    }

    fn since_undone(&self, step: &str) -> impl Iterator<Item = &Record> {
        let undone = Record::note(step, UNDONE);
        let from = self.lines.iter().rposition(|line| line.record == undone);
        self.lines
            .iter()
            .skip(from.map_or(0, |from| from + 1))
            .map(|line| &line.record)
    }

    /// Opens the file for appending and cuts away what a crash has left of a line.
    fn begin(&self) -> Result<File, FileError> {
        let folder = parent(&self.path);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| FileError::new("make folder", folder, source))?;
        let failed = |source| FileError::new("write", &self.path, source);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(failed)?;
        file.set_len(self.bytes).map_err(failed)?;
        sync_parent(&self.path)?;
        Ok(file)
    }

    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        let line = Line {
            at: clock::now(),
            record,
        };
        // Strings and digests: writing them can't fail.
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_data())
                .map_err(|source| FileError::new("write", &self.path, source))?;
        }
        self.lines.push(line);
        Ok(())
    }
}

/// The fact that a step's half-made things were thrown away: what came before it counts no more.
pub(crate) const UNDONE: &str = "undone";

fn set_step(stopped: &mut Option<Stopped>, step: Option<&String>) {
    if let Some(stopped) = stopped {
        stopped.step = step.cloned();
    }
}

impl Fault for JournalError {
    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Damaged { .. } => "JOURNAL_DAMAGED",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::File(error) => error.blame(),
            Self::Damaged { .. } => Blame::Machine,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::File(error) => error.facts(),
            Self::Damaged { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Damaged { path, .. } => Some(format!(
                "move {} away and run the command again: it then goes by what it finds on the machine",
                path.display()
            )),
        }
    }
}
