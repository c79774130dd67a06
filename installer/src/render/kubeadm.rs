//! What kubeadm is told: `kubeadm.k8s.io/v1beta4`, several documents in one file, each as JSON, which is YAML.
//!
//! Nothing of it is secret except a join's credentials, which are in a file of their own that only root can read and that
//! is gone after the join.

use api::join::Credentials;
use api::join::Role;
use api::site::API_PORT;
use api::site::NodeSite;
use serde_json::Value;
use serde_json::json;

use crate::observe::Features;

const API: &str = "kubeadm.k8s.io/v1beta4";

/// The container runtime's socket, as kubeadm writes it.
const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// Where kubeadm finds the settings of this node's kubelet alone.
pub(crate) const PATCHES_DIRECTORY: &str = "/etc/sealift/kubeadm-patches";

/// The file there.
pub(crate) const KUBELET_PATCH: &str =
    "/etc/sealift/kubeadm-patches/kubeletconfiguration0+merge.yaml";

/// A resolver file for hosts that know no nameserver: CoreDNS does not start without one.
pub(crate) const RESOLV_CONF: &str = "/etc/sealift/resolv.conf";

/// The taint that keeps applications off masters.
pub(crate) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// What of a bundle kubeadm has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    /// Version of Kubernetes, without `v`.
    pub(crate) kubernetes: String,
    /// The pods' network, CIDR.
    pub(crate) pod_subnet: String,
    /// The services' network, CIDR; kubeadm's own default when absent.
    pub(crate) service_subnet: Option<String>,
}

/// What makes the first master.
pub(crate) fn init(site: &NodeSite, versions: &Versions, features: Features) -> String {
    documents(&[
        json!({
            "apiVersion": API,
            "kind": "InitConfiguration",
            // The broker mints a token for each join; this one is gone before anybody could use it.
            "bootstrapTokens": [{"ttl": "1m0s"}],
            "localAPIEndpoint": endpoint(site),
            "nodeRegistration": registration(site, features),
            "patches": {"directory": PATCHES_DIRECTORY},
            "timeouts": timeouts(),
        }),
        cluster(site, versions),
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "systemd",
            // In bytes: a hundredth of a large disk is much, and the store stands on the same one.
            "evictionHard": {
                "imagefs.available": "1Gi",
                "memory.available": "100Mi",
                "nodefs.available": "1Gi",
                "nodefs.inodesFree": "2%",
            },
            "imageGCHighThresholdPercent": 95,
            "imageGCLowThresholdPercent": 90,
            "shutdownGracePeriod": "60s",
            "shutdownGracePeriodCriticalPods": "20s",
        }),
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            // Left as the host has it: the table is shared with everything else on the machine.
            "conntrack": {"maxPerCore": 0},
        }),
    ])
}

/// What makes another node.
pub(crate) fn join(site: &NodeSite, credentials: &Credentials, features: Features) -> String {
    let mut join = json!({
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": {
            "token": credentials.token,
            "apiServerEndpoint": site.endpoint,
            "caCertHashes": credentials.ca_cert_hashes,
        }},
        "nodeRegistration": registration(site, features),
        "patches": {"directory": PATCHES_DIRECTORY},
        "timeouts": timeouts(),
    });
    if let (Role::Master, Some(join)) = (site.role, join.as_object_mut()) {
        join.insert(
            "controlPlane".to_owned(),
            json!({
                "certificateKey": credentials.certificate_key,
                "localAPIEndpoint": endpoint(site),
            }),
        );
    }
    documents(&[join])
}

/// What this node's kubelet is told beside what all are told.
pub(crate) fn kubelet_patch(features: Features) -> String {
    let mut patch = serde_json::Map::new();
    if features.cgroup_v1 {
        patch.insert("failCgroupV1".to_owned(), json!(false));
    }
    if features.swap_on {
        patch.insert("failSwapOn".to_owned(), json!(false));
    }
    if !features.nameserver {
        patch.insert("resolvConf".to_owned(), json!(RESOLV_CONF));
    }
    documents(&[Value::Object(patch)])
}

