//! The peer of `installer`: the same cluster on the same bed by plain kubeadm, as a person with a good manual does it.
//!
//! The person is given an advantage: programs lie ready on every machine, and so do the images, which nobody had to
//! verify or to carry over the network. Times begin when the machines have booted.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use tests::bed::Bed;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::cluster_parts::Parts;
use tests::process;
use tests::real_site;
use tests::real_site::INSTALL_GUARD;
use tests::real_site::at_once;

/// A bootstrap token and a certificate key; they protect a bed that lives for two minutes.
const TOKEN: &str = "abcdef.0123456789abcdef";
const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// The annotation that names an image of a layout (OCI image-spec, `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Names that nodes have in `/etc/hosts`.
const ENDPOINT: &str = "127.0.0.1 api.by-hand.internal";

/// What it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByHand {
    /// From a booted machine to a Ready first master, the import of images included.
    pub(super) first_master: Duration,
    /// From booted machines to three masters and a worker that are Ready.
    pub(super) all: Duration,
}

/// Makes a cluster by hand, and takes it down.
pub(super) fn run(parts: &Parts) -> Result<ByHand> {
    let bed = Bed::new()?;
    let layer = bed.folder().join("by-hand");
    lay_out(parts, &layer)?;
    let plan = NodePlan {
        layers: vec![layer],
        hosts: vec![ENDPOINT.to_owned()],
        ..NodePlan::default()
    };
    let names = ["h1", "h2", "h3", "h4"];
    let nodes = names.map(|name| bed.create(name, &plan));
    let nodes = nodes.into_iter().collect::<Result<Vec<Node>>>()?;
    all(&nodes, Node::start)?;
    let [h1, h2, h3, h4] = nodes.as_slice() else {
        anyhow::bail!("four machines");
    };

    let started = Instant::now();
    prepare(h1, &[h1])?;
    let version = h1.output("kubeadm version -o short")?;
    kubeadm(
        h1,
        "init --upload-certs --skip-token-print --skip-certificate-key-print",
        &filled(include_str!("init.yaml"), h1, version.trim()),
    )?;
    let manifests =
        "kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f /media/by-hand/manifests";
    h1.shell(manifests, INSTALL_GUARD)?.succeeded()?;
    real_site::wait_for_nodes(h1, &["h1"])?;
    let first_master = started.elapsed();

    let others = [h2, h3, h4].map(|node| {
        // Masters ask themselves first, a worker the first master.
        let targets = if node.name == "h4" {
            vec![h1, h2, h3]
        } else {
            vec![node, h1]
        };
        move || prepare(node, &targets)
    });
    at_once(Vec::from(others))
        .into_iter()
        .collect::<Result<Vec<()>>>()?;
    for node in [h2, h3, h4] {
        let mut join = filled(include_str!("join.yaml"), node, version.trim());
        if node.name != "h4" {
            writeln!(
                join,
                "controlPlane: {{certificateKey: {KEY}, localAPIEndpoint: {{advertiseAddress: {}}}}}",
                node.address
            )?;
        }
        kubeadm(node, "join", &join)?;
    }
    real_site::wait_for_nodes(h1, &names)?;
    Ok(ByHand {
        first_master,
        all: started.elapsed(),
    })
}

fn all(nodes: &[Node], work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    let works = nodes.iter().map(|node| move || work(node)).collect();
    at_once(works).into_iter().collect()
}

/// Everything before kubeadm.
fn prepare(node: &Node, targets: &[&Node]) -> Result<()> {
    let mut haproxy = include_str!("haproxy.cfg").to_owned();
    for (place, target) in targets.iter().enumerate() {
        let backup = if place == 0 { "" } else { " backup" };
        let (name, address) = (&target.name, target.address);
        writeln!(haproxy, "  server {name} {address}:6443{backup}")?;
    }
    node.put("/etc/haproxy/haproxy.cfg", "644", haproxy.as_bytes())?;
    node.shell(include_str!("node.sh"), INSTALL_GUARD)?
        .succeeded()?;
    Ok(())
}

