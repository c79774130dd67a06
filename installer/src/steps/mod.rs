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
use bundle::index::BundleIndex;
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

    /// The sandbox image of the bundle: containerd and kubeadm have to name the same.
    pub(crate) fn pause(&self) -> Option<String> {
        let mut images = self.index.images.iter();
        images
            .find(|image| {
                image.stage == Stage::Cluster && image.name.repository().ends_with("pause")
            })
            .map(|image| image.name.to_string())
    }
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