fn cluster(site: &NodeSite, versions: &Versions) -> Value {
    let mut names = vec![
        site.cluster_id.endpoint_name(),
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
    ];
    if let Some(balancer) = &site.load_balancer {
        names.push(api::endpoint::split_port(balancer, API_PORT).0);
    }
    let mut networking = json!({"podSubnet": versions.pod_subnet});
    if let (Some(subnet), Some(networking)) = (&versions.service_subnet, networking.as_object_mut())
    {
        networking.insert("serviceSubnet".to_owned(), json!(subnet));
    }
    json!({
        "apiVersion": API,
        "kind": "ClusterConfiguration",
        "clusterName": site.cluster_id,
        "kubernetesVersion": format!("v{}", versions.kubernetes),
        "controlPlaneEndpoint": site.endpoint,
        "networking": networking,
        "apiServer": {"certSANs": names},
        "etcd": {"local": {
            "dataDir": "/var/lib/etcd",
            // Disks of small machines stall for longer than etcd's defaults of 100 and 1000 ms.
            "extraArgs": [
                {"name": "heartbeat-interval", "value": "300"},
                {"name": "election-timeout", "value": "3000"},
            ],
        }},
    })
}

fn registration(site: &NodeSite, features: Features) -> Value {
    // Written also when it is empty: absent means the default taint.
    let taints = match site.role {
        Role::Master if site.taint_control_plane => {
            json!([{"key": CONTROL_PLANE, "effect": "NoSchedule"}])
        }
        Role::Master | Role::Worker => json!([]),
    };
    // What the preflights of the installer have judged by features, kubeadm judges by names.
    let mut ignored = vec!["FileContent--proc-sys-net-bridge-bridge-nf-call-iptables"];
    if features.cgroup_v1 {
        ignored.push("SystemVerification");
    }
    if features.swap_on {
        ignored.push("Swap");
    }
    json!({
        "name": site.node,
        "criSocket": CRI_SOCKET,
        "taints": taints,
        "imagePullPolicy": "IfNotPresent",
        "ignorePreflightErrors": ignored,
        "kubeletExtraArgs": [{"name": "node-ip", "value": site.address}],
    })
}

fn endpoint(site: &NodeSite) -> Value {
    json!({"advertiseAddress": site.address, "bindPort": API_PORT})
}

fn timeouts() -> Value {
    json!({
        "controlPlaneComponentHealthCheck": "10m0s",
        "discovery": "10m0s",
        "etcdAPICall": "5m0s",
        "kubeletHealthCheck": "10m0s",
        "kubernetesAPICall": "5m0s",
        "tlsBootstrap": "10m0s",
    })
}

fn documents(documents: &[Value]) -> String {
    let texts: Vec<String> = documents
        .iter()
        // Strings and lists of them: writing them can't fail.
        .map(|document| serde_json::to_string_pretty(document).unwrap_or_default())
        .collect();
    let mut text = texts.join("\n---\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn site(role: Role) -> NodeSite {
        let cluster_id = api::site::ClusterId::from_random([7; 10]);
        NodeSite {
            endpoint: cluster_id.endpoint(),
            cluster_id,
            node: "m1".parse().unwrap(),
            role,
            address: [10, 0, 0, 11].into(),
            vendor: "acme".parse().unwrap(),
            kubernetes: bundle::Digest::of(b"bundle"),
            first_master: "m1".parse().unwrap(),
            load_balancer: Some("lb.site:8443".to_owned()),
            ha: true,
            taint_control_plane: false,
        }
    }

    fn versions() -> Versions {
        Versions {
            kubernetes: "1.36.3".to_owned(),
            pod_subnet: "10.244.0.0/16".to_owned(),
            service_subnet: None,
        }
    }

    const PLAIN: Features = Features {
        cgroup_v1: false,
        swap_on: false,
        nameserver: true,
        oom_score: true,
    };

    const POOR: Features = Features {
        cgroup_v1: true,
        swap_on: true,
        nameserver: false,
        oom_score: false,
    };

    #[test]
    fn the_first_master_on_a_plain_host() {
        insta::assert_snapshot!(init(&site(Role::Master), &versions(), PLAIN));
    }

    #[test]
    fn a_master_joins_with_its_credentials_on_a_poor_host() {
        let credentials = Credentials {
            token: "abcdef.0123456789abcdef".to_owned(),
            ca_cert_hashes: vec!["sha256:00".to_owned()],
            certificate_key: Some("ff".to_owned()),
        };
        insta::assert_snapshot!(join(&site(Role::Master), &credentials, POOR));
        let worker = join(&site(Role::Worker), &credentials, PLAIN);
        assert!(!worker.contains("controlPlane\""), "{worker}");
    }

    #[test]
    fn a_kubelet_is_told_what_is_odd_about_its_host() {
        assert_eq!(kubelet_patch(PLAIN), "{}\n");
        insta::assert_snapshot!(kubelet_patch(POOR), @r#"
        {
          "failCgroupV1": false,
          "failSwapOn": false,
          "resolvConf": "/etc/sealift/resolv.conf"
        }
        "#);
    }
}
