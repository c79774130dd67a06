//! The units of systemd that a node runs by.

use api::site::ClusterId;

/// Where units are.
pub(crate) const DIRECTORY: &str = "/etc/systemd/system";

/// A unit's name and text.
pub(crate) type Unit = (&'static str, String);

/// containerd, as its authors ship it; the limits are systemd's own, because a host may not raise them.
pub(crate) fn containerd() -> Unit {
    let text = "[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service

[Service]
Type=notify
ExecStart=/usr/local/bin/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
TasksMax=infinity

[Install]
WantedBy=multi-user.target
";
    ("containerd.service", text.to_owned())
}

/// The kubelet, with what kubeadm's drop-in says; it waits for kubeadm instead of failing until then.
pub(crate) fn kubelet() -> Unit {
    let text = "[Unit]
Description=kubelet: the Kubernetes node agent
Documentation=https://kubernetes.io/docs/
After=containerd.service syncd.service syncd-endpoint.service
Wants=containerd.service
StartLimitIntervalSec=0
ConditionPathExists=/var/lib/kubelet/config.yaml

[Service]
Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
CPUAccounting=yes
MemoryAccounting=yes
Restart=always
RestartSec=3

[Install]
WantedBy=multi-user.target
";
    ("kubelet.service", text.to_owned())
}

/// The daemon.
pub(crate) fn syncd() -> Unit {
    let text = "[Unit]
Description=Sealift: replicates bundles, serves images, brokers joins
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/usr/local/bin/syncd run
# Gives the buffers of a transfer back to the system when it is over: 4 MiB stay instead of 76 (glibc).
Environment=MALLOC_MMAP_THRESHOLD_=262144
RuntimeDirectory=sealift
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
";
    ("syncd.service", text.to_owned())
}

/// The forwarder to the API, its own unit so that a restart of the daemon cuts no connection.
///
/// The name of the API is put into `/etc/hosts` at each start: some hosts write that file anew when they boot.
pub(crate) fn endpoint(cluster: &ClusterId) -> Unit {
    let line = hosts_line(cluster);
    let text = format!(
        "[Unit]
Description=Sealift: the API of the cluster on loopback
After=network.target
Before=kubelet.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStartPre=/bin/sh -c 'grep -qxF \"{line}\" /etc/hosts || echo \"{line}\" >> /etc/hosts'
ExecStart=/usr/local/bin/syncd endpoint
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"
    );
    ("syncd-endpoint.service", text)
}

/// The line of `/etc/hosts` that makes the constant name this node's own forwarder.
pub(crate) fn hosts_line(cluster: &ClusterId) -> String {
    format!("127.0.0.1 {}", cluster.endpoint_name())
}
