//! Texts that the installer puts on a machine, from facts alone: nothing here reads or writes.

pub(crate) mod containerd;
pub(crate) mod kubeadm;
pub(crate) mod units;
