//! What time it is at least, for licenses that end: a floor that a wrong clock can neither pull down nor push far up.
//!
//! Nothing here reads a clock; it is given as a value, because a customer controls it. The model:
//!
//! - now = max(clock, floor), so setting the clock back never brings a license back.
//! - The floor rises to times that the vendor signed (a license's `issued_at`, a release's `released_at`).
//! - Beyond that it follows the clock only as fast as time can be shown to pass: by the uptime of this boot, plus 24 h
//!   a boot for the time that the machine was off. One bad BIOS date (2099) costs at most a day.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// The earliest time that it can be, as far as this site knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockFloor(Timestamp);

/// How far the floor may rise in one boot beyond that boot's uptime: nobody can tell how long a machine was off.
pub const BOOT_ALLOWANCE: Duration = Duration::from_hours(24);

/// A clock that is further behind the floor than this is worth a warning.
pub const CLOCK_BEHIND_MAX: Duration = Duration::from_hours(24);

impl ClockFloor {
    /// A floor at a time that the vendor signed, or that was stored.
    pub const fn at(time: Timestamp) -> Self {
        Self(time)
    }

    /// Where it is.
    pub const fn time(self) -> Timestamp {
        self.0
    }

    /// The time to judge by.
    pub fn now(self, clock: Timestamp) -> Timestamp {
        self.0.max(clock)
    }

    /// The clock is so far behind the floor that an operator should set it.
    pub fn is_clock_behind(self, clock: Timestamp) -> bool {
        add(clock, CLOCK_BEHIND_MAX) < self.0
    }

    /// The floor after `uptime` of a boot: `self` is what it was when this boot began.
    ///
    /// Idempotent, so it can be asked as often as one likes; the caller keeps one `self` for a whole boot.
    #[must_use]
    pub fn after(self, uptime: Duration, clock: Timestamp) -> Self {
        let most = add(self.0, uptime.saturating_add(BOOT_ALLOWANCE));
        Self(self.0.max(clock.min(most)))
    }
}

/// A time and a duration more; the last time there is when that is further.
pub(crate) fn add(time: Timestamp, duration: Duration) -> Timestamp {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let sum = time.unix_seconds().saturating_add(seconds);
    Timestamp::from_unix_seconds(sum).unwrap_or(Timestamp::LATEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_bad_bios_date_costs_at_most_a_day() {
        let floor = ClockFloor::at(time("2026-11-24T00:00:00Z"));
        for clock in [
            "2038-01-19T03:14:08Z",
            "2099-01-01T00:00:00Z",
            "9998-12-31T23:59:59Z",
        ] {
            let after = floor.after(Duration::from_mins(1), time(clock));
            assert_eq!(after.time(), time("2026-11-25T00:01:00Z"), "{clock}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_changes_nothing() {
        let floor = ClockFloor::at(time("2026-11-24T00:00:00Z"));
        let clock = time("1970-01-01T00:00:00Z");
        assert_eq!(floor.now(clock), floor.time());
        assert_eq!(floor.after(Duration::from_secs(DAY), clock), floor);
        assert!(floor.is_clock_behind(clock));
        assert!(!floor.is_clock_behind(time("2026-11-23T00:00:00Z")));
    }

    #[test]
    fn a_right_clock_is_followed() {
        let floor = ClockFloor::at(time("2026-11-24T00:00:00Z"));
        let clock = time("2026-11-30T00:00:00Z");
        let after = floor.after(Duration::from_secs(6 * DAY), clock);
        assert_eq!(after.time(), clock);
    }

    proptest! {
        /// Any walk of a clock, jumping as it likes, over several boots.
        #[test]
        fn the_floor_never_falls_and_rises_no_faster_than_uptime_and_a_day_a_boot(
            boots in proptest::collection::vec(
                proptest::collection::vec((0_u64..3 * DAY, 0_i64..200_000_000_000), 1..20), 1..6),
        ) {
            let start = ClockFloor::at(time("2026-11-24T00:00:00Z"));
            let mut floor = start;
            let mut most = start.time().unix_seconds();
            for steps in boots {
                let at_boot = floor;
                let mut uptime = 0;
                for (seconds, clock) in steps {
                    uptime += seconds;
                    let clock = Timestamp::from_unix_seconds(clock).unwrap();
                    let next = floor.max(at_boot.after(Duration::from_secs(uptime), clock));
                    prop_assert!(next >= floor);
                    prop_assert!(next.now(clock) >= floor.time());
                    floor = next;
                }
                most += i64::try_from(uptime + DAY).unwrap();
                prop_assert!(floor.time().unix_seconds() <= most);
            }
        }
    }
}
