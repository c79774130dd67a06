//! Registries: an own client of the OCI distribution specification, pull only.
//!
//! ```text
//! challenge    what a 401 offers            auth      getting past it
//! credentials  what `docker login` left     helper    the programs that keep it
//! target       where we may be sent         retry     when to try again
//! client       one request, all of that     pull      manifests; blobs, resumed and checked
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

mod auth;
mod challenge;
mod client;
mod credentials;
mod helper;
mod pull;
mod retry;
mod target;

pub(crate) use self::client::Client;
pub use self::credentials::CredentialStore;
pub(crate) use self::pull::Progress;
pub use self::retry::Pause;
pub use self::retry::RealPause;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Registries without TLS, as images name them, `host:port`.
    pub insecure: BTreeSet<String>,
    /// Hosts that the vendor named, mirrors among them: they may have any address.
    pub listed: BTreeSet<String>,
    /// Where credentials are looked for.
    pub credentials: CredentialStore,
    /// How often one thing is asked for in a row without getting further.
    pub tries_max: u32,
    /// How long nothing may come before a connection counts as dead.
    pub stall_max: Duration,
    /// Whether the proxies of the environment are used.
    pub use_proxies: bool,
    /// What waits between tries.
    pub pause: Arc<dyn Pause>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            listed: BTreeSet::new(),
            credentials: CredentialStore::of_this_user(),
            tries_max: 5,
            stall_max: Duration::from_mins(1),
            use_proxies: true,
            pause: Arc::new(RealPause),
        }
    }
}
