//! How a machine joins: what it asks the masters, whom it believes, and the steps that are a join's alone.
//!
//! The masters are believed by the cluster's own authority, which the join script carries; what is installed is believed by
//! the vendor's signature, against the root whose fingerprint the script carries.

mod bundle_copy;
mod client;
mod fetch;
mod identity;
mod kubeadm;
mod store;

pub(crate) use bundle_copy::BundleCopy;
pub(crate) use client::Client;
pub(crate) use client::ClientError;
pub(crate) use fetch::Fetch;
pub(crate) use fetch::FolderBlobs;
pub(crate) use identity::Identity;
pub(crate) use kubeadm::JOINED;
pub(crate) use kubeadm::Join;
pub(crate) use kubeadm::STEP;
pub(crate) use kubeadm::is_voter;
pub(crate) use store::JoinStore;
