//! The API endpoint of a node: forwards TCP from loopback to the first API server that is ready.
//!
//! 1. `orders` reads the list of targets and Kubernetes' authority, and reads them again when they change.
//! 2. `probe` asks every target `GET /readyz` once a second, over TLS that proves it to be of this cluster.
//! 3. `board` knows who is ready. A new connection goes to the first in order that is; when nobody is, to the first that
//!    takes it, because kubeadm talks to an API server before it is ready.
//! 4. `carry` copies bytes both ways until an end closes, or until the target falls while another is ready: an API
//!    server that is frozen still completes TCP, so it is health that decides, never a connection that succeeds.
//!
//! What it must never do: read or change what it carries; end a connection because the list has changed; depend on the
//! rest of the daemon, whose restart may cut no connection.

mod board;
mod carry;
mod orders;
mod probe;
mod status;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use board::Board;

/// Where to listen and what to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses on loopback; one that the machine does not have is left out as long as another works.
    pub listen: Vec<SocketAddr>,
    /// The list of targets.
    pub file: PathBuf,
    /// When things happen.
    pub timing: Timing,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
}

/// When things happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the begin of one question for readiness to the begin of the next.
    pub interval: Duration,
    /// How long an answer, and a connection to a target, may take.
    pub time_out: Duration,
    /// Failures in a row that make a target fall.
    pub fall: u32,
    /// Answers in a row that make it rise again.
    pub rise: u32,
    /// How often the files are looked at.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            time_out: Duration::from_secs(1),
            fall: 2,
            rise: 3,
            poll: Duration::from_millis(500),
        }
    }
}

/// No address could be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen for API connections on {address}")]
pub struct EndpointListenError {
    /// The first address.
    pub address: SocketAddr,
    /// Why.
    pub source: std::io::Error,
}

/// A forwarder that listens.
#[derive(Debug)]
pub struct Forwarder {
    settings: Settings,
    listeners: Vec<TcpListener>,
    board: Arc<Board>,
}

impl Forwarder {
    /// Listens on every address that the machine has.
    pub async fn bind(settings: Settings) -> Result<Self, EndpointListenError> {
        let mut listeners = Vec::new();
        let mut refused = None;
        for address in &settings.listen {
            match TcpListener::bind(address).await {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    tracing::warn!(%address, %error, "not listening there");
                    refused = refused.or(Some((*address, error)));
                }
            }
        }
        match refused {
            // A machine without IPv6 has no ::1; a port that is taken is taken on the first address too.
            Some((address, source)) if listeners.is_empty() || is_taken(&source) => {
                Err(EndpointListenError { address, source })
            }
            Some(_) | None => Ok(Self {
                board: Board::new(settings.timing),
                settings,
                listeners,
            }),
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// What answers how the targets do: `GET /v1/targets`, `GET /metrics`.
    pub fn routes(&self) -> Router {
        status::routes(self.board.clone())
    }

    /// Forwards until it is dropped.
    pub async fn run(self) {
        let Self {
            settings,
            listeners,
            board,
        } = self;
        let slots = carry::slots(settings.connections_max);
        let mut tasks = JoinSet::new();
        tasks.spawn(orders::follow(
            settings.file,
            settings.timing.poll,
            board.clone(),
        ));
        for listener in listeners {
            tasks.spawn(carry::accept(listener, board.clone(), slots.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

fn is_taken(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}
