//! Rates and times as people write them.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// Bytes a second: `25MB`, `24MiB`, `200Mbit` (decimal, eight bits a byte), a bare number of bytes, or 0 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate(u64);

impl Rate {
    /// The limit, unless there is none.
    pub fn limit(self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no rate: expected a number and B, kB, MB, GB, KiB, MiB, GiB, kbit, Mbit or Gbit, such as 200Mbit"
            )
        };
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let (times, parts) = match unit.strip_suffix("/s").unwrap_or(unit) {
            "" | "B" => (1, 1),
            "kB" => (1_000, 1),
            "MB" => (1_000_000, 1),
            "GB" => (1_000_000_000, 1),
            "KiB" => (1 << 10, 1),
            "MiB" => (1 << 20, 1),
            "GiB" => (1 << 30, 1),
            "kbit" => (1_000, 8),
            "Mbit" => (1_000_000, 8),
            "Gbit" => (1_000_000_000, 8),
            _ => return Err(wrong()),
        };
        let whole = number.checked_mul(times).ok_or_else(wrong)?;
        // 7 bit/s round up to one byte, so that a limit never turns into none.
        Ok(Self(whole.div_ceil(parts)))
    }
}

/// A length of time: `500ms`, `10s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(Duration);

impl Span {
    /// The same as the standard library has it.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no time: expected a number and ms, s, m, h or d, such as 10s");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        number
            .checked_mul(unit_ms)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(wrong)
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Splits `10s` into 10 and `s`.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_decimal_bits_and_both_kinds_of_bytes() {
        let bytes = |text: &str| text.parse::<Rate>().unwrap().0;
        assert_eq!(bytes("200Mbit"), 25_000_000);
        assert_eq!(bytes("25 MB/s"), 25_000_000);
        assert_eq!(bytes("2MiB"), 2_097_152);
        assert_eq!(bytes("1kbit"), 125);
        assert_eq!(bytes("512"), 512);
        assert_eq!("0".parse::<Rate>().unwrap().limit(), None);
        for wrong in ["", "fast", "-1MB", "1mb", "1.5MB", "99999999999GB"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        let ms = |text: &str| text.parse::<Span>().unwrap().0.as_millis();
        assert_eq!(
            [ms("250ms"), ms("10s"), ms("5m"), ms("1h"), ms("7d")],
            [250, 10_000, 300_000, 3_600_000, 604_800_000]
        );
        for wrong in ["", "10", "10 minutes", "-1s", "1h30m"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
