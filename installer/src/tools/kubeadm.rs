//! `kubeadm`: makes a control plane, joins one, and takes back what it has made.

use std::time::Duration;

use crate::machine::Call;
use crate::machine::Machine;
use crate::machine::ProgramError;

/// Longer than all of kubeadm's own limits together: they end it with a better reason.
const LIMIT: Duration = Duration::from_mins(45);

/// The images that kubeadm names, for this version of Kubernetes.
pub(crate) fn images(machine: &Machine, version: &str) -> Result<Vec<String>, ProgramError> {
    let call = Call::new(
        "kubeadm",
        ["config", "images", "list", "--kubernetes-version"],
    )
    .arg(format!("v{version}"));
    let listed = machine.run(&call)?;
    Ok(listed.output.lines().map(str::to_owned).collect())
}

/// Pulls the images that kubeadm names, by way of containerd's own settings.
pub(crate) fn pull_images(machine: &Machine, version: &str) -> Result<(), ProgramError> {
    let call = Call::new(
        "kubeadm",
        [
            "config",
            "images",
            "pull",
            "--cri-socket",
            "unix:///run/containerd/containerd.sock",
            "--kubernetes-version",
        ],
    )
    .arg(format!("v{version}"))
    .within(LIMIT);
    machine.run(&call).map(drop)
}

/// Makes a control plane on this machine.
pub(crate) fn init(machine: &Machine, config: &str) -> Result<(), ProgramError> {
    let call = Call::new(
        "kubeadm",
        [
            "init",
            "--skip-token-print",
            "--skip-certificate-key-print",
            "--config",
            config,
        ],
    );
    machine.run(&call.within(LIMIT)).map(drop)
}

/// Does again what `init` does after the API is ready; each is idempotent.
pub(crate) fn finish_init(machine: &Machine, config: &str) -> Result<(), ProgramError> {
    let phases: [&[&str]; 5] = [
        &["upload-config", "all"],
        &["mark-control-plane"],
        &["bootstrap-token", "--skip-token-print"],
        &["kubelet-finalize", "all"],
        &["addon", "all"],
    ];
    for phase in phases {
        let mut call = Call::new("kubeadm", ["init", "phase"]);
        for word in phase {
            call = call.arg(word);
        }
        machine.run(&call.arg("--config").arg(config).within(LIMIT))?;
    }
    Ok(())
}

/// Joins a cluster.
pub(crate) fn join(machine: &Machine, config: &str) -> Result<(), ProgramError> {
    let call = Call::new("kubeadm", ["join", "--config", config]);
    machine.run(&call.within(LIMIT)).map(drop)
}

/// Does what `join` does after this node's etcd has become a voter; each phase may be done again.
pub(crate) fn finish_join(machine: &Machine, config: &str) -> Result<(), ProgramError> {
    let call = Call::new("kubeadm", ["join", "--config", config, "--skip-phases"])
        .arg("preflight,control-plane-prepare,check-etcd,kubelet-start,etcd-join");
    machine.run(&call.within(LIMIT)).map(drop)
}

/// Takes back what a try of `join` has made on this machine; etcd's membership is the broker's business.
pub(crate) fn reset_join(machine: &Machine) -> Result<(), ProgramError> {
    let call = Call::new(
        "kubeadm",
        ["reset", "--force", "--skip-phases=remove-etcd-member"],
    );
    machine.run(&call.within(Duration::from_mins(5))).map(drop)
}

/// Takes back what `init` or `join` has made on this machine.
pub(crate) fn reset(machine: &Machine) -> Result<(), ProgramError> {
    let call = Call::new("kubeadm", ["reset", "--force"]);
    machine.run(&call.within(Duration::from_mins(5))).map(drop)
}
