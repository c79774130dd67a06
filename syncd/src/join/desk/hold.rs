//! What happens while the lease is held, and when it ends without success.

use std::time::Instant;

use api::join::Role;
use api::join::Turn;

use super::Desk;
use super::Holding;
use super::Stage;
use super::turn::wait;
use crate::etcd::Verdict;
use crate::join::credentials;
use crate::join::fault::JoinError;
use crate::join::queue;
use crate::join::trial;
use crate::join::trial::Trial;
use crate::kubernetes::Kubernetes;
use crate::lease;
use crate::lease::CONTROL_PLANE_CHANGE;
use crate::lease::Renewal;
use crate::lease::Taken;

/// Members that one clearing removes: a try leaves one behind, and another one's may be there as well.
const REMOVALS_MAX: usize = 4;

impl Desk {
    /// Takes the next step towards the machine's turn, and says how far it is.
    pub(super) async fn go_on(&mut self) -> Result<Turn, JoinError> {
        let Some(holding) = &self.holding else {
            return Err(JoinError::TurnLost);
        };
        match &holding.stage {
            Stage::Going(Some(credentials)) => Ok(Turn::Go {
                credentials: credentials.clone(),
            }),
            Stage::Going(None) => {
                let kubernetes = self.plane.kubernetes()?;
                let trial = Trial::of(&holding.wish);
                if self
                    .plane
                    .etcd
                    .see()
                    .await?
                    .voter_at(&trial.joiner())
                    .is_some()
                {
                    return self.let_go(&kubernetes, &trial).await;
                }
                // New certificates would come in the place of those that its kubeadm may be fetching just now.
                Ok(preparing("goes on with what another master has given it"))
            }
            // It was silent for too long: it stands in the queue again once this is over.
            Stage::Clearing(_) => Ok(wait(
                1,
                Some("what it left is being removed".into()),
                0,
                None,
            )),
            Stage::Preparing => match self.prepare().await {
                Err(error) if !error.is_retryable() => {
                    let kubernetes = self.plane.kubernetes()?;
                    if let Some(holding) = self.holding.take() {
                        queue::leave(&kubernetes, &holding.wish.who).await?;
                        let trial = Trial::of(&holding.wish);
                        credentials::remove(&kubernetes, Role::Master, &trial).await?;
                        holding.held.release(&kubernetes).await?;
                    }
                    Err(error)
                }
                prepared => prepared,
            },
        }
    }

    async fn prepare(&mut self) -> Result<Turn, JoinError> {
        let kubernetes = self.plane.kubernetes()?;
        while let Some(dead) = self.holding.as_ref().and_then(|it| it.dead.last().cloned()) {
            self.clear(&kubernetes, &dead).await?;
            if let Some(holding) = self.holding.as_mut() {
                holding.dead.pop();
            }
        }
        let Some(trial) = self.holding.as_ref().map(|it| Trial::of(&it.wish)) else {
            return Err(JoinError::TurnLost);
        };
        match self.verdict(&trial).await? {
            Verdict::Remove(member) => {
                self.renew(&kubernetes).await?;
                tracing::info!(
                    member = member.title(),
                    "what a failed join has left is removed"
                );
                self.plane.etcd.remove(member.id).await?;
                Ok(preparing("removes what a failed join has left"))
            }
            Verdict::Settle(_) => Ok(preparing("waits until etcd has settled")),
            Verdict::Blocked(why) => {
                // Nothing is begun: whoever can repair it must not find the lease taken.
                if let Some(holding) = self.holding.take() {
                    holding.held.release(&kubernetes).await?;
                }
                Ok(wait(0, None, 0, Some(why)))
            }
            Verdict::Well => self.admit(&kubernetes, &trial).await,
        }
    }

    async fn admit(&mut self, kubernetes: &Kubernetes, trial: &Trial) -> Result<Turn, JoinError> {
        let Some(wish) = self.holding.as_ref().map(|it| it.wish.clone()) else {
            return Err(JoinError::TurnLost);
        };
        self.require_room(kubernetes, &wish, Role::Master).await?;
        self.let_go(kubernetes, trial).await
    }

    /// Mints the machine's credentials; before that the lease says that it goes.
    async fn let_go(&mut self, kubernetes: &Kubernetes, trial: &Trial) -> Result<Turn, JoinError> {
        if let Some(holding) = self.holding.as_mut() {
            holding.held.note(trial::STAGE, trial::GOING);
        }
        self.renew(kubernetes).await?;
        let minted = credentials::mint(&self.plane, kubernetes, Role::Master, trial).await?;
        queue::leave(kubernetes, &trial.who).await?;
        if let Some(holding) = self.holding.as_mut() {
            holding.stage = Stage::Going(Some(minted.clone()));
            // Minting may have taken a while, in which nobody could be heard.
            holding.heard = Instant::now();
        }
        Ok(Turn::Go {
            credentials: minted,
        })
    }

