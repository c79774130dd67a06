//! Where a command finds what it works on: the store and the daemon's socket.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::Outcome;
use store::Incarnation;
use store::RealFs;
use store::Store;

use crate::ca;
use crate::cli::PlaceArgs;
use crate::config;
use crate::config::Written;
use crate::control::Client;

/// A store's directory, a daemon's socket, and the certificate that says which cluster they are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) store: PathBuf,
    pub(crate) control: PathBuf,
    ca: PathBuf,
}

/// A store's directory that is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no store in {}", directory.display())]
pub(crate) struct NoStore {
    directory: PathBuf,
    source: std::io::Error,
}

/// A certificate of the authority that does not say which cluster it is of.
#[derive(Debug, thiserror::Error)]
#[error("{} does not say which cluster it is of", .0.display())]
pub(crate) struct NoCluster(PathBuf);

impl Place {
    /// Looks at what was typed, the environment and the file.
    pub(crate) fn find(file: Option<&Path>, typed: &PlaceArgs) -> Outcome<Self> {
        Ok(Self::of(&config::load_written(file, typed.written())?))
    }

    /// Takes the places of a configuration.
    pub(crate) fn of(written: &Written) -> Self {
        Self {
            store: written.store.clone().unwrap_or_else(config::default_store),
            control: written
                .control
                .clone()
                .unwrap_or_else(config::default_control),
            ca: written.ca.clone().unwrap_or_else(config::default_ca),
        }
    }

    /// Opens the store; another cluster's is refused where the cluster is known.
    pub(crate) fn open_store(&self) -> Outcome<Store> {
        let disk = RealFs::open(&self.store).map_err(|source| NoStore {
            directory: self.store.clone(),
            source,
        })?;
        Ok(Store::open(disk, self.cluster())?)
    }

    /// The cluster that this node belongs to.
    pub(crate) fn cluster(&self) -> Option<Incarnation> {
        ca::cluster_of(&fs::read_to_string(&self.ca).ok()?)
    }

    /// The cluster that this node belongs to, or why it is not known.
    pub(crate) fn require_cluster(&self) -> Outcome<Incarnation> {
        Ok(self.cluster().ok_or_else(|| NoCluster(self.ca.clone()))?)
    }

    /// A way to the daemon.
    pub(crate) fn daemon(&self) -> Outcome<Client> {
        Ok(Client::new(&self.control)?)
    }
}

impl Fault for NoStore {
    fn code(&self) -> &'static str {
        "STORE_ABSENT"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("reason", &self.source)]
    }

    fn hint(&self) -> Option<String> {
        Some("mount its disk, or make it once with `syncd init`".to_owned())
    }
}

impl Fault for NoCluster {
    fn code(&self) -> &'static str {
        "CA_CLUSTER"
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }

    fn hint(&self) -> Option<String> {
        Some("name the certificate that `syncd ca init` made, with `ca`".to_owned())
    }
}
