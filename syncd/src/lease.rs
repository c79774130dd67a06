//! The right to change something that only one may change at a time, as a Kubernetes Lease.
//!
//! 1. Who wants it reads it. Free, or its own from before: it takes it with the version that it read, so one of two wins.
//! 2. Somebody else's is watched. It is taken only after this process has seen it unchanged for its full duration on its
//!    own monotonic clock: no clock of two machines is compared, and a process that has just started waits longest.
//! 3. The holder renews. What it could not renew for the duration is lost, also without anybody saying so
//!    ([`Held::is_ours`]); it stops before its next change.
//! 4. `leaseTransitions` counts every change of hands: the fencing token ([`Held::token`]).
//!
//! A holder is a pair: for whom ([`Claim::holder`]) and which daemon acts ([`Claim::by`]). Another daemon may take over for
//! the same holder at once; the first one's next renewal then fails, and it stops.
//!
//! What it must never do: read a time in a lease to decide anything.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use bundle::timestamp::Timestamp;

use crate::kubernetes::Kubernetes;
use crate::kubernetes::KubernetesError;
use crate::kubernetes::Lease;
use crate::kubernetes::lease;
use crate::kubernetes::leases;

/// The one lease of every change of the control plane: joins, purges, resets, certificates, upgrades.
pub const CONTROL_PLANE_CHANGE: &str = "sealift-control-plane-change";

/// Which daemon acts.
pub const BY: &str = "sealift.io/by";

/// What the holder does, one line for people.
pub const DOING: &str = "sealift.io/doing";

/// How long leases last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePace {
    /// How long a lease is held after its last renewal.
    pub duration: Duration,
    /// How often it is renewed.
    pub renew: Duration,
}

impl Default for LeasePace {
    fn default() -> Self {
        Self {
            duration: Duration::from_mins(1),
            renew: Duration::from_secs(10),
        }
    }
}

/// Who wants a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// For whom: a node and its attempt, or the name of a change.
    pub holder: String,
    /// The daemon that acts.
    pub by: String,
    /// What it does, one line for people.
    pub doing: String,
    /// What a successor must know to clean up after it.
    pub facts: BTreeMap<String, String>,
}

/// Leases as this process has seen them, on its own monotonic clock.
#[derive(Debug, Default)]
pub struct Watched {
    seen: BTreeMap<String, (String, Instant)>,
}

/// What came of wanting a lease.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours {
        /// The right.
        held: Box<Held>,
        /// The lease as it was: free, somebody's who was silent for too long and has to be cleaned up after, or our own.
        before: Box<Lease>,
    },
    /// Somebody else's.
    Theirs(Box<Lease>),
}

/// A lease that is held.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    /// When the last renewal that worked was begun.
    renewed: Instant,
    pace: LeasePace,
}

/// Whether a renewal worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is ours for another duration.
    Ours,
    /// The API gave no answer; it is still ours until the duration is over.
    Unsure,
    /// It is somebody else's: stop.
    Lost,
}

impl Watched {
    /// For how long this process has seen a lease as it is.
    pub fn unchanged_for(&mut self, lease: &Lease, now: Instant) -> Duration {
        let version = lease.version();
        let seen = self
            .seen
            .entry(lease.metadata.name.clone())
            .or_insert_with(|| (version.to_owned(), now));
        if seen.0 != version {
            *seen = (version.to_owned(), now);
        }
        now.saturating_duration_since(seen.1)
    }

    /// Whether a lease was unchanged for its full duration.
    pub fn is_expired(&mut self, lease: &Lease, now: Instant) -> bool {
        let seconds = lease.spec.lease_duration_seconds.unwrap_or(60);
        self.unchanged_for(lease, now) >= Duration::from_secs(seconds.into())
    }

    /// Forgets leases that are not among these any more.
    pub fn keep_only(&mut self, names: &BTreeSet<&str>) {
        self.seen.retain(|name, _| names.contains(name.as_str()));
    }
}

/// Tries once to take a lease.
pub async fn take(
    kubernetes: &Kubernetes,
    name: &str,
    claim: &Claim,
    pace: LeasePace,
    watched: &mut Watched,
) -> Result<Taken, KubernetesError> {
    let found: Option<Lease> = kubernetes.read(&lease(name)).await?;
    let before = found.unwrap_or_else(|| Lease::named(name));
    let is_expired = before.holder().is_some() && watched.is_expired(&before, Instant::now());
    let is_theirs = before.holder().is_some_and(|holder| holder != claim.holder);
    if is_theirs && !is_expired {
        return Ok(Taken::Theirs(Box::new(before)));
    }
    let begun = Instant::now();
    let wanted = claimed(&before, claim, pace, kubernetes.now().await?);
    let written = if before.version().is_empty() {
        kubernetes.create(&leases(), &wanted).await
    } else {
        kubernetes.replace(&lease(name), &wanted).await
    };
    match written {
        Ok(lease) => Ok(Taken::Ours {
            held: Box::new(Held {
                lease,
                renewed: begun,
                pace,
            }),
            before: Box::new(before),
        }),
        Err(error) if error.is_conflict() => {
            let now: Option<Lease> = kubernetes.read(&lease(name)).await?;
            Ok(Taken::Theirs(Box::new(now.unwrap_or(before))))
        }
        Err(error) => Err(error),
    }
}

