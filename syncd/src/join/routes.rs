//! What the public port answers (`api::join`).
//!
//! Attacks it answers: no or a wrong token (nothing is answered, and failures of one address are counted); names that are
//! paths (digests are parsed, nothing from a request reaches the file system); endless or huge bodies (a cap and a
//! time-out); slow readers (the blob's reader gives up); a worker's token for what is a master's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use api::join::Attempt;
use api::join::CertificateWish;
use api::join::Role;
use api::join::TrustFiles;
use api::join::TurnWish;
use axum::Extension;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use bundle::Digest;
use http::HeaderMap;
use http::StatusCode;
use http::header;
use serde::de::DeserializeOwned;
use store::Store;
use store::record::Kind;

use super::authority;
use super::desk::Broker;
use super::fault::JoinError;
use super::plane::Plane;
use super::plane::Roster;
use super::site;
use super::tokens::Tokens;
use crate::images::Content;
use crate::wire::range;

/// Largest body of a request: a certificate request has one KiB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How long a request without a blob may take, its body included; `done` takes longest.
const PATIENCE: Duration = Duration::from_mins(1);

/// Wrong tokens that one address may show before it has to wait.
const FAILURES_MAX: u32 = 20;

/// How fast failures are forgotten: one in this time.
const FORGET_EVERY: Duration = Duration::from_secs(2);

/// Addresses whose failures are remembered; when there are more, all are forgotten.
const ADDRESSES_MAX: usize = 4096;

/// Everything that the public port needs.
#[derive(Debug)]
pub struct Door {
    /// Decides whose turn it is.
    pub broker: Broker,
    /// Knows the tokens.
    pub tokens: Arc<Tokens>,
    /// Of this master.
    pub plane: Arc<Plane>,
    /// Of the site.
    pub roster: Arc<dyn Roster>,
    /// What bundles and blobs are given out of.
    pub store: Store,
    failures: Mutex<BTreeMap<IpAddr, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct From(pub(super) IpAddr);

/// What a request's token allows.
#[derive(Clone, Copy, Debug)]
struct Pass(Role);

type Shared = State<Arc<Door>>;

impl Door {
    /// Puts the parts together.
    pub fn new(
        broker: Broker,
        tokens: Arc<Tokens>,
        plane: Arc<Plane>,
        roster: Arc<dyn Roster>,
        store: Store,
    ) -> Self {
        Self {
            broker,
            tokens,
            plane,
            roster,
            store,
            failures: Mutex::default(),
        }
    }

    /// Checks a request's token; too many wrong ones from one address are not even looked at.
    async fn admit(&self, from: IpAddr, headers: &HeaderMap) -> Result<Role, JoinError> {
        if self.failures_of(from) >= FAILURES_MAX {
            return Err(JoinError::Busy);
        }
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let checked = match given {
            Some(token) => self.tokens.check(token.trim()).await,
            None => Err(JoinError::Token),
        };
        if matches!(checked, Err(JoinError::Token)) {
            self.note_failure(from);
        }
        checked
    }

    fn failures_of(&self, from: IpAddr) -> u32 {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&from).map_or(0, Failures::left)
    }

    fn note_failure(&self, from: IpAddr) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX {
            failures.clear();
        }
        let count = failures.get(&from).map_or(0, Failures::left);
        let last = Instant::now();
        let count = count.saturating_add(1);
        failures.insert(from, Failures { count, last });
    }
}

impl Failures {
    /// Failures that are not forgotten yet.
    fn left(&self) -> u32 {
        let forgotten = self.last.elapsed().as_secs() / FORGET_EVERY.as_secs().max(1);
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        self.count.saturating_sub(forgotten)
    }
}

/// All routes; each request has passed the door.
pub(super) fn router(door: Arc<Door>) -> Router {
    let blob = Router::new().route("/v1/join/blob/{hex}", get(read_blob));
    let rest = Router::new()
        .route("/v1/join/site", get(read_site))
        .route("/v1/join/root", get(read_root))
        .route("/v1/join/head/{id}", get(read_head))
        .route("/v1/join/certificate", post(certify))
        .route("/v1/join/turn", post(turn))
        .route("/v1/join/done", post(done))
        .route("/v1/join/abandon", post(abandon))
        .layer(middleware::from_fn(within_patience));
    blob.merge(rest)
        .fallback(async || JoinError::Unknown("this address".to_owned()))
        .layer(middleware::from_fn_with_state(door.clone(), admit))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(door)
}

async fn admit(
    State(door): Shared,
    Extension(From(from)): Extension<From>,
    mut request: Request,
    next: Next,
) -> Response {
    match door.admit(from, request.headers()).await {
        Ok(role) => {
            request.extensions_mut().insert(Pass(role));
            next.run(request).await
        }
        Err(refused) => {
            tracing::info!(%from, reason = %refused, "a request to join was refused");
            refused.into_response()
        }
    }
}

