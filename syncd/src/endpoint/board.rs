//! Who is ready, who gets the next connection, and whose connections have to end.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use api::endpoint::Report;
use api::endpoint::Target;
use api::endpoint::TargetReport;
use api::endpoint::TargetState;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Timing;
use super::probe;
use super::probe::Trust;

/// All targets, in the order of the list.
#[derive(Debug)]
pub(super) struct Board {
    timing: Timing,
    trust: watch::Sender<Option<Trust>>,
    entries: Mutex<Vec<Entry>>,
}

/// A target of the list, and who asks it.
#[derive(Debug)]
struct Entry {
    target: Target,
    way: Arc<Way>,
    prober: AbortHandle,
}

/// One way to an API server. Connections keep it when the list does not any more.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) host: String,
    pub(super) port: u16,
    health: Mutex<Health>,
    /// Changes when the connections on this way have to end.
    cut: watch::Sender<u64>,
}

/// A way that a connection takes; what tells it to end lives as long as the connection does.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) way: Arc<Way>,
    pub(super) cut: watch::Receiver<u64>,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Health {
    state: TargetState,
    /// Answers in a row that speak against the state.
    against: u32,
}

impl Health {
    pub(super) const UNKNOWN: Self = Self {
        state: TargetState::Unknown,
        against: 0,
    };

    /// Takes one answer.
    #[must_use]
    pub(super) const fn after(self, is_ready: bool, timing: &Timing) -> Self {
        let (other, needed) = match (self.state, is_ready) {
            (TargetState::Up, true) | (TargetState::Down, false) => {
                return Self { against: 0, ..self };
            }
            (TargetState::Unknown, true) => (TargetState::Up, 1),
            (TargetState::Unknown, false) => (TargetState::Down, 1),
            (TargetState::Up, false) => (TargetState::Down, timing.fall),
            (TargetState::Down, true) => (TargetState::Up, timing.rise),
        };
        let against = self.against + 1;
        if against < needed {
            return Self { against, ..self };
        }
        Self {
            state: other,
            against: 0,
        }
    }
}

impl Board {
    pub(super) fn new(timing: Timing) -> Arc<Self> {
        Arc::new(Self {
            timing,
            trust: watch::Sender::new(None),
            entries: Mutex::default(),
        })
    }

    /// Believes these API servers from now on, or nobody.
    pub(super) fn believe(&self, trust: Option<Trust>) {
        self.trust.send_replace(trust);
    }

    /// Takes another list. A place that was on the old one keeps its health, and connections go on either way.
    pub(super) fn follow(self: &Arc<Self>, targets: Vec<Target>) {
        let mut entries = self.lock();
        let mut old = std::mem::take(&mut *entries);
        for target in targets {
            let same = |entry: &Entry| entry.way.leads_to(&target.host, target.port);
            let entry = match old.iter().position(same) {
                Some(at) => Entry {
                    target,
                    ..old.swap_remove(at)
                },
                None => self.add(target),
            };
            entries.push(entry);
        }
        for gone in old {
            tracing::info!(
                host = gone.way.host,
                port = gone.way.port,
                "a target is not used any more"
            );
            gone.prober.abort();
        }
    }

    fn add(self: &Arc<Self>, target: Target) -> Entry {
        let way = Arc::new(Way {
            host: target.host.clone(),
            port: target.port,
            health: Mutex::new(Health::UNKNOWN),
            cut: watch::Sender::new(0),
        });
        let asks = probe::run(
            way.clone(),
            Arc::downgrade(self),
            self.trust.subscribe(),
            self.timing,
        );
        Entry {
            prober: tokio::spawn(asks).abort_handle(),
            way,
            target,
        }
    }

    /// The ways that a new connection should try, best first.
    pub(super) fn ways(&self) -> Vec<Open> {
        let mut ways: Vec<_> = self
            .lock()
            .iter()
            .map(|entry| Open {
                way: entry.way.clone(),
                cut: entry.way.cut.subscribe(),
            })
            .collect();
        ways.sort_by_key(|open| open.way.state() != TargetState::Up);
        ways
    }

    /// How long a connection to a target may take.
    pub(super) const fn time_out(&self) -> std::time::Duration {
        self.timing.time_out
    }

    /// Ends the connections of whoever has fallen, where another is ready to take them.
    fn settle(&self) {
        let entries = self.lock();
        let states: Vec<TargetState> = entries.iter().map(|entry| entry.way.state()).collect();
        if !states.contains(&TargetState::Up) {
            return;
        }
        for (entry, state) in entries.iter().zip(states) {
            if state == TargetState::Down {
                entry
                    .way
                    .cut
                    .send_modify(|cuts| *cuts = cuts.wrapping_add(1));
            }
        }
    }

    /// Every target and how it does, in order.
    pub(super) fn report(&self) -> Report {
        let entries = self.lock();
        let targets = entries.iter().map(|entry| TargetReport {
            target: entry.target.clone(),
            state: entry.way.state(),
            connections: entry.way.cut.receiver_count(),
        });
        Report {
            targets: targets.collect(),
        }
    }

    fn kind_of(&self, way: &Way) -> Option<api::endpoint::Kind> {
        let entries = self.lock();
        let mut same = entries
            .iter()
            .filter(|entry| entry.way.leads_to(&way.host, way.port));
        same.next().map(|entry| entry.target.kind)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    /// Takes one answer; whoever it concerns learns of it.
    pub(super) fn note(&self, answer: Result<(), String>, timing: &Timing, board: &Weak<Board>) {
        let before = self.state();
        let after = {
            let mut health = self.health();
            *health = health.after(answer.is_ok(), timing);
            health.state
        };
        let Some(board) = board.upgrade().filter(|_| before != after) else {
            return;
        };
        let kind = board.kind_of(self);
        match answer {
            Ok(()) => tracing::info!(host = self.host, port = self.port, ?kind, "ready"),
            Err(why) => {
                tracing::warn!(host = self.host, port = self.port, ?kind, why, "not ready");
            }
        }
        board.settle();
    }

    /// Nothing is known any more: there is no authority to tell.
    pub(super) fn forget(&self) {
        *self.health() = Health::UNKNOWN;
    }

    fn leads_to(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    fn state(&self) -> TargetState {
        self.health().state
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
