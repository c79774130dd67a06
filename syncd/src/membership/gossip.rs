//! Masters tell each other the list: at once when it has changed, and with every round in any case.
//!
//! One exchange is `POST /v1/members` with the own list; the answer is what both lists say together. A peer that does
//! not know the route is left alone: it learns from nobody, and keeps what it has.

use std::sync::Arc;
use std::time::Duration;

use api::members::Members;
use api::sync::NodeName;
use axum::Extension;
use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::State;
use axum::routing::get;
use bundle::fault::Fault as _;
use tokio::task::JoinSet;

use super::Membership;
use crate::env::Net;
use crate::wire::client::Connection;
use crate::wire::client::WireError;
use crate::wire::server::Asker;

/// The routes of the list, for members only.
pub fn routes(membership: Arc<Membership>) -> Router {
    Router::new()
        .route("/v1/members", get(list).post(exchange))
        .layer(DefaultBodyLimit::max(api::members::BYTES_MAX))
        .with_state(membership)
}

async fn list(State(membership): State<Arc<Membership>>) -> Json<Members> {
    Json(membership.roster().members().clone())
}

async fn exchange(
    State(membership): State<Arc<Membership>>,
    Extension(Asker(peer)): Extension<Asker>,
    Json(theirs): Json<Members>,
) -> Json<Members> {
    // A master to be has nothing to say about who the masters are.
    if membership.roster().peers().any(|name| *name == peer) {
        merge(&membership, theirs).await;
    }
    list(State(membership)).await
}

/// Tells every peer, and learns from every peer, for ever.
pub async fn gossip<N: Net>(
    membership: Arc<Membership>,
    net: Arc<N>,
    every: Duration,
    idle: Duration,
) {
    let mut roster = membership.follow();
    loop {
        let now = roster.borrow_and_update().clone();
        let mut exchanges = JoinSet::new();
        for peer in now.peers() {
            let (membership, net) = (membership.clone(), net.clone());
            exchanges.spawn(exchange_with(membership, net, peer.clone(), idle));
        }
        while exchanges.join_next().await.is_some() {}
        let _changed_or_due = tokio::time::timeout(every, roster.changed()).await;
    }
}

async fn exchange_with<N: Net>(
    membership: Arc<Membership>,
    net: Arc<N>,
    peer: NodeName,
    idle: Duration,
) {
    let ours = membership.roster();
    let asked = async {
        let mut connection = Connection::open(&*net, &peer, idle).await?;
        connection.members(ours.members()).await
    };
    let answer: Result<Members, WireError> = asked.await;
    match answer {
        Ok(theirs) => merge(&membership, theirs).await,
        Err(error) => tracing::debug!(%peer, %error, "the list of members was not exchanged"),
    }
}

/// Merges off the sockets' threads. The disk's trouble is told, and tried again by whoever watches the file.
pub(crate) async fn merge(membership: &Arc<Membership>, theirs: Members) {
    let membership = membership.clone();
    let merged = tokio::task::spawn_blocking(move || membership.merge(&theirs)).await;
    if let Ok(Err(error)) = merged {
        tracing::warn!(code = error.code(), %error, "the list of members is in force, but not in its file");
    }
}
