//! The steps of an install and of a join, one file each. Every one is probed by what is on the machine or in the cluster.

mod applications;
mod cluster_record;
mod containerd;
mod control_plane;
mod images;
mod import;
mod kernel;
mod network;
mod node_files;
mod objects;
mod ready;
mod site;
mod syncd;
mod taint;

use std::collections::BTreeSet;

use api::site::NodeSite;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fault;
use bundle::index::BundleIndex;
use bundle::index::FileRole;
use bundle::index::Image;
use bundle::index::Stage;
use bundle::write::BlobSource;

pub(crate) use applications::Chart;
pub(crate) use applications::Manifest;
pub(crate) use cluster_record::ClusterRecord;
pub(crate) use containerd::Containerd;
pub(crate) use control_plane::CONTROL_PLANE as CONTROL_PLANE_STEP;
pub(crate) use control_plane::ControlPlane;
pub(crate) use images::Images;
pub(crate) use import::Import;
pub(crate) use kernel::Kernel;
pub(crate) use network::Network;
pub(crate) use network::is_of_cluster;
pub(crate) use node_files::NodeFiles;
pub(crate) use objects::site as recorded_site;
pub(crate) use ready::Ready;
pub(crate) use ready::has_condition;
pub(crate) use site::SiteFile;
pub(crate) use syncd::Syncd;
pub(crate) use taint::Taint;

use crate::machine::Machine;
use crate::observe::Features;
use crate::render::kubeadm::Versions;

/// What every step stands on.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    /// The machine.
    pub(crate) machine: &'a Machine,
    /// Who this node is to be.
    pub(crate) site: &'a NodeSite,
    /// The verified index.
    pub(crate) index: &'a BundleIndex,
    /// Versions and networks of the index.
    pub(crate) versions: &'a Versions,
    /// What is odd about the host.
    pub(crate) features: Features,
    /// This machine's platform, as the index writes it.
    pub(crate) platform: &'a str,
    /// Where blobs of the bundle are on this machine.
    pub(crate) blobs: &'a dyn BlobSource,
}

impl Ground<'_> {
    /// The registries that images of the bundle are named after.
    pub(crate) fn registries(&self) -> BTreeSet<&str> {
        let images = self.index.images.iter();
        images.map(|image| image.name.registry()).collect()
    }

    /// The digest that the bundle gives an image.
    pub(crate) fn image(&self, name: &str) -> Option<Digest> {
        let mut images = self.index.images.iter();
        images
            .find(|image| image.name.to_string() == name)
            .map(|image| image.digest)
    }

    /// The sandbox image of the bundle.
    pub(crate) fn pause(&self) -> Result<String, LacksParts> {
        pause_of(self.index).ok_or_else(|| LacksParts {
            lacks: vec![PAUSE.to_owned()],
        })
    }
}

/// Refuses a bundle that names a version of Kubernetes and lacks what no node can do without.
pub(crate) fn require_parts(index: &BundleIndex) -> Result<(), LacksParts> {
    const NEEDED: [FileRole; 6] = [
        FileRole::Containerd,
        FileRole::Kubeadm,
        FileRole::Kubectl,
        FileRole::Kubelet,
        FileRole::Runc,
        FileRole::Syncd,
    ];
    let has = |role| index.files.iter().any(|file| file.role == role);
    let needed = NEEDED.into_iter().filter(|role| !has(*role));
    let mut lacks: Vec<String> = needed
        .map(|role| format!("{role:?}").to_lowercase())
        .collect();
    if pause_of(index).is_none() {
        lacks.push(PAUSE.to_owned());
    }
    if index.kubernetes.is_none() || lacks.is_empty() {
        return Ok(());
    }
    Err(LacksParts { lacks })
}

const PAUSE: &str = "a pause image of stage cluster";

/// A bundle from which no node can be made.
#[derive(Debug, thiserror::Error)]
#[error("the bundle brings Kubernetes and lacks: {}", lacks.join(", "))]
pub(crate) struct LacksParts {
    lacks: Vec<String>,
}

impl Fault for LacksParts {
    fn code(&self) -> &'static str {
        "BUNDLE_LACKS_PARTS"
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }

    fn hint(&self) -> Option<String> {
        Some("tell the vendor: list them under `files:` with their roles, and the images that `kubeadm config images list` names with stage: cluster".to_owned())
    }
}

/// The sandbox image of a bundle: containerd and kubeadm have to name the same.
fn pause_of(index: &BundleIndex) -> Option<String> {
    let mut images = index.images.iter();
    let is_pause = |image: &&Image| {
        image.stage == Stage::Cluster && image.name.repository().ends_with("pause")
    };
    images.find(is_pause).map(|image| image.name.to_string())
}

/// The digest of what a step is made from.
pub(crate) fn input_of(parts: &[&str]) -> Digest {
    let mut hasher = bundle::Hasher::new();
    for part in parts {
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use bundle::head::UntrustedHead;
    use bundle::index::Kubernetes;

    use super::*;

    #[test]
    fn a_bundle_without_a_nodes_programs_is_refused_before_anything_is_done() {
        let mut golden: &[u8] = include_bytes!("../../../testdata/golden/1/small.airgap");
        let head = UntrustedHead::read(&mut golden).unwrap();
        let mut index = BundleIndex::parse(&head.head_files().bundle_json).unwrap();
        index.files.clear();
        index.kubernetes = None;
        assert!(require_parts(&index).is_ok());
        index.kubernetes = Some(Kubernetes {
            version: index.version.clone(),
            pod_subnet: None,
            service_subnet: None,
        });
        let refused = require_parts(&index).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the bundle brings Kubernetes and lacks: containerd, kubeadm, kubectl, kubelet, runc, syncd, \
             a pause image of stage cluster"
        );
    }
}
