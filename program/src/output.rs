//! The only file that prints. stdout is data, stderr is progress.
//!
//! | | terminal | no terminal | `--json` |
//! |---|---|---|---|
//! | stderr | one line that changes, and what is done | plain lines, at most one in ten seconds | one event a line |
//! | stdout | the result as text | the same | one object: the result or the error |
//!
//! A reader that goes away (`bundler inspect … | head`) ends nothing: what is under way is finished, unprinted.
//! Text from files goes through [`api::report::escape`] here, so that no caller can forget it.

use std::fmt::Display;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use api::event::Amount;
use api::event::Event;
use api::report::Report;
use api::report::escape;
use indicatif::DecimalBytes;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde::Serialize;

use crate::durable::FileError;
use crate::failure::Failure;
use crate::failure::Outcome;

/// Time between two plain lines about one step.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);

/// Time between two events of progress for a program.
const JSON_LINE_EVERY: Duration = Duration::from_millis(500);

/// Where a command tells what it does and what came of it.
#[derive(Debug)]
pub struct Output {
    style: Style,
    step: Mutex<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Terminal,
    Plain,
    Json,
}

/// The step under way.
#[derive(Debug, Default)]
struct Step {
    total: Option<Amount>,
    bar: Option<ProgressBar>,
    told: Option<Instant>,
}

/// Lines of a result.
#[derive(Debug, Default)]
pub struct Lines(String);

impl Output {
    /// Looks at what the process was given.
    pub fn for_process(json: bool) -> Self {
        let style = match (json, io::stderr().is_terminal()) {
            (true, _) => Style::Json,
            (false, true) => Style::Terminal,
            (false, false) => Style::Plain,
        };
        Self {
            style,
            step: Mutex::default(),
        }
    }

    /// Tells an event.
    pub fn event(&self, event: &Event) {
        match self.style {
            Style::Json => {
                if self.is_due(event) {
                    to_stderr(&event.to_json());
                }
            }
            Style::Terminal | Style::Plain => self.show(event),
        }
    }

    /// Tells that a step is done or was found done: its name, what is there, how long it took.
    pub fn check(&self, step: &str, summary: &str, elapsed: Duration) {
        if self.style == Style::Json {
            return self.event(&Event::Done {
                step: step.to_owned(),
                summary: summary.to_owned(),
                elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            });
        }
        self.end_step();
        to_stderr(&checked(step, summary, elapsed));
    }

    /// Tells what a step that has no amount is doing; the line stands until the next one.
    pub fn doing(&self, name: &str, what: &str) {
        match self.style {
            Style::Json => {
                if what.is_empty() {
                    let step = name.to_owned();
                    self.event(&Event::Started { step, total: None });
                }
            }
            Style::Terminal => {
                let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
                let bar = step.bar.get_or_insert_with(|| new_wait(name));
                bar.set_message(escape(what));
            }
            Style::Plain => {}
        }
    }

    /// Whether a person is there to be asked: both ends are a terminal, and no program reads the result.
    pub fn can_ask(&self) -> bool {
        self.style == Style::Terminal && io::stdin().is_terminal()
    }

    /// Tells something to know that stops nothing.
    pub fn warn(&self, code: &'static str, message: impl Display) {
        self.event(&Event::Warning {
            code: code.to_owned(),
            message: message.to_string(),
        });
    }

    /// Tells a person what was done; programs read the result instead.
    pub fn note(&self, text: impl Display) {
        if self.style != Style::Json {
            self.above_bar(&escape(&text.to_string()));
        }
    }

    /// Prints the result: an object for programs, lines for people.
    pub fn result(&self, value: &impl Serialize, people: impl FnOnce(&mut Lines)) -> Outcome {
        self.end_step();
        if self.style == Style::Json {
            // Results hold strings, numbers and lists of them: writing them can't fail.
            return to_stdout(&serde_json::to_string(value).unwrap_or_default());
        }
        let mut lines = Lines::default();
        people(&mut lines);
        to_stdout(lines.0.trim_end_matches('\n'))
    }

