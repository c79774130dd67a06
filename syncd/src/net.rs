//! Connections between members: TCP, then TLS 1.3 with certificates of the cluster's own authority on both sides.
//!
//! 1. The caller looks up the member's address and connects.
//! 2. Both show a certificate; both check that the cluster's authority signed it.
//! 3. The caller checks that the name in it is the member it called.
//! 4. The called side checks that name and role in it are a member's as the list of members is now, in the handshake.
//!
//! Whoever fails any of this is disconnected before a byte of the protocol is read or written: what it can learn is that
//! something here speaks TLS, and the certificate that TLS has to show first. A worker gets in too, but never to the engine:
//! it is handed to those who serve images ([`TlsNet::workers`]). Sessions are not resumed, because a
//! resumed session would skip step 4 for a member that was expelled in between.

mod identity;
mod members;
#[cfg(test)]
mod tests;

pub use identity::Identity;
pub use identity::IdentityError;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use api::join::Role;
use api::sync::NodeName;
use bundle::fault::Blame;
use bundle::fault::Fault;
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::TlsStream;

use crate::env::Net;
use crate::membership::Roster;

/// How long a connection and its handshake may take: some round trips over the slowest link of a site.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes at once; more wait in the kernel's queue, so strangers can't fill the memory.
const HANDSHAKES_MAX: usize = 64;

/// Members' connections that wait to be taken.
const READY_MAX: usize = 16;

/// A byte stream to or from a member that has proved its name.
pub type MemberStream = TlsStream<TcpStream>;

/// Members that have proved their names, as they come.
pub type Arrivals = mpsc::Receiver<(MemberStream, NodeName)>;

/// The real network.
#[derive(Debug)]
pub struct TlsNet {
    caller: Caller,
    masters: Mutex<Arrivals>,
    workers: std::sync::Mutex<Option<Arrivals>>,
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
    /// Listens at `listen` and lets in whom the list of members lets in.
    pub async fn bind(
        listen: SocketAddr,
        roster: watch::Receiver<Arc<Roster>>,
        identity: &Identity,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let (to_engine, masters) = mpsc::channel(READY_MAX);
        let (to_images, workers) = mpsc::channel(READY_MAX);
        let acceptor = TlsAcceptor::from(
            identity
                .server(roster.clone())
                .map_err(|error| failed(io::Error::other(error)))?,
        );
        let doors = Doors {
            to_engine,
            to_images,
        };
        Ok(Self {
            caller: Caller::new(roster, identity),
            masters: Mutex::new(masters),
            workers: std::sync::Mutex::new(Some(workers)),
            local,
            accepting: tokio::spawn(accept_all(listener, acceptor, doors)),
        })
    }

    /// Who calls, to be used beside replication.
    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// The workers that come; to be taken once, else they are turned away.
    pub fn workers(&self) -> Option<Arrivals> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.take()
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
        self.caller.call(peer).await
    }

    async fn accept(&self) -> io::Result<(MemberStream, NodeName)> {
        let ended = || io::Error::other("listening for peers has ended");
        self.masters.lock().await.recv().await.ok_or_else(ended)
    }
}

/// Calls masters by their names.
#[derive(Clone, Debug)]
pub struct Caller {
    roster: watch::Receiver<Arc<Roster>>,
    connector: Connector,
}

impl Caller {
    /// Calls as this node.
    pub fn new(roster: watch::Receiver<Arc<Roster>>, identity: &Identity) -> Self {
        Self {
            roster,
            connector: Connector(TlsConnector::from(identity.client())),
        }
    }

    /// The masters that can be called, by name.
    pub fn masters(&self) -> Vec<NodeName> {
        self.roster.borrow().peers().cloned().collect()
    }

    /// Connects, and returns only once the other side has proved to be that master.
    pub async fn call(&self, peer: &NodeName) -> io::Result<MemberStream> {
        let address = self.roster.borrow().address(peer).map(str::to_owned);
        let address = address.ok_or_else(|| {
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
}

/// Where connections go that have proved who they are.
#[derive(Clone, Debug)]
struct Doors {
    to_engine: mpsc::Sender<(MemberStream, NodeName)>,
    to_images: mpsc::Sender<(MemberStream, NodeName)>,
}

impl Doors {
    /// Hands a connection on; one that nobody takes is closed.
    async fn enter(&self, stream: MemberStream, name: NodeName, role: Role) {
        match role {
            Role::Master => drop(self.to_engine.send((stream, name)).await),
            // Many more may come than masters, and they ask again.
            Role::Worker => drop(self.to_images.try_send((stream, name))),
        }
    }
}

/// Takes connections for ever; each shakes hands on its own, so that a silent one delays no other.
async fn accept_all(listener: TcpListener, acceptor: TlsAcceptor, doors: Doors) {
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
        let doors = doors.clone();
        tokio::spawn(async move {
            match within(HANDSHAKE, shake_hands(stream, acceptor)).await {
                Ok((stream, name, role)) => doors.enter(stream, name, role).await,
                Err(error) => tracing::info!(%from, %error, "a connection was refused"),
            }
            drop(slot);
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    acceptor: TlsAcceptor,
) -> io::Result<(MemberStream, NodeName, Role)> {
    prepare(&stream)?;
    let stream = TlsStream::from(acceptor.accept(stream).await?);
    let (_, connection) = stream.get_ref();
    let certificate = connection
        .peer_certificates()
        .and_then(|chain| chain.first());
    let (name, role) = certificate
        .and_then(members::caller_in)
        .ok_or_else(|| io::Error::other("the certificate names no node"))?;
    Ok((stream, name, role))
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

#[derive(Clone)]
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