/// Looks who holds a lease, and remembers when it was seen.
pub async fn look(
    kubernetes: &Kubernetes,
    name: &str,
    watched: &mut Watched,
) -> Result<Option<Lease>, KubernetesError> {
    let found: Option<Lease> = kubernetes.read(&lease(name)).await?;
    if let Some(lease) = &found {
        watched.unchanged_for(lease, Instant::now());
    }
    Ok(found.filter(|lease| lease.holder().is_some()))
}

impl Held {
    /// The fencing token: higher than that of every holder before.
    pub const fn token(&self) -> u64 {
        self.lease.spec.lease_transitions
    }

    /// When it was taken, by the API server's clock, for people.
    pub fn since(&self) -> Option<&str> {
        self.lease.spec.acquire_time.as_deref()
    }

    /// Whether it is certainly held, with the time that one call needs to spare.
    pub fn is_ours(&self) -> bool {
        let margin = self.pace.duration / 6;
        self.renewed.elapsed() < self.pace.duration.saturating_sub(margin)
    }

    /// Whether it is time to renew it.
    pub fn is_due(&self) -> bool {
        self.renewed.elapsed() >= self.pace.renew
    }

    /// Notes a fact for a successor; it is told with the next renewal.
    pub fn note(&mut self, key: &str, text: &str) {
        let annotations = &mut self.lease.metadata.annotations;
        annotations.insert(key.to_owned(), text.to_owned());
    }

    /// Renews it, and says what the holder does now.
    pub async fn renew(&mut self, kubernetes: &Kubernetes, doing: &str) -> Renewal {
        let begun = Instant::now();
        let mut wanted = self.lease.clone();
        let annotations = &mut wanted.metadata.annotations;
        annotations.insert(DOING.to_owned(), doing.to_owned());
        if let Ok(now) = kubernetes.now().await {
            wanted.spec.renew_time = Some(micro_time(now));
        }
        let path = lease(&self.lease.metadata.name);
        match kubernetes.replace(&path, &wanted).await {
            Ok(lease) => {
                self.lease = lease;
                self.renewed = begun;
                Renewal::Ours
            }
            Err(error) if error.is_conflict() => self.compare(kubernetes).await,
            Err(KubernetesError::Refused { status: 404, .. }) => Renewal::Lost,
            Err(error) => {
                tracing::warn!(%error, "the lease could not be renewed");
                self.or_lost(Renewal::Unsure)
            }
        }
    }

    /// Gives it back. An error means that it ends by itself after its duration.
    pub async fn release(self, kubernetes: &Kubernetes) -> Result<(), KubernetesError> {
        let mut wanted = self.lease;
        wanted.spec.holder_identity = None;
        wanted.spec.acquire_time = None;
        wanted.metadata.annotations.clear();
        let path = lease(&wanted.metadata.name);
        match kubernetes.replace(&path, &wanted).await {
            // It is somebody else's already.
            Err(error) if error.is_conflict() => Ok(()),
            released => released.map(drop),
        }
    }

    /// After a conflict: whether it was our own write whose answer was lost.
    async fn compare(&mut self, kubernetes: &Kubernetes) -> Renewal {
        let path = lease(&self.lease.metadata.name);
        match kubernetes.read::<Lease>(&path).await {
            Ok(Some(now)) if self.is_same(&now) => {
                self.lease = now;
                self.or_lost(Renewal::Unsure)
            }
            Ok(_) => Renewal::Lost,
            Err(_silent) => self.or_lost(Renewal::Unsure),
        }
    }

    fn is_same(&self, other: &Lease) -> bool {
        other.spec.lease_transitions == self.token()
            && other.holder() == self.lease.holder()
            && other.told(BY) == self.lease.told(BY)
    }

    fn or_lost(&self, otherwise: Renewal) -> Renewal {
        if self.is_ours() {
            otherwise
        } else {
            Renewal::Lost
        }
    }
}

