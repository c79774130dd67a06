//! Brings an engine up: reads the store, then lets everybody work who works for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use store::Fs;
use store::StoreError;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::EVENTS;
use super::Engine;
use super::landing;
use super::observe::Watch;
use super::peer::Peer;
use super::plan::Board;
use super::plan::Source;
use super::rooms::NoPlace;
use super::rooms::Rooms;
use super::scan;
use super::scan::Depth;
use super::transfer::Stream;
use super::transfer::room_units;
use crate::backoff::Backoff;
use crate::contents::Judge;
use crate::env::Net;
use crate::node::Node;
use crate::replicate::event::Event;
use crate::settings::Settings;
use crate::wire::server;

/// Small blobs that may wait to be stored; their bytes are bounded by the budget.
const SMALL_WAITING: usize = 256;

/// What an engine hears events with.
pub(crate) type Events = mpsc::Receiver<Event>;

impl<F: Fs, N: Net> Engine<F, N> {
    pub(crate) fn new(
        settings: Settings,
        node: Arc<Node<F>>,
        net: Arc<N>,
        judge: Arc<dyn Judge>,
    ) -> (Self, Events) {
        let (events, heard) = mpsc::channel(EVENTS);
        let (small, arrived) = mpsc::channel(SMALL_WAITING);
        let mut random = StdRng::seed_from_u64(settings.seed);
        let mut tasks = JoinSet::new();
        tasks.spawn(landing::batch(node.clone(), arrived, events.clone()));
        let mut names = settings.peers.clone();
        names.sort();
        names.dedup();
        names.retain(|name| *name != settings.node);
        let sources = names.iter().map(|name| Source {
            name: name.clone(),
            reachable: false,
            idle_streams: 0,
        });
        let board = Board {
            me: settings.node.clone(),
            sources: sources.collect(),
            wants: Vec::new(),
            open_room: settings.budget.open_blobs,
            impatient: false,
        };
        let backoff = settings.timing.backoff;
        let peers = names.into_iter().map(|name| {
            let backoff = Backoff::new(backoff, random.next_u64());
            Peer::new(name, backoff)
        });
        let budget = room_units(settings.budget.in_flight_bytes);
        let budget = usize::try_from(budget).unwrap_or(Semaphore::MAX_PERMITS);
        let peers: Vec<Peer> = peers.collect();
        let rooms = Rooms::default();
        rooms.keep(&peers.iter().map(|peer| peer.name.clone()).collect());
        let engine = Self {
            peers,
            rooms: Arc::new(rooms),
            routes: Router::new(),
            budget: Arc::new(Semaphore::new(budget)),
            settings,
            node,
            net,
            judge,
            random,
            events,
            tasks,
            small,
            contents: BTreeMap::default(),
            refused: BTreeMap::default(),
            alarms: BTreeMap::default(),
            merged: BTreeSet::default(),
            board,
            wanted: BTreeMap::default(),
            flights: BTreeMap::default(),
            waiting: Vec::new(),
            copies_changed: false,
            examining: BTreeSet::default(),
            scan_trouble: None,
            scanning: false,
            scan_next: None,
            full_pass_at: Instant::now(),
            news_at: Instant::now(),
        };
        (engine, heard)
    }

    /// Reads the store, so that the first answer to a peer is true; then begins to work.
    pub(super) async fn start(&mut self) -> Result<(), StoreError> {
        let node = self.node.clone();
        let judge = self.judge.clone();
        let read = move || scan::scan(&node.store, &node.holdings, &*judge, Depth::Everything);
        let scan = self.node.offload.run(read).await?;
        self.learn(scan);
        let interval = self.settings.timing.full_pass;
        self.full_pass_at =
            Instant::now() + crate::backoff::jittered(interval, self.random.next_u64());
        self.accept();
        for source in 0..self.peers.len() {
            self.watch(source);
        }
        self.nudge_all();
        Ok(())
    }

    /// Watches a peer and opens its streams.
    pub(super) fn watch(&mut self, source: usize) {
        let timing = self.settings.timing;
        let backoff = self.backoff();
        let Some(peer) = self.peers.get(source) else {
            return;
        };
        let name = peer.name.clone();
        let watch = Watch {
            net: self.net.clone(),
            peer: name.clone(),
            source,
            timing,
            signals: peer.signals.clone(),
            events: self.events.clone(),
            backoff,
        };
        let mut tasks = vec![self.tasks.spawn(watch.run())];
        for number in 0..self.settings.budget.streams_per_peer {
            let (jobs, taken) = mpsc::channel(1);
            let stream = Stream {
                node: self.node.clone(),
                net: self.net.clone(),
                peer: name.clone(),
                source,
                number,
                idle: timing.idle,
                budget: self.budget.clone(),
                budget_units: room_units(self.settings.budget.in_flight_bytes),
                small: self.small.clone(),
                events: self.events.clone(),
                backoff: self.backoff(),
            };
            tasks.push(self.tasks.spawn(stream.run(taken)));
            if let Some(peer) = self.peers.get_mut(source) {
                peer.streams.push(jobs);
                peer.idle.push(number);
            }
            if let Some(source) = self.board.sources.get_mut(source) {
                source.idle_streams += 1;
            }
        }
        if let Some(peer) = self.peers.get_mut(source) {
            peer.tasks = tasks;
        }
    }

    /// Takes connections of members and serves each until it ends.
    fn accept(&mut self) {
        let net = self.net.clone();
        let pause = self.settings.timing.backoff.0;
        let router = server::router(self.node.clone()).merge(std::mem::take(&mut self.routes));
        let rooms = self.rooms.clone();
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, peer) = match net.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "connections can't be accepted now");
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                };
                while connections.try_join_next().is_some() {}
                let mut place = match rooms.enter(&peer) {
                    Ok(place) => place,
                    Err(NoPlace::Stranger) => {
                        tracing::info!(%peer, "a connection of no member is closed");
                        continue;
                    }
                    Err(NoPlace::Full) => {
                        tracing::warn!(%peer, "too many connections of one peer");
                        continue;
                    }
                };
                let router = router.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = server::serve(stream, peer, router) => {}
                        () = place.closed() => {}
                    }
                });
            }
        });
    }
}