fn kubeadm(node: &Node, words: &str, config: &str) -> Result<()> {
    node.put("/etc/kubernetes/kubeadm.yaml", "600", config.as_bytes())?;
    node.shell(
        &format!("kubeadm {words} --config /etc/kubernetes/kubeadm.yaml"),
        INSTALL_GUARD,
    )?
    .succeeded()
    .with_context(|| format!("kubeadm {words} on {}", node.name))?;
    Ok(())
}

fn filled(template: &str, node: &Node, version: &str) -> String {
    template
        .replace("TOKEN", TOKEN)
        .replace("KEY", KEY)
        .replace("ADDRESS", &node.address.to_string())
        .replace("VERSION", version)
}

/// The layer that all machines have: programs, units, configuration, images.
fn lay_out(parts: &Parts, layer: &Path) -> Result<()> {
    let (bin, cni) = (layer.join("usr/local/bin"), layer.join("opt/cni/bin"));
    let (units, media) = (
        layer.join("etc/systemd/system"),
        layer.join("media/by-hand"),
    );
    let containerd = layer.join("etc/containerd");
    for folder in [&bin, &cni, &units, &media, &containerd] {
        fs::create_dir_all(folder)?;
    }
    for (group, folder) in &parts.programs {
        let into = match group.as_str() {
            "kubernetes" | "containerd" | "runc" | "etcd" => &bin,
            "cni" => &cni,
            _ => continue,
        };
        for program in fs::read_dir(folder)? {
            let program = program?;
            place(&program.path(), &into.join(program.file_name()))?;
        }
    }
    let images = names(&parts.images)?;
    let pause = images.iter().find(|name| name.contains("/pause:"));
    let config = include_str!("containerd.toml").replace("PAUSE", pause.context("no pause image")?);
    fs::write(containerd.join("config.toml"), config)?;
    fs::write(
        units.join("containerd.service"),
        include_str!("containerd.service"),
    )?;
    fs::write(
        units.join("kubelet.service"),
        include_str!("kubelet.service"),
    )?;
    // CoreDNS does not start without any nameserver.
    fs::write(
        layer.join("etc/kubelet-resolv.conf"),
        "nameserver 192.0.2.1\n",
    )?;
    let manifests = tests::cluster_parts::sources().join("manifests");
    fs::create_dir(media.join("manifests"))?;
    for manifest in fs::read_dir(manifests)? {
        let manifest = manifest?;
        place(
            &manifest.path(),
            &media.join("manifests").join(manifest.file_name()),
        )?;
    }
    archive(&parts.images, &media)
}

fn place(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        let mode = fs::metadata(from)?.permissions().mode();
        fs::copy(from, to).with_context(|| from.display().to_string())?;
        fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// An archive of all images as `ctr images import` wants their names: in an annotation of its own.
fn archive(layout: &Path, media: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(media)?;
    let mut index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let images = index.get_mut("manifests").and_then(Value::as_array_mut);
    for image in images.context("no images")? {
        let annotations = image.get_mut("annotations").context("no name")?;
        let name = annotations.get(REF_NAME).cloned();
        *annotations = json!({"io.containerd.image.name": name});
    }
    fs::write(
        folder.path().join("index.json"),
        serde_json::to_vec(&index)?,
    )?;
    for name in ["blobs", "oci-layout"] {
        symlink(layout.join(name), folder.path().join(name))?;
    }
    let mut tar = process::command("tar", ["--dereference", "-cf"]);
    tar.arg(media.join("images.tar"))
        .arg("-C")
        .arg(folder.path());
    tar.args(["index.json", "oci-layout", "blobs"]);
    process::run(&mut tar)?.succeeded()?;
    Ok(())
}

/// The full names of a layout's images.
fn names(layout: &Path) -> Result<Vec<String>> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let images = index.get("manifests").and_then(Value::as_array);
    let images = images.context("no images")?;
    let name = |image: &Value| {
        let name = image.get("annotations")?.get(REF_NAME)?.as_str()?;
        Some(name.to_owned())
    };
    Ok(images.iter().filter_map(name).collect())
}
