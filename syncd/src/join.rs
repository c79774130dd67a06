//! The join broker: lets machines become nodes, masters one after another, whatever happens in between.
//!
//! A master's join, as the daemon of any master sees it:
//!
//! 1. The machine asks for its turn, and goes on asking: that is its sign of life. It waits in a queue of Leases, so its
//!    place outlives the daemon that it asks.
//! 2. The first in the queue gets the lease of every change of the control plane ([`crate::lease`]), once etcd allows one
//!    more member ([`crate::etcd::judge`]); what a failed try has left behind is removed first.
//! 3. Credentials are minted for this one try and told to the machine.
//! 4. The machine runs `kubeadm join`. Whoever is silent for too long has lost its turn: its half-made member and its
//!    credentials are removed, and the lease is free for the next one.
//! 5. The machine says that it is done; the broker looks from outside (etcd, its API server, its node) before it believes
//!    it, notes the new master, spreads the cluster's DNS, removes the credentials and frees the lease.
//!
//! Workers need no lease: they get a token at once and are looked at when they are done.
//!
//! One actor (`desk`) owns all of it; the public port (`listen`, `routes`) hands requests to it. Nothing that
//! decides anything is kept on disk: a daemon that is killed finds everything in Kubernetes again, and any other master's
//! daemon can take over for the same machine.

mod after;
mod authority;
mod control;
mod credentials;
mod desk;
mod fault;
mod kubeadm;
mod license;
mod listen;
mod outside;
mod pace;
mod plane;
mod public;
mod queue;
mod roster;
mod routes;
mod site;
mod tokens;
mod trial;

pub use desk::Broker;
pub use fault::JoinError;
pub use listen::PublicListenError;
pub use listen::PublicListener;
pub use pace::Pace;
pub use plane::Plane;
pub use plane::PlaneFiles;
pub use plane::Roster;
pub use public::Public;
pub use routes::Door;
pub use tokens::Tokens;
