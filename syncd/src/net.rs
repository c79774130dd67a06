//! Connections between members: TCP, then TLS 1.3 with certificates of the cluster's own authority on both sides.
//!
//! 1. The caller looks up the member's address and connects.
//! 2. Both show a certificate; both check that the cluster's authority signed it.
//! 3. The caller checks that the name in it is the member it called.
//! 4. The called side checks that the name in it is a configured member, inside the handshake.
//!
//! Whoever fails any of this is disconnected before a byte of the protocol is read or written: what it can learn is that
//! something here speaks TLS, and the certificate that TLS has to show first. Sessions are not resumed, because a
//! resumed session would skip step 4 for a member that was expelled in between.

mod identity;
mod members;
#[cfg(test)]
mod tests;

pub use identity::Identity;
pub use identity::IdentityError;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::sync::NodeName;
use bundle::fault::Blame;
use bundle::fault::Fault;
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::TlsStream;

use crate::config::Peer;
use crate::env::Net;

/// How long a connection and its handshake may take: some round trips over the slowest link of a site.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes at once; more wait in the kernel's queue, so strangers can't fill the memory.
const HANDSHAKES_MAX: usize = 64;

/// Members' connections that wait to be taken.
const READY_MAX: usize = 16;

/// A byte stream to or from a member that has proved its name.
pub type MemberStream = TlsStream<TcpStream>;

/// The real network.
#[derive(Debug)]
pub struct TlsNet {
    addresses: BTreeMap<NodeName, String>,
    connector: Connector,
    ready: Mutex<mpsc::Receiver<(MemberStream, NodeName)>>,
    local: SocketAddr,
    accepting: JoinHandle<()>,
}

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen for peers on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl TlsNet {
    /// Listens at `listen` and lets in the peers of this list.
    pub async fn bind(
        listen: SocketAddr,
        peers: &[Peer],
        identity: &Identity,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError {
            address: listen,
            source,
        };
        let members = Arc::new(peers.iter().map(|peer| peer.name.clone()).collect());
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let acceptor = TlsAcceptor::from(
            identity
                .server(members)
                .map_err(|error| failed(io::Error::other(error)))?,
        );
        Ok(Self {
            addresses: peers
                .iter()
                .map(|peer| (peer.name.clone(), peer.address.clone()))
                .collect(),
            connector: Connector(TlsConnector::from(identity.client())),
            ready: Mutex::new(ready),
            local,
            accepting: tokio::spawn(accept_all(listener, acceptor, sender)),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for TlsNet {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Net for TlsNet {
    type Stream = MemberStream;

    async fn connect(&self, peer: &NodeName) -> io::Result<MemberStream> {
        let address = self.addresses.get(peer).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{peer} is no member"))
        })?;
        let name = ServerName::try_from(peer.to_string()).map_err(io::Error::other)?;
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            prepare(&stream)?;
            Ok(TlsStream::from(
                self.connector.0.connect(name, stream).await?,
            ))
        };
        within(HANDSHAKE, connect).await
    }

    async fn accept(&self) -> io::Result<(MemberStream, NodeName)> {
        let ended = || io::Error::other("listening for peers has ended");
        self.ready.lock().await.recv().await.ok_or_else(ended)
    }
}

/// Takes connections for ever; each shakes hands on its own, so that a silent one delays no other.
async fn accept_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(MemberStream, NodeName)>,
) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: let some connections end before the next try.
                tracing::warn!(%error, "can't accept a connection of a peer");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let acceptor = acceptor.clone();
        let ready = ready.clone();
        tokio::spawn(async move {
            match within(HANDSHAKE, shake_hands(stream, acceptor)).await {
                // The receiver is gone only when the whole network is.
                Ok(member) => drop(ready.send(member).await),
                Err(error) => tracing::info!(%from, %error, "a connection was refused"),
            }
            drop(slot);
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    acceptor: TlsAcceptor,
) -> io::Result<(MemberStream, NodeName)> {
    prepare(&stream)?;
    let stream = TlsStream::from(acceptor.accept(stream).await?);
    let (_, connection) = stream.get_ref();
    let certificate = connection
        .peer_certificates()
        .and_then(|chain| chain.first());
    let name = certificate
        .and_then(members::name_in)
        .ok_or_else(|| io::Error::other("the certificate names no node"))?;
    Ok((stream, name))
}

/// Requests are small and answers are written whole: nothing is won by waiting for more bytes.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A cut cable shows up even where nobody is writing.
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
    rustix::net::sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    Ok(())
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_late| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the handshake took too long",
        ))
    })
}

struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Connector")
    }
}

impl Fault for ListenError {
    fn code(&self) -> &'static str {
        "NET_LISTEN"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        Some("another program may use the port; choose one with `listen`".to_owned())
    }
}
