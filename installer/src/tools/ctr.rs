//! `ctr`: containerd's own images, in the namespace of Kubernetes.

use std::collections::BTreeMap;
use std::time::Duration;

use bundle::Digest;

use crate::machine::Call;
use crate::machine::Machine;
use crate::machine::ProgramError;
use crate::render::containerd;

/// The label that keeps an image from being collected (containerd `docs/cri/architecture.md`, pinned images).
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// How long one image may take to come from loopback.
const PULL_LIMIT: Duration = Duration::from_mins(10);

/// An image that containerd has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The digest that its name stands for.
    pub(crate) digest: Option<Digest>,
    /// Whether it is safe from collection.
    pub(crate) pinned: bool,
}

/// Whether containerd answers.
pub(crate) fn answers(machine: &Machine) -> Result<(), ProgramError> {
    machine
        .run(&Call::new("ctr", ["version"]).within(Duration::from_secs(10)))
        .map(drop)
}

/// Every image by its full name.
pub(crate) fn images(machine: &Machine) -> Result<BTreeMap<String, Held>, ProgramError> {
    let listed = machine.run(&Call::new("ctr", ["-n", "k8s.io", "images", "ls"]))?;
    Ok(parse(&listed.output))
}

/// Pulls an image through this node's syncd and pins it.
pub(crate) fn pull(machine: &Machine, image: &str) -> Result<(), ProgramError> {
    let call = Call::new("ctr", ["-n", "k8s.io", "images", "pull", "--hosts-dir"])
        .arg(containerd::REGISTRIES)
        .arg(image)
        .within(PULL_LIMIT);
    machine.run(&call)?;
    pin(machine, image)
}

/// Keeps an image from being collected.
pub(crate) fn pin(machine: &Machine, image: &str) -> Result<(), ProgramError> {
    machine
        .run(&Call::new(
            "ctr",
            ["-n", "k8s.io", "images", "label", image, PINNED],
        ))
        .map(drop)
}

/// Columns: REF TYPE DIGEST SIZE PLATFORMS LABELS; the size has a space in it.
fn parse(table: &str) -> BTreeMap<String, Held> {
    let image = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.to_owned();
        let digest = fields.nth(1)?.parse().ok();
        let pinned = line.contains(PINNED);
        Some((name, Held { digest, pinned }))
    };
    table.lines().skip(1).filter_map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_images_is_read() {
        let digest = Digest::of(b"pause");
        let table = format!(
            "REF TYPE DIGEST SIZE PLATFORMS LABELS \n\
             registry.k8s.io/pause:3.10.2 application/vnd.oci.image.index.v1+json {digest} 300.1 KiB linux/amd64 io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned \n\
             registry.k8s.io/etcd:3.6.8-0 application/vnd.oci.image.index.v1+json {digest} 22.1 MiB linux/amd64 - \n"
        );
        let images = parse(&table);
        let digest = Some(digest);
        assert_eq!(
            images["registry.k8s.io/pause:3.10.2"],
            Held {
                digest,
                pinned: true
            }
        );
        assert_eq!(
            images["registry.k8s.io/etcd:3.6.8-0"],
            Held {
                digest,
                pinned: false
            }
        );
    }
}
