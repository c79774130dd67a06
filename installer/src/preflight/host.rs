//! Checks of the machine by itself.

use api::join::Role;

use super::Check;
use super::Subject;
use super::Verdict;
use crate::observe::Host;

/// kubeadm refuses less on a master (`NumCPU`); below four an API server and etcd wait for each other under load.
const CPUS: [(usize, usize); 2] = [(2, 4), (1, 2)];

/// kubeadm refuses less than 1 700 MB on a master (`Mem`); one at rest takes about 0.5 GiB, a worker 0.1 GiB.
const MEMORY_BYTES: [(u64, u64); 2] = [(1_700 << 20, 4 << 30), (700 << 20, 2 << 30)];

/// Beside the bundle's own bytes: etcd, logs, and room for the kubelet to work.
const DISK_BYTES_BESIDE: [u64; 2] = [4 << 30, 2 << 30];

/// Above this the leader of etcd changes under load (etcd, "hardware recommendations": p99 below 10 ms).
const FSYNC_P99_US: u64 = 10_000;

/// Ports of a node and who will listen there.
const PORTS: [(u16, &str, bool); 15] = [
    (2379, "etcd clients", true),
    (2380, "etcd peers", true),
    (2381, "etcd metrics", true),
    (6443, "API server", true),
    (7401, "replication", true),
    (8800, "console and joins", true),
    (10257, "controller manager", true),
    (10259, "scheduler", true),
    (6444, "API endpoint", false),
    (7402, "images", false),
    (10248, "kubelet health", false),
    (10249, "kube-proxy metrics", false),
    (10250, "kubelet", false),
    (10256, "kube-proxy health", false),
    (8472, "pod network", false),
];

pub(super) fn checks(subject: &Subject<'_>) -> Vec<Check> {
    let host = subject.host;
    let mut checks = vec![platform(subject)];
    if !subject.brings_kubernetes {
        checks.push(Check::of(
            "cluster",
            "a node of a cluster",
            host.kubernetes.joined,
            "this machine belongs to a cluster",
            "the bundle brings no Kubernetes and this machine belongs to no cluster",
        ));
        return checks;
    }
    checks.push(root(host));
    checks.extend(amounts(subject));
    checks.push(disk(subject));
    checks.push(swap(host));
    checks.push(hostname(host));
    checks.push(machine_id(host));
    checks.push(address(host));
    checks.push(remains(subject));
    checks.push(runtime(host));
    if !host.kubernetes.ours {
        checks.push(ports(subject));
    }
    checks.push(cgroup(host));
    checks.push(list(
        "kernel",
        "the kernel has what containers need",
        &host.kernel_lacks,
    ));
    checks.push(list(
        "programs",
        "the system has what a node runs",
        &host.programs_lack,
    ));
    if subject.role == Role::Master {
        checks.extend(fsync(host));
    }
    checks
}

const fn by_role<T: Copy>(role: Role, values: [T; 2]) -> T {
    let [master, worker] = values;
    match role {
        Role::Master => master,
        Role::Worker => worker,
    }
}

fn platform(subject: &Subject<'_>) -> Check {
    let (has, wants) = (&subject.host.platform, subject.platforms.join(", "));
    Check::of(
        "platform",
        "one of the bundle's",
        subject.platforms.contains(has),
        &format!("{has}, {}", subject.host.system),
        &format!("this machine is {has}, the bundle is for {wants}"),
    )
}

fn root(host: &Host) -> Check {
    Check::of(
        "root",
        "uid 0",
        host.root,
        "run by root",
        "not run by root; applying needs it",
    )
}

fn amounts(subject: &Subject<'_>) -> [Check; 2] {
    let host = subject.host;
    let (least, recommended) = by_role(subject.role, CPUS);
    let (memory_least, memory_recommended) = by_role(subject.role, MEMORY_BYTES);
    [
        amount(
            "cpu",
            "2, better 4, on a master",
            host.cpus,
            least,
            recommended,
            |count| format!("{count} cpus"),
        ),
        amount(
            "memory",
            "1.7 GiB, better 4, on a master",
            host.memory_bytes,
            memory_least,
            memory_recommended,
            gib,
        ),
    ]
}

fn amount<T: PartialOrd + Copy>(
    id: &'static str,
    threshold: &'static str,
    has: T,
    least: T,
    recommended: T,
    show: impl Fn(T) -> String,
) -> Check {
    let (verdict, text) = if has < least {
        (
            Verdict::Fail,
            format!("{}, at least {} are needed", show(has), show(least)),
        )
    } else if has < recommended {
        (
            Verdict::Warn,
            format!("{}, {} are recommended", show(has), show(recommended)),
        )
    } else {
        (Verdict::Pass, show(has))
    };
    Check::new(id, threshold, verdict, text)
}

