//! A master that says it has joined.
//!
//! The lease is free as soon as its control plane is complete: the next machine need not wait until its pods are up. The
//! machine itself is told that it has joined when its node is ready, too.

use api::join::Attempt;
use api::join::Joined;
use api::join::Master;
use api::join::Role;
use api::join::TurnWish;

use super::Desk;
use super::Holding;
use super::Stage;
use crate::join::after;
use crate::join::credentials;
use crate::join::fault::JoinError;
use crate::join::outside;
use crate::join::site;
use crate::join::trial;
use crate::join::trial::Trial;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::Node;
use crate::kubernetes::node;
use crate::lease;
use crate::lease::CONTROL_PLANE_CHANGE;

impl Desk {
    pub(super) async fn master_done(&mut self, who: &Attempt) -> Result<Joined, JoinError> {
        let kubernetes = self.plane.kubernetes()?;
        if !self.is_holding(who) {
            self.take_over(&kubernetes, who).await?;
        }
        let Some(holding) = self.holding.as_mut().filter(|it| it.wish.who == *who) else {
            return self.done_before(&kubernetes, who).await;
        };
        if matches!(holding.stage, Stage::Clearing(_)) {
            return Err(JoinError::TurnLost);
        }
        holding.heard = std::time::Instant::now();
        "is looked at from outside".clone_into(&mut holding.wish.doing);
        let trial = Trial::of(&holding.wish);
        let plane = self.plane.clone();
        let members = outside::require_control_plane(&plane, &kubernetes, &trial).await?;
        self.renew(&kubernetes).await?;
        self.roster.admit(&Master {
            name: trial.who.node.clone(),
            address: trial.address,
        })?;
        credentials::remove(&kubernetes, Role::Master, &trial).await?;
        if let Some(holding) = self.holding.take() {
            holding.held.release(&kubernetes).await?;
        }
        tracing::info!(node = %trial.who.node, members, "a master's control plane is complete");
        self.tell_joined(&kubernetes, &trial, members).await
    }

    /// What remains once the lease is free: everybody is told, as soon as the node is ready.
    async fn tell_joined(
        &self,
        kubernetes: &Kubernetes,
        trial: &Trial,
        etcd_members: u32,
    ) -> Result<Joined, JoinError> {
        outside::require_ready(kubernetes, &trial.who.node).await?;
        let masters = self.masters(kubernetes).await?;
        after::tell_masters(kubernetes, &masters).await?;
        if let Err(error) = after::spread_dns(kubernetes).await {
            // The master is one all the same; the next join spreads them again.
            tracing::warn!(%error, "the cluster's DNS could not be spread over the masters");
        }
        tracing::info!(node = %trial.who.node, "a master has joined");
        Ok(Joined {
            etcd_members,
            masters,
        })
    }

    /// The lease is held for this machine by a daemon that it does not reach any more.
    async fn take_over(&mut self, kubernetes: &Kubernetes, who: &Attempt) -> Result<(), JoinError> {
        if self.holding.is_some() {
            return Ok(());
        }
        let found = lease::look(kubernetes, CONTROL_PLANE_CHANGE, &mut self.watched).await?;
        let Some(found) = found.filter(|it| it.holder() == Some(trial::holder(who).as_str()))
        else {
            return Ok(());
        };
        let Some(trial) = Trial::in_lease(&found) else {
            return Ok(());
        };
        let claim = lease::Claim {
            holder: trial::holder(who),
            by: self.me.to_string(),
            doing: "is looked at from outside".to_owned(),
            facts: trial.facts(),
        };
        if let lease::Taken::Ours { held, before } = self.take(kubernetes, &claim).await? {
            let wish = TurnWish {
                who: trial.who,
                address: trial.address,
                machine_id: String::new(),
                doing: claim.doing,
                begins: false,
            };
            self.holding = Some(Holding::new(wish, *held, &before));
        }
        Ok(())
    }

    /// Its control plane is complete already, and its node may be ready now; or an earlier answer was lost.
    async fn done_before(
        &self,
        kubernetes: &Kubernetes,
        who: &Attempt,
    ) -> Result<Joined, JoinError> {
        if !self.roster.has(&who.node) {
            return Err(JoinError::TurnLost);
        }
        let found: Option<Node> = kubernetes.read(&node(who.node.as_str())).await?;
        let address = found
            .and_then(|node| node.address())
            .ok_or(JoinError::TurnLost)?;
        let trial = Trial {
            who: who.clone(),
            address,
        };
        let members = outside::require_control_plane(&self.plane, kubernetes, &trial).await?;
        self.tell_joined(kubernetes, &trial, members).await
    }

    pub(super) async fn masters(&self, kubernetes: &Kubernetes) -> Result<Vec<Master>, JoinError> {
        let first = site::read_cluster(&self.plane, kubernetes)
            .await?
            .first_master;
        Ok(site::masters(&site::read_nodes(kubernetes).await?, &first))
    }
}
