//! `cargo xtask verify`: every check that reads the clone and changes nothing.

use crate::check;
use crate::tally::Tally;

/// Runs the checks; `false` when one failed.
pub(crate) fn run() -> bool {
    let mut tally = Tally::default();
    check::run_all(&mut tally);
    tally.say();
    tally.is_good()
}
