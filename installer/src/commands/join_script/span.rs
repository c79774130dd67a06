//! How long a script lasts, as people write it: `24h`, `30m`, `7d`.

/// Reads a number and its unit, as seconds.
pub(crate) fn parse_span_s(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time: expected a number and s, m, h or d, such as 24h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_no_number| wrong())?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(unit_s).ok_or_else(wrong)?;
    if (60..=31 * 86400).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("{text} is too short or too long: from 1m to 31d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_limits() {
        assert_eq!(parse_span_s("24h"), Ok(86400));
        assert_eq!(parse_span_s("90s"), Ok(90));
        assert_eq!(parse_span_s("31d"), Ok(31 * 86400));
        for wrong in [
            "",
            "h",
            "24",
            "-1h",
            "1w",
            "59s",
            "32d",
            "99999999999999999999d",
            "1 h",
            "2\u{b5}",
        ] {
            assert!(parse_span_s(wrong).is_err(), "{wrong}");
        }
    }
}
