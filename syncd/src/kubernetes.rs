//! The dozen calls that the daemon makes to the Kubernetes API, over REST and nothing more.
//!
//! - Every call has a time-out, and none is repeated here: who calls knows what a second try would mean.
//! - What was changed by somebody else meanwhile is its own error ([`KubernetesError::Conflict`]): all that is written
//!   carries the version that was read.
//! - Nothing is ever read from a cache: no `resourceVersion` is sent with a read, so the API server asks etcd's quorum.
//! - Times come from the API server's `Date`, never from this machine's clock.

mod client;
mod config;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod objects;

pub use client::Kubernetes;
pub use client::config_map;
pub use client::lease;
pub use client::leases;
pub use client::node;
pub use client::secret;
pub use client::secrets;
pub use config::AdminConf;
pub use error::KubernetesError;
pub use objects::ConfigMap;
pub use objects::Lease;
pub use objects::LeaseSpec;
pub use objects::Meta;
pub use objects::Node;
pub use objects::Secret;
