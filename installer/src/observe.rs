//! Looking at this machine: read-only, from `/proc`, `/etc` and the file system; nothing is started and nothing changed.
//! The one exception is asked for by itself: how fast the disk is can only be known by writing to it.
//!
//! What is seen is plain data. Whether it is good enough is for the plan to say.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::UdpSocket;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

/// The facts of one machine on which a plan is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Host name, as the kernel has it.
    pub name: String,
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub system: String,
    /// Kernel release.
    pub kernel: String,
    /// Platform in OCI words, `linux/amd64`.
    pub platform: String,
    /// Processors that may be used.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Bytes free for this account where the store will be.
    pub store_free_bytes: u64,
    /// Whether any swap is on.
    pub swap_on: bool,
    /// Whether this account is root.
    pub root: bool,
    /// TCP ports that something listens on.
    pub ports_taken: BTreeSet<u16>,
    /// What is here of Kubernetes already.
    pub kubernetes: Presence,
    /// `/etc/machine-id`, empty where there is none.
    pub machine_id: String,
    /// The address that this machine reaches others by; none without a network.
    pub address: Option<IpAddr>,
    /// What is odd about it and can be lived with.
    pub features: Features,
    /// What a node needs of the kernel and is not there, in plain words.
    pub kernel_lacks: Vec<&'static str>,
    /// Programs that a node needs and the system does not have.
    pub programs_lack: Vec<&'static str>,
    /// The 99th percentile of a small synced write where etcd will be, microseconds; none where it was not measured.
    pub fsync_p99_us: Option<u64>,
}

/// Oddities of a host, found by looking and never by a switch, that the installer sets up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact of its own, and any of them may be so beside any other"
)]
pub struct Features {
    /// Control groups of version 1: the kubelet has to be told that this is accepted.
    pub cgroup_v1: bool,
    /// Swap is on although the operator was told.
    pub swap_on: bool,
    /// `/etc/resolv.conf` names a server that pods can reach.
    pub nameserver: bool,
    /// Processes may lower their OOM score: `CAP_SYS_RESOURCE`.
    pub oom_score: bool,
}

/// What is found on a machine that a bootstrap would make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one file that is there or not, in any combination"
)]
pub struct Presence {
    /// `kubeadm init` or `join` has been here: `/etc/kubernetes/kubelet.conf`.
    pub joined: bool,
    /// A control plane runs here: `/etc/kubernetes/manifests/kube-apiserver.yaml`.
    pub control_plane: bool,
    /// A data directory of etcd: `/var/lib/etcd/member`.
    pub etcd_data: bool,
    /// A container runtime that was there before us: its socket or its program.
    pub container_runtime: Option<PathBuf>,
    /// This installer has been here: `/etc/sealift/site.json`.
    pub ours: bool,
}

/// Sockets and programs of runtimes that would fight ours for the node; ours is in `/usr/local/bin`.
const FOREIGN_RUNTIMES: [&str; 6] = [
    "run/crio/crio.sock",
    "var/run/docker.sock",
    "usr/bin/containerd",
    "usr/bin/dockerd",
    "usr/bin/crio",
    "run/containerd/containerd.sock",
];

/// Programs of the system that kubeadm, kubelet, kube-proxy or the network run on the host (kubeadm's `FileExisting-…`).
const PROGRAMS: [&str; 5] = ["mount", "nsenter", "ip", "iptables|nft", "systemctl"];

/// `CAP_SYS_RESOURCE` (Linux `capability.h`).
const CAP_SYS_RESOURCE: u32 = 24;

/// How often a small write is synced to know the disk.
const FSYNC_WRITES: usize = 100;

/// Size of etcd's writes (etcd, "What does the etcd warning mean": fio with 2300 bytes).
const FSYNC_BYTES: usize = 2300;

impl Host {
    /// Looks at the machine below `root` (`/` but in tests), with the store to be at `store`.
    pub fn observe(root: &Path, store: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let ours = root.join("etc/sealift/site.json").exists();
        let uname = rustix::system::uname();
        Self {
            name: read("proc/sys/kernel/hostname").trim().to_owned(),
            system: os_name(&read("etc/os-release")),
            kernel: read("proc/sys/kernel/osrelease").trim().to_owned(),
            platform: platform(&uname.machine().to_string_lossy()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&read("proc/meminfo")),
            store_free_bytes: free_bytes(store),
            swap_on: read("proc/swaps").lines().count() > 1,
            root: rustix::process::geteuid().is_root(),
            ports_taken: listening(&read("proc/net/tcp"))
                .chain(listening(&read("proc/net/tcp6")))
                .collect(),
            kubernetes: Presence {
                joined: root.join("etc/kubernetes/kubelet.conf").exists(),
                control_plane: root
                    .join("etc/kubernetes/manifests/kube-apiserver.yaml")
                    .exists(),
                etcd_data: root.join("var/lib/etcd/member").exists(),
                container_runtime: FOREIGN_RUNTIMES
                    .iter()
                    .filter(|path| !(ours && path.ends_with("containerd.sock")))
                    .map(|path| root.join(path))
                    .find(|path| path.exists()),
                ours,
            },
            machine_id: read("etc/machine-id").trim().to_owned(),
            address: address(),
            features: Features {
                cgroup_v1: !root.join("sys/fs/cgroup/cgroup.controllers").exists(),
                swap_on: read("proc/swaps").lines().count() > 1,
                nameserver: has_nameserver(&read("etc/resolv.conf")),
                oom_score: has_capability(&read("proc/self/status"), CAP_SYS_RESOURCE),
            },
            kernel_lacks: kernel_lacks(root),
            programs_lack: programs_lack(root),
            fsync_p99_us: None,
        }
    }

