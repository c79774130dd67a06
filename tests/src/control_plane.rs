//! Real etcd and a real API server on loopback, with certificates by the real kubeadm, and no kubelet: what a broker needs.
//!
//! Every master has an address of its own in 127.0.0.0/8. One API server answers on all of them, with a certificate for
//! all of them: what a broker asks of a new master's API server is answered by it.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::cluster_parts::Parts;
use crate::process;
use crate::process::Finished;
use crate::process::Running;

/// Where every etcd answers clients, at its own address.
pub const ETCD_PORT: u16 = 2379;
const ETCD_PEER_PORT: u16 = 2380;

/// Masters that there are addresses and certificates for.
pub const MASTERS: u8 = 5;

/// An address for kubeadm, which takes none of loopback; nobody connects to it.
const UNUSED: &str = "10.9.9.9";

/// A control plane of `m1`.
#[derive(Debug)]
pub struct ControlPlane {
    parts: Parts,
    folder: PathBuf,
    network: [u8; 3],
    /// The port of the API server.
    pub api_port: u16,
    // In the order in which they end: the API server before its etcd.
    _api: Running,
    _etcd: Running,
}

/// A member of etcd as etcdctl lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, hexadecimal.
    pub id: String,
    /// Its name, empty before it has started.
    pub name: String,
    /// Whether it has no vote.
    pub is_learner: bool,
}

impl ControlPlane {
    /// Makes certificates below `folder`, and starts etcd and the API server of `m1`.
    pub fn start(parts: &Parts, folder: &Path) -> Result<Self> {
        let network = free_network()?;
        let api_port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?
            .local_addr()?
            .port();
        make_certificates(parts, folder, network, api_port)?;
        let etcd = start_etcd(
            parts,
            folder,
            network,
            1,
            &format!("m1={}", peer_url(network, 1)),
            "new",
        )?;
        let api = start_api(parts, folder, network, api_port)?;
        let this = Self {
            parts: parts.clone(),
            folder: folder.to_owned(),
            network,
            api_port,
            _api: api,
            _etcd: etcd,
        };
        this.wait_until_ready()?;
        this.keep_kubeadm_config()?;
        Ok(this)
    }

    /// The folder with `admin.conf` and `pki/`, as `/etc/kubernetes` is on a master.
    pub fn kubernetes(&self) -> PathBuf {
        self.folder.join("kubernetes")
    }

    /// The address of a master.
    pub fn address(&self, number: u8) -> Ipv4Addr {
        address(self.network, number)
    }

    /// Where a master's etcd answers clients.
    pub fn etcd_url(&self, number: u8) -> String {
        format!("https://{}:{ETCD_PORT}", self.address(number))
    }

    /// The program kubeadm.
    pub fn kubeadm(&self) -> Result<PathBuf> {
        self.parts.program("kubernetes", "kubeadm")
    }

    /// All members of etcd, as `m1` lists them.
    pub fn members(&self) -> Result<Vec<Member>> {
        let listed = self.etcdctl(&["member", "list", "--hex", "-w", "json"])?;
        let listed: Value = serde_json::from_str(&listed.stdout)?;
        let members = listed
            .pointer("/members")
            .and_then(Value::as_array)
            .context("a list of members")?;
        members
            .iter()
            .map(|member| {
                let id = member
                    .pointer("/ID")
                    .and_then(Value::as_str)
                    .map(str::to_owned);
                // Numbers beyond 2^53 are written as text by some versions only.
                let id = id.or_else(|| {
                    member
                        .pointer("/ID")
                        .and_then(Value::as_u64)
                        .map(|id| format!("{id:x}"))
                });
                Ok(Member {
                    id: id.context("a member's number")?,
                    name: member
                        .pointer("/name")
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned(),
                    is_learner: member
                        .pointer("/isLearner")
                        .and_then(Value::as_bool)
                        .unwrap_or(false),
                })
            })
            .collect()
    }

    /// Runs etcdctl against `m1`; it must succeed.
    pub fn etcdctl(&self, arguments: &[&str]) -> Result<Finished> {
        self.try_etcdctl(arguments)?.succeeded()
    }

    /// Runs etcdctl against `m1`.
    pub fn try_etcdctl(&self, arguments: &[&str]) -> Result<Finished> {
        let pki = self.kubernetes().join("pki/etcd");
        let mut command = Command::new(self.parts.program("etcd", "etcdctl")?);
        command
            .args(["--endpoints", &self.etcd_url(1)])
            .arg("--cacert")
            .arg(pki.join("ca.crt"))
            .arg("--cert")
            .arg(pki.join("healthcheck-client.crt"))
            .arg("--key")
            .arg(pki.join("healthcheck-client.key"))
            .args(arguments);
        process::run(&mut command)
    }

