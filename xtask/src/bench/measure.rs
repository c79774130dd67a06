//! One run of one command: how long, and how much memory at its peak.

use std::fs;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    pub(super) wall: Duration,
    /// Peak resident memory in KiB, as the kernel counts it; 0 when the run was too short to look.
    pub(super) peak_kib: u64,
}

/// How often memory is looked at; the kernel's peak never falls, so only the last moments can be missed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Runs a command to its end, which must be good.
pub(super) fn run(command: &mut Command) -> Result<Took> {
    let line = format!("{command:?}");
    let started = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().with_context(|| line.clone())?;
    let pid = child.id();
    let (done, watch) = mpsc::channel::<()>();
    let peak = thread::spawn(move || {
        let mut peak = 0;
        while watch.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
            peak = peak_kib(pid).unwrap_or(0).max(peak);
        }
        peak
    });
    let output = child.wait_with_output()?;
    let wall = started.elapsed();
    drop(done);
    let peak_kib = peak
        .join()
        .ok()
        .context("the thread that looks at memory died")?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Took { wall, peak_kib })
}

/// Runs a shell script with arguments.
pub(super) fn shell(script: &str, arguments: &[&std::path::Path]) -> Result<Took> {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script, "bash"])
        .args(arguments);
    run(&mut command)
}

/// The peak resident memory of a process so far (`VmHWM` of proc(5)).
pub(super) fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
