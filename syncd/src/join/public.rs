//! The broker of a daemon, put together from its configuration.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use store::Store;
use tokio::task::JoinHandle;

use super::control;
use super::desk::Broker;
use super::listen::PublicListenError;
use super::listen::PublicListener;
use super::pace::Pace;
use super::plane::Plane;
use super::plane::PlaneFiles;
use super::plane::Roster;
use super::routes::Door;
use super::tokens::Tokens;
use crate::config::Config;
use crate::membership::Membership;
use crate::net::Identity;

/// The public port of a master, bound and not yet answered.
#[derive(Debug)]
pub struct Public {
    listener: PublicListener,
    door: Arc<Door>,
}

impl Public {
    /// Binds the port; `None` where the configuration has none.
    pub async fn bind(
        config: &Config,
        identity: &Identity,
        store: Store,
        membership: Arc<Membership>,
    ) -> Result<Option<Self>, PublicListenError> {
        let Some(address) = config.listen_public else {
            return Ok(None);
        };
        let listener = PublicListener::bind(address, identity).await?;
        let sealift = config.ca.parent().unwrap_or(Path::new("/etc/sealift"));
        let plane = Arc::new(Plane::new(PlaneFiles {
            sealift: sealift.to_owned(),
            ..PlaneFiles::default()
        }));
        let roster: Arc<dyn Roster> = membership;
        let broker = Broker::start(
            config.node.clone(),
            plane.clone(),
            roster.clone(),
            Some(store.clone()),
            Pace::default(),
        );
        let tokens = Arc::new(Tokens::new(plane.clone()));
        tracing::info!(%address, "machines may join here");
        let door = Arc::new(Door::new(broker, tokens, plane, roster, store));
        Ok(Some(Self { listener, door }))
    }

    /// What commands on this machine may ask.
    pub fn control(&self) -> Router {
        control::router(self.door.clone())
    }

    /// Answers until the task is aborted.
    pub fn spawn(self) -> JoinHandle<()> {
        tokio::spawn(self.listener.serve(self.door))
    }
}
