//! `helm`: the charts of a bundle.

use std::time::Duration;

use crate::machine::Call;
use crate::machine::Machine;
use crate::machine::NODE_DIRECTORY;
use crate::machine::ProgramError;
use crate::tools::kubectl;

/// How long a chart's pods may take to become ready.
const LIMIT: Duration = Duration::from_mins(15);

/// A chart to bring about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// The chart's `.tgz`.
    pub(crate) chart: &'a str,
    /// A file of values.
    pub(crate) values: Option<&'a str>,
}

/// Installs or upgrades a release and waits until its pods are ready.
///
/// A release that a killed run has left pending is taken back first: helm itself would refuse it for ever.
pub(crate) fn upgrade(machine: &Machine, release: &Release<'_>) -> Result<(), ProgramError> {
    if is_pending(machine, release) {
        forget_pending(machine, release)?;
    }
    let mut call = helm([
        "upgrade",
        "--install",
        "--wait",
        "--create-namespace",
        "--timeout",
    ])
    .arg(format!("{}s", LIMIT.as_secs()))
    .arg("--namespace")
    .arg(release.namespace);
    if let Some(values) = release.values {
        call = call.arg("--values").arg(values);
    }
    let call = call.arg(release.name).arg(release.chart);
    machine
        .run(&call.within(LIMIT + Duration::from_secs(30)))
        .map(drop)
}

/// Whether a killed run stopped in the middle of this release.
fn is_pending(machine: &Machine, release: &Release<'_>) -> bool {
    let call = helm([
        "status",
        "--output",
        "json",
        "--namespace",
        release.namespace,
        release.name,
    ]);
    machine
        .run(&call)
        .is_ok_and(|ran| ran.output.contains("\"status\":\"pending-"))
}

/// Removes the newest revision of the release, which nobody will finish.
fn forget_pending(machine: &Machine, release: &Release<'_>) -> Result<(), ProgramError> {
    let call = Call::new(
        "kubectl",
        ["--kubeconfig", kubectl::ADMIN, "delete", "secret", "-n"],
    )
    .arg(release.namespace)
    .arg("-l")
    .arg(format!(
        "owner=helm,name={},status in (pending-install,pending-upgrade,pending-rollback)",
        release.name
    ));
    machine.run(&call).map(drop)
}

fn helm<const N: usize>(arguments: [&str; N]) -> Call {
    let mut call = Call::new("helm", ["--kubeconfig", kubectl::ADMIN]);
    for argument in arguments {
        call = call.arg(argument);
    }
    let home = |part: &str| format!("{NODE_DIRECTORY}/helm/{part}");
    call.env("HELM_CACHE_HOME", &home("cache"))
        .env("HELM_CONFIG_HOME", &home("config"))
        .env("HELM_DATA_HOME", &home("data"))
}
