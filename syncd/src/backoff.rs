//! How long to wait before something is tried again: doubling, with a limit, spread by a seed.

use std::time::Duration;

use rand::Rng as _;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The waits of one thing that may fail again and again.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: StdRng,
}

impl Backoff {
    pub(crate) fn new((first, longest): (Duration, Duration), seed: u64) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Notes a failure and says how long to wait.
    pub(crate) fn fail(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        jittered(doubled.min(self.longest), self.random.next_u64())
    }

    /// Forgets the failures.
    pub(crate) const fn succeed(&mut self) {
        self.failures = 0;
    }
}

/// Three to five quarters of `base`, as `drawn` decides, so that a cluster does not act in step.
pub(crate) fn jittered(base: Duration, drawn: u64) -> Duration {
    let per_mille = 750 + StdRng::seed_from_u64(drawn).random_range(0..=500_u32);
    base.saturating_mul(per_mille) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_success() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new((second, 10 * second), 1);
        let within = |wait: Duration, base: Duration| {
            assert!(
                wait >= base * 3 / 4 && wait <= base * 5 / 4,
                "{wait:?} for {base:?}"
            );
        };
        for base in [1, 2, 4, 8, 10, 10] {
            within(backoff.fail(), second * base);
        }
        for _ in 0..100 {
            within(backoff.fail(), 10 * second);
        }
        backoff.succeed();
        within(backoff.fail(), second);
    }
}
