//! `systemctl`: units of this machine.

use std::time::Duration;

use program::Outcome;

use crate::machine::Call;
use crate::machine::Machine;
use crate::machine::Mode;
use crate::machine::ProgramError;
use crate::render::units;
use crate::render::units::Unit;

/// How long a unit may take to say that it is ready.
const START_LIMIT: Duration = Duration::from_secs(100);

/// Whether a unit's file is what it should be.
pub(crate) fn is_written(machine: &Machine, (name, text): &Unit) -> bool {
    machine.holds(&path(name), text, Mode::Plain)
}

/// Writes a unit's file; whether that changed anything.
pub(crate) fn write(machine: &Machine, (name, text): &Unit) -> Outcome<bool> {
    Ok(machine.write(&path(name), text, Mode::Plain)?)
}

/// Whether a unit runs.
pub(crate) fn is_active(machine: &Machine, name: &str) -> bool {
    machine.succeeds(&Call::new("systemctl", ["is-active", "--quiet", name]))
}

/// Whether a unit starts with the machine.
pub(crate) fn is_enabled(machine: &Machine, name: &str) -> bool {
    machine.succeeds(&Call::new("systemctl", ["is-enabled", "--quiet", name]))
}

/// Reads changed units again.
pub(crate) fn reload(machine: &Machine) -> Result<(), ProgramError> {
    machine
        .run(&Call::new("systemctl", ["daemon-reload"]))
        .map(drop)
}

/// Makes a unit start with the machine.
pub(crate) fn enable(machine: &Machine, name: &str) -> Result<(), ProgramError> {
    machine
        .run(&Call::new("systemctl", ["enable", "--quiet", name]))
        .map(drop)
}

/// Starts a unit that does not run, and waits until it is ready.
pub(crate) fn start(machine: &Machine, name: &str) -> Result<(), ProgramError> {
    machine
        .run(&Call::new("systemctl", ["start", name]).within(START_LIMIT))
        .map(drop)
}

/// Stops and starts a unit, and waits until it is ready.
pub(crate) fn restart(machine: &Machine, name: &str) -> Result<(), ProgramError> {
    machine
        .run(&Call::new("systemctl", ["restart", name]).within(START_LIMIT))
        .map(drop)
}

/// Stops a unit.
pub(crate) fn stop(machine: &Machine, name: &str) -> Result<(), ProgramError> {
    machine
        .run(&Call::new("systemctl", ["stop", name]).within(START_LIMIT))
        .map(drop)
}

/// Makes a unit start with the machine no more.
pub(crate) fn disable(machine: &Machine, name: &str) -> Result<(), ProgramError> {
    machine
        .run(&Call::new("systemctl", ["disable", "--quiet", name]))
        .map(drop)
}

fn path(name: &str) -> String {
    format!("{}/{name}", units::DIRECTORY)
}
