//! The members of etcd: who they are, how they do, and which change they allow.
//!
//! Asked over etcd's own JSON gateway with the certificate that kubeadm makes for health checks. The judgement
//! ([`judge`]) is a function of what was seen: no clock, no network.

mod client;
mod error;
mod health;

pub use client::Alarm;
pub use client::Etcd;
pub use client::EtcdFiles;
pub use client::Member;
pub use error::EtcdError;
pub use health::Joiner;
pub use health::SETTLE;
pub use health::Seen;
pub use health::SeenMember;
pub use health::Verdict;
pub use health::judge;
