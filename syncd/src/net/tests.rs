//! Members and strangers on real loopback sockets.

use std::time::Duration;

use api::join::Role;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::ca::Authority;
use crate::ca::Issued;
use crate::config::Peer;

/// The cluster of all authorities here: a foreign one may well claim the same.
const CLUSTER: store::Incarnation = store::Incarnation::from_bytes([7; 16]);

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn identity(authority: &Authority, issued: &Issued) -> Identity {
    let certificate = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    Identity::new(
        certificate(authority.certificate_pem()),
        certificate(&issued.certificate_pem),
        PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
    )
    .unwrap()
}

fn member(authority: &Authority, node: &str) -> Identity {
    identity(
        authority,
        &authority.issue(&name(node), Role::Master).unwrap(),
    )
}

/// A network of a node that calls `peers` and lets them in.
async fn net(identity: &Identity, peers: &[(&str, SocketAddr)]) -> TlsNet {
    let peers: Vec<_> = peers
        .iter()
        .map(|(peer, address)| Peer {
            name: name(peer),
            address: address.to_string(),
        })
        .collect();
    let roster = watch::Sender::new(Arc::new(Roster::of_peers(&peers)));
    TlsNet::bind(([127, 0, 0, 1], 0).into(), roster.subscribe(), identity)
        .await
        .unwrap()
}

/// m1, which knows m2 alone.
async fn first(authority: &Authority) -> TlsNet {
    net(
        &member(authority, "m1"),
        &[("m2", ([127, 0, 0, 1], 1).into())],
    )
    .await
}

/// Calls m1 as this identity, sends a request, and returns all that comes back.
async fn learn(identity: &Identity, at: SocketAddr) -> Vec<u8> {
    let caller = net(identity, &[("m1", at)]).await;
    let mut learned = Vec::new();
    if let Ok(mut stream) = caller.connect(&name("m1")).await {
        // In TLS 1.3 the caller is through before the called side has judged it; the verdict comes at the first read.
        let _refused = stream.write_all(b"GET /v1/summary HTTP/1.1\r\n\r\n").await;
        let _refused = stream.read_to_end(&mut learned).await;
    }
    learned
}

