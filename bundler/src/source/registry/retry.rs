//! When to try again, and how long to wait first.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// The first wait of a back-off; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait of our own choice.
const OWN_WAIT_MAX: Duration = Duration::from_secs(15);

/// The longest wait that a registry may ask for: limits of public registries are counted in minutes at most, and an
/// hour's wait is better told to the vendor than sat through.
const ASKED_WAIT_MAX: Duration = Duration::from_mins(5);

/// Waits, in whatever time there is.
pub trait Pause: Send + Sync + std::fmt::Debug {
    /// Waits so long.
    fn pause(&self, wait: Duration) -> BoxFuture<'static, ()>;
}

/// Waits in real time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealPause;

impl Pause for RealPause {
    fn pause(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(wait))
    }
}

/// How long to wait before try `next`, counted from 2; `None` when the registry asks for more than we wait.
pub(crate) fn wait_before(next: u32, asked: Option<Duration>) -> Option<Duration> {
    if let Some(asked) = asked {
        return (asked <= ASKED_WAIT_MAX).then_some(asked);
    }
    let doublings = next.saturating_sub(2).min(8);
    Some((FIRST_WAIT * 2_u32.pow(doublings)).min(OWN_WAIT_MAX))
}

/// Reads `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date held against the answer's own `Date`.
pub(crate) fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let parse = |text: &str| jiff::fmt::rfc2822::parse(text.trim()).ok();
    let until = parse(value)?.timestamp().as_second() - parse(date?)?.timestamp().as_second();
    u64::try_from(until).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (2..9)
            .map(|next| wait_before(next, None).unwrap())
            .collect();
        assert!(waits.is_sorted());
        assert_eq!(waits.first(), Some(&FIRST_WAIT));
        assert_eq!(waits.last(), Some(&OWN_WAIT_MAX));
        assert_eq!(wait_before(u32::MAX, None), Some(OWN_WAIT_MAX));
    }

    #[test]
    fn a_registry_may_ask_for_minutes_but_not_for_hours() {
        assert_eq!(
            wait_before(2, Some(Duration::from_mins(1))),
            Some(Duration::from_mins(1))
        );
        assert_eq!(wait_before(2, Some(Duration::from_hours(1))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("7", None), Some(Duration::from_secs(7)));
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(
            parse_retry_after("Wed, 21 Oct 2026 07:28:30 GMT", date),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parse_retry_after("Wed, 21 Oct 2026 07:28:30 GMT", None),
            None
        );
        assert_eq!(parse_retry_after("soon", date), None);
    }
}
