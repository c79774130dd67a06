//! The public port: TLS with this node's certificate, for machines that show none themselves.
//!
//! What a stranger can learn is that certificate. Connections are bounded, in all and for each address; a handshake, the
//! head of a request and silence between two requests have time-outs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use bundle::fault::Blame;
use bundle::fault::Fault;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::routes;
use super::routes::Door;
use super::routes::From;
use crate::net::Identity;
use crate::net::IdentityError;

/// Connections at once; the rest waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;

/// Connections of one address: a joining machine has a handful.
const PER_ADDRESS_MAX: usize = 64;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take for the head of its next request.
const HEAD: Duration = Duration::from_secs(30);

/// A bound port.
#[derive(Debug)]
pub struct PublicListener {
    listener: TcpListener,
    acceptor: Acceptor,
}

struct Acceptor(TlsAcceptor);

/// The port can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PublicListenError {
    /// The system refuses it.
    #[error("can't listen for joining machines on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// This node's certificate is of no use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Counts the connections of each address.
#[derive(Debug, Default)]
struct Crowd(Mutex<BTreeMap<IpAddr, usize>>);

/// One counted connection.
struct Place {
    crowd: Arc<Crowd>,
    from: IpAddr,
    _slot: OwnedSemaphorePermit,
}

impl PublicListener {
    /// Listens at `address` with this node's certificate.
    pub async fn bind(address: SocketAddr, identity: &Identity) -> Result<Self, PublicListenError> {
        let acceptor = Acceptor(TlsAcceptor::from(identity.public()?));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| PublicListenError::Bind { address, source })?;
        Ok(Self { listener, acceptor })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped.
    pub async fn serve(self, door: Arc<Door>) {
        let router = routes::router(door);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let crowd = Arc::new(Crowd::default());
        while let Ok(slot) = slots.clone().acquire_owned().await {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: let some connections end before the next try.
                    tracing::warn!(%error, "can't accept a connection of a joining machine");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = Place::take(&crowd, peer.ip(), slot) else {
                tracing::info!(from = %peer.ip(), "too many connections of one address");
                continue;
            };
            let (acceptor, router) = (self.acceptor.0.clone(), router.clone());
            tokio::spawn(async move {
                serve_connection(stream, place.from, acceptor, router).await;
                drop(place);
            });
        }
    }
}

async fn serve_connection(stream: TcpStream, from: IpAddr, acceptor: TlsAcceptor, router: Router) {
    // Answers are written whole; failing to set it costs speed alone.
    let _slower = stream.set_nodelay(true);
    let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let Ok(Ok(stream)) = shaken else {
        return;
    };
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(From(from));
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await.into_response()) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of a joining machine ended early");
    }
}

impl Place {
    fn take(crowd: &Arc<Crowd>, from: IpAddr, slot: OwnedSemaphorePermit) -> Option<Self> {
        let mut counts = crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= PER_ADDRESS_MAX {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Self {
            crowd: crowd.clone(),
            from,
            _slot: slot,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Acceptor")
    }
}

impl Fault for PublicListenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "JOIN_LISTEN",
            Self::Identity(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Bind { .. } => Blame::Machine,
            Self::Identity(error) => error.blame(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { .. } => Some(
                "another program may use the port; choose one with `listen-public`, or `off`"
                    .to_owned(),
            ),
            Self::Identity(error) => error.hint(),
        }
    }
}
