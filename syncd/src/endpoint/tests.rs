//! Fake API servers behind a real forwarder, on real sockets.

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;

use api::endpoint::Endpoint;
use api::endpoint::Kind;
use api::endpoint::Target;
use api::endpoint::TargetState;
use http::Request;
use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::board::Health;

use super::*;

const NAME: &str = "api.abcdefghij.sealift.internal";

/// Faster than life; time-outs wide enough for a busy machine.
const QUICK: Timing = Timing {
    interval: Duration::from_millis(50),
    time_out: Duration::from_millis(500),
    fall: 2,
    rise: 3,
    poll: Duration::from_millis(20),
};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Kubernetes' authority.
struct Cluster {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// An API server: on a port of its own it speaks TLS when it is asked for readiness, and else says its name in the clear.
struct Server {
    address: SocketAddr,
    health: Arc<Condition>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Condition {
    frozen: AtomicBool,
    unready: AtomicBool,
    asked: AtomicUsize,
}

impl Cluster {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), certificate.pem()).unwrap();
        Self {
            directory,
            issuer: Issuer::new(params, key),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("endpoint.json")
    }

    async fn server(&self, who: u8) -> Server {
        self.server_named(NAME, who).await
    }

    async fn server_named(&self, name: &str, who: u8) -> Server {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::<Condition>::default();
        Server {
            address,
            health: health.clone(),
            serving: tokio::spawn(serve(listener, acceptor, who, health)),
        }
    }

    /// Writes the list, as syncd does.
    fn write(&self, servers: &[SocketAddr]) {
        let targets = servers.iter().map(|address| Target {
            kind: Kind::Master,
            host: address.ip().to_string(),
            port: address.port(),
        });
        let endpoint = Endpoint {
            name: NAME.to_owned(),
            ca: self.directory.path().join("ca.crt").display().to_string(),
            targets: targets.collect(),
        };
        durable(&self.file(), &endpoint.to_bytes().unwrap());
    }

    /// Starts a forwarder; gives its address and its board.
    async fn forwarder(&self, timing: Timing) -> (SocketAddr, Arc<Board>) {
        let forwarder = Forwarder::bind(Settings {
            listen: vec![([127, 0, 0, 1], 0).into()],
            file: self.file(),
            timing,
            connections_max: 16,
        });
        let forwarder = forwarder.await.unwrap();
        let address = forwarder.addresses()[0];
        let board = forwarder.board.clone();
        tokio::spawn(forwarder.run());
        (address, board)
    }
}

fn durable(file: &std::path::Path, bytes: &[u8]) {
    program::durable::replace(file, bytes, 0o644).unwrap();
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, who: u8, health: Arc<Condition>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, health) = (acceptor.clone(), health.clone());
        connections.spawn(async move {
            let mut first = [0];
            stream.peek(&mut first).await.unwrap();
            // 22 begins a TLS handshake.
            if first[0] == 22 {
                let stream = acceptor.accept(stream).await;
                readyz(stream.unwrap(), health).await;
            } else {
                echo(stream, who, health).await;
            }
        });
    }
}

async fn readyz(stream: tokio_rustls::server::TlsStream<TcpStream>, health: Arc<Condition>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let health = health.clone();
        async move {
            assert_eq!(request.uri().path(), "/readyz");
            health.asked.fetch_add(1, Ordering::Relaxed);
            if health.frozen.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let status = if health.unready.load(Ordering::Relaxed) {
                500
            } else {
                200
            };
            let answer = Response::builder().status(status);
            Ok::<_, Infallible>(answer.body("ok".to_owned()).unwrap())
        }
    });
    let served = hyper::server::conn::http1::Builder::new();
    let _ended = served.serve_connection(TokioIo::new(stream), service).await;
}

/// Answers every byte with the server's own name, as long as it is not frozen.
async fn echo(mut stream: TcpStream, who: u8, health: Arc<Condition>) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() {
        if health.frozen.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if stream.write_all(&[who]).await.is_err() {
            return;
        }
    }
}

/// Who is at the other end of a connection; `None` when it has ended.
async fn who(stream: &mut TcpStream) -> Option<u8> {
    let mut answer = [0];
    stream.write_all(b"?").await.ok()?;
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer[0])
}

/// Who answers a new connection.
async fn new_one(at: SocketAddr) -> Option<u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    who(&mut stream).await
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

fn states(board: &Board) -> Vec<TargetState> {
    let targets = board.report().targets.into_iter();
    targets.map(|target| target.state).collect()
}

async fn until_states(board: &Board, wanted: &[TargetState]) {
    until(async || states(board) == wanted).await;
}

#[test]
fn a_target_falls_at_the_second_failure_and_rises_at_the_third_answer() {
    let timing = Timing::default();
    let after = |answers: &[bool]| {
        let first = Health::UNKNOWN;
        let mut answers = answers.iter();
        answers
            .by_ref()
            .fold(first, |health, answer| health.after(*answer, &timing))
    };
    let is_up = |answers: &[bool]| after(answers) == after(&[true]);
    assert!(is_up(&[true, false, true]));
    assert!(!is_up(&[true, false, false]));
    assert!(!is_up(&[false, true, true]) && is_up(&[false, true, true, true]));
    assert!(!is_up(&[false, true, true, false, true, true]));
}