    /// Removes what a failed try has left: members without a vote, its dead member, its credentials, its place.
    async fn clear(&mut self, kubernetes: &Kubernetes, trial: &Trial) -> Result<(), JoinError> {
        for _ in 0..REMOVALS_MAX {
            let Verdict::Remove(member) = self.verdict(trial).await? else {
                break;
            };
            self.renew(kubernetes).await?;
            tracing::info!(node = %trial.who.node, member = member.title(), "the member of a failed join is removed");
            self.plane.etcd.remove(member.id).await?;
        }
        self.renew(kubernetes).await?;
        credentials::remove(kubernetes, Role::Master, trial).await?;
        queue::leave(kubernetes, &trial.who).await?;
        Ok(())
    }

    /// Renews the lease before a change; fails when it is not certainly held.
    pub(super) async fn renew(&mut self, kubernetes: &Kubernetes) -> Result<(), JoinError> {
        let Some(holding) = self.holding.as_mut() else {
            return Err(JoinError::TurnLost);
        };
        let doing = holding.wish.doing.clone();
        match holding.held.renew(kubernetes, &doing).await {
            Renewal::Ours => Ok(()),
            Renewal::Unsure => Err(JoinError::NotYet(
                "the lease could not be renewed".to_owned(),
            )),
            Renewal::Lost => {
                tracing::warn!(node = %holding.wish.who.node, "the lease is lost; another daemon has it");
                self.holding = None;
                Err(JoinError::TurnLost)
            }
        }
    }

    pub(super) fn begin_clearing(&mut self) {
        if let Some(holding) = self.holding.as_mut()
            && !matches!(holding.stage, Stage::Clearing(_))
        {
            holding.stage = Stage::Clearing(Instant::now());
        }
    }

    /// Every tick: renews, notices silence, clears, and looks after what others have left.
    pub(super) async fn look_around(&mut self) {
        self.forget_workers().await;
        let done = match self.holding.as_ref().map(|holding| &holding.stage) {
            None => self.look_after_others().await,
            Some(Stage::Clearing(since)) => {
                let since = *since;
                self.go_on_clearing(since).await
            }
            Some(Stage::Preparing | Stage::Going(_)) => self.watch_machine().await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the join broker tries again");
        }
    }

    async fn watch_machine(&mut self) -> Result<(), JoinError> {
        let Some(Holding {
            heard,
            held,
            wish,
            stage,
            ..
        }) = self.holding.as_ref()
        else {
            return Ok(());
        };
        if heard.elapsed() > self.pace.silence {
            tracing::warn!(node = %wish.who.node, "a joining master is silent, its turn is over");
            self.begin_clearing();
            return Ok(());
        }
        let is_preparing = matches!(stage, Stage::Preparing);
        if held.is_due() {
            let kubernetes = self.plane.kubernetes()?;
            self.renew(&kubernetes).await?;
        }
        if is_preparing {
            self.go_on().await?;
        }
        Ok(())
    }

    async fn go_on_clearing(&mut self, since: Instant) -> Result<(), JoinError> {
        let Some(trial) = self.holding.as_ref().map(|it| Trial::of(&it.wish)) else {
            return Ok(());
        };
        let kubernetes = self.plane.kubernetes()?;
        match self.clear(&kubernetes, &trial).await {
            Err(error) if since.elapsed() < self.pace.clearing => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a failed join could not be cleared; the next one will try");
            }
            Ok(()) => tracing::info!(node = %trial.who.node, "a failed join is cleared"),
        }
        if let Some(holding) = self.holding.take() {
            holding.held.release(&kubernetes).await?;
        }
        Ok(())
    }

    /// Takes a lease that a dead daemon held for a dead machine, cleans up, and gives it back.
    async fn look_after_others(&mut self) -> Result<(), JoinError> {
        let every = self.pace.lease.renew;
        if self.looked.is_some_and(|looked| looked.elapsed() < every) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let Ok(kubernetes) = self.plane.kubernetes() else {
            // Not a master yet.
            return Ok(());
        };
        let watched = &mut self.watched;
        let Some(found) = lease::look(&kubernetes, CONTROL_PLANE_CHANGE, watched).await? else {
            return Ok(());
        };
        if !self.watched.is_expired(&found, Instant::now()) {
            return Ok(());
        }
        let claim = self.own_claim("cleans up after a join that failed");
        let Taken::Ours { held, before } = self.take(&kubernetes, &claim).await? else {
            return Ok(());
        };
        let Some(trial) = Trial::in_lease(&before) else {
            return Ok(held.release(&kubernetes).await?);
        };
        tracing::warn!(node = %trial.who.node, "a join has failed together with the master that looked after it");
        self.holding = Some(Holding {
            wish: api::join::TurnWish {
                address: trial.address,
                who: trial.who,
                machine_id: String::new(),
                doing: claim.doing,
                begins: false,
            },
            held: *held,
            heard: Instant::now(),
            stage: Stage::Clearing(Instant::now()),
            dead: Vec::new(),
        });
        Ok(())
    }
}

/// The turn has come, but the machine can't begin yet.
fn preparing(what: &str) -> Turn {
    wait(0, Some(format!("this machine: {what}")), 0, None)
}
