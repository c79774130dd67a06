//! A site's state, as an operator reads it.

use super::*;

fn seen() -> Seen {
    let node = |name: &str, master| Node {
        name: name.to_owned(),
        master,
        ready: true,
    };
    Seen {
        cluster_id: "az09adbcde".to_owned(),
        ha: true,
        first_master: "m1".to_owned(),
        nodes: vec![
            node("m1", true),
            node("m2", true),
            node("m3", true),
            node("w1", false),
        ],
        etcd: Etcd {
            members: 3,
            answering: 3,
            learners: 0,
            leader: Some("m2".to_owned()),
        },
        dns: Some(Available {
            wanted: 2,
            available: 2,
        }),
        bundles: vec![
            Bundle {
                title: "acme/shop 1.4.0".to_owned(),
                license: false,
                complete: 3,
                members: 3,
            },
            Bundle {
                title: "license H-0193".to_owned(),
                license: true,
                complete: 3,
                members: 3,
            },
        ],
        ..Seen::default()
    }
}

fn text(seen: &Seen) -> String {
    lines(seen, &judge(seen)).join("\n")
}

#[test]
fn a_site_that_is_well() {
    insta::assert_snapshot!(text(&seen()), @r"
    az09adbcde: WELL
      masters   m1 m2 m3 ready · etcd 3 of 3, leader m2 · API by m1
      workers   w1 ready
      bundles   3 copies of acme/shop 1.4.0 · 3 copies of license H-0193
    ");
}

#[test]
fn a_site_that_lost_a_master() {
    let mut seen = seen();
    seen.nodes[0].ready = false;
    seen.etcd.answering = 2;
    seen.bundles[0].complete = 2;
    seen.load_balancer = Some("10.0.0.5:6443".to_owned());
    insta::assert_snapshot!(text(&seen), @r"
    az09adbcde: NOT WELL, with one thing to do
      masters   m2 m3 ready, m1 not ready · etcd 2 of 3, leader m2 · API by 10.0.0.5:6443 (load balancer)
      workers   w1 ready
      bundles   2 copies of acme/shop 1.4.0 · 3 copies of license H-0193
      ! m1 is not ready
      ! etcd: 2 of 3 members answer
      ! acme/shop 1.4.0 is complete on 2 of 3 masters
    to do: start m1 again; if it is lost for good, remove it
    ");
}

#[test]
fn a_site_on_its_way_to_three_masters() {
    let mut seen = seen();
    seen.nodes.remove(2);
    seen.joining = vec!["m3 is joining (since 12 s)".to_owned()];
    seen.etcd.learners = 1;
    let verdict = judge(&seen);
    assert!(verdict.well);
    assert_eq!(
        verdict.to_do,
        ["add a third master: installer join-script --master"]
    );
}

#[test]
fn a_member_without_a_vote_that_nobody_brings_is_wrong() {
    let mut seen = seen();
    seen.etcd.learners = 1;
    assert!(!judge(&seen).well);
}

#[test]
fn an_even_number_of_masters_is_said_to_be_one_too_few() {
    let mut seen = seen();
    let fourth = Node {
        name: "m4".to_owned(),
        master: true,
        ready: true,
    };
    seen.nodes.push(fourth);
    assert_eq!(
        judge(&seen).to_do,
        ["4 masters bear no more losses than 3: add one or remove one"]
    );
}