    /// Prints why a command failed and returns its exit code.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        self.end_step();
        let report = Report::of(failure.fault(), failure.effect());
        match self.style {
            Style::Json => to_stdout(&report.to_json()).unwrap_or_default(),
            Style::Terminal | Style::Plain => to_stderr(report.to_string().trim_end_matches('\n')),
        }
        ExitCode::from(report.exit_code())
    }

    /// Whether a program has to be told already; of progress only some of it.
    fn is_due(&self, event: &Event) -> bool {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Progress { .. } => {
                let due = step
                    .told
                    .is_none_or(|told| told.elapsed() >= JSON_LINE_EVERY);
                if due {
                    step.told = Some(Instant::now());
                }
                due
            }
            Event::Started { .. } | Event::Done { .. } | Event::Warning { .. } => {
                step.told = None;
                true
            }
        }
    }

    fn show(&self, event: &Event) {
        match event {
            Event::Started { step, total } => self.start(step, *total),
            Event::Progress { step, done } => self.progress(step, *done),
            Event::Done { step, summary, .. } => {
                self.end_step();
                to_stderr(&row(step, summary));
            }
            Event::Warning { code, message } => {
                self.above_bar(&format!("warning[{code}]: {}", escape(message)));
            }
        }
    }

    /// Begins a step, or corrects the total of the one under way.
    fn start(&self, name: &str, total: Option<Amount>) {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        step.total = total;
        if self.style == Style::Plain {
            step.told.get_or_insert_with(Instant::now);
            return;
        }
        let bar = step.bar.get_or_insert_with(|| new_bar(name));
        if let Some(total) = total {
            bar.set_length(total.bytes);
        }
    }

    fn progress(&self, name: &str, done: Amount) {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = &step.bar {
            bar.set_position(done.bytes);
            bar.set_message(items(done, step.total));
            return;
        }
        let due = step
            .told
            .is_some_and(|told| told.elapsed() >= PLAIN_LINE_EVERY);
        if due {
            step.told = Some(Instant::now());
            to_stderr(&row(name, &amounts(done, step.total)));
        }
    }

    /// Ends the step under way without a word; a result or a `Done` event does so by itself.
    pub fn end_step(&self) {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = std::mem::take(&mut *step).bar {
            bar.finish_and_clear();
        }
    }

    fn above_bar(&self, text: &str) {
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        match &step.bar {
            Some(bar) => bar.suspend(|| to_stderr(text)),
            None => to_stderr(text),
        }
    }
}

impl Lines {
    /// Adds a line.
    pub fn line(&mut self, text: impl Display) {
        self.0.push_str(&escape(&text.to_string()));
        self.0.push('\n');
    }

    /// Adds a labelled value.
    pub fn row(&mut self, label: &str, value: impl Display) {
        self.0.push_str(&row(label, &value.to_string()));
        self.0.push('\n');
    }
}

/// Writes a number of bytes as people read it, `2.90 GB`.
pub fn bytes(count: u64) -> impl Display {
    DecimalBytes(count)
}

/// Writes a number of things, `1 image`, `3 images`.
pub fn count(number: impl TryInto<u64>, thing: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        more => format!("{more} {thing}s"),
    }
}

fn row(label: &str, value: &str) -> String {
    format!("  {:<8} {}", escape(label), escape(value))
}

/// Things done of all; empty where only bytes are counted.
fn items(done: Amount, total: Option<Amount>) -> String {
    match total {
        Some(total) if total.items == 0 => String::new(),
        Some(total) => format!("{}/{}  ", done.items, total.items),
        None => format!("{}  ", done.items),
    }
}

fn amounts(done: Amount, total: Option<Amount>) -> String {
    let items = items(done, total);
    match total {
        Some(total) => format!("{items}{} of {}", bytes(done.bytes), bytes(total.bytes)),
        None => format!("{items}{}", bytes(done.bytes)),
    }
}

/// One finished step: `  ✓ containerd     2.3.7, 11 images    3 s`.
fn checked(step: &str, summary: &str, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let took = if seconds < 0.05 {
        String::new()
    } else {
        format!("{seconds:.1} s")
    };
    let line = format!("  ✓ {:<15} {:<52} {took:>7}", escape(step), escape(summary));
    line.trim_end().to_owned()
}

fn new_wait(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("  … {prefix:<15} {msg}  {elapsed}")
        .unwrap_or_else(|_error| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

fn new_bar(name: &str) -> ProgressBar {
    let template = "  {prefix:<8} {msg}{decimal_bytes}/{decimal_total_bytes}  [{bar:20}]  {decimal_bytes_per_sec}";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_error| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let bar = ProgressBar::new(0).with_style(style);
    bar.set_prefix(name.to_owned());
    bar
}

fn to_stdout(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(FileError::new("write", Path::new("standard output"), error).into())
        }
        _written_or_unread => Ok(()),
    }
}

fn to_stderr(text: &str) {
    let _gone = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_in_a_row_is_escaped() {
        let mut lines = Lines::default();
        lines.row("name", "shop\u{1b}[2J");
        lines.line("a\u{202e}b");
        assert_eq!(lines.0, "  name     shop\\u{1b}[2J\na\\u{202e}b\n");
    }

    #[test]
    fn amounts_say_what_is_known() {
        let done = Amount {
            items: 3,
            bytes: 1_500_000,
        };
        let total = Amount {
            items: 12,
            bytes: 3_000_000,
        };
        assert_eq!(amounts(done, Some(total)), "3/12  1.50 MB of 3.00 MB");
        assert_eq!(amounts(done, None), "3  1.50 MB");
        assert_eq!(
            (count(1_u64, "image"), count(2_u64, "image")),
            ("1 image".into(), "2 images".into())
        );
    }
}
