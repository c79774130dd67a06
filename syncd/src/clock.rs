//! The only file that reads the wall clock: for licenses, which see it only through the site's floor of the time.

use std::time::SystemTime;

use bundle::timestamp::Timestamp;

/// This machine's clock; a time that no document can have counts as the latest there is.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_unix_seconds(seconds).unwrap_or(Timestamp::LATEST)
}
