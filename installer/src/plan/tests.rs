//! The plan as text.

use super::*;
use crate::observe::Presence;

fn wanted() -> Wanted {
    Wanted {
        release: "acme/shop 1.4.0".to_owned(),
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
    crate::preflight::tests::host()
}

fn bootstrap(wanted: &Wanted, host: &Host) -> Plan {
    let checks = vec![Check {
        id: "cpu",
        verdict: Verdict::Warn,
        threshold: "2, better 4, on a master",
        text: "2 cpus, 4 cpus are recommended".to_owned(),
        help: None,
    }];
    Plan::bootstrap(wanted, host, checks)
}

#[test]
fn a_fresh_machine_becomes_the_first_master() {
    insta::assert_snapshot!(bootstrap(&wanted(), &host()), @r#"
    acme/shop 1.4.0: this machine becomes the first master of a new highly available cluster

    checks
      warn  cpu        2 cpus, 4 cpus are recommended

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

#[test]
fn applications_alone_make_no_node() {
    let wanted = Wanted {
        kubernetes: None,
        ..wanted()
    };
    let ids: Vec<_> = bootstrap(&wanted, &host())
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
        ours: true,
    };
    let plan = bootstrap(&wanted(), &host);
    assert!(
        plan.steps
            .iter()
            .any(|step| step.id == "control-plane" && step.done)
    );
}
