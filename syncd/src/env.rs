//! What the engine needs from the world around it: sockets, and a place for work that blocks. Simulation brings its own.
//!
//! Time is tokio's, so that a paused clock is a simulated clock; nothing here or in the engine reads the wall clock.

use std::future::Future;
use std::io;

use api::sync::NodeName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// Authenticated byte streams between members.
pub trait Net: Send + Sync + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects to `peer`, and returns only once the other side has proved to be that member.
    fn connect(&self, peer: &NodeName) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Takes the next connection of a member that has proved its name.
    ///
    /// A connection that fails its handshake is not reported here; an error means that no more can be accepted now.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, NodeName)>> + Send;
}

/// Where work that blocks (disk, hashing) runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// On tokio's blocking threads.
    Threads,
    /// At once, on the caller: one simulated step stays one step.
    Inline,
}

impl Offload {
    /// Runs `work` and gives its result; a panic in it goes on in the caller.
    pub async fn run<T, W>(self, work: W) -> T
    where
        W: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self {
            Self::Inline => work(),
            Self::Threads => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Cancelled: the runtime is shutting down and drops the caller next.
                    Err(_cancelled) => std::future::pending().await,
                },
            },
        }
    }
}
