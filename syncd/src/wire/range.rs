//! The `Range` header (RFC 9110 §14.2), of which exactly one form is spoken: `bytes=first-last`.

use std::ops::Range;

/// Reads `bytes=first-last` or `bytes=first-` for a blob of `size` bytes; `None` when it is anything else or outside.
pub(crate) fn parse(header: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let first = number(first)?;
    let end = match last {
        "" => size,
        last => number(last)?.checked_add(1)?,
    };
    (first < end && end <= size).then_some(first..end)
}

/// Writes the header of a request for a range that is not empty.
pub(crate) fn request(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// Writes the header of the answer.
pub(crate) fn content(range: &Range<u64>, size: u64) -> String {
    format!(
        "bytes {}-{}/{size}",
        range.start,
        range.end.saturating_sub(1)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_range_inside_the_blob_is_served() {
        assert_eq!(parse("bytes=0-9", 10), Some(0..10));
        assert_eq!(parse("bytes=3-", 10), Some(3..10));
        for refused in [
            "bytes=0-10",
            "bytes=10-",
            "bytes=5-4",
            "bytes=-5",
            "bytes=0-1,3-4",
            "bytes= 0-1",
            "bytes=+0-1",
            "items=0-1",
            "bytes=0-18446744073709551615",
            "bytes=99999999999999999999-",
            "",
        ] {
            assert_eq!(parse(refused, 10), None, "{refused}");
        }
        assert_eq!(parse("bytes=0-", 0), None);
    }

    proptest! {
        #[test]
        fn what_is_asked_is_what_is_read(first in 0_u64..1000, length in 1_u64..1000) {
            let range = first..first + length;
            prop_assert_eq!(parse(&request(&range), first + length), Some(range));
        }

        #[test]
        fn no_text_panics_or_reaches_outside(text in ".{0,40}", size in 0_u64..100) {
            if let Some(range) = parse(&format!("bytes={text}"), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