async fn within_patience(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(answered) => answered,
        Err(_late) => JoinError::Busy.into_response(),
    }
}

async fn read_site(State(door): Shared) -> Result<Response, JoinError> {
    Ok(Json(site::read_site(&door.plane).await?).into_response())
}

async fn read_root(State(door): Shared) -> Result<Response, JoinError> {
    let vendor = site::read_node(&door.plane.files.sealift)?.vendor;
    let store = door.store.clone();
    let found = blocking(move || Ok(store.trust(&vendor)?)).await?;
    let trust = found.ok_or_else(|| JoinError::Unknown("the vendor's root".to_owned()))?;
    let root_json = String::from_utf8_lossy(trust.root().json()).into_owned();
    Ok(Json(TrustFiles { root_json }).into_response())
}

async fn read_head(State(door): Shared, Path(id): Path<String>) -> Result<Response, JoinError> {
    let id = digest(&id)?.to_hex();
    let store = door.store.clone();
    let records = blocking(move || Ok(store.records()?)).await?;
    let mut records = records.into_iter();
    let found = records.find(|record| record.kind == Kind::Bundle && record.id == id);
    let record = found.ok_or_else(|| JoinError::Unknown(format!("the bundle {id}")))?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, record.to_bytes()).into_response())
}

async fn read_blob(
    State(door): Shared,
    Path(hex): Path<String>,
    headers: HeaderMap,
) -> Result<Response, JoinError> {
    let digest = digest(&hex)?;
    let store = door.store.clone();
    let blob = blocking(move || Ok(store.open_blob(&digest)?)).await;
    let blob = blob.map_err(|_not_here| JoinError::Unknown(format!("the blob {hex}")))?;
    let size = blob.size();
    let content = Content {
        size,
        reader: Box::new(blob),
    };
    let asked = headers.get(header::RANGE);
    let part = match asked.map(|value| value.to_str().unwrap_or_default()) {
        None => None,
        Some(text) => match range::parse(text, size) {
            Some(part) => Some(part),
            None => return Ok(StatusCode::RANGE_NOT_SATISFIABLE.into_response()),
        },
    };
    Ok(blob_response(content, part))
}

fn blob_response(content: Content, part: Option<Range<u64>>) -> Response {
    let size = content.size;
    let whole = 0..size;
    let answer = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes");
    let (answer, part) = match part {
        None => (answer, whole),
        Some(part) => (
            answer
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, range::content(&part, size)),
            part,
        ),
    };
    let answer = answer.header(header::CONTENT_LENGTH, part.end.saturating_sub(part.start));
    // Headers of numbers and constants: they can't fail.
    answer
        .body(Body::new(content.into_body(part)))
        .unwrap_or_else(|_never| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn certify(
    State(door): Shared,
    Extension(Pass(role)): Extension<Pass>,
    body: Bytes,
) -> Result<Response, JoinError> {
    let wish: CertificateWish = parse(&body)?;
    tracing::info!(node = %wish.node, ?role, "a machine asks for its certificate");
    let sealift: PathBuf = door.plane.files.sealift.clone();
    let roster = door.roster.clone();
    let certified = blocking(move || authority::certify(&sealift, &*roster, role, &wish));
    Ok(Json(certified.await?).into_response())
}

async fn turn(
    State(door): Shared,
    Extension(Pass(role)): Extension<Pass>,
    body: Bytes,
) -> Result<Response, JoinError> {
    let wish: TurnWish = parse(&body)?;
    Ok(Json(door.broker.turn(role, wish).await?).into_response())
}

async fn done(
    State(door): Shared,
    Extension(Pass(role)): Extension<Pass>,
    body: Bytes,
) -> Result<Response, JoinError> {
    let who: Attempt = parse(&body)?;
    Ok(Json(door.broker.done(role, who).await?).into_response())
}

async fn abandon(
    State(door): Shared,
    Extension(Pass(role)): Extension<Pass>,
    body: Bytes,
) -> Result<Response, JoinError> {
    let who: Attempt = parse(&body)?;
    door.broker.abandon(role, who).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, JoinError> {
    serde_json::from_slice(body).map_err(|error| JoinError::Request(error.to_string()))
}

fn digest(hex: &str) -> Result<Digest, JoinError> {
    Digest::from_hex(hex).map_err(|error| JoinError::Request(error.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JoinError> + Send + 'static,
) -> Result<T, JoinError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_panicked| JoinError::Ending)?
}

impl IntoResponse for JoinError {
    fn into_response(self) -> Response {
        (self.status(), Json(self.refusal())).into_response()
    }
}

#[cfg(test)]
mod tests;
