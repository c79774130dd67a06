//! A customer's site of real machines: nodes of a bed, one signed file, and our programs on real Kubernetes.
//!
//! A machine of the site has nothing of ours to begin with. Only the first one is brought a folder with the bundle, the
//! vendor's root and the `installer` program; every other one gets the text of a join script, pasted into a shell.
//! What is looked at afterwards is looked at with other people's tools: kubectl, etcdctl, ctr, sha256sum, curl, nft.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::bed::Bed;
use crate::bed::Node;
use crate::bed::NodePlan;
use crate::cluster_bundle::ClusterBundle;
use crate::process;
use crate::process::Finished;
use crate::programs::Program;

/// Where the first machine finds what it was brought.
const MEDIA: &str = "/media/site";

/// The bundle's name there.
const BUNDLE: &str = "shop.airgap";

/// An install or a join that takes longer hangs, on a machine that is busy with other things as well.
pub const INSTALL_GUARD: Duration = Duration::from_mins(15);

/// What a join script makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becoming {
    /// One more master.
    Master,
    /// One more worker.
    Worker,
}

/// A site.
#[derive(Debug)]
pub struct RealSite {
    bed: Bed,
    bundle: ClusterBundle,
}

/// A member of etcd, as `etcdctl` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The node's name; empty until it has started.
    pub name: String,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

impl RealSite {
    /// A site on a bed without nodes.
    pub fn on(bed: Bed, bundle: ClusterBundle) -> Result<Self> {
        let media = bed
            .folder()
            .join("media")
            .join(MEDIA.trim_start_matches('/'));
        if !media.exists() {
            fs::create_dir_all(&media)?;
            link_or_copy(&bundle.file, &media.join(BUNDLE))?;
            fs::copy(&bundle.root, media.join("root.json"))?;
            fs::copy(Program::Installer.path()?, media.join("installer"))?;
        }
        Ok(Self { bed, bundle })
    }

    /// The bed under it.
    pub const fn bed(&self) -> &Bed {
        &self.bed
    }

    /// What it is installed from.
    pub const fn bundle(&self) -> &ClusterBundle {
        &self.bundle
    }

    /// Switches a new machine on that was brought the bundle, the root and the installer.
    pub fn machine_with_media(&self, name: &str, mut plan: NodePlan) -> Result<Node> {
        plan.layers.push(self.bed.folder().join("media"));
        self.bed.start(name, &plan)
    }

    /// Switches a new machine on that was brought nothing.
    pub fn machine(&self, name: &str) -> Result<Node> {
        self.bed.start(name, &NodePlan::default())
    }

    /// Switches several on, at the same time.
    pub fn machines<const N: usize>(&self, names: [&str; N]) -> Result<[Node; N]> {
        let nodes = names.map(|name| self.bed.create(name, &NodePlan::default()));
        let nodes = nodes.into_iter().collect::<Result<Vec<Node>>>()?;
        at_once(nodes.iter().map(|node| || node.start()).collect::<Vec<_>>())
            .into_iter()
            .try_for_each(|started| started)?;
        nodes.try_into().ok().context("as many nodes as names")
    }

    /// `installer trust add`: the fingerprint has reached the operator on paper.
    pub fn trust(&self, node: &Node) -> Result<()> {
        let fingerprint = &self.bundle.fingerprint;
        node.output(&format!(
            "{MEDIA}/installer trust add {MEDIA}/root.json --fingerprint {fingerprint}"
        ))?;
        Ok(())
    }

    /// The command line of `installer install` with these words behind the bundle.
    pub fn install_line(words: &str) -> String {
        format!("{MEDIA}/installer install {MEDIA}/{BUNDLE} {words}")
    }

    /// Runs `installer install` on a machine that was brought the media.
    pub fn install(&self, node: &Node, words: &str) -> Result<Finished> {
        node.shell(&Self::install_line(words), INSTALL_GUARD)
    }

    /// The text that `installer join-script` prints on a master.
    pub fn join_script(&self, master: &Node, becoming: Becoming) -> Result<String> {
        master.output(match becoming {
            Becoming::Master => "installer join-script --master",
            Becoming::Worker => "installer join-script --worker",
        })
    }

    /// Pastes a join script into a shell of root on a machine.
    pub fn paste(node: &Node, script: &str) -> Result<Finished> {
        node.shell(script, INSTALL_GUARD)
    }

    /// Digests of everything in the bundle, as `sha256sum --check` reads them in a store's folder.
    pub fn sums(&self) -> Result<String> {
        let mut verify = Program::Bundler.command()?;
        verify
            .arg("verify")
            .arg(&self.bundle.file)
            .arg("--print-sums");
        verify.arg("--root").arg(&self.bundle.root);
        Ok(process::run(&mut verify)?.succeeded()?.stdout)
    }
}

/// Runs all at the same time, each in a thread of its own.
pub fn at_once<T: Send>(works: Vec<impl FnOnce() -> T + Send>) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = works.into_iter().map(|work| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    })
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| from.display().to_string())?;
    }
    Ok(())
}

