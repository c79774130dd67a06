//! Each reason to refuse a machine, by itself.

use std::path::PathBuf;

use api::join::Taken;

use super::*;
use crate::observe::Features;
use crate::observe::Presence;

pub(crate) fn host() -> Host {
    Host {
        name: "m1".to_owned(),
        system: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.1".to_owned(),
        platform: "linux/amd64".to_owned(),
        cpus: 4,
        memory_bytes: 8 << 30,
        store_free_bytes: 40 << 30,
        swap_on: false,
        root: true,
        ports_taken: [22].into(),
        kubernetes: Presence::default(),
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        address: Some([10, 0, 0, 11].into()),
        features: Features {
            cgroup_v1: false,
            swap_on: false,
            nameserver: true,
            oom_score: true,
        },
        kernel_lacks: Vec::new(),
        programs_lack: Vec::new(),
        fsync_p99_us: Some(4_200),
    }
}

fn cluster() -> Cluster {
    let node = |name: &str, id: u8, last| Taken {
        name: name.to_owned(),
        machine_id: format!("{id:032x}"),
        address: Some([10, 0, 0, last].into()),
        ready: true,
    };
    Cluster {
        taken: vec![node("m7", 7, 17), node("m8", 8, 18)],
        clock_ahead_s: 2,
        unreachable: Vec::new(),
        address: Some([10, 0, 0, 11].into()),
    }
}

fn checks(host: &Host, cluster: Option<&Cluster>) -> Vec<Check> {
    check(&Subject {
        host,
        role: Role::Master,
        platforms: &["linux/amd64".to_owned()],
        store_bytes: 3 << 30,
        node_bytes: 2 << 30,
        brings_kubernetes: true,
        cluster,
    })
}

fn bad(checks: &[Check], verdict: Verdict) -> Vec<&'static str> {
    let bad = checks.iter().filter(|check| check.verdict == verdict);
    bad.map(|check| check.id).collect()
}

/// Makes one thing wrong.
type Spoil<T> = fn(&mut T);

#[test]
fn each_wrong_thing_on_the_machine_is_found_and_nothing_else() {
    let spoil: [(&str, Spoil<Host>); 17] = [
        ("platform", |host| host.platform = "linux/arm64".to_owned()),
        ("root", |host| host.root = false),
        ("cpu", |host| host.cpus = 1),
        ("memory", |host| host.memory_bytes = 1 << 30),
        ("disk", |host| host.store_free_bytes = 8 << 30),
        ("swap", |host| host.swap_on = true),
        ("hostname", |host| host.name = "Master_1".to_owned()),
        ("hostname", |host| host.name = "localhost".to_owned()),
        ("machine-id", |host| {
            host.machine_id = "uninitialized".to_owned();
        }),
        ("address", |host| host.address = None),
        ("remains", |host| host.kubernetes.etcd_data = true),
        ("remains", |host| host.kubernetes.joined = true),
        ("runtime", |host| {
            host.kubernetes.container_runtime = Some(PathBuf::from("/run/crio/crio.sock"));
        }),
        ("ports", |host| host.ports_taken = [2379].into()),
        ("ports", |host| host.ports_taken = [6444].into()),
        ("kernel", |host| {
            host.kernel_lacks = vec!["the overlay file system"];
        }),
        ("programs", |host| host.programs_lack = vec!["mount"]),
    ];
    assert_eq!(bad(&checks(&host(), None), Verdict::Fail), [""; 0]);
    for (id, spoil) in spoil {
        let mut host = host();
        spoil(&mut host);
        let checks = checks(&host, None);
        assert_eq!(bad(&checks, Verdict::Fail), [id]);
        assert_eq!(
            require(&checks, Role::Master).unwrap_err().code(),
            "PREFLIGHT_FAILED"
        );
    }
}

