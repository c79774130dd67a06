//! Whose turn it is.

use std::collections::BTreeMap;
use std::time::Instant;

use api::join::Attempt;
use api::join::Queue;
use api::join::Role;
use api::join::Turn;
use api::join::TurnWish;
use bundle::timestamp::Timestamp;

use super::Desk;
use super::Holding;
use super::Stage;
use crate::etcd;
use crate::etcd::Verdict;
use crate::join::fault::JoinError;
use crate::join::license;
use crate::join::license::Crowd;
use crate::join::queue;
use crate::join::queue::Entered;
use crate::join::site;
use crate::join::trial;
use crate::join::trial::Trial;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::Lease;
use crate::kubernetes::Secret;
use crate::kubernetes::secrets;
use crate::lease;
use crate::lease::CONTROL_PLANE_CHANGE;
use crate::lease::Claim;
use crate::lease::DOING;
use crate::lease::Held;
use crate::lease::Taken;
use crate::lease::parse_time;

impl Desk {
    /// One request for a master's turn.
    pub(super) async fn master_turn(&mut self, wish: TurnWish) -> Result<Turn, JoinError> {
        if let Some(holding) = self.holding.as_mut()
            && holding.wish.who == wish.who
        {
            holding.hear(wish);
            return self.go_on().await;
        }
        let kubernetes = self.plane.kubernetes()?;
        let holder = lease::look(&kubernetes, CONTROL_PLANE_CHANGE, &mut self.watched).await?;
        let is_own = |lease: &Lease| lease.holder() == Some(trial::holder(&wish.who).as_str());
        if self.holding.is_none() && holder.as_ref().is_some_and(is_own) {
            // Another daemon held it for the same machine, and the machine has come here.
            return self.take_turn(&kubernetes, wish).await;
        }
        if queue::enter(&kubernetes, &wish, self.pace.silence).await? == Entered::New {
            let nodes = site::read_nodes(&kubernetes).await?;
            if let Err(taken) = site::refuse_taken(&nodes, &wish) {
                queue::leave(&kubernetes, &wish.who).await?;
                return Err(taken);
            }
        }
        let waiting = queue::waiting(&kubernetes, &mut self.watched).await?;
        let before = waiting.iter().take_while(|it| it.who.node != wish.who.node);
        let before = before.count();
        // Seen by every waiting machine's daemon: when its turn comes it knows since when the members are the same.
        let verdict = self.verdict(&Trial::of(&wish)).await?;
        let now = Instant::now();
        let is_free = holder
            .as_ref()
            .is_none_or(|lease| self.watched.is_expired(lease, now));
        if before == 0 && is_free && self.holding.is_none() {
            match verdict {
                Verdict::Well | Verdict::Remove(_) => {
                    return self.take_turn(&kubernetes, wish).await;
                }
                Verdict::Blocked(why) => return Ok(wait(0, None, 0, Some(why))),
                Verdict::Settle(_) => return Ok(wait(0, None, 0, None)),
            }
        }
        let blocked = match verdict {
            Verdict::Blocked(why) if is_free => Some(why),
            Verdict::Blocked(_) | Verdict::Well | Verdict::Settle(_) | Verdict::Remove(_) => None,
        };
        let age_s = age_s(&kubernetes, holder.as_ref()).await?;
        let position = before.saturating_add(usize::from(!is_free));
        Ok(wait(position, holder.as_ref().map(title), age_s, blocked))
    }

    /// Takes the lease for a machine whose turn has come, if nobody else is faster.
    pub(super) async fn take_turn(
        &mut self,
        kubernetes: &Kubernetes,
        wish: TurnWish,
    ) -> Result<Turn, JoinError> {
        let trial = Trial::of(&wish);
        let claim = Claim {
            holder: trial::holder(&wish.who),
            by: self.me.to_string(),
            doing: wish.doing.clone(),
            facts: trial.facts(),
        };
        let taken = self.take(kubernetes, &claim).await?;
        match taken {
            Taken::Theirs(lease) => {
                let age_s = age_s(kubernetes, Some(&lease)).await?;
                Ok(wait(1, Some(title(&lease)), age_s, None))
            }
            Taken::Ours { held, before } => {
                tracing::info!(node = %wish.who.node, token = held.token(), "a master's turn to join has come");
                self.holding = Some(Holding::new(wish, *held, &before));
                self.go_on().await
            }
        }
    }

    pub(super) async fn take(
        &mut self,
        kubernetes: &Kubernetes,
        claim: &Claim,
    ) -> Result<Taken, JoinError> {
        let (pace, watched) = (self.pace.lease, &mut self.watched);
        Ok(lease::take(kubernetes, CONTROL_PLANE_CHANGE, claim, pace, watched).await?)
    }