    /// Measures how long small writes take to be durable below `directory`; leaves nothing behind.
    #[must_use]
    pub fn with_fsync_measured(self, directory: &Path) -> Self {
        let there = directory.ancestors().find(|path| path.is_dir());
        Self {
            fsync_p99_us: there.and_then(|there| fsync_p99_us(there).ok()),
            ..self
        }
    }
}

/// The address of the interface that leads out; nothing is sent.
fn address() -> Option<IpAddr> {
    // TEST-NET-1 (RFC 5737): routed like any other address, and nobody's.
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// Whether a resolver's file names a server that is also one from inside a pod.
fn has_nameserver(resolv_conf: &str) -> bool {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .any(|address| !address.is_loopback())
}

fn has_capability(status: &str, capability: u32) -> bool {
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bounding.is_none_or(|set| set >> capability & 1 == 1)
}

/// What containers and pod networks need, as the kernel itself lists it.
fn kernel_lacks(root: &Path) -> Vec<&'static str> {
    let filesystems = fs::read_to_string(root.join("proc/filesystems")).unwrap_or_default();
    let mut lacks = Vec::new();
    let has_overlay = filesystems
        .lines()
        .any(|line| line.trim_end().ends_with("overlay"));
    // A module that is not loaded yet is in the list of the kernel's modules.
    if !has_overlay && !has_module(root, "overlay") {
        lacks.push("the overlay file system");
    }
    if !root.join("proc/self/ns/pid").exists() || !root.join("proc/self/ns/net").exists() {
        lacks.push("namespaces for processes and networks");
    }
    if !root.join("proc/sys/net/netfilter").exists() && !has_module(root, "nf_tables") {
        lacks.push("netfilter");
    }
    lacks
}

fn has_module(root: &Path, name: &str) -> bool {
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let folder = root.join("lib/modules").join(release.trim());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        fs::read_to_string(folder.join(list))
            .is_ok_and(|text| text.contains(&format!("/{name}.ko")))
    })
}

fn programs_lack(root: &Path) -> Vec<&'static str> {
    let has = |name: &str| {
        [
            "usr/local/sbin",
            "usr/local/bin",
            "usr/sbin",
            "usr/bin",
            "sbin",
            "bin",
        ]
        .iter()
        .any(|folder| root.join(folder).join(name).exists())
    };
    PROGRAMS
        .into_iter()
        .filter(|names| !names.split('|').any(has))
        .collect()
}

fn fsync_p99_us(directory: &Path) -> io::Result<u64> {
    let path = directory.join(".sealift-fsync");
    let measured = measure_fsync(&path);
    fs::remove_file(&path)?;
    measured
}

fn measure_fsync(path: &Path) -> io::Result<u64> {
    let mut file = fs::File::create(path)?;
    let block = [0; FSYNC_BYTES];
    let mut times = Vec::with_capacity(FSYNC_WRITES);
    for _write in 0..FSYNC_WRITES {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let slowest = times.get(FSYNC_WRITES.saturating_sub(2)).copied();
    let micros = slowest.unwrap_or_default().as_micros();
    Ok(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn os_name(os_release: &str) -> String {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || "unknown".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

/// Go's names of architectures, which OCI uses (image-spec `image-index.md`).
fn platform(machine: &str) -> String {
    let architecture = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Free bytes at `path`, or at the nearest folder above it that exists.
fn free_bytes(path: &Path) -> u64 {
    let there = path
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    rustix::fs::statvfs(there).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Ports in state LISTEN (0A) of `/proc/net/tcp` (Linux `proc_net_tcp.rst`).
fn listening(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let (_address, port) = local.rsplit_once(':')?;
        (state == "0A")
            .then(|| u16::from_str_radix(port, 16).ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_ports_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st\n   \
                     0: 0100007F:192B 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:0050 0100007F:1F90 01 00000000:00000000\n   \
                     2: 00000000000000000000000000000000:0016 0:0 0A\n";
        assert_eq!(listening(table).collect::<Vec<_>>(), [6443, 22]);
    }

    #[test]
    fn a_machine_is_described_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/sys/kernel/hostname", "m1\n"),
            (
                "proc/meminfo",
                "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
            ),
            ("proc/swaps", "Filename Type Size\n/dev/sda2 partition 1\n"),
            (
                "etc/os-release",
                "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
            ),
            ("etc/kubernetes/kubelet.conf", ""),
            ("run/containerd/containerd.sock", ""),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::observe(root.path(), root.path());
        assert_eq!(host.name, "m1");
        assert_eq!(host.system, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(host.memory_bytes, 8_192_000_000);
        assert!(host.swap_on);
        assert!(host.kubernetes.joined && !host.kubernetes.control_plane);
        assert!(host.kubernetes.container_runtime.is_some());
    }
}
