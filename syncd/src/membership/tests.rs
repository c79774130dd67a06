//! Lists on disk and between two masters.

use super::*;
use crate::config::Written;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn at(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 7401).into()
}

/// The membership of m1, whose file is in this directory.
fn load(directory: &std::path::Path, peers: Option<&str>) -> Result<Arc<Membership>, String> {
    let written = Written {
        node: Some(name("m1")),
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
