//! Asks a peer: one connection, one request at a time. Everything that comes back is held against what may come.

use std::io;
use std::ops::Range;
use std::time::Duration;

use api::members::Members;
use api::sync::Boot;
use api::sync::Changes;
use api::sync::Inventory;
use api::sync::NodeName;
use api::sync::Nudge;
use api::sync::PROTOCOL;
use api::sync::Protocol;
use api::sync::Stamp;
use api::sync::WantRecords;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::env::Net;
use crate::wire;
use crate::wire::range;

/// An open connection to a peer.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: NodeName,
    idle: Duration,
    requests: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

/// The bytes of a range on their way.
#[derive(Debug)]
pub(crate) struct Flow {
    body: Incoming,
    idle: Duration,
}

/// Why a peer could not be asked, or what was wrong with its answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The connection could not be made.
    #[error("can't connect to {peer}")]
    Connect {
        /// The peer.
        peer: NodeName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    /// The body ended before its length.
    #[error("the bytes ended too early")]
    Cut,
    /// Nothing arrived for too long.
    #[error("nothing arrived for {} s", .0.as_secs())]
    Idle(Duration),
    /// The peer refused.
    #[error("{path} was answered with {status}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The answer.
        status: StatusCode,
    },
    /// The answer is longer than it may be, has no length, or another than it says.
    #[error("{path} was answered with {} bytes, at most {limit} are allowed", .actual.map_or("an unknown number of".to_owned(), |actual| actual.to_string()))]
    Length {
        /// What was asked for.
        path: String,
        /// What the answer says.
        actual: Option<u64>,
        /// What may be.
        limit: u64,
    },
    /// The answer is no JSON of its kind.
    #[error("{path} was answered with something else than expected")]
    Json {
        /// What was asked for.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A protocol that this build can't speak.
    #[error("the peer speaks protocol {}.{}, this node {}.{}", .0.major, .0.minor, PROTOCOL.major, PROTOCOL.minor)]
    Protocol(Protocol),
    /// Another node than the one that was called.
    #[error("{called} answers as {actual}")]
    Node {
        /// Who was called.
        called: NodeName,
        /// Who answers.
        actual: NodeName,
    },
}

impl Fault for WireError {
    fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "PEER_UNREACHABLE",
            Self::Broken(_) | Self::Cut => "PEER_BROKEN",
            Self::Idle(_) => "PEER_SILENT",
            Self::Refused { .. } => "PEER_REFUSED",
            Self::Length { .. } | Self::Json { .. } => "PEER_ANSWER",
            Self::Protocol(_) => "PEER_PROTOCOL",
            Self::Node { .. } => "PEER_NAME",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Network
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Connect { peer, source } => {
                vec![Fact::new("peer", peer), Fact::new("reason", source)]
            }
            Self::Node { called, actual } => {
                vec![Fact::new("called", called), Fact::new("answers", actual)]
            }
            Self::Broken(_)
            | Self::Cut
            | Self::Idle(_)
            | Self::Refused { .. }
            | Self::Length { .. }
            | Self::Json { .. }
            | Self::Protocol(_) => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Protocol(_) => Some(
                "update the node with the older Sealift; neighbouring versions work together"
                    .to_owned(),
            ),
            Self::Node { .. } => {
                Some("check the addresses of the peers in the configuration".to_owned())
            }
            Self::Connect { .. }
            | Self::Broken(_)
            | Self::Cut
            | Self::Idle(_)
            | Self::Refused { .. }
            | Self::Length { .. }
            | Self::Json { .. } => None,
        }
    }
}

impl Connection {
    /// Connects, within the idle limit.
    pub(crate) async fn open<N: Net>(
        net: &N,
        peer: &NodeName,
        idle: Duration,
    ) -> Result<Self, WireError> {
        let connect = |source| WireError::Connect {
            peer: peer.clone(),
            source,
        };
        let stream = within(idle, net.connect(peer)).await?.map_err(connect)?;
        let handshake = http1::Builder::new()
            .max_buf_size(wire::BUFFER_BYTES)
            .handshake(TokioIo::new(stream));
        let (requests, connection) = within(idle, handshake).await??;
        let driver = tokio::spawn(async move {
            // Whatever ends the connection is told to the request under way.
            let _ended = connection.await;
        });
        Ok(Self {
            peer: peer.clone(),
            idle,
            requests,
            driver,
        })
    }

    /// `GET /v1/inventory`.
    pub(crate) async fn inventory(&mut self) -> Result<Inventory, WireError> {
        let path = "/v1/inventory".to_owned();
        let inventory: Inventory = self.get(path, wire::INVENTORY_BYTES_MAX).await?;
        self.check(&inventory.stamp)?;
        Ok(inventory)
    }

    /// Waits up to `wait` for changes after number `after` of `boot`.
    pub(crate) async fn changes(
        &mut self,
        boot: Boot,
        after: u64,
        wait: Duration,
    ) -> Result<Changes, WireError> {
        let path = format!(
            "/v1/have?boot={boot}&after={after}&wait_ms={}",
            wait.as_millis()
        );
        let request = self.request("GET", path, Bytes::new());
        let answer = within(wait + self.idle, self.send(request)).await??;
        let changes: Changes = self.json(answer, wire::ANSWER_BYTES_MAX).await?;
        self.check(&changes.stamp)?;
        Ok(changes)
    }

