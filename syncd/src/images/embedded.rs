//! The endpoint as a registry of its own on loopback, with a link and a door of one's choice: for the demo and tests.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::Endpoint;
use super::ImageSource;
use super::access::Access;
use super::serve::serve;

/// The link and the door of an [`Embedded`] registry.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// What passes before each answer begins.
    pub latency: Duration,
    /// What all answers together get a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Who may pull.
    pub access: Access,
}

/// A link of fixed bandwidth that all answers share.
#[derive(Debug)]
pub(super) struct Link {
    bytes_per_second: NonZeroU64,
    free_at: Mutex<Option<Instant>>,
}

impl Link {
    pub(super) fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            free_at: Mutex::new(None),
        }
    }

    /// Holds the calling thread for as long as these bytes need on the link.
    pub(super) fn pass(&self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let until = free_at.map_or(now, |at| at.max(now)) + takes;
            *free_at = Some(until);
            until
        };
        thread::sleep(until.saturating_duration_since(now));
    }
}

/// A registry that runs on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts on a free port of 127.0.0.1.
    pub fn start(source: impl ImageSource, conditions: Conditions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let endpoint = Endpoint::new(Arc::new(source)).under(conditions, address);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("images".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, endpoint) => {}
                        _ = stopped => {}
                    }
                });
                runtime.shutdown_background();
            })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A serving thread that has already ended needs no word.
            let _ended = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
