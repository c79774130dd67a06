//! Several syncd on loopback, each a process with its own folder, certificate and address; killed by pid.
//!
//! Every node has an address of its own in 127.0.0.0/8, so that no two clusters on a machine can meet and a restarted
//! node finds its address free. Links between nodes count bytes from outside (`crate::link`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use anyhow::Result;
use api::sync::ContentKind;
use api::sync::Copy;
use api::sync::Link as PeerLink;
use api::sync::PeerStatus;
use api::sync::Status;
use bundle::Digest;

use crate::link::Lane;
use crate::link::Link;
use crate::link::LinkPlan;
use crate::process;
use crate::process::Finished;
use crate::process::Running;
use crate::programs::Program;
use crate::site::Site;
use crate::vendor::Vendor;

/// Where every node listens, at its own address.
const PORT: u16 = 7401;

/// What a cluster is to be like.
#[derive(Clone, Debug, Default)]
pub struct ClusterPlan {
    /// How many masters.
    pub nodes: usize,
    /// Bandwidth of each node in each direction, shared by all its links.
    pub bytes_per_second: Option<u64>,
    /// Nodes connect to each other, not through links that count: for measuring.
    pub is_direct: bool,
    /// Further lines of every node's configuration.
    pub config: String,
}

/// Masters `m1`, `m2`, … of one site.
#[derive(Debug)]
pub struct Cluster {
    nodes: BTreeMap<String, Node>,
    links: BTreeMap<(String, String), Link>,
}

/// One master.
#[derive(Debug)]
pub struct Node {
    /// `m1`, `m2`, …
    pub name: String,
    folder: PathBuf,
    process: Option<Running>,
}

impl Cluster {
    /// Makes certificates, stores and configurations below `folder`; nothing runs yet.
    pub fn create(folder: &Path, plan: &ClusterPlan) -> Result<Self> {
        let authority = folder.join("authority");
        syncd(&["ca", "init", "--out"], &authority)?;
        let names: Vec<String> = (1..=plan.nodes)
            .map(|number| format!("m{number}"))
            .collect();
        let addresses = free_addresses(&names)?;
        let links = links(&addresses, plan.bytes_per_second)?;
        let mut nodes = BTreeMap::new();
        for name in &names {
            let node = Node {
                name: name.clone(),
                folder: folder.join(name),
                process: None,
            };
            node.issue_certificate(&authority)?;
            let peers: Vec<(&str, SocketAddr)> = if plan.is_direct {
                let others = addresses.iter().filter(|(other, _)| *other != name);
                others
                    .map(|(other, address)| (other.as_str(), *address))
                    .collect()
            } else {
                let leaving = links.iter().filter(|((from, _), _)| from == name);
                leaving
                    .map(|((_, to), link)| (to.as_str(), link.address()))
                    .collect()
            };
            let address = addresses.get(name).context("every node has an address")?;
            node.write_config(*address, &peers, &plan.config)?;
            node.syncd_does(&["init"])?;
            node.syncd_does(&["init"])?;
            nodes.insert(name.clone(), node);
        }
        Ok(Self { nodes, links })
    }

    /// The node of this name.
    pub fn node(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes
            .get_mut(name)
            .with_context(|| format!("there is no node {name}"))
    }

    /// All nodes by name.
    pub fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.values_mut()
    }

    /// Starts every node that is not running, and does not wait for any of them.
    pub fn spawn(&mut self) -> Result<()> {
        let mut stopped = self
            .nodes
            .values_mut()
            .filter(|node| node.process.is_none());
        stopped.try_for_each(Node::spawn)
    }

    /// Starts every node that is not running.
    pub fn start(&mut self) -> Result<()> {
        self.nodes
            .values_mut()
            .filter(|node| node.process.is_none())
            .try_for_each(Node::start)
    }

    /// Bytes that a node has received from all others, TLS and HTTP included, over all its lives.
    pub fn bytes_received(&self, name: &str) -> u64 {
        let pulled = self.links.iter().filter(|((from, _), _)| from == name);
        let pushed = self.links.iter().filter(|((_, to), _)| to == name);
        pulled
            .map(|(_, link)| link.bytes_from_target())
            .sum::<u64>()
            + pushed.map(|(_, link)| link.bytes_to_target()).sum::<u64>()
    }

    /// Cuts the links between two nodes, both ways.
    pub fn cut_between(&self, one: &str, other: &str) {
        for ((from, to), link) in &self.links {
            if (from == one && to == other) || (from == other && to == one) {
                link.cut();
            }
        }
    }
}

