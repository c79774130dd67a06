//! How often a step is told about: what changes faster than ten times a second can't be read.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

const TELL_EVERY: Duration = Duration::from_millis(100);

/// When something was told last; shared by all threads of a step.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Whether it is time to tell again; if so, now counts as told.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= TELL_EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
