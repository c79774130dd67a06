//! How each program of a cluster is built: as data, so that a changed recipe is a changed key.

/// Programs that are built from one module file, or one C file.
#[derive(Debug)]
pub(super) struct Group {
    /// The folder below `testdata/cluster/`.
    pub(super) name: &'static str,
    /// What builds it.
    pub(super) how: How,
    /// Its programs.
    pub(super) programs: &'static [Program],
}

/// What builds a group.
#[derive(Debug)]
pub(super) enum How {
    /// The Go compiler.
    Go(Go),
    /// The C compiler: one small static file.
    C,
}

/// What `go build` is told for all programs of a group.
#[derive(Debug)]
pub(super) struct Go {
    /// The module whose version the programs say they are.
    pub(super) module: &'static str,
    /// `-X` flags; `{version}` and `{minor}` are those of the module.
    pub(super) stamps: &'static [&'static str],
    /// Build tags.
    pub(super) tags: &'static [&'static str],
    /// Whether C is called, linked statically.
    pub(super) calls_c: bool,
}

/// One program.
#[derive(Debug)]
pub(super) struct Program {
    /// Its file's name.
    pub(super) name: &'static str,
    /// Its Go package, or its C file.
    pub(super) source: &'static str,
}

/// Nothing but the module's own version numbers.
const fn plain(module: &'static str) -> How {
    How::Go(Go {
        module,
        stamps: &[],
        tags: &[],
        calls_c: false,
    })
}

const fn program(name: &'static str, source: &'static str) -> Program {
    Program { name, source }
}

/// All groups, those first without which nothing runs.
pub(super) const GROUPS: &[Group] = &[
    KUBERNETES, ETCD, CONTAINERD, RUNC, CNI, PAUSE, COREDNS, FLANNEL, HELM,
];

const KUBERNETES: Group = Group {
    name: "kubernetes",
    how: How::Go(Go {
        module: "k8s.io/kubernetes",
        // Without these kubeadm calls itself v0.0.0 and refuses to work, and client-go says so to every server.
        stamps: &[
            "k8s.io/component-base/version.gitVersion={version}",
            "k8s.io/component-base/version.gitMajor=1",
            "k8s.io/component-base/version.gitMinor={minor}",
            "k8s.io/component-base/version.gitTreeState=clean",
            "k8s.io/component-base/version.buildDate=2026-01-01T00:00:00Z",
            "k8s.io/client-go/pkg/version.gitVersion={version}",
            "k8s.io/client-go/pkg/version.gitMajor=1",
            "k8s.io/client-go/pkg/version.gitMinor={minor}",
            "k8s.io/client-go/pkg/version.gitTreeState=clean",
            "k8s.io/client-go/pkg/version.buildDate=2026-01-01T00:00:00Z",
        ],
        tags: &[],
        calls_c: false,
    }),
    programs: &[
        program("kubeadm", "k8s.io/kubernetes/cmd/kubeadm"),
        program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        program(
            "kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ),
        program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        program("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        program("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
};

const ETCD: Group = Group {
    name: "etcd",
    how: plain("go.etcd.io/etcd/server/v3"),
    programs: &[
        program("etcd", "go.etcd.io/etcd/server/v3"),
        program("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
    ],
};

const CONTAINERD: Group = Group {
    name: "containerd",
    how: How::Go(Go {
        module: "github.com/containerd/containerd/v2",
        stamps: &["github.com/containerd/containerd/v2/version.Version={version}"],
        // Snapshotters that need libraries or file systems which the nodes don't have.
        tags: &["no_btrfs", "no_devmapper", "no_zfs"],
        calls_c: false,
    }),
    programs: &[
        program(
            "containerd",
            "github.com/containerd/containerd/v2/cmd/containerd",
        ),
        program(
            "containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        ),
        program("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    ],
};

const RUNC: Group = Group {
    name: "runc",
    how: How::Go(Go {
        module: "github.com/opencontainers/runc",
        stamps: &[],
        // It enters namespaces in C, before Go's runtime starts.
        tags: &["seccomp", "netgo", "osusergo"],
        calls_c: true,
    }),
    programs: &[program("runc", "github.com/opencontainers/runc")],
};

const CNI: Group = Group {
    name: "cni",
    how: How::Go(Go {
        module: "github.com/containernetworking/plugins",
        stamps: &[
            "github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion={version}",
        ],
        tags: &[],
        calls_c: false,
    }),
    programs: &[
        program(
            "bridge",
            "github.com/containernetworking/plugins/plugins/main/bridge",
        ),
        program(
            "loopback",
            "github.com/containernetworking/plugins/plugins/main/loopback",
        ),
        program(
            "host-local",
            "github.com/containernetworking/plugins/plugins/ipam/host-local",
        ),
        program(
            "portmap",
            "github.com/containernetworking/plugins/plugins/meta/portmap",
        ),
        program(
            "firewall",
            "github.com/containernetworking/plugins/plugins/meta/firewall",
        ),
    ],
};

const PAUSE: Group = Group {
    name: "pause",
    how: How::C,
    programs: &[program("pause", "pause.c")],
};

const COREDNS: Group = Group {
    name: "coredns",
    how: plain("github.com/coredns/coredns"),
    programs: &[program("coredns", "github.com/coredns/coredns")],
};

pub(super) const FLANNEL: Group = Group {
    name: "flannel",
    how: How::Go(Go {
        module: "github.com/flannel-io/flannel",
        stamps: &["github.com/flannel-io/flannel/pkg/version.Version={version}"],
        // Its backend for packets over UDP is in C.
        tags: &["netgo", "osusergo"],
        calls_c: true,
    }),
    programs: &[program("flanneld", "github.com/flannel-io/flannel")],
};

const HELM: Group = Group {
    name: "helm",
    how: How::Go(Go {
        module: "helm.sh/helm/v3",
        stamps: &["helm.sh/helm/v3/internal/version.version={version}"],
        tags: &[],
        calls_c: false,
    }),
    programs: &[program("helm", "helm.sh/helm/v3/cmd/helm")],
};

#[cfg(test)]
mod tests {
    use ::tests::cluster_parts;

    use super::*;

    #[test]
    fn every_group_has_its_folder_and_the_harness_knows_it() {
        let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        assert_eq!(names, cluster_parts::GROUPS);
        for name in names {
            let folder = cluster_parts::sources().join(name);
            assert!(folder.is_dir(), "{}", folder.display());
        }
    }

    #[test]
    fn a_module_file_names_every_program_that_is_built_from_it() -> anyhow::Result<()> {
        for group in GROUPS {
            let How::Go(go) = &group.how else { continue };
            let path = cluster_parts::sources().join(group.name).join("go.mod");
            let text = std::fs::read_to_string(path)?;
            assert!(
                text.contains(&format!("\t{} v", go.module)),
                "{}",
                go.module
            );
            for program in group.programs {
                let tool = |line: &str| line.trim_start_matches("tool").trim() == program.source;
                assert!(text.lines().any(tool), "{} is no tool", program.source);
            }
        }
        Ok(())
    }
}
