//! A moment as documents write it: `2026-11-01T00:00:00Z`, whole seconds, UTC, one text for one moment.

use std::fmt;
use std::str::FromStr;

/// A moment between the years 1970 and 9998, in whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Text or a number that is no [`Timestamp`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: expected YYYY-MM-DDTHH:MM:SSZ, from 1970 to 9998")]
pub struct TimestampError(String);

/// 9998-12-31T23:59:59Z: the year 9999 is not complete in jiff, and stands for a mistake wherever it is written.
const SECONDS_MAX: i64 = 253_370_764_799;

impl Timestamp {
    /// The last moment that can be written.
    pub const LATEST: Self = Self(SECONDS_MAX);

    /// Takes seconds since 1970-01-01T00:00:00Z, as in `SOURCE_DATE_EPOCH`.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, TimestampError> {
        if (0..=SECONDS_MAX).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(TimestampError(seconds.to_string()))
        }
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn unix_seconds(self) -> i64 {
        self.0
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let error = || TimestampError(text.chars().take(40).collect());
        let moment: jiff::Timestamp = text.parse().map_err(|_not_rfc_3339| error())?;
        let moment = Self::from_unix_seconds(moment.as_second()).map_err(|_range| error())?;
        // Offsets, fractions, lower-case letters and leap seconds all end in another text.
        if moment.to_string() == text {
            Ok(moment)
        } else {
            Err(error())
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_second(self.0).map_err(|_range| fmt::Error)?;
        write!(out, "{}", moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moment_can_be_written() {
        assert_eq!(Timestamp::LATEST.to_string(), "9998-12-31T23:59:59Z");
    }

    #[test]
    fn one_moment_has_one_text() {
        let text = "2026-11-01T00:00:00Z";
        let moment: Timestamp = text.parse().unwrap();
        assert_eq!(moment.unix_seconds(), 1_793_491_200);
        assert_eq!(moment.to_string(), text);
        for bad in [
            "2026-11-01T00:00:00+00:00",
            "2026-11-01t00:00:00z",
            "2026-11-01T00:00:00.0Z",
            "2026-11-01 00:00:00Z",
            "2026-11-01",
            "2016-12-31T23:59:60Z",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
