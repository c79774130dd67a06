//! `docker-credential-NAME get`: the one call of Docker's credential helper protocol that is needed.
//!
//! The host goes to its input, one JSON object comes back. It gets no shell, no argument from outside, and an end.

use std::ffi::OsStr;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::credentials::Credential;
use super::credentials::helper_key;
use crate::source::SourceError;

/// A helper may ask a key ring that asks a person.
const TIME_MAX: Duration = Duration::from_mins(1);

/// Tokens of cloud registries have some KiB.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// What Docker's own helpers print when they know nothing; the protocol has no other sign.
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper `name` for the credentials of `host`.
pub(super) fn get(
    name: &str,
    path: Option<&OsStr>,
    host: &str,
) -> Result<Option<Credential>, SourceError> {
    let program = format!("docker-credential-{name}");
    let failed = |reason: String| SourceError::Credentials {
        place: host.to_owned(),
        from: program.clone(),
        reason,
    };
    let plain = |symbol: char| symbol.is_ascii_alphanumeric() || "-_.".contains(symbol);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(failed("that is no name of a helper".to_owned()));
    }
    let mut command = Command::new(&program);
    command.arg("get");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let (success, output, errors) =
        run(command, &helper_key(host)).map_err(|error| failed(error.to_string()))?;
    if !success {
        if output.contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(failed(format!(
            "it failed: {} {}",
            output.trim(),
            errors.trim()
        )));
    }
    let answer: Answer =
        serde_json::from_str(&output).map_err(|error| failed(error.to_string()))?;
    Ok(Some(if answer.username == "<token>" {
        Credential::Identity(answer.secret)
    } else {
        Credential::Password {
            name: answer.username,
            password: answer.secret,
        }
    }))
}

/// Runs a program that reads one line; gives whether it succeeded and both outputs.
fn run(mut command: Command, line: &str) -> io::Result<(bool, String, String)> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read its input has decided already; its answer tells.
        let _closed = writeln!(input, "{line}");
    }
    let output = read_on_thread(child.stdout.take());
    let errors = read_on_thread(child.stderr.take());
    let Ok(output) = output.recv_timeout(TIME_MAX) else {
        end(&mut child);
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it gave no answer within a minute",
        ));
    };
    let errors = errors.recv_timeout(TIME_MAX).unwrap_or_default();
    let status = child.wait()?;
    Ok((status.success(), output, errors))
}

fn read_on_thread(stream: Option<impl io::Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // Half an output is judged like a whole one.
            let _broken = stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        }
        let _nobody_waits = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn end(child: &mut Child) {
    // Gone already is as good as ended.
    let _gone = child.kill();
    let _gone = child.wait();
}
