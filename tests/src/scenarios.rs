//! Scenarios that share what took minutes to make: run one after the other in the order of the list, told like tests.
//!
//! Rust's own test harness has no end at which something shared could be taken down. This one has: the shared state is
//! dropped when the last scenario is over. Lines and arguments are those of `cargo test`, as far as they are used here.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// Set by `cargo xtask cluster test`: run the scenarios as well that are too long for every `cargo xtask test`.
pub const ALL_VARIABLE: &str = "SEALIFT_SCENARIOS";

/// When a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In every `cargo test`.
    Always,
    /// By `cargo xtask cluster test` only.
    Thorough,
}

/// One scenario over a shared state.
#[derive(Debug)]
pub struct Scenario<S> {
    /// Its name, a sentence.
    pub name: &'static str,
    /// When it runs.
    pub when: When,
    /// What it does; it brings the state as far as it needs it.
    pub run: fn(&mut S) -> Result<()>,
}

/// How one ended.
enum Ended {
    Well,
    Badly(String),
    Skipped(String),
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    filters: Vec<String>,
    is_exact: bool,
    only_list: bool,
}

/// Runs the scenarios that the command line asks for over one state.
///
/// `obstacle` says why none can run here; it and `state` are asked only if something is to run.
pub fn run<S>(
    scenarios: &[Scenario<S>],
    obstacle: impl FnOnce() -> Option<String>,
    state: impl FnOnce() -> S,
) -> ExitCode {
    let asked = Asked::of(std::env::args().skip(1));
    let chosen: Vec<&Scenario<S>> = scenarios.iter().filter(|it| asked.has(it.name)).collect();
    if asked.only_list {
        for scenario in chosen {
            tell(&format!("{}: test", scenario.name));
        }
        return ExitCode::SUCCESS;
    }
    let is_thorough = std::env::var_os(ALL_VARIABLE).is_some_and(|value| value == "all");
    let runs = |it: &Scenario<S>| is_thorough || it.when == When::Always;
    tell(&format!("\nrunning {} tests", chosen.len()));
    let obstacle = if chosen.iter().any(|it| runs(it)) {
        obstacle()
    } else {
        None
    };
    let mut state = state();
    let mut notes = String::new();
    let (mut good, mut bad) = (0, 0);
    for scenario in chosen {
        let ended = match &obstacle {
            _ if !runs(scenario) => {
                Ended::Skipped("only in `sudo cargo xtask cluster test`".to_owned())
            }
            Some(why) => Ended::Skipped(why.clone()),
            None => one(scenario, &mut state),
        };
        let (result, note) = match ended {
            Ended::Well => ("ok", None),
            Ended::Skipped(why) => ("ok", Some(format!("skipped: {why}"))),
            Ended::Badly(why) => ("FAILED", Some(why)),
        };
        if result == "ok" {
            good += 1;
        } else {
            bad += 1;
        }
        tell(&format!("test {} ... {result}", scenario.name));
        if let Some(note) = note {
            // Writing into a string can't fail.
            let _written = write!(notes, "---- {} stdout ----\n{note}\n\n", scenario.name);
        }
    }
    let clean = catch_unwind(AssertUnwindSafe(|| drop(state))).is_ok();
    tell(&format!("\n{notes}"));
    let result = if bad == 0 && clean { "ok" } else { "FAILED" };
    tell(&format!(
        "test result: {result}. {good} passed; {bad} failed; 0 ignored; 0 measured; 0 filtered out\n"
    ));
    if bad == 0 && clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn one<S>(scenario: &Scenario<S>, state: &mut S) -> Ended {
    note(&format!("scenario {}", scenario.name));
    let started = Instant::now();
    // A state that a panic has left half-made shows it in the next scenario, as an error.
    let ended = catch_unwind(AssertUnwindSafe(|| (scenario.run)(state)));
    note(&format!("{:.1} s in all", started.elapsed().as_secs_f64()));
    match ended {
        Ok(Ok(())) => Ended::Well,
        Ok(Err(error)) => Ended::Badly(format!("{error:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Ended::Badly(format!("panicked: {}", text.unwrap_or("without a word")))
        }
    }
}

/// Does one step of a scenario and tells how long it took.
pub fn step<T>(what: &str, does: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let done = does();
    let seconds = started.elapsed().as_secs_f64();
    match &done {
        Ok(_) => note(&format!("{seconds:7.1} s  {what}")),
        Err(_) => note(&format!("{seconds:7.1} s  FAILED: {what}")),
    }
    done.map_err(|error| error.context(what.to_owned()))
}

/// Tells a fact while a scenario runs.
pub fn note(text: &str) {
    tell(&format!("  {text}"));
}

fn tell(text: &str) {
    // A closed pipe is no reason to stop the work.
    let _closed = writeln!(std::io::stdout().lock(), "{text}");
}

impl Asked {
    fn of(arguments: impl Iterator<Item = String>) -> Self {
        let mut asked = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => asked.is_exact = true,
                "--list" => asked.only_list = true,
                // Options with a value behind them, none of which means anything here.
                "--test-threads" | "--format" | "--color" | "-Z" | "--skip" => {
                    arguments.next();
                }
                option if option.starts_with('-') => {}
                _ => asked.filters.push(argument),
            }
        }
        asked
    }

    fn has(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.is_exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        self.filters.is_empty() || self.filters.iter().any(matches)
    }
}
