//! Waiting for a condition: looked at often, told as it stands, given up with the last reason.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::Outcome;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Something that did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} is still not so after {waited_s} s")]
pub(crate) struct NotInTime {
    what: String,
    waited_s: u64,
    last: String,
}

/// Looks until `look` finds what it wants; `Err` is the reason why not yet.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Outcome<T> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if begun.elapsed() >= limit => {
                return Err(NotInTime {
                    what: what.to_owned(),
                    waited_s: limit.as_secs(),
                    last,
                }
                .into());
            }
            Err(_not_yet) => thread::sleep(LOOK_EVERY),
        }
    }
}

impl Fault for NotInTime {
    fn code(&self) -> &'static str {
        "NOT_IN_TIME"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("last", &self.last)]
    }

    fn hint(&self) -> Option<String> {
        Some("run the same command again: it goes on where this one stopped".to_owned())
    }
}
