//! The only file that reads the wall clock, for documents that say when a person made them. A build never does.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use bundle::fault::Blame;
use bundle::fault::Fault;
use bundle::timestamp::Timestamp;
use bundle::timestamp::TimestampError;

/// A time that a document can't have.
#[derive(Debug, thiserror::Error)]
#[error("{origin} gives no usable time")]
pub struct ClockError {
    origin: &'static str,
    source: TimestampError,
}

/// The variable that reproducible builds set (reproducible-builds.org).
const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// The time in `SOURCE_DATE_EPOCH`, if it is set.
pub fn source_date_epoch() -> Result<Option<Timestamp>, ClockError> {
    let Some(text) = std::env::var_os(VARIABLE) else {
        return Ok(None);
    };
    // What is no number is as wrong as a number out of range.
    let seconds = text
        .to_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(-1);
    timestamp(VARIABLE, seconds).map(Some)
}

/// `SOURCE_DATE_EPOCH`, or else the time now.
pub fn now() -> Result<Timestamp, ClockError> {
    if let Some(given) = source_date_epoch()? {
        return Ok(given);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok());
    timestamp("the machine's clock", seconds.unwrap_or(-1))
}

fn timestamp(origin: &'static str, seconds: i64) -> Result<Timestamp, ClockError> {
    Timestamp::from_unix_seconds(seconds).map_err(|source| ClockError { origin, source })
}

impl Fault for ClockError {
    fn code(&self) -> &'static str {
        "TIME_INVALID"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(format!("set {VARIABLE} to seconds since 1970"))
    }
}