    /// Adds a learner as kubeadm does, in one try; what it says is etcd's word.
    pub fn add_learner(&self, number: u8) -> Result<Finished> {
        let name = format!("m{number}");
        let url = format!("--peer-urls={}", peer_url(self.network, number));
        self.try_etcdctl(&["member", "add", &name, &url, "--learner"])
    }

    /// Starts the member that was added, of an empty folder.
    pub fn start_member(&self, number: u8, added: &Finished) -> Result<Running> {
        let line = added.stdout.lines();
        let mut cluster = line.filter_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
        let cluster = cluster.next().context("etcdctl tells the members")?;
        let cluster = cluster.trim_matches('"');
        let data = self.folder.join(format!("etcd-m{number}"));
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        start_etcd(
            &self.parts,
            &self.folder,
            self.network,
            number,
            cluster,
            "existing",
        )
    }

    /// Asks the API by kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(self.parts.program("kubernetes", "kubectl")?);
        command
            .arg("--kubeconfig")
            .arg(self.kubernetes().join("admin.conf"))
            .args(arguments);
        process::run(&mut command)
    }

    /// Makes a ready node, as its kubelet would; its machine id is its name in capitals.
    pub fn make_node(&self, name: &str, address: Ipv4Addr, is_master: bool) -> Result<()> {
        let labels = if is_master {
            json!({ "node-role.kubernetes.io/control-plane": "" })
        } else {
            json!({})
        };
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "labels": labels },
        });
        let file = self.folder.join(format!("node-{name}.json"));
        fs::write(&file, node.to_string())?;
        let file = file.display().to_string();
        self.kubectl(&["create", "-f", &file])?.succeeded()?;
        let status = json!({ "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "addresses": [{ "type": "InternalIP", "address": address.to_string() }],
            "nodeInfo": { "machineID": name.to_uppercase() },
        } });
        let status = status.to_string();
        let patch = [
            "patch",
            "node",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        self.kubectl(&patch)?.succeeded()?;
        Ok(())
    }

    fn wait_until_ready(&self) -> Result<()> {
        process::wait_for("the API server to be ready", || {
            let asked = self.kubectl(&["get", "--raw", "/readyz"]);
            let asked = asked.map_err(|error| format!("{error:#}"))?;
            let namespace = self.kubectl(&["get", "namespace", "kube-system"]);
            let namespace = namespace.map_err(|error| format!("{error:#}"))?;
            if asked.stdout == "ok" && namespace.code == Some(0) {
                Ok(())
            } else {
                Err(format!("{asked}\n{namespace}"))
            }
        })
    }

    /// Puts kubeadm's configuration into the cluster, where the broker reads it.
    fn keep_kubeadm_config(&self) -> Result<()> {
        let config = self.folder.join("kubeadm.yaml");
        let mut command = Command::new(self.kubeadm()?);
        command
            .args(["init", "phase", "upload-config", "kubeadm", "--config"])
            .arg(config)
            .arg("--kubeconfig")
            .arg(self.kubernetes().join("admin.conf"));
        process::run(&mut command)?.succeeded()?;
        Ok(())
    }
}

fn address([one, two, three]: [u8; 3], number: u8) -> Ipv4Addr {
    Ipv4Addr::new(one, two, three, number)
}

fn peer_url(network: [u8; 3], number: u8) -> String {
    format!("https://{}:{ETCD_PEER_PORT}", address(network, number))
}

/// A network of loopback on which nobody listens.
fn free_network() -> Result<[u8; 3]> {
    let [.., high, low] = std::process::id().to_be_bytes();
    // 127.128.0.0/9 keeps away from the suites of replication, which take 127.64.0.0/10.
    (0..64)
        .map(|step: u8| [127, 128 | (high & 0x7f), low.wrapping_add(step)])
        .find(|network| {
            (1..=MASTERS).all(|number| {
                let free = |port| TcpListener::bind((address(*network, number), port)).is_ok();
                free(ETCD_PORT) && free(ETCD_PEER_PORT)
            })
        })
        .context("no network of loopback is free")
}

