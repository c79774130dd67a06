//! A worker and two masters on real sockets, one of which breaks off in the middle of what it serves.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::net::SocketAddr;

use api::join::Role;
use bundle::Digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpListener;

use super::*;
use crate::ca::Authority;
use crate::config::Config;
use crate::config::Written;
use crate::env::Net as _;
use crate::images::Content;
use crate::images::Endpoint;
use crate::images::ImageSource;
use crate::images::Repository;
use crate::images::serve_any;
use crate::images::serve_workers;
use crate::images::tests::Answer;
use crate::images::tests::ask;
use crate::membership::Membership;
use crate::net::Caller;
use crate::net::Identity;
use crate::net::TlsNet;
use crate::wire::server;

const CLUSTER: store::Incarnation = store::Incarnation::from_bytes([7; 16]);

/// A source of one repository, whose blobs end too early when it is broken.
struct Source {
    blobs: BTreeMap<Digest, Vec<u8>>,
    breaks_at: Option<u64>,
}

fn source(blobs: &[&[u8]], breaks_at: Option<u64>) -> Source {
    let blobs = blobs
        .iter()
        .map(|bytes| (Digest::of(bytes), bytes.to_vec()));
    Source {
        blobs: blobs.collect(),
        breaks_at,
    }
}

impl ImageSource for Source {
    fn resolve(&self, _: &Repository, _: &str) -> io::Result<Option<Digest>> {
        Ok(None)
    }

    fn tags(&self, _: &Repository) -> io::Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn open(&self, _: &Repository, digest: &Digest) -> io::Result<Option<Content>> {
        Ok(self.blobs.get(digest).map(|bytes| Content {
            size: u64::try_from(bytes.len()).unwrap(),
            reader: Box::new(Breaking {
                bytes: Cursor::new(bytes.clone()),
                breaks_at: self.breaks_at,
            }),
        }))
    }
}

struct Breaking {
    bytes: Cursor<Vec<u8>>,
    breaks_at: Option<u64>,
}

impl Read for Breaking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.breaks_at.is_some_and(|at| self.bytes.position() >= at) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.bytes.read(buffer)
    }
}

impl Seek for Breaking {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

struct Site {
    authority: Authority,
    directory: tempfile::TempDir,
    nets: Vec<TlsNet>,
    peers: Vec<String>,
}

impl Site {
    fn new() -> Self {
        Self {
            authority: Authority::generate(CLUSTER).unwrap(),
            directory: tempfile::tempdir().unwrap(),
            nets: Vec::new(),
            peers: Vec::new(),
        }
    }

    fn membership(&self, node: &str) -> Arc<Membership> {
        let itself = format!("{node}=");
        let others = self.peers.iter().filter(|peer| !peer.starts_with(&itself));
        let peers = others.map(|peer| peer.parse().unwrap());
        let written = Written {
            node: Some(node.parse().unwrap()),
            members: Some(self.directory.path().join(node)),
            peers: Some(peers.collect()),
            ..Written::default()
        };
        Membership::load(&Config::settle(written).unwrap()).unwrap()
    }

    fn identity(&self, node: &str, role: Role) -> Identity {
        let issued = self.authority.issue(&node.parse().unwrap(), role).unwrap();
        let certificate = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        Identity::new(
            certificate(self.authority.certificate_pem()),
            certificate(&issued.certificate_pem),
            PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
        )
        .unwrap()
    }

    async fn master(&mut self, name: &str, blobs: &[&[u8]], breaks_at: Option<u64>) {
        let blobs = blobs
            .iter()
            .map(|bytes| (Digest::of(bytes), bytes.to_vec()));
        let source = Source {
            blobs: blobs.collect(),
            breaks_at,
        };
        let membership = self.membership(name);
        let identity = self.identity(name, Role::Master);
        let any = ([127, 0, 0, 1], 0).into();
        let net = TlsNet::bind(any, membership.follow(), &identity)
            .await
            .unwrap();
        let endpoint = Endpoint::new(Arc::new(source));
        tokio::spawn(serve_workers(net.workers().unwrap(), endpoint, membership));
        self.peers.push(format!("{name}={}", net.local_addr()));
        self.nets.push(net);
    }

