//! On what it was measured, and with which versions.

use std::fs;
use std::thread;

use anyhow::Result;
use tests::process;

/// Machine, kernel, load and versions in a few lines.
pub(super) fn description() -> Result<String> {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |model| {
        model.trim_start_matches([' ', '\t', ':'])
    });
    let cores = thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .next()
        .unwrap_or_default()
        .replace("MemTotal:", "")
        .replace(' ', "");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let versions: Vec<String> = [
        ("skopeo", "--version"),
        ("curl", "--version"),
        ("tar", "--version"),
        ("sha256sum", "--version"),
    ]
    .iter()
    .filter_map(|(program, flag)| {
        let said = process::run(&mut process::command(program, [flag]))
            .ok()?
            .stdout;
        Some(said.lines().next()?.split(" (").next()?.to_owned())
    })
    .collect();
    Ok(format!(
        "machine: {model}, {cores} cores, {memory} memory, kernel {}, load {}\nagainst: {}",
        kernel.trim(),
        load.join(" "),
        versions.join("; ")
    ))
}