/// Everything that `kubeadm init` makes before it starts anything.
fn make_certificates(parts: &Parts, folder: &Path, network: [u8; 3], api_port: u16) -> Result<()> {
    let kubernetes = folder.join("kubernetes");
    let pki = kubernetes.join("pki");
    fs::create_dir_all(&pki)?;
    let mut names = String::from("[localhost, 127.0.0.1");
    for number in 1..=MASTERS {
        write!(names, ", {}", address(network, number))?;
    }
    names.push(']');
    let config = folder.join("kubeadm.yaml");
    let text = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n\
         localAPIEndpoint: {{advertiseAddress: {UNUSED}, bindPort: {api_port}}}\n\
         nodeRegistration: {{name: m1, criSocket: unix:///run/containerd/containerd.sock}}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: {}\n\
         certificatesDir: {}\ncontrolPlaneEndpoint: {}:{api_port}\napiServer: {{certSANs: {names}}}\n\
         etcd: {{local: {{serverCertSANs: {names}, peerCertSANs: {names}}}}}\n",
        version(parts)?,
        pki.display(),
        address(network, 1),
    );
    fs::write(&config, text)?;
    let kubeadm = parts.program("kubernetes", "kubeadm")?;
    let phase = |phase: &[&str]| -> Result<()> {
        let mut command = Command::new(&kubeadm);
        command.args(["init", "phase"]).args(phase);
        command.arg("--config").arg(&config);
        if phase.first() == Some(&"kubeconfig") {
            command.arg("--kubeconfig-dir").arg(&kubernetes);
        }
        process::run(&mut command)?.succeeded()?;
        Ok(())
    };
    phase(&["certs", "all"])?;
    // Nobody has bound the rights of admin.conf's group here: the super administrator needs none.
    phase(&["kubeconfig", "super-admin"])?;
    fs::rename(
        kubernetes.join("super-admin.conf"),
        kubernetes.join("admin.conf"),
    )?;
    Ok(())
}

fn version(parts: &Parts) -> Result<String> {
    let mut command = Command::new(parts.program("kubernetes", "kubeadm")?);
    let said = process::run(command.args(["version", "-o", "short"]))?.succeeded()?;
    Ok(said.stdout.trim().to_owned())
}

fn start_etcd(
    parts: &Parts,
    folder: &Path,
    network: [u8; 3],
    number: u8,
    cluster: &str,
    state: &str,
) -> Result<Running> {
    let pki = folder.join("kubernetes/pki/etcd");
    let name = format!("m{number}");
    let client_url = format!("https://{}:{ETCD_PORT}", address(network, number));
    let peer_url = peer_url(network, number);
    let file = |name: &str| pki.join(name).display().to_string();
    let mut command = Command::new(parts.program("etcd", "etcd")?);
    command
        .args(["--name", &name, "--data-dir"])
        .arg(folder.join(format!("etcd-{name}")))
        .args(["--listen-client-urls", &client_url])
        .args(["--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url])
        .args(["--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", cluster])
        .args(["--initial-cluster-state", state])
        .args(["--client-cert-auth", "--peer-client-cert-auth"])
        .args(["--trusted-ca-file", &file("ca.crt")])
        .args(["--cert-file", &file("server.crt")])
        .args(["--key-file", &file("server.key")])
        .args(["--peer-trusted-ca-file", &file("ca.crt")])
        .args(["--peer-cert-file", &file("peer.crt")])
        .args(["--peer-key-file", &file("peer.key")])
        // A machine that builds beside the test must not cost a leader.
        .args(["--heartbeat-interval", "300", "--election-timeout", "3000"]);
    let log = folder.join(format!("etcd-{name}.log"));
    Running::start(&format!("etcd of {name}"), &command, &log)
}

fn start_api(parts: &Parts, folder: &Path, network: [u8; 3], api_port: u16) -> Result<Running> {
    let pki = folder.join("kubernetes/pki");
    let file = |name: &str| pki.join(name).display().to_string();
    let etcd = format!("https://{}:{ETCD_PORT}", address(network, 1));
    let mut command = Command::new(parts.program("kubernetes", "kube-apiserver")?);
    command
        .args(["--etcd-servers", &etcd])
        .args(["--etcd-cafile", &file("etcd/ca.crt")])
        .args(["--etcd-certfile", &file("apiserver-etcd-client.crt")])
        .args(["--etcd-keyfile", &file("apiserver-etcd-client.key")])
        .args(["--client-ca-file", &file("ca.crt")])
        .args(["--tls-cert-file", &file("apiserver.crt")])
        .args(["--tls-private-key-file", &file("apiserver.key")])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--service-account-key-file", &file("sa.pub")])
        .args(["--service-account-signing-key-file", &file("sa.key")])
        .args(["--service-cluster-ip-range", "10.96.0.0/16"])
        .args(["--authorization-mode", "Node,RBAC"])
        .args(["--bind-address", "0.0.0.0", "--advertise-address", UNUSED])
        .args(["--endpoint-reconciler-type", "none"])
        .args(["--secure-port", &api_port.to_string()]);
    Running::start("the API server", &command, &folder.join("api.log"))
}
