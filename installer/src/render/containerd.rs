//! containerd's configuration, version 3 (containerd `docs/cri/config.md`), and where it pulls from (`docs/hosts.md`).

use crate::observe::Features;

/// The configuration.
pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";

/// The folder of registries.
pub(crate) const REGISTRIES: &str = "/etc/containerd/certs.d";

/// Renders the configuration; `pause` is the sandbox image that kubeadm names.
pub(crate) fn config(pause: &str, features: Features) -> String {
    let mut text = format!(
        r#"# Written by Sealift's installer; what it finds changed it writes again.
version = 3

[plugins.'io.containerd.cri.v1.images']
  # The store of syncd holds the compressed layers already.
  discard_unpacked_layers = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "{REGISTRIES}"

"#
    );
    if !features.oom_score {
        text.push_str(
            "[plugins.'io.containerd.cri.v1.runtime']\n  \
             # This host lets nobody lower an OOM score: it lacks CAP_SYS_RESOURCE.\n  \
             restrict_oom_score_adj = true\n\n",
        );
    }
    text.push_str(
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n  \
         runtime_type = \"io.containerd.runc.v2\"\n  \
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n    \
         SystemdCgroup = true\n",
    );
    text
}

/// Where a registry's `hosts.toml` is.
pub(crate) fn hosts_path(registry: &str) -> String {
    format!("{REGISTRIES}/{registry}/hosts.toml")
}

/// Renders a registry's `hosts.toml`: syncd on loopback, and nothing else even when that has no answer.
pub(crate) fn hosts(images_port: u16) -> String {
    format!(
        "# Written by Sealift's installer.\nserver = \"http://127.0.0.1:{images_port}\"\n\n\
         [host.\"http://127.0.0.1:{images_port}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_lacks_a_capability_is_told_so() {
        let features = Features {
            cgroup_v1: true,
            swap_on: false,
            nameserver: false,
            oom_score: false,
        };
        insta::assert_snapshot!(config("registry.k8s.io/pause:3.10.2", features));
        insta::assert_snapshot!(hosts(7402), @r#"
        # Written by Sealift's installer.
        server = "http://127.0.0.1:7402"

        [host."http://127.0.0.1:7402"]
          capabilities = ["pull", "resolve"]
        "#);
    }
}
