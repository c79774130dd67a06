//! Other people's programs, one module each: typed in, typed out. All of them are node files of the bundle or of systemd.

pub(crate) mod control;
pub(crate) mod ctr;
pub(crate) mod helm;
pub(crate) mod kubeadm;
pub(crate) mod kubectl;
pub(crate) mod syncd;
pub(crate) mod systemctl;
