//! Bundles are reproducible: the same release gives the same bytes, wherever and whenever it is built.

use anyhow::Result;

use crate::tally::Outcome;

/// Builds one release twice: in other folders, with another umask, time zone, locale and concurrency.
pub(super) fn reproducible() -> Result<Outcome> {
    tests::reproducible::check()?;
    Ok(Outcome::Passed)
}
