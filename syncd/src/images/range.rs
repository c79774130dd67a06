//! One byte range of a request, by RFC 9110 section 14.

use std::ops::Range;

/// What a `Range` header asks of a body of known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No range, several, another unit, or text that is no range: the whole (RFC 9110, 14.2 allows to ignore it).
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// A range that begins behind the end.
    Nothing,
}

/// Reads a `Range` header against a body's size.
pub(super) fn parse_range(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|text| text.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (Number::Is(first), Number::Is(last)) if first <= last && first < size => {
            Wanted::Part(first..last.saturating_add(1).min(size))
        }
        (Number::Is(first), Number::Absent) if first < size => Wanted::Part(first..size),
        (Number::Absent, Number::Is(count)) if count > 0 && size > 0 => {
            Wanted::Part(size.saturating_sub(count)..size)
        }
        (Number::Is(first), Number::Is(last)) if first > last => Wanted::Whole,
        (Number::Is(_), Number::Is(_) | Number::Absent) | (Number::Absent, Number::Is(_)) => {
            Wanted::Nothing
        }
        (Number::Not, _) | (_, Number::Not) | (Number::Absent, Number::Absent) => Wanted::Whole,
    }
}

enum Number {
    Absent,
    Is(u64),
    Not,
}

fn number(text: &str) -> Number {
    if text.is_empty() {
        return Number::Absent;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Not;
    }
    text.parse().map_or(Number::Not, Number::Is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_to_the_body() {
        let part = |text| match parse_range(Some(text), 10) {
            Wanted::Part(range) => (range.start, range.end),
            Wanted::Whole | Wanted::Nothing => panic!("{text} is a range"),
        };
        assert_eq!(part("bytes=0-0"), (0, 1));
        assert_eq!(part("bytes=3-5"), (3, 6));
        assert_eq!(part("bytes=3-"), (3, 10));
        assert_eq!(part("bytes=3-99"), (3, 10));
        assert_eq!(part("bytes=-4"), (6, 10));
        assert_eq!(part("bytes=-99"), (0, 10));
    }

    #[test]
    fn what_is_no_single_range_means_the_whole() {
        for text in [
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=+1-2",
            "bytes=a-b",
        ] {
            assert_eq!(parse_range(Some(text), 10), Wanted::Whole, "{text}");
        }
        assert_eq!(parse_range(None, 10), Wanted::Whole);
    }

    #[test]
    fn a_range_behind_the_end_gets_nothing() {
        for text in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(parse_range(Some(text), 10), Wanted::Nothing, "{text}");
        }
        assert_eq!(parse_range(Some("bytes=0-"), 0), Wanted::Nothing);
    }
}
