//! Checks of a machine beside the cluster that it is to join.

use std::net::IpAddr;

use api::join::Taken;

use super::Check;
use super::Subject;
use super::Verdict;

/// Certificates are backdated by five minutes, tokens end to the second, and etcd's leases by the leader's clock.
const CLOCK_S_MAX: u64 = 60;

/// The cluster, as it looks from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its nodes.
    pub taken: Vec<Taken>,
    /// How far this machine's clock is before (positive) or behind the masters', seconds.
    pub clock_ahead_s: i64,
    /// `address:port` of masters that were tried and can't be reached.
    pub unreachable: Vec<String>,
    /// The address that this machine will be reached at.
    pub address: Option<IpAddr>,
}

pub(super) fn checks(subject: &Subject<'_>, cluster: &Cluster) -> Vec<Check> {
    vec![
        clock(cluster),
        unique_name(subject, cluster),
        unique_machine(subject, cluster),
        unique_address(subject, cluster),
        reach(cluster),
    ]
}

fn clock(cluster: &Cluster) -> Check {
    let ahead = cluster.clock_ahead_s;
    let off = ahead.unsigned_abs();
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    Check::of(
        "clock",
        "at most 60 s from the masters'",
        off <= CLOCK_S_MAX,
        &format!("{off} s {side} the masters"),
        &format!("{off} s {side} the masters, {CLOCK_S_MAX} s are allowed"),
    )
    .help("set the clock: timedatectl set-time, or chronyd with a server of the site")
}

/// Another machine that is there under the name is one too many; the same machine may come again.
fn unique_name(subject: &Subject<'_>, cluster: &Cluster) -> Check {
    let host = subject.host;
    let other = cluster
        .taken
        .iter()
        .find(|taken| taken.name == host.name && taken.machine_id != host.machine_id);
    let text = other.map(|taken| {
        let state = if taken.ready { "ready" } else { "not ready" };
        let address = taken
            .address
            .map_or_else(String::new, |address| format!(" at {address}"));
        format!(
            "another machine{address} is {} of this cluster ({state})",
            taken.name
        )
    });
    Check::of(
        "hostname-unique",
        "no other node of this name",
        text.is_none(),
        "no other node has this name",
        text.as_deref().unwrap_or_default(),
    )
    .help("give this machine another name: hostnamectl set-hostname NAME")
}

fn unique_machine(subject: &Subject<'_>, cluster: &Cluster) -> Check {
    let host = subject.host;
    let other = cluster.taken.iter().find(|taken| {
        taken.name != host.name
            && !taken.machine_id.is_empty()
            && taken.machine_id == host.machine_id
    });
    let text =
        other.map(|taken| format!("{} has the same /etc/machine-id: one is a copy", taken.name));
    Check::of(
        "machine-id-unique",
        "no other node of this id",
        text.is_none(),
        "no other node has this machine id",
        text.as_deref().unwrap_or_default(),
    )
    .help("rm /etc/machine-id && systemd-machine-id-setup, then boot this machine again")
}

fn unique_address(subject: &Subject<'_>, cluster: &Cluster) -> Check {
    let other = cluster.taken.iter().find(|taken| {
        taken.name != subject.host.name
            && taken.address.is_some()
            && taken.address == cluster.address
    });
    let text = other.map(|taken| format!("{} has the same address", taken.name));
    Check::of(
        "address-unique",
        "no other node of this address",
        text.is_none(),
        "no other node has this address",
        text.as_deref().unwrap_or_default(),
    )
    .help("give this machine an address of its own")
}

/// A lost master must not keep another from joining: one that answered is enough.
fn reach(cluster: &Cluster) -> Check {
    let (verdict, text) = if cluster.unreachable.is_empty() {
        (Verdict::Pass, "every master can be reached".to_owned())
    } else {
        (
            Verdict::Warn,
            format!("can't be reached: {}", cluster.unreachable.join(", ")),
        )
    };
    Check::new("reach", "every master answers", verdict, text)
        .help("open these ports between the nodes, or start the masters")
}
