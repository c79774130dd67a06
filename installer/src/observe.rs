//! Looking at this machine: read-only, from `/proc`, `/etc` and the file system; nothing is started and nothing changed.
//!
//! What is seen is plain data. Whether it is good enough is for the plan to say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

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
}

/// What is found on a machine that a bootstrap would make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// `kubeadm init` or `join` has been here: `/etc/kubernetes/kubelet.conf`.
    pub joined: bool,
    /// A control plane runs here: `/etc/kubernetes/manifests/kube-apiserver.yaml`.
    pub control_plane: bool,
    /// A data directory of etcd: `/var/lib/etcd/member`.
    pub etcd_data: bool,
    /// A container runtime's socket that was there before us.
    pub container_runtime: Option<PathBuf>,
}

const RUNTIME_SOCKETS: [&str; 3] = [
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "var/run/docker.sock",
];

impl Host {
    /// Looks at the machine below `root` (`/` but in tests), with the store to be at `store`.
    pub fn observe(root: &Path, store: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
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
                container_runtime: RUNTIME_SOCKETS
                    .iter()
                    .map(|path| root.join(path))
                    .find(|path| path.exists()),
            },
        }
    }
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