fn disk(subject: &Subject<'_>) -> Check {
    let host = subject.host;
    let beside = by_role(subject.role, DISK_BYTES_BESIDE);
    let bundle = subject.store_bytes.saturating_add(subject.node_bytes);
    let need = bundle.saturating_add(beside);
    let text = format!(
        "{} free, {} needed ({} of the bundle, {} beside it)",
        gib(host.store_free_bytes),
        gib(need),
        gib(bundle),
        gib(beside),
    );
    Check::of(
        "disk",
        "what the signed index adds up to",
        host.store_free_bytes >= need,
        &text,
        &text,
    )
    .help("make room below /var/lib, or mount a larger disk at /var/lib/sealift")
}

fn swap(host: &Host) -> Check {
    Check::of(
        "swap",
        "off",
        !host.swap_on,
        "swap is off",
        "swap is on; the kubelet refuses to start beside it",
    )
    .help("swapoff -a, and take the swap lines out of /etc/fstab")
}

/// RFC 1123, and short enough for every label that is made of it.
fn hostname(host: &Host) -> Check {
    let name = &host.name;
    let label = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(plain)
            && part.bytes().last().is_some_and(plain)
            && part.bytes().all(|byte| plain(byte) || byte == b'-')
    };
    let good = name.len() <= 63 && name.split('.').all(label) && name != "localhost";
    Check::of(
        "hostname",
        "a DNS name, at most 63 letters",
        good,
        &format!("{name} can be a node's name"),
        &format!("{name:?} can't be a node's name"),
    )
    .help("hostnamectl set-hostname NAME, of a-z, 0-9, '-' and '.'")
}

fn machine_id(host: &Host) -> Check {
    let id = &host.machine_id;
    let good = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Check::of(
        "machine-id",
        "32 hexadecimal digits",
        good,
        "/etc/machine-id names this machine",
        "/etc/machine-id does not name this machine",
    )
    .help("systemd-machine-id-setup")
}

fn address(host: &Host) -> Check {
    let text = host
        .address
        .map(|address| format!("others reach this machine at {address}"));
    Check::of(
        "address",
        "a default route",
        text.is_some(),
        text.as_deref().unwrap_or_default(),
        "no interface has an address that leads out",
    )
    .help("set a default route, or name the address with --address")
}

fn remains(subject: &Subject<'_>) -> Check {
    let here = &subject.host.kubernetes;
    let fail = if here.ours {
        None
    } else if here.joined || here.control_plane {
        Some("this machine belongs to another Kubernetes cluster")
    } else if here.etcd_data {
        Some("/var/lib/etcd holds data of another cluster")
    } else {
        None
    };
    Check::of(
        "remains",
        "none",
        fail.is_none(),
        "nothing of another cluster is here",
        fail.unwrap_or_default(),
    )
    .help("kubeadm reset, then move /etc/kubernetes and /var/lib/etcd away")
}

fn runtime(host: &Host) -> Check {
    let foreign = &host.kubernetes.container_runtime;
    let fail = foreign
        .as_ref()
        .map(|path| format!("a foreign container runtime is here: {}", path.display()));
    Check::of(
        "runtime",
        "none but the bundle's",
        fail.is_none(),
        "no other container runtime is here",
        fail.as_deref().unwrap_or_default(),
    )
    .help("remove its package; the bundle brings its own containerd")
}

fn ports(subject: &Subject<'_>) -> Check {
    let wanted = PORTS
        .iter()
        .filter(|(_, _, of_masters)| subject.role == Role::Master || !of_masters);
    let taken: Vec<_> = wanted
        .filter(|(port, _, _)| subject.host.ports_taken.contains(port))
        .map(|(port, whose, _)| format!("{port} ({whose})"))
        .collect();
    Check::of(
        "ports",
        "all free",
        taken.is_empty(),
        "all ports of a node are free",
        &format!("taken: {}", taken.join(", ")),
    )
    .help("ss -ltnp names who listens there")
}

fn cgroup(host: &Host) -> Check {
    let (verdict, text) = if host.features.cgroup_v1 {
        (
            Verdict::Warn,
            "control groups of version 1; Kubernetes gives them up",
        )
    } else {
        (Verdict::Pass, "control groups of version 2")
    };
    Check::new("cgroup", "version 2", verdict, text.to_owned())
        .help("boot with systemd.unified_cgroup_hierarchy=1 before the next upgrade")
}

fn list(id: &'static str, good: &'static str, lacks: &[&str]) -> Check {
    Check::of(
        id,
        "all there",
        lacks.is_empty(),
        good,
        &format!("missing: {}", lacks.join(", ")),
    )
}

fn fsync(host: &Host) -> Option<Check> {
    let micros = host.fsync_p99_us?;
    let millis = format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
    let (verdict, text) = if micros < FSYNC_P99_US {
        (
            Verdict::Pass,
            format!("a small write is durable in {millis} (99 of 100)"),
        )
    } else {
        (
            Verdict::Warn,
            format!("a small write is durable in {millis} (99 of 100), 10 ms are recommended"),
        )
    };
    Some(
        Check::new("fsync", "p99 below 10 ms", verdict, text)
            .help("put /var/lib/etcd on a faster disk"),
    )
}

fn gib(bytes: u64) -> String {
    format!(
        "{}.{} GiB",
        bytes >> 30,
        ((bytes & ((1 << 30) - 1)) * 10) >> 30
    )
}
