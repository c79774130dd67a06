//! The plan as text, and each reason to refuse a machine by itself.

use std::path::PathBuf;

use super::*;
use crate::observe::Presence;

fn wanted() -> Wanted {
    Wanted {
        release: "acme/shop 1.4.0".to_owned(),
        platforms: vec!["linux/amd64".to_owned()],
        kubernetes: Some(Kubernetes {
            version: "1.36.3".to_owned(),
            pod_subnet: "10.32.0.0/16".to_owned(),
        }),
        node_files: vec![("containerd".to_owned(), 3), ("kubelet".to_owned(), 1)],
        images: (8, 2),
        missing: (148, 3 << 30),
        manifests: 1,
        charts: vec!["shop/shop".to_owned()],
        options: Options {
            ha: true,
            ..Options::default()
        },
    }
}

fn host() -> Host {
    Host {
        name: "m1".to_owned(),
        system: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.1".to_owned(),
        platform: "linux/amd64".to_owned(),
        cpus: 2,
        memory_bytes: 8 << 30,
        store_free_bytes: 40 << 30,
        swap_on: false,
        root: true,
        ports_taken: [22].into(),
        kubernetes: Presence::default(),
    }
}

fn failures(wanted: &Wanted, host: &Host) -> Vec<&'static str> {
    Plan::bootstrap(wanted, host)
        .failures()
        .map(|check| check.id)
        .collect()
}

#[test]
fn a_fresh_machine_becomes_the_first_master() {
    insta::assert_snapshot!(Plan::bootstrap(&wanted(), &host()), @r#"
    acme/shop 1.4.0: this machine becomes the first master of a new highly available cluster

    checks
      ok    platform   linux/amd64, Debian GNU/Linux 12
      warn  cpu        2 cpus, 4 cpus are recommended
      ok    memory     8.0 GiB
      ok    disk       40.0 GiB free, 13.0 GiB needed (3.0 GiB of the bundle, 10.0 GiB beside it)
      ok    root       run by root
      ok    swap       swap is off
      ok    remains    nothing of another cluster is here
      ok    ports      all ports of a master are free

    steps
       1  store           import 148 blobs, 3072 MiB; the file is read once
                          leaves /var/lib/sealift
       2  node-files      place node files: 3 containerd, 1 kubelet
       3  containerd      start containerd; 8 cluster images and 2 of applications come from this node's syncd
                          leaves /etc/containerd/config.toml
                          leaves containerd.service
       4  syncd           start syncd and the API endpoint on loopback
                          leaves /etc/sealift
                          leaves syncd.service
                          leaves syncd-endpoint.service
       5  control-plane   kubeadm init, Kubernetes 1.36.3; API traffic goes to the first master; another takes over only when it is lost
                          leaves /etc/kubernetes
                          leaves /var/lib/etcd
       6  network         apply the pod network for 10.32.0.0/16
       7  cluster-record  record the wish for high availability
                          leaves ConfigMap kube-system/sealift-cluster
       8  manifests       apply 1 manifests
       9  chart           install shop/shop and wait for it
    "#);
}

/// Makes one thing on a machine wrong.
type Spoil = fn(&mut Host);

#[test]
fn each_wrong_thing_on_the_machine_stops_the_plan_alone() {
    let spoil: [(&str, Spoil); 9] = [
        ("platform", |host| host.platform = "linux/arm64".to_owned()),
        ("cpu", |host| host.cpus = 1),
        ("memory", |host| host.memory_bytes = 1 << 30),
        ("disk", |host| host.store_free_bytes = 12 << 30),
        ("root", |host| host.root = false),
        ("swap", |host| host.swap_on = true),
        ("remains", |host| host.kubernetes.etcd_data = true),
        ("remains", |host| {
            host.kubernetes.container_runtime = Some(PathBuf::from("/run/crio/crio.sock"));
        }),
        ("ports", |host| host.ports_taken = [2379].into()),
    ];
    assert_eq!(failures(&wanted(), &host()), [""; 0]);
    for (id, spoil) in spoil {
        let mut host = host();
        spoil(&mut host);
        assert_eq!(failures(&wanted(), &host), [id]);
    }
}

#[test]
fn applications_alone_need_a_cluster() {
    let wanted = Wanted {
        kubernetes: None,
        ..wanted()
    };
    assert_eq!(failures(&wanted, &host()), ["cluster"]);
    let mut host = host();
    host.kubernetes.joined = true;
    assert_eq!(failures(&wanted, &host), [""; 0]);
    let ids: Vec<_> = Plan::bootstrap(&wanted, &host)
        .steps
        .iter()
        .map(|step| step.id)
        .collect();
    assert_eq!(ids, ["store", "manifests", "chart"]);
}

#[test]
fn a_master_is_not_bootstrapped_again() {
    let mut host = host();
    host.kubernetes = Presence {
        joined: true,
        control_plane: true,
        etcd_data: true,
        container_runtime: None,
    };
    host.ports_taken = [2379, 6443, 6444].into();
    let plan = Plan::bootstrap(&wanted(), &host);
    assert_eq!(plan.failures().count(), 0);
    assert!(
        plan.steps
            .iter()
            .any(|step| step.id == "control-plane" && step.done)
    );
}
