//! Where the vendor's bytes are: whole on every master, as images on every node, under their own names.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use bundle::Digest;
use tests::bed::Node;
use tests::scenarios::step;

use crate::story::MASTERS;
use crate::story::NODES;
use crate::story::Story;
use crate::story::wait_until;

/// `sha256sum` on each master agrees with every digest of the bundle, and finds the license.
pub(crate) fn are_on_every_master(story: &mut Story) -> Result<()> {
    story.four_nodes()?;
    let sums = story.site()?.sums()?;
    ensure!(
        sums.lines().count() > 20,
        "the bundle has hardly anything in it:\n{sums}"
    );
    let license = Digest::of(&std::fs::read(&story.site()?.bundle().license)?).to_hex();
    for name in MASTERS {
        let master = story.node(name)?;
        step(&format!("{name}: every blob by sha256sum"), || {
            wait_until("all blobs", || has_all(&master, &sums))
        })?;
        step(&format!("{name}: the license by sha256sum"), || {
            has_file(&master, &license)
        })?;
    }
    Ok(())
}

fn has_all(master: &Node, sums: &str) -> Result<()> {
    master.put("/run/sums", "600", sums.as_bytes())?;
    master.output("cd /var/lib/sealift && sha256sum --quiet --check /run/sums")?;
    Ok(())
}

fn has_file(master: &Node, digest: &str) -> Result<()> {
    let found = master.output("find /var/lib/sealift -type f -size -64k -exec sha256sum {} +")?;
    ensure!(found.contains(digest), "no file is the license {digest}");
    Ok(())
}

/// containerd of each node has images by the vendor's names; those that a node can't be without are pinned.
pub(crate) fn images(story: &mut Story) -> Result<()> {
    story.four_nodes()?;
    for name in NODES {
        let node = story.node(name)?;
        let images = node.output("ctr -n k8s.io images list")?;
        let is_there = |image: &str| images.lines().any(|line| line.starts_with(image));
        let is_pinned = |image: &str| {
            let mut lines = images.lines().filter(|line| line.starts_with(image));
            lines.any(|line| line.contains("io.cri-containerd.pinned=pinned"))
        };
        ensure!(
            is_there("registry.acme.example/network/flannel:"),
            "{name} has no flannel:\n{images}"
        );
        ensure!(
            is_pinned("registry.k8s.io/pause:"),
            "{name}: pause is not pinned:\n{images}"
        );
        if MASTERS.contains(&name) {
            for part in [
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "etcd",
            ] {
                let image = format!("registry.k8s.io/{part}:");
                ensure!(
                    is_pinned(&image),
                    "{name}: {image} is not pinned:\n{images}"
                );
            }
        }
        workers_have_no_store(&node)?;
    }
    Ok(())
}

fn workers_have_no_store(node: &Node) -> Result<()> {
    if MASTERS.contains(&node.name.as_str()) {
        return Ok(());
    }
    let used = node.output("du -sk /var/lib/sealift 2>/dev/null | cut -f1; true")?;
    let used: u64 = match used.trim() {
        "" => 0,
        kib => kib.parse().context("du prints a number")?,
    };
    ensure!(
        used < 10_240,
        "the worker {} keeps {used} KiB of the store",
        node.name
    );
    Ok(())
}
