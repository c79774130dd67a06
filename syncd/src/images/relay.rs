//! The endpoint of a worker: has no images, and gets everything from the masters, as it is asked for.
//!
//! 1. What no master could answer either is refused here: other methods, paths and names that are none.
//! 2. The masters are asked one after the other; "unknown" of one is not believed until all that answer have said so.
//! 3. A blob is passed on as it comes. When its master fails in the middle, the rest is asked of the next one, by range;
//!    the client sees one answer without a seam, and verifies the digest anyway.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use api::sync::NodeName;
use bundle::limits;
use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http::response::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Endpoint;
use super::asked::Asked;
use super::asked::What;
use super::content::ContentBody;
use super::refusal::Body;
use super::refusal::Refusal;
use super::refusal::empty;
use super::refusal::finish;
use super::refusal::full;
use super::refusal::json;
use super::serve::Answers;
use crate::masters::Flow;
use crate::masters::Masters;
use crate::masters::Wish;

/// Largest answer but a blob: a manifest, or all tags of a repository.
const SMALL_BYTES_MAX: usize = limits::MANIFEST_BYTES_MAX;

/// Buffers read ahead of the client, for each blob.
const CHUNKS_AHEAD: usize = 2;

/// How long a client may take nothing before its blob is given up.
const CLIENT_IDLE: Duration = Duration::from_mins(1);

/// Masters that may fail one blob in a row without a byte in between.
const FAILURES_MAX: u32 = 6;

/// What of a master's answer is passed on.
const HEADERS: [header::HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::LINK,
];

/// The name under which a registry says what it has given.
const DIGEST: &str = "docker-content-digest";

/// The relay of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    masters: Arc<Masters>,
}

/// A master's own images, and what only other masters have yet: a release that is still on its way here can be pulled.
#[derive(Clone, Debug)]
pub(crate) struct OwnFirst {
    own: Endpoint,
    others: Relay,
}

impl OwnFirst {
    pub(crate) const fn new(own: Endpoint, others: Relay) -> Self {
        Self { own, others }
    }
}

impl Answers for OwnFirst {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let own = self.own.answer(&request).await;
        if own.status() != StatusCode::NOT_FOUND {
            return own;
        }
        let others = self.others.answer(request).await;
        if others.status().is_success() {
            others
        } else {
            own
        }
    }
}

/// What a master has given.
enum Given {
    /// All of it.
    Whole(Parts, Vec<u8>),
    /// The head of it, and the bytes to come.
    Flowing(Parts, Flow, NodeName),
}

impl Answers for Relay {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let mut answer = match self.route(&request).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into_response(),
        };
        answer.headers_mut().insert(
            "docker-distribution-api-version",
            http::HeaderValue::from_static("registry/2.0"),
        );
        answer
    }
}

impl Relay {
    pub(crate) const fn new(masters: Arc<Masters>) -> Self {
        Self { masters }
    }

