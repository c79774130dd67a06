//! How a node asks the masters: one after the other until one answers, over connections that prove both sides.
//!
//! Each node begins with another master, so that many nodes share the work. Who has failed lately is asked last, and only
//! while nobody else has answered: a dead machine costs one wait, not one a request.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::hash::BuildHasherDefault;
use std::hash::DefaultHasher;
use std::io;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use api::sync::NodeName;
use bytes::Bytes;
use http::Method;
use http::Request;
use http::header;
use http::response::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::net::Caller;

/// How long a master may send nothing before the next one is asked.
const IDLE: Duration = Duration::from_secs(10);

/// How long a master may take to prove who it is: some round trips.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a failure counts.
const GRUDGE: Duration = Duration::from_secs(30);

/// Buffer of one connection: with it a worker relays at the speed of its link and stays small.
const BUFFER_BYTES: usize = 128 << 10;

/// All other masters, as one node asks them.
#[derive(Debug)]
pub(crate) struct Masters {
    caller: Caller,
    /// Decides who is asked first.
    lot: u64,
    failed: Mutex<BTreeMap<NodeName, Instant>>,
}

/// What is asked of a master.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) range: Option<String>,
}

/// The body of an answer on its way; the connection is its own, and ends with it.
#[derive(Debug)]
pub(crate) struct Flow {
    body: Incoming,
    driver: JoinHandle<()>,
}

impl Masters {
    pub(crate) fn new(caller: Caller, me: &NodeName) -> Self {
        Self {
            caller,
            lot: BuildHasherDefault::<DefaultHasher>::new().hash_one(me),
            failed: Mutex::default(),
        }
    }

    /// Whether a master has failed lately.
    pub(crate) fn has_failed(&self, master: &NodeName) -> bool {
        let failed = self.failed();
        failed.get(master).is_some_and(|at| at.elapsed() < GRUDGE)
    }

    /// Whom to ask, best first.
    pub(crate) fn order(&self) -> Vec<NodeName> {
        let mut masters = self.caller.masters();
        let count = u64::try_from(masters.len()).unwrap_or(u64::MAX);
        let first = self.lot.checked_rem(count).unwrap_or(0);
        masters.rotate_left(usize::try_from(first).unwrap_or(0));
        masters.sort_by_key(|name| self.has_failed(name));
        masters
    }

    /// Asks one master. Whatever is wrong with it, and any answer of 5xx, is an error and remembered.
    pub(crate) async fn ask(&self, master: &NodeName, wish: &Wish) -> io::Result<(Parts, Flow)> {
        let asked = timeout(IDLE, self.send(master, wish)).await;
        let answer = asked.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()));
        match &answer {
            Ok(_) => drop(self.failed().remove(master)),
            Err(error) => {
                tracing::info!(%master, path = wish.path, %error, "a master does not answer");
                self.note_failure(master);
            }
        }
        answer
    }

    /// Remembers that a master has failed.
    pub(crate) fn note_failure(&self, master: &NodeName) {
        self.failed().insert(master.clone(), Instant::now());
    }

    async fn send(&self, master: &NodeName, wish: &Wish) -> io::Result<(Parts, Flow)> {
        let stream = timeout(CONNECT, self.caller.call(master)).await;
        let stream = stream.map_err(|_late| io::Error::from(io::ErrorKind::TimedOut))??;
        let (mut requests, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // Whatever ends it is told to whoever reads the answer.
            let _ended = connection.await;
        });
        let mut request = Request::builder()
            .method(wish.method.clone())
            .uri(&wish.path)
            .header(header::HOST, master.as_str());
        if let Some(range) = &wish.range {
            request = request.header(header::RANGE, range);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let answer = requests.send_request(request).await;
        let (parts, body) = answer.map_err(io::Error::other)?.into_parts();
        let flow = Flow { body, driver };
        if parts.status.is_server_error() {
            return Err(io::Error::other(format!("it answers {}", parts.status)));
        }
        Ok((parts, flow))
    }

    fn failed(&self) -> MutexGuard<'_, BTreeMap<NodeName, Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// How many bytes are to come.
    pub(crate) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let frame = timeout(IDLE, self.body.frame()).await;
            let frame = frame.map_err(|_late| io::Error::from(io::ErrorKind::TimedOut))?;
            match frame.transpose().map_err(io::Error::other)? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// All of it, when it is at most `bytes_max`.
    pub(crate) async fn whole(mut self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if whole.len().saturating_add(bytes.len()) > bytes_max {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
