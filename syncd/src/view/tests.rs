//! Statuses as an operator sees them.

use std::collections::BTreeMap;

use api::sync::Boot;
use api::sync::ContentKind;
use api::sync::Counters;
use api::sync::PROTOCOL;
use api::sync::PeerStatus;
use api::sync::Stamp;
use api::sync::TransferStatus;
use api::sync::Trouble;
use bundle::Digest;

use super::*;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn content(title: &str, kind: ContentKind, size: u64, copies: [Copy; 3]) -> ContentStatus {
    let names = ["m1", "m2", "m3"].map(name);
    ContentStatus {
        id: Digest::of(title.as_bytes()),
        kind,
        title: title.to_owned(),
        sequence: 41,
        bytes: size,
        blobs: size / 20_000_000,
        copies: names.into_iter().zip(copies).collect(),
    }
}

fn missing(blobs: u64, size: u64) -> Copy {
    Copy::Incomplete {
        missing_blobs: blobs,
        missing_bytes: size,
    }
}

/// Three masters; a release that m3 is about to complete, an older one, and a license.
pub(crate) fn status() -> Status {
    let safe = |node: &str| NodeStatus {
        name: name(node),
        safe_to_lose: true,
        only_here: Vec::new(),
    };
    let all = [Copy::Complete; 3];
    let arriving = [Copy::Complete, Copy::Complete, missing(41, 840_000_000)];
    Status {
        stamp: Stamp {
            protocol: PROTOCOL,
            node: name("m1"),
            boot: Boot::new(7),
            at: 9,
        },
        peers: Vec::new(),
        contents: vec![
            content(
                "acme/shop 1.4.0",
                ContentKind::Bundle,
                2_900_000_000,
                arriving,
            ),
            content("acme/shop 1.3.2", ContentKind::Bundle, 2_800_000_000, all),
            content("license H-0193", ContentKind::License, 0, all),
        ],
        nodes: vec![safe("m1"), safe("m2"), safe("m3")],
        transfers: Vec::new(),
        troubles: Vec::new(),
        counters: Counters::default(),
    }
}

fn text(status: &Status) -> String {
    status_lines(status).join("\n")
}

#[test]
fn a_release_that_still_arrives_at_one_master() {
    insta::assert_snapshot!(text(&status()), @r"
    release           sequence   m1   m2   m3       size
    acme/shop 1.4.0   41         ●    ●    ◐ 71 %   2.90 GB
    acme/shop 1.3.2   41         ●    ●    ●        2.80 GB
    license H-0193    41         ●    ●    ●

    m1  SAFE to lose
    m2  SAFE to lose
    m3  SAFE to lose       it still lacks 41 blobs, 840.00 MB
    ");
}

#[test]
fn a_master_that_alone_has_something_is_not_safe_to_lose() {
    let mut status = status();
    let only = |title: &str, blobs, size| OnlyHere {
        id: Digest::of(b""),
        title: title.to_owned(),
        blobs,
        bytes: size,
    };
    status.contents[0].copies = BTreeMap::from([
        (name("m1"), Copy::Complete),
        (name("m2"), missing(148, 2_900_000_000)),
        (name("m3"), Copy::Unknown),
    ]);
    status.nodes[0].safe_to_lose = false;
    status.nodes[0].only_here = vec![
        only("acme/shop 1.4.0", 148, 2_900_000_000),
        only("license H-0193", 0, 0),
        only("a", 1, 1),
        only("b", 1, 1),
        only("c", 1, 1),
    ];
    status.peers = vec![
        PeerStatus {
            name: name("m2"),
            link: Link::Up,
            silent_ms: Some(40),
            lag_bytes: 2_900_000_000,
            lag_records: 1,
        },
        PeerStatus {
            name: name("m3"),
            link: Link::Down("connection refused".to_owned()),
            silent_ms: Some(62_000),
            lag_bytes: 0,
            lag_records: 0,
        },
    ];
    status.transfers = vec![TransferStatus {
        blob: Digest::of(b"layer"),
        bytes: 400_000_000,
        have_bytes: 100_000_000,
        sources: vec![name("m2")],
    }];
    status.troubles = vec![Trouble {
        code: "DISK_FULL".to_owned(),
        object: Some(Digest::of(b"layer")),
        peer: None,
        text: "no room for 400 MB".to_owned(),
        retry_ms: 3_500,
    }];
    insta::assert_snapshot!(text(&status), @r"
    release           sequence   m1   m2   m3   size
    acme/shop 1.4.0   41         ●    ○    ?    2.90 GB
    acme/shop 1.3.2   41         ●    ●    ●    2.80 GB
    license H-0193    41         ●    ●    ●

    m1  NOT SAFE TO LOSE   only here: 148 blobs of acme/shop 1.4.0, 2.90 GB; license H-0193; 1 blob of a, 1 B; 2 more
    m2  SAFE to lose       it still lacks 148 blobs, 2.90 GB
    m3  SAFE to lose

    receiving 1 blob: 100.00 MB of 400.00 MB
    m3 does not answer since 62 s: connection refused
    [DISK_FULL] sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85: no room for 400 MB; next try in 4 s
    ");
}

#[test]
fn nearly_complete_is_not_complete() {
    let nearly = content("x", ContentKind::Bundle, 3_000_000_000, [missing(1, 1); 3]);
    assert_eq!(copy(&nearly, &name("m1")), "◐ 99 %");
}

#[test]
fn an_empty_store_says_so() {
    let mut status = status();
    status.contents.clear();
    assert!(text(&status).starts_with("nothing has been imported yet\n\nm1  SAFE"));
}
