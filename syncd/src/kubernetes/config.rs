//! The kubeconfig that kubeadm writes (`admin.conf`): one cluster, one user with a certificate inside.
//!
//! Read when it is needed and again when it has changed: a daemon starts before its machine is a master.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Kubernetes;
use super::KubernetesError;
use crate::https::ClientPem;
use crate::https::Credentials;

/// Largest kubeconfig: kubeadm's has 6 KiB.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// A kubeconfig that may come, change and go.
#[derive(Debug)]
pub struct AdminConf {
    file: PathBuf,
    known: Mutex<Option<(SystemTime, Kubernetes)>>,
}

/// What is read of a kubeconfig (`client-go` `clientcmd/api/v1`).
#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: String,
    client_key_data: String,
}

impl AdminConf {
    /// Names the file; nothing is read yet.
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            known: Mutex::default(),
        }
    }

    /// A client that needs no file.
    #[cfg(test)]
    pub(crate) fn known(client: Kubernetes) -> Self {
        let file = PathBuf::from("/dev/null");
        let changed = fs::metadata(&file).unwrap().modified().unwrap();
        Self {
            file,
            known: Mutex::new(Some((changed, client))),
        }
    }

    /// A client for what the file says now.
    pub fn client(&self) -> Result<Kubernetes, KubernetesError> {
        let unreadable = |source| KubernetesError::Unreadable {
            file: self.file.clone(),
            source,
        };
        let metadata = fs::metadata(&self.file).map_err(unreadable)?;
        let changed = metadata.modified().map_err(unreadable)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, client)) = known.as_ref()
            && *read == changed
        {
            return Ok(client.clone());
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(self.unusable("it is larger than 256 KiB"));
        }
        let bytes = fs::read(&self.file).map_err(unreadable)?;
        let (server, credentials) = self.parse(&bytes)?;
        let client = Kubernetes::new(&server, &credentials)?;
        *known = Some((changed, client.clone()));
        Ok(client)
    }

    fn parse(&self, bytes: &[u8]) -> Result<(String, Credentials), KubernetesError> {
        let config: Kubeconfig = serde_saphyr::from_slice(bytes)
            .map_err(|_no_kubeconfig| self.unusable("it is no kubeconfig with a certificate"))?;
        let ([cluster], [user]) = (config.clusters.as_slice(), config.users.as_slice()) else {
            return Err(self.unusable("it names more than one cluster or user"));
        };
        let decode = |text: &str| {
            STANDARD
                .decode(text.trim())
                .map_err(|_no_base64| self.unusable("a certificate in it is not base64"))
        };
        let credentials = Credentials {
            authority_pem: decode(&cluster.cluster.certificate_authority_data)?,
            client_pem: Some(ClientPem {
                certificate: decode(&user.user.client_certificate_data)?,
                key: decode(&user.user.client_key_data)?,
            }),
        };
        Ok((cluster.cluster.server.clone(), credentials))
    }

    fn unusable(&self, why: &str) -> KubernetesError {
        KubernetesError::Config {
            file: self.file.clone(),
            why: why.to_owned(),
        }
    }
}