    async fn route(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let uri = request.uri();
        let is_head = *request.method() == Method::HEAD;
        if !is_head && *request.method() != Method::GET {
            return Err(Refusal::read_only());
        }
        if matches!(uri.path(), "/v2/" | "/v2") {
            return Ok(json(StatusCode::OK, "{}"));
        }
        let asked = Asked::parse(uri.path(), uri.query().unwrap_or_default())?;
        let is_blob = matches!(asked.what, What::Blob(_)) && !is_head;
        let range = request.headers().get(header::RANGE);
        let wish = Wish {
            method: request.method().clone(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            range: range.and_then(|range| Some(range.to_str().ok()?.to_owned())),
        };
        match self.get(&wish, is_blob).await? {
            Given::Whole(parts, _) if is_head => Ok(finish(head_of(&parts), empty())),
            Given::Whole(parts, bytes) => Ok(finish(head_of(&parts), full(bytes))),
            Given::Flowing(parts, flow, master) => self.pass_on(wish, &parts, flow, master),
        }
    }

    /// Asks until one master gives something.
    async fn get(&self, wish: &Wish, is_blob: bool) -> Result<Given, Refusal> {
        let mut unknown = None;
        for master in self.masters.order() {
            if unknown.is_some() && self.masters.has_failed(&master) {
                break;
            }
            let Ok((parts, flow)) = self.masters.ask(&master, wish).await else {
                continue;
            };
            if is_blob && parts.status.is_success() {
                return Ok(Given::Flowing(parts, flow, master));
            }
            let Ok(bytes) = flow.whole(SMALL_BYTES_MAX).await else {
                self.masters.note_failure(&master);
                continue;
            };
            if parts.status != StatusCode::NOT_FOUND {
                return Ok(Given::Whole(parts, bytes));
            }
            unknown = Some(Given::Whole(parts, bytes));
        }
        unknown.ok_or_else(Refusal::nobody)
    }

    fn pass_on(
        &self,
        wish: Wish,
        parts: &Parts,
        flow: Flow,
        master: NodeName,
    ) -> Result<Response<Body>, Refusal> {
        let part = part_of(parts, &flow).ok_or_else(Refusal::nobody)?;
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let body = ContentBody::new(receiver, part.end.saturating_sub(part.start));
        let pump = Pump {
            masters: self.masters.clone(),
            wish,
            part,
            sender,
        };
        tokio::spawn(pump.run(flow, master));
        Ok(finish(head_of(parts), body.boxed_unsync()))
    }
}

/// Passes one blob on, whoever it comes from.
struct Pump {
    masters: Arc<Masters>,
    wish: Wish,
    /// What is still to come.
    part: Range<u64>,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Pump {
    async fn run(mut self, mut flow: Flow, mut master: NodeName) {
        let mut failures = 0;
        while !self.part.is_empty() {
            let broken = match flow.next().await {
                Ok(Some(bytes)) if !bytes.is_empty() => {
                    failures = 0;
                    if !self.send(bytes).await {
                        return;
                    }
                    continue;
                }
                Ok(Some(_empty)) => continue,
                Ok(None) => io::Error::from(io::ErrorKind::UnexpectedEof),
                Err(error) => error,
            };
            tracing::info!(%master, at = self.part.start, error = %broken, "a blob broke off");
            self.masters.note_failure(&master);
            failures += 1;
            match self.go_on().await {
                Some(next) if failures < FAILURES_MAX => (flow, master) = next,
                Some(_) | None => {
                    // The client's connection breaks, and it asks again.
                    let _hung_up = self.sender.send(Err(broken)).await;
                    return;
                }
            }
        }
    }

    /// Hands bytes to the client; false when it does not want them any more.
    async fn send(&mut self, mut bytes: Bytes) -> bool {
        let left = self.part.end.saturating_sub(self.part.start);
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.part.start += u64::try_from(bytes.len()).unwrap_or(left);
        let sent = timeout(CLIENT_IDLE, self.sender.send(Ok(bytes))).await;
        matches!(sent, Ok(Ok(())))
    }

    /// The rest from another master.
    async fn go_on(&self) -> Option<(Flow, NodeName)> {
        let last = self.part.end.checked_sub(1)?;
        let wish = Wish {
            range: Some(format!("bytes={}-{last}", self.part.start)),
            ..self.wish.clone()
        };
        for master in self.masters.order() {
            let Ok((parts, flow)) = self.masters.ask(&master, &wish).await else {
                continue;
            };
            if parts.status == StatusCode::PARTIAL_CONTENT
                && part_of(&parts, &flow).as_ref() == Some(&self.part)
            {
                return Some((flow, master));
            }
        }
        None
    }
}

/// Which bytes of the blob an answer brings.
fn part_of(parts: &Parts, flow: &Flow) -> Option<Range<u64>> {
    let length = flow.length()?;
    if parts.status == StatusCode::OK {
        return Some(0..length);
    }
    let range = parts.headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (first, _rest) = range.strip_prefix("bytes ")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    Some(first..first.checked_add(length)?)
}

/// What a master said, without what is only between it and this node.
fn head_of(parts: &Parts) -> http::response::Builder {
    let mut head = Response::builder().status(parts.status);
    let digest = header::HeaderName::from_static(DIGEST);
    for name in HEADERS.iter().chain([&digest]) {
        if let Some(value) = parts.headers.get(name) {
            head = head.header(name, value);
        }
    }
    head
}

#[cfg(test)]
mod tests;
