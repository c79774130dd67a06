//! When the broker does what; tests make it quick.

use std::time::Duration;

use crate::etcd;
use crate::lease::LeasePace;

/// All durations of the broker. None of them is measured by a wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The lease of every change of the control plane.
    pub lease: LeasePace,
    /// After how long without a sign of life a machine has lost its turn, or its place in the queue.
    pub silence: Duration,
    /// How long etcd's members must have been the same before the next one.
    pub settle: Duration,
    /// How often the broker looks around by itself.
    pub tick: Duration,
    /// How long one question whether a machine has joined is looked into.
    pub done: Duration,
    /// How long the clearing of a failed try is tried before the next one is let in anyway.
    pub clearing: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            lease: LeasePace::default(),
            silence: Duration::from_millis(api::join::SILENCE_MS),
            settle: etcd::SETTLE,
            tick: Duration::from_secs(1),
            done: Duration::from_millis(api::join::DONE_MS),
            clearing: Duration::from_mins(1),
        }
    }
}