    /// What etcd's members allow now.
    pub(super) async fn verdict(&self, trial: &Trial) -> Result<Verdict, JoinError> {
        let seen = self.plane.etcd.see().await?;
        Ok(etcd::judge(&seen, &trial.joiner(), self.pace.settle))
    }

    /// The claim of this daemon for itself, to clean up after others.
    pub(super) fn own_claim(&self, doing: &str) -> Claim {
        Claim {
            holder: format!("{} itself", self.me),
            by: self.me.to_string(),
            doing: doing.to_owned(),
            facts: BTreeMap::new(),
        }
    }

    /// Who holds the lease and who waits, for people.
    pub(super) async fn tell_queue(&mut self) -> Result<Queue, JoinError> {
        let kubernetes = self.plane.kubernetes()?;
        let holder = lease::look(&kubernetes, CONTROL_PLANE_CHANGE, &mut self.watched).await?;
        let waiting = queue::waiting(&kubernetes, &mut self.watched).await?;
        Ok(Queue {
            holder_age_s: age_s(&kubernetes, holder.as_ref()).await?,
            holder: holder.as_ref().map(title),
            waiting: waiting.into_iter().map(|trial| trial.who.node).collect(),
        })
    }

    /// A machine that gives up: what it began is removed at once.
    pub(super) async fn master_abandon(&mut self, who: &Attempt) -> Result<(), JoinError> {
        let kubernetes = self.plane.kubernetes()?;
        queue::leave(&kubernetes, who).await?;
        if self.is_holding(who) {
            self.begin_clearing();
            self.look_around().await;
        }
        Ok(())
    }

    /// Refuses what the site has no room for; under the lease, so that two are not counted apart.
    pub(super) async fn require_room(
        &self,
        kubernetes: &Kubernetes,
        wish: &TurnWish,
        role: Role,
    ) -> Result<(), JoinError> {
        let nodes = site::read_nodes(kubernetes).await?;
        site::refuse_taken(&nodes, wish)?;
        let Some(store) = self.store.clone() else {
            return Ok(());
        };
        let vendor = site::read_cluster(&self.plane, kubernetes).await?.vendor;
        let tokens: Vec<Secret> = kubernetes.list(&secrets(), trial::NODE).await?;
        let joining = tokens.iter();
        let joining = joining.filter_map(|token| token.metadata.labels.get(trial::NODE));
        let crowd = Crowd {
            joining: joining.cloned().collect(),
            nodes,
        };
        let name = wish.who.node.to_string();
        let judged = tokio::task::spawn_blocking(move || {
            license::require_room(&store, &vendor, &crowd, &name, role)
        });
        judged.await.map_err(|_panicked| JoinError::Ending)?
    }
}

impl Holding {
    /// The machine lives. One that was killed and begins again is prepared for again, too.
    fn hear(&mut self, wish: TurnWish) {
        self.heard = Instant::now();
        if wish.begins && matches!(self.stage, Stage::Going(_)) {
            self.stage = Stage::Preparing;
        }
        self.wish = wish;
    }

    /// What was begun for the same try goes on; what is left of another one is to be cleared first.
    pub(super) fn new(wish: TurnWish, mut held: Held, before: &Lease) -> Self {
        let own = trial::holder(&wish.who);
        let is_own = before.holder() == Some(own.as_str());
        let is_going = is_own && !wish.begins && before.told(trial::STAGE) == trial::GOING;
        if is_going {
            held.note(trial::STAGE, trial::GOING);
        }
        let dead = before.holder().filter(|holder| *holder != own);
        Self {
            wish,
            held,
            heard: Instant::now(),
            stage: if is_going {
                Stage::Going(None)
            } else {
                Stage::Preparing
            },
            dead: dead
                .and_then(|_| Trial::in_lease(before))
                .into_iter()
                .collect(),
        }
    }
}

/// Who holds a lease, for people: `m2: runs kubeadm join`.
fn title(lease: &Lease) -> String {
    let holder = lease.holder().unwrap_or_default();
    let node = holder.split(' ').next().unwrap_or_default();
    match lease.told(DOING) {
        "" => node.to_owned(),
        doing => format!("{node}: {doing}"),
    }
}

/// For how long it is held, by the API server's clock.
async fn age_s(kubernetes: &Kubernetes, lease: Option<&Lease>) -> Result<u64, JoinError> {
    let Some(since) = lease.and_then(|lease| lease.spec.acquire_time.as_deref()) else {
        return Ok(0);
    };
    let now = kubernetes.now().await?.unix_seconds();
    let since = parse_time(since).map_or(now, Timestamp::unix_seconds);
    Ok(u64::try_from(now.saturating_sub(since)).unwrap_or(0))
}

pub(super) fn wait(
    position: usize,
    holder: Option<String>,
    holder_age_s: u64,
    blocked: Option<String>,
) -> Turn {
    Turn::Wait {
        position: u32::try_from(position).unwrap_or(u32::MAX),
        holder,
        holder_age_s,
        blocked,
    }
}
