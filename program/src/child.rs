//! Another program, run to its end or to its time limit; both of its outputs are read while it runs.

use std::io;
use std::io::Read;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use wait_timeout::ChildExt as _;

/// Most that is kept of each output; what is more is read and forgotten, so that no program is ever stuck.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How; `None` when it was killed at its limit.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

/// Runs a program whose standard input is set; one that has not ended after `limit` is killed.
///
/// Blocks. The error is that it could not be started or waited for.
pub fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let status = child.wait_timeout(limit)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(Ended {
        status,
        output: output.map(joined).unwrap_or_default(),
        errors: errors.map(joined).unwrap_or_default(),
    })
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _broken = pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        let _rest = io::copy(&mut pipe, &mut io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn joined(reader: JoinHandle<String>) -> String {
    reader.join().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        run(&mut command, limit).unwrap()
    }

    #[test]
    fn both_outputs_are_read_however_much_they_are() {
        let script = "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 300000 /dev/zero | tr '\\0' o; exit 3";
        let ended = shell(script, Duration::from_mins(5));
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert_eq!(ended.output, "o".repeat(300_000));
        assert_eq!(ended.errors, "e".repeat(300_000));
    }

    #[test]
    fn what_does_not_end_is_killed_and_what_it_has_said_is_kept() {
        let ended = shell("echo begun; exec sleep 3600", Duration::from_millis(300));
        assert!(ended.status.is_none());
        assert_eq!(ended.output, "begun\n");
    }
}
