//! Who takes part: peers come and go while the engine works.
//!
//! A peer's index never changes, because events on their way carry it: who goes leaves an empty place behind, and who
//! comes back gets a new one. What a peer holds counts only as long as it is a member.

use std::collections::BTreeSet;

use api::sync::NodeName;
use api::sync::Nudge;
use store::Fs;

use super::Engine;
use super::peer::Peer;
use super::plan::Held;
use super::plan::Source;
use crate::env::Net;

impl<F: Fs, N: Net> Engine<F, N> {
    /// The members other than this node.
    pub(super) fn others(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| !peer.is_gone())
    }

    /// Replicates with these and nobody else from now on; guests may fetch from this node.
    pub(super) fn replicate_with(&mut self, names: Vec<NodeName>, guests: Vec<NodeName>) {
        let mut names: BTreeSet<NodeName> = names.into_iter().collect();
        names.remove(&self.settings.node);
        self.rooms
            .keep(&names.iter().cloned().chain(guests).collect());
        let mut gone = Vec::new();
        for (source, peer) in self.peers.iter().enumerate() {
            if !peer.is_gone() && !names.remove(&peer.name) {
                gone.push(source);
            }
        }
        for source in gone {
            self.expel(source);
        }
        for name in names {
            self.admit(name);
        }
    }

    fn admit(&mut self, name: NodeName) {
        tracing::info!(peer = %name, "a new member");
        let source = self.peers.len();
        let backoff = self.backoff();
        self.board.sources.push(Source {
            name: name.clone(),
            reachable: false,
            idle_streams: 0,
        });
        for want in &mut self.board.wants {
            want.held.push(Held::Nothing);
        }
        self.peers.push(Peer::new(name.clone(), backoff));
        self.watch(source);
        // It may have been refused before, and be waiting for long.
        self.nudge(name, Nudge::default());
        self.copies_changed = true;
    }

    fn expel(&mut self, source: usize) {
        let Some(peer) = self.peers.get_mut(source) else {
            return;
        };
        tracing::info!(peer = %peer.name, "not a member any more");
        peer.expel();
        if let Some(source) = self.board.sources.get_mut(source) {
            source.reachable = false;
            source.idle_streams = 0;
        }
        let lost = self
            .flights
            .extract_if(.., |(of, _stream), _flight| *of == source);
        let lost: Vec<_> = lost.map(|(_stream, flight)| flight.request).collect();
        for request in lost {
            self.board.settle(request);
        }
        self.hold_again(source);
        self.copies_changed = true;
    }
}