#[test]
fn what_is_poor_and_works_is_a_remark() {
    let spoil: [(&str, Spoil<Host>); 4] = [
        ("cpu", |host| host.cpus = 2),
        ("memory", |host| host.memory_bytes = 2 << 30),
        ("cgroup", |host| host.features.cgroup_v1 = true),
        ("fsync", |host| host.fsync_p99_us = Some(31_000)),
    ];
    for (id, spoil) in spoil {
        let mut host = host();
        spoil(&mut host);
        let checks = checks(&host, None);
        assert_eq!(bad(&checks, Verdict::Warn), [id]);
        assert!(require(&checks, Role::Master).is_ok());
    }
}

#[test]
fn a_machine_that_is_ours_already_is_not_refused_for_what_we_put_there() {
    let mut host = host();
    host.kubernetes = Presence {
        joined: true,
        control_plane: true,
        etcd_data: true,
        container_runtime: None,
        ours: true,
    };
    host.ports_taken = [2379, 6443, 6444, 7401].into();
    assert_eq!(bad(&checks(&host, None), Verdict::Fail), [""; 0]);
}

#[test]
fn each_conflict_with_the_cluster_is_found_and_nothing_else() {
    let spoil: [(&str, Spoil<Cluster>); 5] = [
        ("clock", |cluster| cluster.clock_ahead_s = 600),
        ("clock", |cluster| cluster.clock_ahead_s = -61),
        ("hostname-unique", |cluster| {
            cluster.taken[0].name = "m1".to_owned();
        }),
        ("machine-id-unique", |cluster| {
            cluster.taken[1].machine_id = "0123456789abcdef0123456789abcdef".to_owned();
        }),
        ("address-unique", |cluster| {
            cluster.taken[0].address = Some([10, 0, 0, 11].into());
        }),
    ];
    assert_eq!(
        bad(&checks(&host(), Some(&cluster())), Verdict::Fail),
        [""; 0]
    );
    for (id, spoil) in spoil {
        let mut cluster = cluster();
        spoil(&mut cluster);
        assert_eq!(bad(&checks(&host(), Some(&cluster)), Verdict::Fail), [id]);
    }
}

#[test]
fn the_same_machine_may_come_again_under_its_name() {
    let mut cluster = cluster();
    cluster.taken[0].name = "m1".to_owned();
    cluster.taken[0].machine_id = "0123456789abcdef0123456789abcdef".to_owned();
    assert_eq!(
        bad(&checks(&host(), Some(&cluster)), Verdict::Fail),
        [""; 0]
    );
}

#[test]
fn a_lost_master_keeps_nobody_from_joining() {
    let mut cluster = cluster();
    cluster.unreachable = vec!["10.0.0.17:8800".to_owned()];
    let checks = checks(&host(), Some(&cluster));
    assert_eq!(bad(&checks, Verdict::Warn), ["reach"]);
    assert!(require(&checks, Role::Master).is_ok());
}

#[test]
fn a_refusal_can_be_ignored_by_its_id_unless_it_can_not_be_taken_back() {
    let mut host = host();
    host.swap_on = true;
    host.kubernetes.etcd_data = true;
    let mut checks = checks(&host, None);
    ignore(&mut checks, &["swap".to_owned()]).unwrap();
    assert_eq!(bad(&checks, Verdict::Ignored), ["swap"]);
    assert_eq!(bad(&checks, Verdict::Fail), ["remains"]);
    for id in ["remains", "swpa"] {
        let error = ignore(&mut checks, &[id.to_owned()]).unwrap_err();
        assert_eq!(error.code(), "PREFLIGHT_UNKNOWN");
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let mut host = host();
    host.swap_on = true;
    let error = require(&checks(&host, None), Role::Master).unwrap_err();
    insta::assert_snapshot!(api::Report::of(&error, api::Effect::None), @r"
    error[PREFLIGHT_FAILED]: this machine can't become a master as it is: 1 of 16 checks failed
      swap   swap is on; the kubelet refuses to start beside it
             swapoff -a, and take the swap lines out of /etc/fstab
    Nothing was changed.
    help: repair it and run the same command again; at your own risk go on with --ignore swap
    ");
}
