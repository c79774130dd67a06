//! Answers a peer that has proved its name.
//!
//! A blob goes out in the rhythm of its own limits: blocks are read off the sockets' threads, one ahead of the network,
//! and a peer that stops reading stops the reading.

use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use api::sync::Boot;
use api::sync::NodeName;
use api::sync::Nudge;
use api::sync::WantRecords;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use bundle::Digest;
use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::StatusCode;
use http::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use store::Fs;
use store::Partial;
use store::Store;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::holdings::Holdings;
use crate::metrics;
use crate::node::Node;
use crate::wire;
use crate::wire::range;

/// Bytes of a blob in one block, unless a limit asks for less.
const BLOCK_BYTES: usize = 256 << 10;

/// Blocks that are read ahead of the network.
const BLOCKS_AHEAD: usize = 2;

/// The content type of metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who asks; proved by the stream.
#[derive(Clone, Debug)]
pub(crate) struct Asker(pub(crate) NodeName);

/// Where a blob's bytes are read from.
#[derive(Debug)]
enum Source<F: Fs> {
    Blob(store::Blob<F>),
    Partial(Arc<Partial<F>>),
}

/// A refusal: the status says it all.
type Refused = StatusCode;

/// The routes of the peer protocol.
pub(crate) fn router<F: Fs>(node: Arc<Node<F>>) -> Router {
    Router::new()
        .route("/v1/summary", get(summary))
        .route("/v1/inventory", get(inventory))
        .route("/v1/have", get(changes))
        .route("/v1/have/{hex}", get(have))
        .route("/v1/blob/{hex}", get(blob))
        .route("/v1/records", post(records))
        .route("/v1/nudge", post(nudge))
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics_text))
        .layer(DefaultBodyLimit::max(wire::REQUEST_BYTES_MAX))
        .with_state(node)
}

/// Serves one connection of `peer` until it ends.
pub(crate) async fn serve<S>(stream: S, peer: NodeName, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Asker(peer.clone()));
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await.into_response()) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(wire::BUFFER_BYTES)
        // No clock of this node is anybody's business.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    // A connection that breaks is the peer's to make again.
    let _ended = connection.await;
}

async fn summary<F: Fs>(State(node): State<Arc<Node<F>>>) -> impl IntoResponse {
    Json(node.holdings.summary())
}

async fn inventory<F: Fs>(State(node): State<Arc<Node<F>>>) -> impl IntoResponse {
    Json(node.holdings.inventory())
}

#[derive(Debug, Deserialize)]
struct Since {
    boot: Boot,
    after: u64,
    wait_ms: u64,
}

async fn changes<F: Fs>(
    State(node): State<Arc<Node<F>>>,
    Query(since): Query<Since>,
) -> impl IntoResponse {
    let wait = Duration::from_millis(since.wait_ms.min(wire::WAIT_MS_MAX));
    Json(node.holdings.changes(since.boot, since.after, wait).await)
}

async fn have<F: Fs>(
    State(node): State<Arc<Node<F>>>,
    Path(hex): Path<String>,
) -> Result<impl IntoResponse, Refused> {
    Ok(Json(node.holdings.have(name(&hex)?)))
}

async fn status<F: Fs>(State(node): State<Arc<Node<F>>>) -> Result<impl IntoResponse, Refused> {
    let status = node.handle.status().await;
    status
        .map(Json)
        .map_err(|_stopped| StatusCode::SERVICE_UNAVAILABLE)
}

async fn metrics_text<F: Fs>(
    State(node): State<Arc<Node<F>>>,
) -> Result<impl IntoResponse, Refused> {
    let status = node.handle.status().await;
    let status = status.map_err(|_stopped| StatusCode::SERVICE_UNAVAILABLE)?;
    let kind = [(header::CONTENT_TYPE, METRICS_TYPE)];
    Ok((kind, metrics::metrics_text(&status)))
}

async fn nudge<F: Fs>(
    State(node): State<Arc<Node<F>>>,
    axum::Extension(Asker(peer)): axum::Extension<Asker>,
    Json(nudge): Json<Nudge>,
) -> StatusCode {
    // When so many wait that there is no room, the engine is about to look around anyway.
    let _known = node.nudges.try_send((peer, nudge));
    StatusCode::NO_CONTENT
}