    /// A worker that asks the masters in the order of their names.
    async fn worker(&self) -> SocketAddr {
        let masters = (0..100).find_map(|number| {
            let name = format!("w{number}");
            let membership = self.membership(&name);
            let caller = Caller::new(membership.follow(), &self.identity(&name, Role::Worker));
            let masters = Masters::new(caller, &name.parse().unwrap());
            // The caller follows whoever keeps the list.
            std::mem::forget(membership);
            masters.order().is_sorted().then_some(masters)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(serve_any(listener, Relay::new(Arc::new(masters.unwrap()))));
        at
    }
}

async fn get(at: SocketAddr, method: &'static str, path: String, headers: &'static str) -> Answer {
    tokio::task::spawn_blocking(move || ask(at, method, &path, headers))
        .await
        .unwrap()
}

fn blob_path(bytes: &[u8]) -> String {
    format!("/v2/acme/shop/blobs/{}?ns=docker.io", Digest::of(bytes))
}

fn layer() -> Vec<u8> {
    (0..700_001_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_whose_master_breaks_off_is_whole_in_one_answer() {
    let layer = layer();
    let mut site = Site::new();
    site.master("m1", &[&layer], Some(1 << 20)).await;
    site.master("m2", &[&layer], None).await;
    let worker = site.worker().await;
    let answer = get(worker, "GET", blob_path(&layer), "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(Digest::of(&answer.body), Digest::of(&layer));

    let site_again = site.worker().await;
    let answer = get(
        site_again,
        "GET",
        blob_path(&layer),
        "Range: bytes=1000000-2000000\r\n",
    )
    .await;
    assert_eq!(answer.status, 206);
    assert_eq!(
        answer.header("content-range"),
        Some("bytes 1000000-2000000/2800004")
    );
    assert!(answer.body == layer[1_000_000..=2_000_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_is_believed_when_all_have_said_it() {
    let mut site = Site::new();
    site.master("m1", &[], None).await;
    site.master("m2", &[b"new"], None).await;
    let worker = site.worker().await;
    let answer = get(worker, "GET", blob_path(b"new"), "").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"new"[..]));
    let answer = get(worker, "HEAD", blob_path(b"new"), "").await;
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("3"))
    );
    let answer = get(worker, "GET", blob_path(b"old"), "").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("BLOB_UNKNOWN"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_refuses_itself_what_a_master_would_refuse() {
    let mut site = Site::new();
    site.peers.push("m1=127.0.0.1:1".to_owned());
    let worker = site.worker().await;
    let status = async |method, path: &str| get(worker, method, path.to_owned(), "").await.status;
    assert_eq!(status("POST", "/v2/acme/shop/blobs/uploads/").await, 405);
    assert_eq!(status("GET", "/v1/inventory").await, 404);
    assert_eq!(status("GET", "/v2/../../etc/passwd").await, 400);
    assert_eq!(status("GET", "/v2/").await, 200);
    assert_eq!(status("GET", &blob_path(b"any")).await, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_gets_the_list_of_masters_and_nothing_else_of_the_peers_protocol() {
    let mut site = Site::new();
    site.master("m1", &[], None).await;
    let membership = site.membership("w1");
    let caller = Caller::new(membership.follow(), &site.identity("w1", Role::Worker));
    let masters = Masters::new(caller, &"w1".parse().unwrap());
    let asked = async |path: &str| {
        let wish = Wish {
            method: Method::GET,
            path: path.to_owned(),
            range: None,
        };
        let (parts, flow) = masters.ask(&"m1".parse().unwrap(), &wish).await.unwrap();
        (parts.status.as_u16(), flow.whole(1 << 20).await.unwrap())
    };
    let (status, list) = asked("/v1/members").await;
    assert_eq!(status, 200);
    api::members::Members::parse(&list).unwrap();
    for path in ["/v1/inventory", "/v1/summary", "/v1/status", "/metrics"] {
        assert_eq!(asked(path).await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_gives_what_it_has_and_asks_the_others_for_the_rest() {
    let layer = layer();
    let mut site = Site::new();
    site.peers.push("m2=127.0.0.1:1".to_owned());
    site.master("m1", &[], None).await;
    let net = site.nets.pop().unwrap();
    let routes = crate::images::routes(Endpoint::new(Arc::new(source(&[&layer], None))));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = net.accept().await {
            tokio::spawn(server::serve(stream, peer, routes.clone()));
        }
    });
    let membership = site.membership("m2");
    let caller = Caller::new(membership.follow(), &site.identity("m2", Role::Master));
    let relay = Relay::new(Arc::new(Masters::new(caller, &"m2".parse().unwrap())));
    let own = Endpoint::new(Arc::new(source(&[b"own"], None)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(serve_any(listener, OwnFirst::new(own, relay)));
    assert_eq!(get(at, "GET", blob_path(b"own"), "").await.body, b"own");
    let answer = get(at, "GET", blob_path(&layer), "").await;
    assert_eq!(Digest::of(&answer.body), Digest::of(&layer));
    assert_eq!(get(at, "GET", blob_path(b"neither"), "").await.status, 404);
}