#[tokio::test]
async fn the_first_that_is_ready_gets_the_connection_and_gets_it_back() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.server(1).await, cluster.server(2).await);
    cluster.write(&[one.address, two.address]);
    let (at, board) = cluster.forwarder(QUICK).await;
    until_states(&board, &[TargetState::Up, TargetState::Up]).await;
    assert_eq!(new_one(at).await, Some(1));

    one.health.unready.store(true, Ordering::Relaxed);
    until_states(&board, &[TargetState::Down, TargetState::Up]).await;
    let mut long = TcpStream::connect(at).await.unwrap();
    assert_eq!(who(&mut long).await, Some(2));

    one.health.unready.store(false, Ordering::Relaxed);
    until_states(&board, &[TargetState::Up, TargetState::Up]).await;
    assert_eq!(new_one(at).await, Some(1));
    assert_eq!(who(&mut long).await, Some(2), "it goes on where it is");
    let open = |board: &Board| {
        board
            .report()
            .targets
            .into_iter()
            .map(|target| target.connections)
    };
    until(async || open(&board).eq([0, 1])).await;
}

#[tokio::test]
async fn a_frozen_server_loses_its_connections_within_three_seconds() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.server(1).await, cluster.server(2).await);
    cluster.write(&[one.address, two.address]);
    let (at, board) = cluster.forwarder(Timing::default()).await;
    until_states(&board, &[TargetState::Up, TargetState::Up]).await;
    let mut watch = TcpStream::connect(at).await.unwrap();
    assert_eq!(who(&mut watch).await, Some(1));

    one.health.frozen.store(true, Ordering::Relaxed);
    let since = Instant::now();
    assert_eq!(who(&mut watch).await, None);
    assert_eq!(new_one(at).await, Some(2));
    // Three seconds by the rules; the rest is for a machine that is busy with other tests.
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn a_dead_server_is_passed_over_at_once() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.server(1).await, cluster.server(2).await);
    cluster.write(&[one.address, two.address]);
    let slow = Timing {
        interval: Duration::from_mins(1),
        ..QUICK
    };
    let (at, board) = cluster.forwarder(slow).await;
    until_states(&board, &[TargetState::Up, TargetState::Up]).await;
    // The listener goes with the task.
    one.serving.abort();
    until(async || new_one(at).await == Some(2)).await;
    assert_eq!(states(&board), [TargetState::Up, TargetState::Up]);
}

#[tokio::test]
async fn another_list_cuts_no_connection() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.server(1).await, cluster.server(2).await);
    cluster.write(&[one.address]);
    let (at, board) = cluster.forwarder(QUICK).await;
    until_states(&board, &[TargetState::Up]).await;
    let mut watch = TcpStream::connect(at).await.unwrap();
    assert_eq!(who(&mut watch).await, Some(1));

    cluster.write(&[two.address, one.address]);
    until(async || new_one(at).await == Some(2)).await;
    assert_eq!(who(&mut watch).await, Some(1));
    cluster.write(&[two.address]);
    until_states(&board, &[TargetState::Up]).await;
    assert_eq!(who(&mut watch).await, Some(1));

    durable(&cluster.file(), b"not a list");
    let asked = two.health.asked.load(Ordering::Relaxed);
    until(async || two.health.asked.load(Ordering::Relaxed) > asked + 3).await;
    assert_eq!(new_one(at).await, Some(2), "the last good list is in force");
}

#[tokio::test]
async fn while_nobody_is_ready_the_first_that_listens_is_taken() {
    let cluster = Cluster::new();
    let ca = cluster.directory.path().join("ca.crt");
    let hidden = ca.with_extension("hidden");
    std::fs::rename(&ca, &hidden).unwrap();
    let (one, two) = (cluster.server(1).await, cluster.server(2).await);
    one.health.unready.store(true, Ordering::Relaxed);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = nobody.local_addr().unwrap();
    drop(nobody);
    cluster.write(&[free, one.address, two.address]);
    let (at, board) = cluster.forwarder(QUICK).await;
    until(async || states(&board).len() == 3).await;
    let mut kubeadm = TcpStream::connect(at).await.unwrap();
    assert_eq!(who(&mut kubeadm).await, Some(1));
    assert_eq!(
        one.health.asked.load(Ordering::Relaxed),
        0,
        "there is no authority"
    );

    std::fs::rename(&hidden, &ca).unwrap();
    until_states(
        &board,
        &[TargetState::Down, TargetState::Down, TargetState::Up],
    )
    .await;
    assert_eq!(new_one(at).await, Some(2));
    until(async || who(&mut kubeadm).await.is_none()).await;
}

#[tokio::test]
async fn a_server_of_another_cluster_is_never_ready() {
    let (cluster, foreign) = (Cluster::new(), Cluster::new());
    let stranger = foreign.server(7).await;
    let other = cluster.server_named("api.other.sealift.internal", 8).await;
    let one = cluster.server(1).await;
    cluster.write(&[stranger.address, other.address, one.address]);
    let (at, board) = cluster.forwarder(QUICK).await;
    until_states(
        &board,
        &[TargetState::Down, TargetState::Down, TargetState::Up],
    )
    .await;
    assert_eq!(new_one(at).await, Some(1));
}
