//! Other nodes, who come over the members' port for images. Workers may ask for the list of masters beside, and nothing
//! else; masters may ask for what their own store lacks still.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::join::Role;
use api::sync::NodeName;
use axum::Router;
use axum::extract::State;
use axum::routing::any;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::Endpoint;
use super::refusal::Body;
use super::refusal::Refusal;
use super::refusal::json;
use super::serve::Answers;
use super::serve::serve_connection;
use crate::membership::Membership;
use crate::net::Arrivals;

/// Connections of all workers at once.
const CONNECTIONS_MAX: usize = 256;

/// Connections of one worker at once: what its containerd pulls at the same time.
const CONNECTIONS_PER_WORKER_MAX: usize = 32;

/// What workers are answered.
#[derive(Clone, Debug)]
struct ForWorkers {
    endpoint: Endpoint,
    membership: Arc<Membership>,
}

impl Answers for ForWorkers {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != "/v1/members" {
            return self.endpoint.answer(&request).await;
        }
        if *request.method() != Method::GET {
            return Refusal::read_only().into_response();
        }
        let list = self.membership.roster().members().to_bytes();
        match list.map(String::from_utf8) {
            Ok(Ok(list)) => json(StatusCode::OK, list),
            Ok(Err(_)) | Err(_) => Refusal::broken().into_response(),
        }
    }
}

/// The same images for masters, as routes beside their protocol; from this store alone, so that nobody asks in circles.
pub(crate) fn routes(endpoint: Endpoint) -> Router {
    Router::new()
        .route("/v2/{*rest}", any(give))
        .with_state(endpoint)
}

async fn give(
    State(endpoint): State<Endpoint>,
    request: axum::extract::Request,
) -> Response<axum::body::Body> {
    // Nothing that is asked here has a body.
    let request = request.map(drop);
    endpoint.answer(&request).await.map(axum::body::Body::new)
}

/// Answers workers as they come; who has too many connections is turned away, who is removed is cut off.
pub(crate) async fn serve_workers(
    mut arrivals: Arrivals,
    endpoint: Endpoint,
    membership: Arc<Membership>,
) {
    let all = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut rooms: BTreeMap<NodeName, Arc<Semaphore>> = BTreeMap::new();
    let answers = ForWorkers {
        endpoint,
        membership: membership.clone(),
    };
    while let Some((stream, worker)) = arrivals.recv().await {
        // A room that nobody is in is as good as none.
        rooms.retain(|_worker, room| room.available_permits() < CONNECTIONS_PER_WORKER_MAX);
        let new = || Arc::new(Semaphore::new(CONNECTIONS_PER_WORKER_MAX));
        let room = rooms.entry(worker.clone()).or_insert_with(new).clone();
        let (Ok(own), Ok(shared)) = (room.try_acquire_owned(), all.clone().try_acquire_owned())
        else {
            tracing::warn!(%worker, "too many connections for images");
            continue;
        };
        let answers = answers.clone();
        let removed = until_removed(membership.clone(), worker);
        tokio::spawn(async move {
            tokio::select! {
                () = serve_connection(stream, answers) => {}
                () = removed => {}
            }
            drop((own, shared));
        });
    }
}

async fn until_removed(membership: Arc<Membership>, worker: NodeName) {
    let mut roster = membership.follow();
    let removed = roster.wait_for(|roster| !roster.lets_in(&worker, Role::Worker));
    // Without anybody who tells, the daemon is ending.
    let _removed_or_ending = removed.await.is_ok();
}
