//! The daemon's socket for commands on the same machine: HTTP over a Unix socket that only its owner can open.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`api::sync::Status`] |
//! | `GET /metrics` | the same as `OpenMetrics` text |
//! | `POST /v1/rescan` | 204: the store has changed, look at it and tell the peers |
//! | `POST /v1/suspect/{hex}` | 204: read this blob again, and fetch it again when it is damaged |
//! | `GET /v1/copies/{hex}?wait=local\|majority\|all` | one line of [`Progress`] a change, until enough masters have it |
//!
//! Who can open the socket may do all of this; who may open it is the directory's and the socket's mode, 0600.

mod client;
mod listen;

pub use client::Client;
pub use client::ControlError;
pub use listen::ControlListenError;
pub use listen::ControlSocket;

use api::sync::Status;
use api::sync::Wait;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use bundle::Digest;
use http::StatusCode;
use http::header;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::handle::Copies;
use crate::handle::Handle;
use crate::handle::Stopped;
use crate::metrics::metrics_text;

/// Changes of a count that wait for a slow reader.
const PROGRESS_AHEAD: usize = 16;

/// How many masters hold something; one line of the answer to a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Masters that hold all of it durably.
    pub complete: usize,
    /// Masters that were asked for.
    pub wanted: usize,
    /// All masters.
    pub members: usize,
}

impl Progress {
    /// Whether that is what was waited for.
    pub const fn is_enough(&self) -> bool {
        self.complete >= self.wanted
    }
}

impl From<Copies> for Progress {
    fn from(copies: Copies) -> Self {
        let Copies {
            complete,
            wanted,
            members,
        } = copies;
        Self {
            complete,
            wanted,
            members,
        }
    }
}

/// What the socket answers.
pub fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics))
        .route("/v1/rescan", post(rescan))
        .route("/v1/suspect/{hex}", post(suspect))
        .route("/v1/copies/{hex}", get(copies))
        .with_state(handle)
}

async fn status(State(handle): State<Handle>) -> Result<Json<Status>, Gone> {
    Ok(Json(handle.status().await?))
}

async fn metrics(State(handle): State<Handle>) -> Result<impl IntoResponse, Gone> {
    let text = metrics_text(&handle.status().await?);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text))
}

async fn rescan(State(handle): State<Handle>) -> Result<StatusCode, Gone> {
    handle.rescan().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn suspect(
    State(handle): State<Handle>,
    Path(hex): Path<String>,
) -> Result<StatusCode, Gone> {
    match Digest::from_hex(&hex) {
        Ok(digest) => handle.suspect(digest).await?,
        Err(_no_digest) => return Ok(StatusCode::BAD_REQUEST),
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    wait: Wait,
}

async fn copies(
    State(handle): State<Handle>,
    Path(hex): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let Ok(content) = Digest::from_hex(&hex) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (lines, answer) = mpsc::channel(PROGRESS_AHEAD);
    tokio::spawn(tell_copies(handle, content, asked.wait, lines));
    let answer = futures_util::stream::unfold(answer, async |mut answer| {
        let line: String = answer.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), answer))
    });
    Body::from_stream(answer).into_response()
}

/// Waits, and tells every change; ends early when nobody reads any more.
async fn tell_copies(handle: Handle, content: Digest, wait: Wait, lines: mpsc::Sender<String>) {
    let (changes, mut counts) = mpsc::channel(PROGRESS_AHEAD);
    let forward = async {
        while let Some(copies) = counts.recv().await {
            if lines.send(line(copies)).await.is_err() {
                return;
            }
        }
        // The engine tells the end itself.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = handle.wait_copies(content, wait, Some(changes)) => {
            if let Ok(copies) = done {
                // A reader that hung up in the last moment misses nothing.
                let _unread = lines.send(line(copies)).await;
            }
        }
        () = forward => {}
        () = lines.closed() => {}
    }
}

fn line(copies: Copies) -> String {
    // Three numbers: writing them can't fail.
    let mut line = serde_json::to_string(&Progress::from(copies)).unwrap_or_default();
    line.push('\n');
    line
}

/// The engine has stopped; the daemon is about to end.
struct Gone;

impl From<Stopped> for Gone {
    fn from(_stopped: Stopped) -> Self {
        Self
    }
}

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending").into_response()
    }
}

#[cfg(test)]
mod tests;
