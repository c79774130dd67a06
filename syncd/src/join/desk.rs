//! The actor that decides whose turn it is. Everything that it does is one step after another; requests wait in a queue.
//!
//! While it holds the lease for a machine it is in one of three stages:
//!
//! | stage | what happens | ends |
//! |---|---|---|
//! | preparing | what is left of failed tries is removed, etcd's members settle, credentials are minted | going |
//! | going | the machine runs `kubeadm join`; the lease is renewed while it is heard | done, or silent |
//! | clearing | the half-made member and the credentials are removed | the lease is free |
//!
//! Before each change it renews the lease: what it does not hold any more it does not change.

mod finish;
mod hold;
mod turn;
mod workers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use api::join::Attempt;
use api::join::Credentials;
use api::join::Joined;
use api::join::Queue;
use api::join::Role;
use api::join::Turn;
use api::join::TurnWish;
use api::sync::NodeName;
use store::Store;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::fault::JoinError;
use super::pace::Pace;
use super::plane::Plane;
use super::plane::Roster;
use super::trial;
use super::trial::Trial;
use crate::lease::Held;
use crate::lease::Watched;

/// Requests that may wait; more are told to come again.
const ASKS: usize = 128;

/// A line to the running broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {
    asks: mpsc::Sender<Ask>,
    pace: Pace,
}

type Answer<T> = oneshot::Sender<Result<T, JoinError>>;

enum Ask {
    Turn(Role, TurnWish, Answer<Turn>),
    Done(Role, Attempt, Answer<Joined>),
    Abandon(Role, Attempt, Answer<()>),
    Queue(Answer<Queue>),
}

/// The actor.
pub(super) struct Desk {
    me: NodeName,
    plane: Arc<Plane>,
    roster: Arc<dyn Roster>,
    /// Of a master; the suite of the broker alone has none.
    store: Option<Store>,
    pace: Pace,
    watched: Watched,
    holding: Option<Holding>,
    workers: BTreeMap<String, WorkerTry>,
    looked: Option<Instant>,
}

/// The lease, held for a machine.
struct Holding {
    wish: TurnWish,
    held: Held,
    heard: Instant,
    stage: Stage,
    /// Failed tries to clean up after before anything else.
    dead: Vec<Trial>,
}

enum Stage {
    Preparing,
    /// Without credentials when another daemon has told them: new ones could only disturb.
    Going(Option<Credentials>),
    Clearing(Instant),
}

/// A worker that has its token.
struct WorkerTry {
    trial: Trial,
    credentials: Credentials,
    heard: Instant,
}

impl Broker {
    /// Starts the actor of a master; it ends when the last line to it is dropped.
    pub fn start(
        me: NodeName,
        plane: Arc<Plane>,
        roster: Arc<dyn Roster>,
        store: Option<Store>,
        pace: Pace,
    ) -> Self {
        let (asks, inbox) = mpsc::channel(ASKS);
        let desk = Desk {
            me,
            plane,
            roster,
            store,
            pace,
            watched: Watched::default(),
            holding: None,
            workers: BTreeMap::new(),
            looked: None,
        };
        tokio::spawn(desk.run(inbox));
        Self { asks, pace }
    }

    /// Asks for a machine's turn; the machine repeats it for as long as it waits or joins.
    pub async fn turn(&self, role: Role, wish: TurnWish) -> Result<Turn, JoinError> {
        trial::check(&wish.who)?;
        self.ask(|answer| Ask::Turn(role, wish, answer)).await
    }

    /// Says that a machine has joined; true once this has been seen from outside, which is looked into for a while.
    pub async fn done(&self, role: Role, who: Attempt) -> Result<Joined, JoinError> {
        trial::check(&who)?;
        let begun = Instant::now();
        loop {
            let done = self.ask(|answer| Ask::Done(role, who.clone(), answer));
            match done.await {
                Err(JoinError::NotYet(_)) if begun.elapsed() < self.pace.done => {
                    tokio::time::sleep(self.pace.tick / 2).await;
                }
                done => return done,
            }
        }
    }

    /// Says that a machine gives up.
    pub async fn abandon(&self, role: Role, who: Attempt) -> Result<(), JoinError> {
        trial::check(&who)?;
        self.ask(|answer| Ask::Abandon(role, who, answer)).await
    }

    /// Who changes the control plane, and who waits.
    pub async fn queue(&self) -> Result<Queue, JoinError> {
        self.ask(Ask::Queue).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, JoinError> {
        let (answer, answered) = oneshot::channel();
        self.asks
            .try_send(ask(answer))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => JoinError::Busy,
                mpsc::error::TrySendError::Closed(_) => JoinError::Ending,
            })?;
        answered.await.map_err(|_dropped| JoinError::Ending)?
    }
}

impl Desk {
    async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        let mut tick = tokio::time::interval(self.pace.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Signs of life first: nobody is silent whose request waits here.
                biased;
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    // The lease is not given back: the machine may go on with this daemon's next life.
                    None => return,
                },
                _ = tick.tick() => self.look_around().await,
            }
        }
    }

    async fn answer(&mut self, ask: Ask) {
        // Who has hung up meanwhile asks again; what it asked for then is not what it wants now.
        if ask.is_abandoned() {
            return;
        }
        match ask {
            Ask::Turn(role, wish, answer) => {
                let turn = match role {
                    Role::Master => self.master_turn(wish).await,
                    Role::Worker => self.worker_turn(wish).await,
                };
                let _hung_up = answer.send(turn);
            }
            Ask::Done(role, who, answer) => {
                let done = match role {
                    Role::Master => self.master_done(&who).await,
                    Role::Worker => self.worker_done(&who).await,
                };
                let _hung_up = answer.send(done);
            }
            Ask::Abandon(role, who, answer) => {
                let abandoned = match role {
                    Role::Master => self.master_abandon(&who).await,
                    Role::Worker => self.worker_abandon(&who).await,
                };
                let _hung_up = answer.send(abandoned);
            }
            Ask::Queue(answer) => {
                let _hung_up = answer.send(self.tell_queue().await);
            }
        }
    }

    fn is_holding(&self, who: &Attempt) -> bool {
        let holding = self.holding.as_ref();
        holding.is_some_and(|holding| holding.wish.who == *who)
    }
}

impl Ask {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Turn(.., answer) => answer.is_closed(),
            Self::Done(.., answer) => answer.is_closed(),
            Self::Abandon(.., answer) => answer.is_closed(),
            Self::Queue(answer) => answer.is_closed(),
        }
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Ask")
    }
}