#[tokio::test]
async fn members_meet_over_tls_13_with_aes_128_and_know_each_other() {
    let authority = Authority::generate(CLUSTER).unwrap();
    let first = first(&authority).await;
    let second = net(&member(&authority, "m2"), &[("m1", first.local_addr())]).await;

    let m1 = name("m1");
    let (called, accepted) = tokio::join!(second.connect(&m1), first.accept());
    let (mut here, (mut there, who)) = (called.unwrap(), accepted.unwrap());
    assert_eq!(who, name("m2"));
    let (_, connection) = there.get_ref();
    assert_eq!(
        connection.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    let suite = connection.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);

    here.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    there.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn strangers_learn_nothing_and_are_never_handed_on() {
    let authority = Authority::generate(CLUSTER).unwrap();
    let first = first(&authority).await;
    let foreign = Authority::generate(CLUSTER).unwrap();
    let as_foreign_m2 = foreign.issue(&name("m2"), Role::Master).unwrap();
    for (who, stranger) in [
        ("another cluster's m2", identity(&authority, &as_foreign_m2)),
        (
            "an ended certificate",
            identity(&authority, &authority.issue_expired(&name("m2"))),
        ),
        ("a member that is not configured", member(&authority, "m9")),
        ("this node's own name", member(&authority, "m1")),
    ] {
        assert_eq!(learn(&stranger, first.local_addr()).await, b"", "{who}");
    }
    // The first that comes out of `accept` is the member that called last.
    let second = net(&member(&authority, "m2"), &[("m1", first.local_addr())]).await;
    let m1 = name("m1");
    let (called, accepted) = tokio::join!(second.connect(&m1), first.accept());
    called.unwrap();
    assert_eq!(accepted.unwrap().1, name("m2"));
}

#[tokio::test]
async fn a_caller_without_certificate_or_without_tls_learns_nothing() {
    let authority = Authority::generate(CLUSTER).unwrap();
    let first = first(&authority).await;
    let mut plain = TcpStream::connect(first.local_addr()).await.unwrap();
    plain
        .write_all(b"GET /v1/summary HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _reset = plain.read_to_end(&mut answer).await;
    // At most a TLS alert (RFC 8446, 6): type 21, version, length 2, level, description.
    assert!(
        answer.is_empty() || (answer.len() == 7 && answer[0] == 21),
        "{answer:?}"
    );

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(first.local_addr()).await.unwrap();
    let mut learned = Vec::new();
    if let Ok(mut stream) = TlsConnector::from(Arc::new(config))
        .connect("m1".try_into().unwrap(), stream)
        .await
    {
        let _refused = stream.read_to_end(&mut learned).await;
    }
    assert_eq!(learned, b"");
}

#[tokio::test]
async fn a_called_side_with_another_name_or_authority_is_refused() {
    let authority = Authority::generate(CLUSTER).unwrap();
    let impostor = net(
        &member(&authority, "m3"),
        &[("m2", ([127, 0, 0, 1], 1).into())],
    )
    .await;
    let caller = net(&member(&authority, "m2"), &[("m1", impostor.local_addr())]).await;
    let error = caller.connect(&name("m1")).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");

    let foreign = first(&Authority::generate(CLUSTER).unwrap()).await;
    let caller = net(&member(&authority, "m2"), &[("m1", foreign.local_addr())]).await;
    let error = caller.connect(&name("m1")).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_silent_caller_delays_no_member() {
    let authority = Authority::generate(CLUSTER).unwrap();
    let first = first(&authority).await;
    let _silent = TcpStream::connect(first.local_addr()).await.unwrap();
    let second = net(&member(&authority, "m2"), &[("m1", first.local_addr())]).await;
    let m1 = name("m1");
    let met = async { tokio::join!(second.connect(&m1), first.accept()) };
    let (called, accepted) = timeout(Duration::from_secs(5), met).await.unwrap();
    assert!(called.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_worker_gets_to_the_images_alone_and_never_poses_as_a_master() {
    let authority = Authority::generate(CLUSTER).unwrap();
    let first = first(&authority).await;
    let mut workers = first.workers().unwrap();
    let worker = authority.issue(&name("w1"), Role::Worker).unwrap();
    let worker = net(
        &identity(&authority, &worker),
        &[("m1", first.local_addr())],
    )
    .await;
    let m1 = name("m1");
    let (called, accepted) = tokio::join!(worker.connect(&m1), workers.recv());
    assert_eq!((called.is_ok(), accepted.unwrap().1), (true, name("w1")));

    // Even under a master's name, neither as the caller nor as the called side.
    let posing = authority.issue(&name("m2"), Role::Worker).unwrap();
    let posing = net(
        &identity(&authority, &posing),
        &[("m1", first.local_addr())],
    )
    .await;
    let (called, accepted) = tokio::join!(posing.connect(&m1), workers.recv());
    assert_eq!((called.is_ok(), accepted.unwrap().1), (true, name("m2")));
    let deceived = net(&member(&authority, "m1"), &[("m2", posing.local_addr())]).await;
    assert!(deceived.connect(&name("m2")).await.is_err());
}

#[tokio::test]
async fn a_master_to_be_gets_in_and_a_removed_node_or_one_without_a_role_learns_nothing() {
    let authority = Authority::generate(CLUSTER).unwrap();
    let mut members = api::members::Members::default();
    members.admit(&name("m2"), ([127, 0, 0, 1], 1).into());
    let roster = |members: &api::members::Members| Arc::new(Roster::of_members(members.clone()));
    let list = watch::Sender::new(roster(&members));
    let at = ([127, 0, 0, 1], 0).into();
    let m1 = member(&authority, "m1");
    let first = TlsNet::bind(at, list.subscribe(), &m1).await.unwrap();
    let without = authority.issue_without_role(&name("m2"));
    assert_eq!(
        learn(&identity(&authority, &without), first.local_addr()).await,
        b""
    );

    members.invite(&name("m4"));
    list.send_replace(roster(&members));
    let guest = net(&member(&authority, "m4"), &[("m1", first.local_addr())]).await;
    let at_m1 = name("m1");
    let (called, accepted) = tokio::join!(guest.connect(&at_m1), first.accept());
    assert_eq!((called.is_ok(), accepted.unwrap().1), (true, name("m4")));

    let worker = authority.issue(&name("w1"), Role::Worker).unwrap();
    members.remove(&name("m4"), Role::Master);
    list.send_replace(roster(&members));
    assert_eq!(
        learn(&member(&authority, "m4"), first.local_addr()).await,
        b""
    );
    for (node, role) in [("m2", Role::Master), ("w1", Role::Worker)] {
        members.remove(&name(node), role);
    }
    list.send_replace(roster(&members));
    assert_eq!(
        learn(&member(&authority, "m2"), first.local_addr()).await,
        b""
    );
    assert_eq!(
        learn(&identity(&authority, &worker), first.local_addr()).await,
        b""
    );
}