/// The lease as `claim` wants it, with the version that was read.
fn claimed(before: &Lease, claim: &Claim, pace: LeasePace, now: Timestamp) -> Lease {
    let mut wanted = before.clone();
    wanted.metadata.annotations = claim.facts.clone();
    for (key, text) in [(BY, &claim.by), (DOING, &claim.doing)] {
        let annotations = &mut wanted.metadata.annotations;
        annotations.insert(key.to_owned(), text.clone());
    }
    let is_same_holder = before.holder() == Some(claim.holder.as_str());
    wanted.spec.holder_identity = Some(claim.holder.clone());
    // Whole seconds, and never 0: a second more only makes others wait.
    let seconds = u32::try_from(pace.duration.as_millis().div_ceil(1000)).unwrap_or(60);
    wanted.spec.lease_duration_seconds = Some(seconds.max(1));
    wanted.spec.renew_time = Some(micro_time(now));
    if !is_same_holder || wanted.spec.acquire_time.is_none() {
        wanted.spec.acquire_time = Some(micro_time(now));
    }
    wanted.spec.lease_transitions = wanted.spec.lease_transitions.saturating_add(1);
    wanted
}

/// `metav1.MicroTime`: six digits of a second.
pub(crate) fn micro_time(now: Timestamp) -> String {
    let text = now.to_string();
    format!("{}.000000Z", text.trim_end_matches('Z'))
}

/// Reads a `metav1.Time` or `MicroTime`, to the second.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let (whole, _fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{}Z", whole.trim_end_matches('Z')).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake::FakeApi;

    const QUICK: LeasePace = LeasePace {
        duration: Duration::from_secs(1),
        renew: Duration::from_millis(100),
    };

    fn claim(holder: &str, by: &str) -> Claim {
        Claim {
            holder: holder.to_owned(),
            by: by.to_owned(),
            doing: "joining".to_owned(),
            facts: BTreeMap::new(),
        }
    }

    async fn wanted(api: &Kubernetes, who: &Claim, watched: &mut Watched) -> Taken {
        take(api, "change", who, QUICK, watched).await.unwrap()
    }

    fn ours(taken: Taken) -> Held {
        match taken {
            Taken::Ours { held, .. } => *held,
            Taken::Theirs(lease) => panic!("it is held by {:?}", lease.holder()),
        }
    }

    #[tokio::test]
    async fn one_of_two_has_it_until_it_gives_it_back() {
        let api = FakeApi::start().await;
        let mut watched = Watched::default();
        let first = ours(wanted(&api.client, &claim("m2", "m1"), &mut watched).await);
        let second = wanted(&api.client, &claim("m3", "m1"), &mut watched).await;
        assert!(matches!(second, Taken::Theirs(lease) if lease.holder() == Some("m2")));
        let token = first.token();
        first.release(&api.client).await.unwrap();
        let second = ours(wanted(&api.client, &claim("m3", "m1"), &mut watched).await);
        assert!(second.token() > token);
    }

    #[tokio::test]
    async fn it_is_taken_from_the_dead_only_after_it_was_watched_for_its_duration() {
        let api = FakeApi::start().await;
        let mut held = ours(wanted(&api.client, &claim("m2", "m1"), &mut Watched::default()).await);
        let mut watched = Watched::default();
        let mut seen = Instant::now();
        for _ in 0..2 {
            // Whoever renews lives, whatever the clocks say.
            assert_eq!(held.renew(&api.client, "still here").await, Renewal::Ours);
            seen = Instant::now();
            let taken = wanted(&api.client, &claim("m3", "m3"), &mut watched).await;
            assert!(matches!(taken, Taken::Theirs(_)));
        }
        let dead = loop {
            match wanted(&api.client, &claim("m3", "m3"), &mut watched).await {
                Taken::Theirs(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Taken::Ours { before, .. } => break before,
            }
        };
        assert!(seen.elapsed() >= QUICK.duration);
        assert_eq!(dead.holder(), Some("m2"));
        assert_eq!(held.renew(&api.client, "too late").await, Renewal::Lost);
    }

    #[tokio::test]
    async fn another_daemon_takes_over_for_the_same_holder_and_the_first_one_stops() {
        let api = FakeApi::start().await;
        let mut watched = Watched::default();
        let mut first = ours(wanted(&api.client, &claim("m2 1", "m1"), &mut watched).await);
        let second = ours(wanted(&api.client, &claim("m2 1", "m3"), &mut watched).await);
        assert!(second.token() > first.token());
        assert_eq!(first.renew(&api.client, "").await, Renewal::Lost);
    }

    #[tokio::test]
    async fn what_can_not_be_renewed_is_lost_without_anybody_saying_so() {
        let api = FakeApi::start().await;
        let mut held = ours(wanted(&api.client, &claim("m2", "m1"), &mut Watched::default()).await);
        api.fail(true);
        assert_eq!(held.renew(&api.client, "").await, Renewal::Unsure);
        held.renewed = Instant::now().checked_sub(QUICK.duration).unwrap();
        assert!(!held.is_ours());
        assert_eq!(held.renew(&api.client, "").await, Renewal::Lost);
    }
}
