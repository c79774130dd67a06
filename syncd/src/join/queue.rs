//! The machines that wait for their turn: one Lease each, in the order in which the API server made them.
//!
//! A waiting machine renews its place by asking, through whichever daemon it asks. A place that nobody renews is passed
//! over and removed, by the monotonic clock of whoever watched it.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use api::join::Attempt;
use api::join::TurnWish;

use super::trial;
use super::trial::Trial;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::KubernetesError;
use crate::kubernetes::Lease;
use crate::kubernetes::lease;
use crate::kubernetes::leases;
use crate::lease::CONTROL_PLANE_CHANGE;
use crate::lease::DOING;
use crate::lease::Watched;
use crate::lease::micro_time;

/// The label of all places.
pub(super) const LABEL: &str = "sealift.io/join-queue";
const WAITING: &str = "waiting";
const PREFIX: &str = "sealift-join-";

/// Whether a machine has been in the queue before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    New,
    Again,
}

/// Puts a machine into the queue, or says that it still waits; a new try of a node takes over its old place.
pub(super) async fn enter(
    kubernetes: &Kubernetes,
    wish: &TurnWish,
    silence: Duration,
) -> Result<Entered, KubernetesError> {
    let name = name_of(&wish.who);
    let path = lease(&name);
    let found: Option<Lease> = kubernetes.read(&path).await?;
    let is_new = found.is_none();
    let mut place = found.unwrap_or_else(|| Lease::named(&name));
    let labels = &mut place.metadata.labels;
    labels.insert(LABEL.to_owned(), WAITING.to_owned());
    place.metadata.annotations = Trial::of(wish).facts();
    let annotations = &mut place.metadata.annotations;
    annotations.insert(DOING.to_owned(), wish.doing.clone());
    let now = micro_time(kubernetes.now().await?);
    place.spec.holder_identity = Some(trial::holder(&wish.who));
    let seconds = u32::try_from(silence.as_millis().div_ceil(1000)).unwrap_or(60);
    place.spec.lease_duration_seconds = Some(seconds.max(1));
    place.spec.renew_time = Some(now.clone());
    place.spec.acquire_time.get_or_insert(now);
    // Changes with every renewal, also within one second: that is what watchers see.
    place.spec.lease_transitions = place.spec.lease_transitions.saturating_add(1);
    let written = if is_new {
        kubernetes.create(&leases(), &place).await
    } else {
        kubernetes.replace(&path, &place).await
    };
    match written {
        // Another daemon wrote it for the same machine just now.
        Err(error) if error.is_conflict() => Ok(Entered::Again),
        Err(error) => Err(error),
        Ok(_) if is_new => Ok(Entered::New),
        Ok(_) => Ok(Entered::Again),
    }
}

/// Takes a machine out of the queue.
pub(super) async fn leave(kubernetes: &Kubernetes, who: &Attempt) -> Result<(), KubernetesError> {
    let path = lease(&name_of(who));
    let found: Option<Lease> = kubernetes.read(&path).await?;
    match found {
        // A newer try of the same node keeps its place.
        Some(place) if place.holder() == Some(trial::holder(who).as_str()) => {
            match kubernetes.delete(&path, Some(place.version())).await {
                Err(error) if error.is_conflict() => Ok(()),
                done => done,
            }
        }
        Some(_) | None => Ok(()),
    }
}

/// Who waits, first come first; places that nobody renews any more are removed.
pub(super) async fn waiting(
    kubernetes: &Kubernetes,
    watched: &mut Watched,
) -> Result<Vec<Trial>, KubernetesError> {
    let label = format!("{LABEL}={WAITING}");
    let places: Vec<Lease> = kubernetes.list(&leases(), &label).await?;
    let mut names: BTreeSet<&str> = [CONTROL_PLANE_CHANGE].into();
    names.extend(places.iter().map(|place| place.metadata.name.as_str()));
    watched.keep_only(&names);
    let now = Instant::now();
    let mut alive = Vec::new();
    for place in places {
        if !watched.is_expired(&place, now) {
            alive.push(place);
            continue;
        }
        let path = lease(&place.metadata.name);
        tracing::info!(
            machine = place.holder(),
            "a waiting machine is silent, its place is removed"
        );
        match kubernetes.delete(&path, Some(place.version())).await {
            // It lives after all.
            Err(error) if error.is_conflict() => alive.push(place),
            done => done?,
        }
    }
    Ok(in_order(alive))
}

/// Creation, then name: every daemon sees the same order.
fn in_order(mut places: Vec<Lease>) -> Vec<Trial> {
    places.sort_by(|one, other| {
        let key = |place: &Lease| {
            let made = place.metadata.creation_timestamp.clone();
            (made, place.metadata.name.clone())
        };
        key(one).cmp(&key(other))
    });
    places.iter().filter_map(Trial::in_lease).collect()
}

fn name_of(who: &Attempt) -> String {
    format!("{PREFIX}{}", who.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake::FakeApi;

    fn wish(node: &str, attempt: char) -> TurnWish {
        TurnWish {
            who: Attempt {
                node: node.parse().unwrap(),
                attempt: attempt.to_string().repeat(32),
            },
            address: [10, 0, 0, 1].into(),
            machine_id: "id".to_owned(),
            doing: "waiting".to_owned(),
            begins: true,
        }
    }

    async fn names(api: &FakeApi, watched: &mut Watched) -> String {
        let waiting = waiting(&api.client, watched).await.unwrap();
        let names: Vec<_> = waiting.iter().map(|it| it.who.node.as_str()).collect();
        names.join(" ")
    }

    #[tokio::test]
    async fn first_come_first_served_and_a_place_is_kept_through_another_daemon() {
        let api = FakeApi::start().await;
        let silence = Duration::from_secs(45);
        for node in ["m3", "m2", "m4"] {
            let entered = enter(&api.client, &wish(node, 'a'), silence).await;
            assert_eq!(entered.unwrap(), Entered::New);
        }
        let again = enter(&api.client, &wish("m3", 'a'), silence).await;
        assert_eq!(again.unwrap(), Entered::Again);
        // A new try of the same node stands where the old one stood.
        enter(&api.client, &wish("m2", 'b'), silence).await.unwrap();
        assert_eq!(names(&api, &mut Watched::default()).await, "m3 m2 m4");
        leave(&api.client, &wish("m2", 'a').who).await.unwrap();
        leave(&api.client, &wish("m3", 'a').who).await.unwrap();
        assert_eq!(names(&api, &mut Watched::default()).await, "m2 m4");
    }

    #[tokio::test]
    async fn who_is_silent_loses_its_place() {
        let api = FakeApi::start().await;
        let mut watched = Watched::default();
        let quick = Duration::from_secs(1);
        enter(&api.client, &wish("m2", 'a'), quick).await.unwrap();
        enter(&api.client, &wish("m3", 'a'), quick).await.unwrap();
        let begun = Instant::now();
        while names(&api, &mut watched).await != "m3" {
            enter(&api.client, &wish("m3", 'a'), quick).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        assert!(begun.elapsed() >= quick);
    }
}
