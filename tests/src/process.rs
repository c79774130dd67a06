//! Other programs: run to their end, or kept running and killed by pid; each leaves its output behind.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::process::Pid;
use rustix::process::Signal;

/// Nothing in the suites takes this long: it only ends what hangs.
pub const HANG_GUARD: Duration = Duration::from_mins(5);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line.
    pub command: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub wall: Duration,
}

impl Finished {
    /// Itself when it succeeded, else an error with all that it said.
    pub fn succeeded(self) -> Result<Self> {
        ensure!(self.code == Some(0), "{self}");
        Ok(self)
    }

    /// Itself when it failed by an exit code of its own, not by a signal.
    pub fn refused(self) -> Result<Self> {
        ensure!(
            self.code.is_some_and(|code| code != 0),
            "expected a refusal: {self}"
        );
        Ok(self)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
            ..
        } = self;
        write!(out, "{command}\nexit code {code:?}\n{stdout}{stderr}")
    }
}

/// Runs a program to its end, with nothing on its standard input.
pub fn run(command: &mut Command) -> Result<Finished> {
    run_with(format!("{command:?}"), command, b"", HANG_GUARD)
}

/// Runs a program to its end, with this on its standard input; one that takes longer than `limit` is ended.
///
/// `line` is what people read of it.
pub fn run_with(
    line: String,
    command: &mut Command,
    input: &[u8],
    limit: Duration,
) -> Result<Finished> {
    let started = Instant::now();
    command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {line}"))?;
    let guard = Guard::over(&child, limit)?;
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_owned();
        // A program that ends before it has read everything is judged by its exit code.
        thread::spawn(move || pipe.write_all(&input));
    }
    let output = child.wait_with_output()?;
    drop(guard);
    Ok(Finished {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        wall: started.elapsed(),
    })
}

/// Ends a child that outlives its limit; dropping it calls the watch off.
struct Guard {
    _calls_off: mpsc::Sender<()>,
}

impl Guard {
    fn over(child: &Child, limit: Duration) -> Result<Self> {
        let pid = pid_of(child)?;
        let (calls_off, watch) = mpsc::channel::<()>();
        thread::spawn(move || {
            if watch.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                // It may have ended by itself just now.
                let _gone = rustix::process::kill_process(pid, Signal::KILL);
            }
        });
        Ok(Self {
            _calls_off: calls_off,
        })
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    let raw = i32::try_from(child.id()).context("a pid that is no pid")?;
    Pid::from_raw(raw).context("a pid of zero")
}

/// A program that runs until it is stopped, killed or dropped; its output goes to a file.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program; `log` is appended to.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut command = tied(command);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: it gets no chance to do anything more.
    pub fn kill(mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub fn stop(mut self) -> Result<ExitStatus> {
        rustix::process::kill_process(pid_of(&self.child)?, Signal::TERM)?;
        let name = format!("{} to stop", self.name);
        wait_for(&name, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it is still running".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Waits until it has ended by itself, which must be well.
    pub fn wait(mut self) -> Result<()> {
        let guard = Guard::over(&self.child, HANG_GUARD)?;
        let status = self.child.wait()?;
        drop(guard);
        ensure!(
            status.success(),
            "{}: {status}:\n{}",
            self.name,
            self.log_end()
        );
        Ok(())
    }

    /// An error with the end of its log when it is no longer running.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended, {status}:\n{}", self.name, self.log_end());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(30)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The same command, which the kernel ends should whoever started it be killed; untied where `setpriv` is missing.
fn tied(command: &Command) -> Command {
    let Some(setpriv) = find("setpriv") else {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        return with_surroundings_of(command, same);
    };
    let mut tied = Command::new(setpriv);
    tied.args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    with_surroundings_of(command, tied)
}

fn with_surroundings_of(command: &Command, mut other: Command) -> Command {
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        other.current_dir(folder);
    }
    other
}

/// Looks until `probe` gives a value; its last `Err`, the state it saw, is in the message when it never does.
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Result<T, String>) -> Result<T> {
    wait_within(HANG_GUARD, what, probe)
}

/// The same with a limit of its own, where the time it takes is what is promised.
pub fn wait_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(state) if started.elapsed() > limit => {
                bail!(
                    "waited {} s for {what}; last seen: {state}",
                    limit.as_secs()
                )
            }
            Err(_not_yet) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Where a program is on `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&paths).map(|folder| folder.join(program));
    candidates.find(|candidate| candidate.is_file())
}

/// A command with its arguments.
pub fn command<I, A>(program: impl AsRef<OsStr>, arguments: I) -> Command
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