    /// `POST /v1/records`: the raw answer, records one behind the other.
    pub(crate) async fn records(&mut self, want: Vec<Digest>) -> Result<Bytes, WireError> {
        let answer = self.post("/v1/records", &WantRecords { want }).await?;
        self.body(answer, wire::RECORDS_BYTES_MAX).await
    }

    /// `POST /v1/nudge`.
    pub(crate) async fn nudge(&mut self, nudge: &Nudge) -> Result<(), WireError> {
        self.post("/v1/nudge", nudge).await?;
        Ok(())
    }

    /// `POST /v1/members`: what both lists say together.
    pub(crate) async fn members(&mut self, ours: &Members) -> Result<Members, WireError> {
        let answer = self.post("/v1/members", ours).await?;
        self.json(answer, wire::ANSWER_BYTES_MAX).await
    }

    /// `GET /v1/blob/{hex}`: a range that is not empty. Exactly its bytes come, or an error.
    pub(crate) async fn blob(
        &mut self,
        blob: &Digest,
        range: &Range<u64>,
    ) -> Result<Flow, WireError> {
        let path = format!("/v1/blob/{}", blob.to_hex());
        let mut request = self.request("GET", path, Bytes::new());
        if let Ok(value) = range::request(range).parse() {
            request.1.headers_mut().insert(header::RANGE, value);
        }
        let (path, answer) = within(self.idle, self.send(request)).await??;
        let expected = range.end - range.start;
        let whole = range.start == 0 && answer.status() == StatusCode::OK;
        if answer.status() != StatusCode::PARTIAL_CONTENT && !whole {
            return Err(WireError::Refused {
                path,
                status: answer.status(),
            });
        }
        let actual = answer.body().size_hint().exact();
        if actual != Some(expected) {
            return Err(WireError::Length {
                path,
                actual,
                limit: expected,
            });
        }
        Ok(Flow {
            body: answer.into_body(),
            idle: self.idle,
        })
    }

    async fn get<T: DeserializeOwned>(&mut self, path: String, limit: u64) -> Result<T, WireError> {
        let request = self.request("GET", path, Bytes::new());
        let answer = within(self.idle, self.send(request)).await??;
        self.json(answer, limit).await
    }

    async fn post<T: Serialize>(
        &mut self,
        path: &str,
        body: &T,
    ) -> Result<(String, Response<Incoming>), WireError> {
        let body = serde_json::to_vec(body).map_err(|source| WireError::Json {
            path: path.to_owned(),
            source,
        })?;
        let request = self.request("POST", path.to_owned(), body.into());
        within(self.idle, self.send(request)).await?
    }

    fn request(&self, method: &str, path: String, body: Bytes) -> (String, Request<Full<Bytes>>) {
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .header(header::HOST, self.peer.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .unwrap_or_else(|_never| Request::new(Full::new(body)));
        (path, request)
    }

    /// Sends a request and gives the head of its answer if the peer did not refuse.
    async fn send(
        &mut self,
        (path, request): (String, Request<Full<Bytes>>),
    ) -> Result<(String, Response<Incoming>), WireError> {
        self.requests.ready().await?;
        let answer = self.requests.send_request(request).await?;
        if answer.status().is_success() {
            Ok((path, answer))
        } else {
            Err(WireError::Refused {
                path,
                status: answer.status(),
            })
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        answer: (String, Response<Incoming>),
        limit: u64,
    ) -> Result<T, WireError> {
        let path = answer.0.clone();
        let body = self.body(answer, limit).await?;
        serde_json::from_slice(&body).map_err(|source| WireError::Json { path, source })
    }

    /// Reads a whole body whose length is known and inside the limit.
    async fn body(
        &self,
        (path, answer): (String, Response<Incoming>),
        limit: u64,
    ) -> Result<Bytes, WireError> {
        let actual = answer.body().size_hint().exact();
        let Some(length) = actual.filter(|length| *length <= limit) else {
            return Err(WireError::Length {
                path,
                actual,
                limit,
            });
        };
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let mut incoming = Flow {
            body: answer.into_body(),
            idle: self.idle,
        };
        while let Some(chunk) = incoming.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    fn check(&self, stamp: &Stamp) -> Result<(), WireError> {
        if !PROTOCOL.speaks(stamp.protocol) {
            return Err(WireError::Protocol(stamp.protocol));
        }
        if stamp.node != self.peer {
            return Err(WireError::Node {
                called: self.peer.clone(),
                actual: stamp.node.clone(),
            });
        }
        Ok(())
    }
}

impl Flow {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            match within(self.idle, self.body.frame()).await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame?.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn within<T>(idle: Duration, work: impl Future<Output = T>) -> Result<T, WireError> {
    tokio::time::timeout(idle, work)
        .await
        .map_err(|_late| WireError::Idle(idle))
}
