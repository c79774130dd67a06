//! How many connections each member may hold open to this node; who is no member has no room.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use api::sync::NodeName;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::watch;

/// Connections that one peer may hold open to this node: its streams, its watch, and some in passing.
const CONNECTIONS_PER_PEER_MAX: usize = 16;

/// All members' rooms.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<BTreeMap<NodeName, Room>>);

#[derive(Debug)]
struct Room {
    slots: Arc<Semaphore>,
    /// Gone when the room is closed, which ends whoever is in it.
    open: watch::Sender<()>,
}

/// A connection's place in a room.
#[derive(Debug)]
pub(super) struct Place {
    _slot: OwnedSemaphorePermit,
    open: watch::Receiver<()>,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Not a member's.
    Stranger,
    /// The room is full.
    Full,
}

impl Rooms {
    /// Has rooms for these from now on; whoever is in another one is ended.
    pub(super) fn keep(&self, members: &BTreeSet<NodeName>) {
        let mut rooms = self.lock();
        rooms.retain(|name, _room| members.contains(name));
        for member in members {
            rooms.entry(member.clone()).or_insert_with(|| Room {
                slots: Arc::new(Semaphore::new(CONNECTIONS_PER_PEER_MAX)),
                open: watch::Sender::new(()),
            });
        }
    }

    pub(super) fn enter(&self, member: &NodeName) -> Result<Place, NoPlace> {
        let rooms = self.lock();
        let room = rooms.get(member).ok_or(NoPlace::Stranger)?;
        let slot = room.slots.clone().try_acquire_owned();
        Ok(Place {
            _slot: slot.map_err(|_none| NoPlace::Full)?,
            open: room.open.subscribe(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Over when the room is closed.
    pub(super) async fn closed(&mut self) {
        while self.open.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_room_ends_whoever_is_in_it() {
        let rooms = Rooms::default();
        let member: NodeName = "m2".parse().unwrap();
        assert_eq!(rooms.enter(&member).unwrap_err(), NoPlace::Stranger);
        rooms.keep(&BTreeSet::from([member.clone()]));
        let mut places: Vec<Place> = (0..CONNECTIONS_PER_PEER_MAX)
            .map(|_| rooms.enter(&member).unwrap())
            .collect();
        assert_eq!(rooms.enter(&member).unwrap_err(), NoPlace::Full);
        rooms.keep(&BTreeSet::new());
        for place in &mut places {
            place.closed().await;
        }
        assert_eq!(rooms.enter(&member).unwrap_err(), NoPlace::Stranger);
    }
}
