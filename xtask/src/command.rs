//! Running other programs in the clone: with their output in the error, or line by line.

use std::ffi::OsStr;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::repo;

/// Tells the person at the terminal something; stdout is what all commands here write to.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        // A closed pipe is no reason to stop the work.
        let _closed = writeln!(std::io::stdout().lock(), $($argument)*);
    }};
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repo::root());
    // Incremental state is large and gains nothing in a run that builds once.
    command
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TERM_COLOR", "never");
    command
}

/// Runs a program in the clone and gives its standard output.
pub(crate) fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.current_dir(repo::root()).args(arguments);
    run(command)
}

/// Runs a command to its end; its output is part of the error when it fails.
pub(crate) fn run(mut command: Command) -> Result<String> {
    let what = format!("{command:?}");
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {what}"))?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let stderr = String::from_utf8_lossy(&done.stderr);
        bail!("{what}: {}\n{stdout}{stderr}", done.status);
    }
    Ok(stdout)
}

/// Runs a command, both its outputs as one stream of lines; gives whether it succeeded.
pub(crate) fn lines(mut command: Command, mut line: impl FnMut(&str)) -> Result<bool> {
    let what = format!("{command:?}");
    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start {what}"))?;
    // The command holds the writing ends; the loop below would never end while we hold them as well.
    drop(command);
    for text in BufReader::new(reader).split(b'\n') {
        line(&String::from_utf8_lossy(&text?));
    }
    Ok(child.wait()?.success())
}
