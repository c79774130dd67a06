//! The control plane that this master runs, as the broker reaches it; it may come only after the daemon has started.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

use api::join::Master;
use api::sync::NodeName;
use bundle::Digest;
use program::FileError;
use program::durable;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::fault::JoinError;
use crate::etcd::Etcd;
use crate::etcd::EtcdFiles;
use crate::kubernetes::AdminConf;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::KubernetesError;

/// Largest file of this kind: a document or a certificate.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Where the parts of the control plane are on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneFiles {
    /// Kubernetes' folder with `admin.conf` and `pki/`.
    pub kubernetes: PathBuf,
    /// Etcd on this machine, `https://host:port`.
    pub etcd: String,
    /// The program kubeadm.
    pub kubeadm: PathBuf,
    /// Sealift's folder with `site.json`, `ca.pem` and `ca.key`.
    pub sealift: PathBuf,
    /// The port of API servers.
    pub api_port: u16,
}

impl Default for PlaneFiles {
    fn default() -> Self {
        Self {
            kubernetes: "/etc/kubernetes".into(),
            etcd: "https://127.0.0.1:2379".to_owned(),
            kubeadm: "/usr/local/bin/kubeadm".into(),
            sealift: "/etc/sealift".into(),
            api_port: api::site::API_PORT,
        }
    }
}

/// Who the masters are for replication and forwarding; the broker adds to it, others spread it.
pub trait Roster: fmt::Debug + Send + Sync + 'static {
    /// Whether a node of this name is a master.
    fn has(&self, node: &NodeName) -> bool;

    /// Lets a machine that has a master's certificate fetch what the masters have, before it is one itself.
    fn invite(&self, _node: &NodeName) -> Result<(), FileError> {
        Ok(())
    }

    /// Notes a new master, durably.
    fn admit(&self, master: &Master) -> Result<(), FileError>;
}

/// The control plane.
#[derive(Debug)]
pub struct Plane {
    /// Where its parts are.
    pub files: PlaneFiles,
    /// Etcd.
    pub etcd: Etcd,
    admin: AdminConf,
}

impl Plane {
    /// Names the parts; nothing is read yet.
    pub fn new(files: PlaneFiles) -> Self {
        Self {
            etcd: Etcd::new(EtcdFiles::of(&files.kubernetes, &files.etcd)),
            admin: AdminConf::new(&files.kubernetes.join("admin.conf")),
            files,
        }
    }

    /// The Kubernetes API.
    pub fn kubernetes(&self) -> Result<Kubernetes, KubernetesError> {
        self.admin.client()
    }

    /// The certificate of Kubernetes' authority, PEM.
    pub(super) fn kubernetes_ca(&self) -> Result<Vec<u8>, JoinError> {
        Ok(read(&self.files.kubernetes.join("pki/ca.crt"))?)
    }

    /// `sha256:…` of its public key, as `kubeadm join` wants it.
    pub(super) fn ca_hash(&self) -> Result<String, JoinError> {
        let wrong = |why: &str| JoinError::Document {
            what: "pki/ca.crt".to_owned(),
            why: why.to_owned(),
        };
        let pem = self.kubernetes_ca()?;
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_no_pem| wrong("it is no PEM"))?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_no_x509| wrong("it is no certificate"))?;
        Ok(Digest::of(certificate.public_key().raw).to_string())
    }

    /// Where the API server of a master answers.
    pub(super) fn api_url(&self, address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => format!("https://{address}:{}", self.files.api_port),
            IpAddr::V6(address) => format!("https://[{address}]:{}", self.files.api_port),
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    durable::read_capped(path, FILE_BYTES_MAX)
}

pub(super) fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError::new("read", path, source))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kubernetes::fake::FakeApi;

    /// A control plane whose API is the fake one.
    pub(crate) fn plane(api: &FakeApi) -> Arc<Plane> {
        plane_in(api, Path::new("/nowhere"))
    }

    /// The same, with Sealift's own folder.
    pub(crate) fn plane_in(api: &FakeApi, sealift: &Path) -> Arc<Plane> {
        let mut plane = Plane::new(PlaneFiles {
            sealift: sealift.to_owned(),
            ..PlaneFiles::default()
        });
        plane.admin = AdminConf::known(api.client.clone());
        Arc::new(plane)
    }
}