/// `kubectl …` on a master, through the endpoint that every node has; 20 s at most.
pub fn kubectl(master: &Node, arguments: &str) -> Result<Finished> {
    master.sh(&format!(
        "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=20s {arguments}"
    ))
}

/// What `kubectl get … -o json` prints.
pub fn objects(master: &Node, what: &str) -> Result<Value> {
    let printed = kubectl(master, &format!("get {what} -o json"))?.succeeded()?;
    Ok(serde_json::from_str(&printed.stdout)?)
}

/// What is at a path in a JSON value, as `/status/phase`; null where there is nothing.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// The items of a list.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    at(list, "/items").as_array().into_iter().flatten()
}

/// Names of the nodes that Kubernetes calls Ready, sorted.
pub fn ready_nodes(master: &Node) -> Result<Vec<String>> {
    let nodes = objects(master, "nodes")?;
    let is_ready = |node: &Value| {
        let conditions = at(node, "/status/conditions")
            .as_array()
            .into_iter()
            .flatten();
        conditions
            .into_iter()
            .any(|it| at(it, "/type") == "Ready" && at(it, "/status") == "True")
    };
    let mut names: Vec<String> = items(&nodes)
        .filter(|node| is_ready(node))
        .filter_map(|node| at(node, "/metadata/name").as_str())
        .map(str::to_owned)
        .collect();
    names.sort();
    Ok(names)
}

/// Waits until exactly these nodes are Ready.
pub fn wait_for_nodes(master: &Node, names: &[&str]) -> Result<()> {
    process::wait_for(
        &format!("nodes {names:?} to be Ready"),
        || match ready_nodes(master) {
            Ok(ready) if ready == names => Ok(()),
            Ok(ready) => Err(format!("Ready: {ready:?}")),
            Err(error) => Err(format!("{error:#}")),
        },
    )
}

/// `etcdctl …` on a master, by the credentials that kubeadm has made there.
pub fn etcdctl(master: &Node, arguments: &str) -> Result<Finished> {
    let pki = "/etc/kubernetes/pki/etcd";
    master.sh(&format!(
        "etcdctl --endpoints https://127.0.0.1:2379 --cacert {pki}/ca.crt --cert {pki}/healthcheck-client.crt \
         --key {pki}/healthcheck-client.key --command-timeout=20s {arguments}"
    ))
}

/// The members of etcd, sorted by name.
pub fn members(master: &Node) -> Result<Vec<Member>> {
    let printed = etcdctl(master, "member list -w json")?.succeeded()?.stdout;
    let list: Value = serde_json::from_str(&printed)?;
    let members = at(&list, "/members")
        .as_array()
        .context("no list of members")?;
    let mut members: Vec<Member> = members
        .iter()
        .map(|member| Member {
            // A member that has not started has no name, and one that votes no mark.
            name: at(member, "/name").as_str().unwrap_or_default().to_owned(),
            is_learner: at(member, "/isLearner").as_bool().unwrap_or_default(),
        })
        .collect();
    members.sort();
    Ok(members)
}

/// That exactly these members have started, all with a vote, and that each of them answers.
pub fn require_members(master: &Node, names: &[&str]) -> Result<()> {
    let expected: Vec<Member> = names
        .iter()
        .map(|name| Member {
            name: (*name).to_owned(),
            is_learner: false,
        })
        .collect();
    let found = members(master)?;
    ensure!(found == expected, "etcd has {found:?}, expected {names:?}");
    etcdctl(master, "endpoint health --cluster")?.succeeded()?;
    Ok(())
}

/// Whether a name of the cluster has an address, asked of the cluster's DNS from a node; the answer.
pub fn look_up(node: &Node, name: &str) -> Result<Finished> {
    // The service network's tenth address, kubeadm's choice. Busybox asks for IPv6 as well and then fails: IPv4 decides.
    node.sh(&format!(
        "answer=$(timeout 2 busybox nslookup -type=a {name} 10.96.0.10 2>&1); echo \"$answer\"; \
         echo \"$answer\" | grep -q '^Name:.*{name}'"
    ))
}

/// The address of the demo application's Service.
pub fn demo_address(master: &Node) -> Result<IpAddr> {
    let service = objects(master, "-n shop service demo")?;
    let address = at(&service, "/spec/clusterIP")
        .as_str()
        .context("no address")?;
    Ok(address.parse()?)
}

/// What the demo application answers on a node, over the address of its Service.
pub fn ask_demo(node: &Node, address: IpAddr) -> Result<Finished> {
    node.sh(&format!("curl -sf -m 5 http://{address}/"))
}

/// Whether the API answers on a node, through the node's own forwarder; 2 s at most.
pub fn api_answers(node: &Node) -> Result<Finished> {
    node.sh("curl -skf -m 2 https://127.0.0.1:6444/readyz")
}
