//! The commands' side of the socket. Blocking: a command does one thing at a time.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use api::sync::Status;
use api::sync::Wait;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fault;
use bytes::Bytes;
use http::Method;
use http::Request;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::Progress;

/// Largest answer: a status of the largest cluster and ten thousand records.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How long an answer may take; it comes from memory. Waiting for copies has no limit.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to the daemon of this machine.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    runtime: Runtime,
}

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("no syncd is running here")]
    Absent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke off.
    #[error("syncd broke off its answer")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered, but not with what was asked for.
    #[error("syncd refused the request with status {0}")]
    Refused(StatusCode),
    /// No answer in time.
    #[error("syncd gave no answer within {} s", PATIENCE.as_secs())]
    Silent,
}

type Result<T> = std::result::Result<T, ControlError>;

impl Client {
    /// Prepares to talk with the daemon behind a socket; nothing is sent yet.
    pub fn new(path: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(broken)?;
        Ok(Self {
            path: path.to_owned(),
            runtime,
        })
    }

    /// What the daemon knows of the cluster.
    pub fn status(&self) -> Result<Status> {
        self.ask(Method::GET, "/v1/status", read_json)
    }

    /// Says that the store has changed.
    pub fn rescan(&self) -> Result<()> {
        self.ask(Method::POST, "/v1/rescan", async |_empty| Ok(()))
    }

    /// Says that a blob may be damaged.
    pub fn suspect(&self, blob: &Digest) -> Result<()> {
        let path = format!("/v1/suspect/{}", blob.to_hex());
        self.ask(Method::POST, &path, async |_empty| Ok(()))
    }

    /// Waits until enough masters hold a content; `told` gets every change of the count.
    pub fn wait_copies(
        &self,
        content: &Digest,
        wait: Wait,
        told: &mut dyn FnMut(Progress),
    ) -> Result<Progress> {
        let wait = match wait {
            Wait::Local => "local",
            Wait::Majority => "majority",
            Wait::All => "all",
        };
        let path = format!("/v1/copies/{}?wait={wait}", content.to_hex());
        self.runtime.block_on(async {
            let answer = self.send(Method::GET, &path).await?;
            let last = read_lines(answer, told).await?;
            last.filter(Progress::is_enough)
                .ok_or_else(|| broken("it ended before enough masters had it"))
        })
    }

    fn ask<T, F>(&self, method: Method, path: &str, read: impl FnOnce(Incoming) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.runtime.block_on(async {
            let answer = async { read(self.send(method, path).await?).await };
            tokio::time::timeout(PATIENCE, answer)
                .await
                .unwrap_or(Err(ControlError::Silent))
        })
    }

    async fn send(&self, method: Method, path: &str) -> Result<Incoming> {
        let stream =
            UnixStream::connect(&self.path)
                .await
                .map_err(|source| ControlError::Absent {
                    path: self.path.clone(),
                    source,
                })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "syncd")
            .body(Empty::<Bytes>::new())
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            Ok(response.into_body())
        } else {
            Err(ControlError::Refused(response.status()))
        }
    }
}

async fn read_json<T: DeserializeOwned>(answer: Incoming) -> Result<T> {
    let body = Limited::new(answer, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(broken)?;
    serde_json::from_slice(&body.to_bytes()).map_err(broken)
}

/// Reads one progress a line as it comes.
async fn read_lines(
    mut answer: Incoming,
    told: &mut dyn FnMut(Progress),
) -> Result<Option<Progress>> {
    let mut text = Vec::new();
    let mut last = None;
    while let Some(frame) = answer.frame().await {
        let frame = frame.map_err(broken)?;
        text.extend_from_slice(frame.data_ref().map_or(&[], |bytes| &bytes[..]));
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let progress: Progress = serde_json::from_slice(&line).map_err(broken)?;
            told(progress);
            last = Some(progress);
        }
        if text.len() > ANSWER_BYTES_MAX {
            return Err(broken("a line of its answer has no end"));
        }
    }
    Ok(last)
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ControlError {
    ControlError::Broken(error.into())
}

impl Fault for ControlError {
    fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "CONTROL_ABSENT",
            Self::Broken(_) => "CONTROL_BROKEN",
            Self::Refused(_) => "CONTROL_REFUSED",
            Self::Silent => "CONTROL_SILENT",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<bundle::fault::Fact> {
        match self {
            Self::Absent { path, .. } => vec![bundle::fault::Fact::new("socket", path.display())],
            Self::Broken(_) | Self::Refused(_) | Self::Silent => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => {
                Some("start it (`syncd run`), or name its socket with --control".to_owned())
            }
            Self::Broken(_) | Self::Silent => {
                Some("look at its log: journalctl -u syncd".to_owned())
            }
            Self::Refused(_) => None,
        }
    }
}
