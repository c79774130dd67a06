//! Workers: a token at once, in parallel, and a look when they are done.
//!
//! Where a license limits nodes, each worker is counted when its token is asked for, together with the workers that have
//! one and are no nodes yet: two that ask at once are not counted apart, because each is noted before it counts.

use std::collections::BTreeSet;
use std::time::Instant;

use api::join::Attempt;
use api::join::Joined;
use api::join::Role;
use api::join::Turn;
use api::join::TurnWish;

use super::Desk;
use super::WorkerTry;
use crate::join::credentials;
use crate::join::fault::JoinError;
use crate::join::outside;
use crate::join::trial::Trial;

/// Workers that may join through one daemon at once.
const WORKERS_MAX: usize = 512;

impl Desk {
    pub(super) async fn worker_turn(&mut self, wish: TurnWish) -> Result<Turn, JoinError> {
        if let Some(known) = self.workers.get_mut(&wish.who.attempt)
            && known.trial.who == wish.who
        {
            known.heard = Instant::now();
            return Ok(Turn::Go {
                credentials: known.credentials.clone(),
            });
        }
        if self.workers.len() >= WORKERS_MAX {
            return Err(JoinError::Busy);
        }
        let kubernetes = self.plane.kubernetes()?;
        let trial = Trial::of(&wish);
        let minted = credentials::mint(&self.plane, &kubernetes, Role::Worker, &trial).await?;
        if let Err(refused) = self.require_room(&kubernetes, &wish, Role::Worker).await {
            credentials::remove(&kubernetes, Role::Worker, &trial).await?;
            return Err(refused);
        }
        tracing::info!(node = %wish.who.node, "a worker joins");
        self.workers.insert(
            wish.who.attempt,
            WorkerTry {
                trial,
                credentials: minted.clone(),
                heard: Instant::now(),
            },
        );
        Ok(Turn::Go {
            credentials: minted,
        })
    }

    pub(super) async fn worker_done(&mut self, who: &Attempt) -> Result<Joined, JoinError> {
        let kubernetes = self.plane.kubernetes()?;
        let trial = self.worker_trial(who);
        if let Some(known) = self.workers.get_mut(&who.attempt) {
            known.heard = Instant::now();
        }
        outside::require_ready(&kubernetes, &who.node).await?;
        credentials::remove(&kubernetes, Role::Worker, &trial).await?;
        self.workers.remove(&who.attempt);
        tracing::info!(node = %who.node, "a worker has joined");
        let members = self.plane.etcd.see().await?.voters().count();
        Ok(Joined {
            etcd_members: u32::try_from(members).unwrap_or(u32::MAX),
            masters: self.masters(&kubernetes).await?,
        })
    }

    pub(super) async fn worker_abandon(&mut self, who: &Attempt) -> Result<(), JoinError> {
        let kubernetes = self.plane.kubernetes()?;
        let trial = self.worker_trial(who);
        credentials::remove(&kubernetes, Role::Worker, &trial).await?;
        self.workers.remove(&who.attempt);
        Ok(())
    }

    /// Removes the tokens of workers that are silent.
    pub(super) async fn forget_workers(&mut self) {
        let silence = self.pace.silence;
        let silent = self.workers.iter();
        let silent: BTreeSet<String> = silent
            .filter(|(_, known)| known.heard.elapsed() > silence)
            .map(|(attempt, _)| attempt.clone())
            .collect();
        for attempt in silent {
            let Some(known) = self.workers.get(&attempt) else {
                continue;
            };
            let Ok(kubernetes) = self.plane.kubernetes() else {
                return;
            };
            // Without an answer it is tried again; the token ends by itself, too.
            let removed = credentials::remove(&kubernetes, Role::Worker, &known.trial).await;
            if removed.is_ok() {
                tracing::warn!(node = %known.trial.who.node, "a joining worker is silent, its token is removed");
                self.workers.remove(&attempt);
            }
        }
    }

    fn worker_trial(&self, who: &Attempt) -> Trial {
        let known = self.workers.get(&who.attempt);
        known.map_or_else(
            || Trial {
                who: who.clone(),
                address: [0, 0, 0, 0].into(),
            },
            |known| known.trial.clone(),
        )
    }
}
