//! Lists on disk and between two masters.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::ca::Authority;
use crate::config::Written;
use crate::env::Net as _;
use crate::net::Identity;
use crate::net::TlsNet;
use crate::wire::server;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn at(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 7401).into()
}

/// The membership of m1, whose file is in this directory.
fn load(directory: &Path, peers: Option<&str>) -> Result<Arc<Membership>, String> {
    load_of("m1", directory, peers)
}

fn load_of(node: &str, directory: &Path, peers: Option<&str>) -> Result<Arc<Membership>, String> {
    let written = Written {
        node: Some(name(node)),
        members: Some(directory.join("members.json")),
        peers: peers.map(|peer| vec![peer.parse().unwrap()]),
        ..Written::default()
    };
    let config = Config::settle(written).unwrap();
    Membership::load(&config).map_err(|error| error.code().to_owned())
}

fn peers(membership: &Membership) -> Vec<String> {
    let roster = membership.roster();
    roster
        .peers()
        .map(|peer| format!("{peer}={}", roster.address(peer).unwrap()))
        .collect()
}

#[test]
fn what_is_admitted_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let first = load(directory.path(), None).unwrap();
    first.admit(&name("m1"), at(1)).unwrap();
    assert!(first.admit(&name("m2"), at(2)).unwrap());
    assert_eq!(peers(&first), ["m2=10.0.0.2:7401"], "not this node itself");
    let again = load(directory.path(), None).unwrap();
    assert_eq!(peers(&again), ["m2=10.0.0.2:7401"]);
}

#[test]
fn peers_by_hand_count_until_the_list_removes_them() {
    let directory = tempfile::tempdir().unwrap();
    let membership = load(directory.path(), Some("m2=host:1")).unwrap();
    assert_eq!(peers(&membership), ["m2=host:1"]);
    membership.remove(&name("m2"), Role::Master).unwrap();
    assert_eq!(peers(&membership), Vec::<String>::new());
    assert!(!membership.roster().lets_in(&name("m2"), Role::Master));
}

#[test]
fn a_file_that_changes_is_followed_and_never_loses_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let membership = load(directory.path(), None).unwrap();
    membership.admit(&name("m2"), at(2)).unwrap();
    let mut other = Members::default();
    other.admit(&name("m3"), at(3));
    let file = directory.path().join("members.json");
    durable::replace(&file, &other.to_bytes().unwrap(), 0o644).unwrap();
    assert!(membership.reload().unwrap());
    let on_disk = Members::parse(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(on_disk, *membership.roster().members());
    assert_eq!(on_disk.present().count(), 2);
    assert!(!membership.reload().unwrap());
}

#[test]
fn a_damaged_list_is_refused_and_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("members.json"), b"{").unwrap();
    assert_eq!(load(directory.path(), None).unwrap_err(), "MEMBERS_FORMAT");
}

/// A master that answers its peers about the list, and asks them.
async fn master(
    authority: &Authority,
    node: &str,
    directory: &Path,
) -> (Arc<Membership>, SocketAddr) {
    std::fs::create_dir_all(directory).unwrap();
    let membership = load_of(node, directory, None).unwrap();
    let issued = authority.issue(&name(node), Role::Master).unwrap();
    let certificate = |pem: &str| vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let identity = Identity::new(
        certificate(authority.certificate_pem()),
        certificate(&issued.certificate_pem),
        PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
    )
    .unwrap();
    let any = ([127, 0, 0, 1], 0).into();
    let net = TlsNet::bind(any, membership.follow(), &identity);
    let net = Arc::new(net.await.unwrap());
    let address = net.local_addr();
    let router = routes(membership.clone());
    let listening = net.clone();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listening.accept().await {
            tokio::spawn(server::serve(stream, peer, router.clone()));
        }
    });
    // Rounds so far apart that only changes are told.
    let (every, idle) = (Duration::from_hours(1), Duration::from_secs(5));
    tokio::spawn(gossip(membership.clone(), net, every, idle));
    (membership, address)
}

async fn until_knows(membership: &Membership, node: &str) {
    let mut roster = membership.follow();
    let knows = roster.wait_for(|roster| roster.address(&name(node)).is_some());
    let knows = tokio::time::timeout(Duration::from_secs(20), knows).await;
    knows.unwrap().unwrap();
}

#[tokio::test]
async fn a_master_that_one_admits_is_soon_known_to_all_and_knows_all() {
    let authority = Authority::generate(store::Incarnation::from_bytes([7; 16])).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |node: &str| directory.path().join(node);
    let (one, at_one) = master(&authority, "m1", &at("m1")).await;
    let (two, at_two) = master(&authority, "m2", &at("m2")).await;
    let (three, at_three) = master(&authority, "m3", &at("m3")).await;
    for list in [&one, &two, &three] {
        list.admit(&name("m1"), at_one).unwrap();
    }
    one.admit(&name("m2"), at_two).unwrap();
    one.admit(&name("m3"), at_three).unwrap();
    until_knows(&two, "m3").await;
    until_knows(&three, "m2").await;
    for node in ["m2", "m3"] {
        let on_disk = std::fs::read(at(node).join("members.json")).unwrap();
        assert_eq!(Members::parse(&on_disk).unwrap().present().count(), 3);
    }
}