async fn records<F: Fs>(
    State(node): State<Arc<Node<F>>>,
    Json(wanted): Json<WantRecords>,
) -> Result<impl IntoResponse, Refused> {
    if wanted.want.len() > wire::WANT_RECORDS_MAX {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let store = node.store.clone();
    let bytes = node
        .offload
        .run(move || frame_records(&store, &wanted.want));
    bytes.await.map_err(|error| {
        tracing::warn!(%error, "records could not be read");
        StatusCode::INTERNAL_SERVER_ERROR
    })
}

/// The wanted records that are there, each behind its length, up to the soft limit.
fn frame_records<F: Fs>(store: &Store<F>, wanted: &[Digest]) -> Result<Vec<u8>, store::StoreError> {
    let mut answer = Vec::new();
    for digest in wanted {
        if answer.len() > wire::RECORDS_BYTES_SOFT {
            break;
        }
        let Some(record) = store.record(digest)? else {
            continue;
        };
        let bytes = record.to_bytes();
        let Ok(length) = u32::try_from(bytes.len()) else {
            continue;
        };
        answer.extend_from_slice(&length.to_be_bytes());
        answer.extend_from_slice(&bytes);
    }
    Ok(answer)
}

async fn blob<F: Fs>(
    State(node): State<Arc<Node<F>>>,
    axum::Extension(Asker(peer)): axum::Extension<Asker>,
    Path(hex): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let digest = name(&hex)?;
    let asked = headers.get(header::RANGE);
    let asked = asked.map(|value| value.to_str().unwrap_or_default().to_owned());
    let (source, size) = open(&node, digest).await?;
    let range = match &asked {
        None => 0..size,
        Some(text) => range::parse(text, size).ok_or(StatusCode::RANGE_NOT_SATISFIABLE)?,
    };
    if let Source::Partial(partial) = &source
        && !verified(&node.holdings, digest, partial.cut(), &range)
    {
        return Err(StatusCode::NOT_FOUND);
    }
    let length = range.end - range.start;
    let (blocks, body) = mpsc::channel(BLOCKS_AHEAD);
    let content = range::content(&range, size);
    tokio::spawn(send(node, digest, source, range, peer, blocks));
    let answer = Response::builder()
        .header(header::CONTENT_LENGTH, length)
        .header(header::CONTENT_TYPE, "application/octet-stream");
    let answer = match asked {
        None => answer.status(StatusCode::OK),
        Some(_) => answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, content),
    };
    answer
        .body(stream(body))
        .map_err(|_never| StatusCode::INTERNAL_SERVER_ERROR)
}

/// Opens a published blob, or an unfinished one that may have verified pieces.
async fn open<F: Fs>(node: &Node<F>, digest: Digest) -> Result<(Source<F>, u64), Refused> {
    if let Some(landing) = node.landing(&digest) {
        let size = landing.partial.cut().length;
        return Ok((Source::Partial(landing.partial), size));
    }
    let store = node.store.clone();
    let blob = node.offload.run(move || store.open_blob(&digest)).await;
    let blob = blob.map_err(|_missing| StatusCode::NOT_FOUND)?;
    let size = blob.size();
    Ok((Source::Blob(blob), size))
}

/// Whether every piece that the range touches is verified.
fn verified(
    holdings: &Holdings,
    blob: Digest,
    cut: bundle::pieces::Cut,
    range: &Range<u64>,
) -> bool {
    let Some(pieces) = holdings.partial(&blob) else {
        return holdings.has(&blob);
    };
    let piece = |offset: u64| offset >> cut.piece_log2;
    (piece(range.start)..=piece(range.end.saturating_sub(1))).all(|piece| pieces.contains(piece))
}

/// Reads the range block by block, waits for each block's time, and hands it to the network.
async fn send<F: Fs>(
    node: Arc<Node<F>>,
    digest: Digest,
    source: Source<F>,
    range: Range<u64>,
    peer: NodeName,
    blocks: mpsc::Sender<io::Result<Bytes>>,
) {
    let source = Arc::new(source);
    let block_bytes = node.limits.block(BLOCK_BYTES);
    let mut offset = range.start;
    let mut ready = Bytes::new();
    while offset < range.end {
        if ready.is_empty() {
            let (from, rest) = (source.clone(), offset..range.end);
            match node.offload.run(move || from.read(rest, block_bytes)).await {
                Ok(bytes) => ready = bytes,
                Err(error) => {
                    tracing::warn!(%digest, %error, "a blob could not be read for a peer");
                    // What can't be read has to be looked at. The peer asks somebody else.
                    let _stopped = node.handle.suspect(digest).await;
                    let _hung_up = blocks.send(Err(error)).await;
                    return;
                }
            }
        }
        let block = ready.split_to(ready.len().min(block_bytes));
        let sent = block.len();
        node.limits.send(&peer, sent).await;
        let handed = tokio::time::timeout(node.idle, blocks.send(Ok(block)));
        if !matches!(handed.await, Ok(Ok(()))) {
            return;
        }
        node.counters.sent(&peer, sent);
        offset = offset.saturating_add(u64::try_from(sent).unwrap_or(u64::MAX));
    }
}

impl<F: Fs> Source<F> {
    /// Reads the first bytes of `rest`, at least one: a block of a blob, or what is left of a piece.
    fn read(&self, rest: Range<u64>, block_bytes: usize) -> io::Result<Bytes> {
        let left = usize::try_from(rest.end - rest.start).unwrap_or(usize::MAX);
        let bytes = match self {
            Self::Blob(blob) => {
                let mut buffer = vec![0; left.min(block_bytes)];
                let count = blob.read_at(&mut buffer, rest.start);
                buffer.truncate(count.map_err(io::Error::other)?);
                Bytes::from(buffer)
            }
            Self::Partial(partial) => {
                let index = rest.start >> partial.cut().piece_log2;
                let skip = rest.start - partial.cut().range(index).start;
                let piece = partial.read_piece(index).map_err(io::Error::other)?;
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                let end = skip.saturating_add(left).min(piece.len());
                Bytes::from(piece).slice(skip.min(end)..end)
            }
        };
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }
}

fn stream(mut blocks: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    Body::from_stream(futures_util::stream::poll_fn(move |context| {
        blocks.poll_recv(context)
    }))
}

fn name(hex: &str) -> Result<Digest, Refused> {
    Digest::from_hex(hex).map_err(|_no_name| StatusCode::BAD_REQUEST)
}