impl Node {
    /// Its folder: `store`, certificates, `syncd.toml`, `syncd.log`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The directory of its store.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Starts its daemon and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        process::wait_for(&format!("{} to answer", self.name), || {
            let running = self.process().and_then(Running::check);
            running.map_err(|error| format!("{error:#}"))?;
            let status = self
                .status_command()
                .and_then(|mut command| process::run(&mut command));
            let status = status.map_err(|error| format!("{error:#}"))?;
            if status.code == Some(0) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })?;
        self.process()?.check()
    }

    fn spawn(&mut self) -> Result<()> {
        let mut command = self.syncd(&["run"])?;
        command.env("RUST_LOG", "info");
        let process = Running::start(&self.name, &command, &self.path("syncd.log"))?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .with_context(|| format!("{} is not running", self.name))?
            .kill()
    }

    /// SIGTERM, and waits until it has ended.
    pub fn stop(&mut self) -> Result<()> {
        self.process
            .take()
            .with_context(|| format!("{} is not running", self.name))?
            .stop()?;
        Ok(())
    }

    /// Its process, while it runs.
    pub fn process(&mut self) -> Result<&mut Running> {
        self.process
            .as_mut()
            .with_context(|| format!("{} is not running", self.name))
    }

    /// `syncd … --config` of this node.
    pub fn syncd(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Program::Syncd.command()?;
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("syncd.toml"));
        Ok(command)
    }

    /// Runs a command of syncd on this node; it must succeed.
    pub fn syncd_does(&self, arguments: &[&str]) -> Result<Finished> {
        process::run(&mut self.syncd(arguments)?)?.succeeded()
    }

    fn status_command(&self) -> Result<Command> {
        self.syncd(&["status", "--json"])
    }

    /// `syncd status --json`: what this node knows of all.
    pub fn status(&self) -> Result<Status> {
        let finished = process::run(&mut self.status_command()?)?.succeeded()?;
        Ok(serde_json::from_str(&finished.stdout)?)
    }

    /// Waits until the status has something.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&Status) -> Option<T>) -> Result<T> {
        process::wait_for(&format!("{} to have {what}", self.name), || {
            let status = self.status().map_err(|error| format!("{error:#}"))?;
            look(&status).ok_or_else(|| format!("{status:#?}"))
        })
    }

    /// Waits until it has published and synced everything of its bundle.
    pub fn wait_for_bundle(&self) -> Result<()> {
        self.wait_for("a complete copy of the bundle", |status| {
            let bundle = status
                .contents
                .iter()
                .find(|it| it.kind == ContentKind::Bundle)?;
            let own = bundle.copies.get(&status.stamp.node)?;
            (*own == Copy::Complete).then_some(())
        })
    }

    /// Waits until its disk has exactly these blobs; unlike the status, looking costs nearly nothing.
    pub fn wait_for_blobs(&self, all: &BTreeMap<Digest, u64>) -> Result<()> {
        process::wait_for(&format!("{} to have all blobs", self.name), || {
            match self.blobs() {
                Ok(blobs) if blobs == *all => Ok(()),
                Ok(blobs) => Err(format!("{} of {} blobs", blobs.len(), all.len())),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// Waits until it has noticed that a peer is lost and says that any of the others could be lost as well.
    pub fn wait_for_safe_without(&self, lost: &str) -> Result<()> {
        self.wait_for(
            &format!("{lost} down and the others safe to lose"),
            |status| {
                let up =
                    |peer: &PeerStatus| peer.name.as_str() == lost && peer.link == PeerLink::Up;
                let mut left = status
                    .nodes
                    .iter()
                    .filter(|node| node.name.as_str() != lost);
                let is_down = !status.peers.iter().any(up);
                (is_down && left.all(|node| node.safe_to_lose)).then_some(())
            },
        )
    }

    /// The id of the bundle that it knows of.
    pub fn bundle_id(&self) -> Result<Digest> {
        let contents = self.status()?.contents;
        let bundle = contents
            .iter()
            .find(|content| content.kind == ContentKind::Bundle);
        Ok(bundle
            .with_context(|| format!("{} knows no bundle", self.name))?
            .id)
    }

    /// Makes its store trust a vendor, as an operator does before the first import.
    pub fn trust(&self, vendor: &Vendor) -> Result<Site> {
        Site::trusting(vendor, &self.store())
    }

    /// Names and sizes of its published blobs, read from its disk.
    pub fn blobs(&self) -> Result<BTreeMap<Digest, u64>> {
        blobs_of(&self.store())
    }

    fn issue_certificate(&self, authority: &Path) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut command = Program::Syncd.command()?;
        command
            .args(["ca", "issue", &self.name, "--ca"])
            .arg(authority);
        command.arg("--out").arg(&self.folder);
        process::run(&mut command)?.succeeded()?;
        Ok(())
    }

    fn write_config(
        &self,
        address: SocketAddr,
        peers: &[(&str, SocketAddr)],
        extra: &str,
    ) -> Result<()> {
        let path = |name: &str| self.path(name).display().to_string();
        let mut text = format!(
            "node = '{}'\nlisten = '{address}'\nimages = 'off'\nstore = '{}'\nca = '{}'\n\
             certificate = '{}'\nkey = '{}'\ncontrol = '{}'\n{extra}\n",
            self.name,
            path("store"),
            path("ca.pem"),
            path("node.pem"),
            path("node.key"),
            path("syncd.sock"),
        );
        for (name, address) in peers {
            writeln!(text, "[[peers]]\nname = '{name}'\naddress = '{address}'")?;
        }
        fs::write(self.path("syncd.toml"), text)?;
        Ok(())
    }
}

/// Names and sizes of the published blobs of a store, read from its disk.
pub fn blobs_of(store: &Path) -> Result<BTreeMap<Digest, u64>> {
    let folder = store.join("blobs/sha256");
    if !folder.exists() {
        return Ok(BTreeMap::new());
    }
    let mut blobs = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().context("a blob's name is no text")?;
        blobs.insert(Digest::from_hex(name)?, entry.metadata()?.len());
    }
    Ok(blobs)
}

/// Reads every blob of a store and holds it against its name.
pub fn verify_store(store: &Path) -> Result<BTreeMap<Digest, u64>> {
    verify_new(store, &mut BTreeMap::new())
}

/// Reads the blobs of a store that are not among the `known`, holds them against their names, and makes them known.
pub fn verify_new(
    store: &Path,
    known: &mut BTreeMap<Digest, u64>,
) -> Result<BTreeMap<Digest, u64>> {
    let blobs = blobs_of(store)?;
    for (digest, size) in &blobs {
        if known.get(digest) == Some(size) {
            continue;
        }
        let path = store.join("blobs/sha256").join(digest.to_hex());
        let mut hasher = HashingSink(bundle::Hasher::new());
        std::io::copy(&mut fs::File::open(&path)?, &mut hasher)?;
        let is_right = hasher.0.finish() == *digest;
        anyhow::ensure!(is_right, "{} is not what its name says", path.display());
        known.insert(*digest, *size);
    }
    Ok(blobs)
}

struct HashingSink(bundle::Hasher);

impl std::io::Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn syncd(arguments: &[&str], path: &Path) -> Result<Finished> {
    process::run(Program::Syncd.command()?.args(arguments).arg(path))?.succeeded()
}

/// Addresses in 127.0.0.0/8 that nobody listens on.
fn free_addresses(names: &[String]) -> Result<BTreeMap<String, SocketAddr>> {
    static CLUSTERS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    // 127.64.0.0/10 keeps away from what people use by hand, such as 127.0.0.1.
    let second = 64 | (high & 0x3f);
    (1..)
        .zip(names)
        .map(|(number, name): (u8, _)| {
            let host = cluster.wrapping_mul(16).wrapping_add(number);
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, second, low, host)), PORT);
            std::net::TcpListener::bind(address).with_context(|| format!("{address} is taken"))?;
            Ok((name.clone(), address))
        })
        .collect()
}

/// A link from every node to every other.
fn links(
    addresses: &BTreeMap<String, SocketAddr>,
    bytes_per_second: Option<u64>,
) -> Result<BTreeMap<(String, String), Link>> {
    let lanes = || -> BTreeMap<&str, Arc<Lane>> {
        let rate = bytes_per_second.into_iter();
        rate.flat_map(|rate| {
            addresses
                .keys()
                .map(move |name| (name.as_str(), Lane::new(rate)))
        })
        .collect()
    };
    let (out, into) = (lanes(), lanes());
    let between = |from: &str, to: &str| {
        out.get(from)
            .into_iter()
            .chain(into.get(to))
            .cloned()
            .collect()
    };
    let mut links = BTreeMap::new();
    for from in addresses.keys() {
        for (to, target) in addresses.iter().filter(|(to, _)| *to != from) {
            let link = Link::open(LinkPlan {
                target: *target,
                from_target: between(to, from),
                to_target: between(from, to),
            })?;
            links.insert((from.clone(), to.clone()), link);
        }
    }
    Ok(links)
}
