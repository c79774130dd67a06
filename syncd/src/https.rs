//! HTTPS clients for the control plane on this machine: a pinned authority, a client certificate, explicit time-outs.
//!
//! Never follows a redirect, never asks a proxy, never reads more of an answer than it was told to.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::Response;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// How long a connection may take: the other side is on this machine or on its network.
const CONNECT: Duration = Duration::from_secs(3);

/// After how long an idle connection is closed: a forwarder may have moved on to another server meanwhile.
const IDLE: Duration = Duration::from_secs(20);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The authority, the certificate or the key is no PEM of its kind.
    #[error("there is no {0} in its PEM")]
    Pem(&'static str),
    /// They do not fit each other.
    #[error("certificate, key and authority do not fit each other")]
    Unfit(#[source] rustls::Error),
    /// The library refuses.
    #[error("the client can't be made")]
    Client(#[source] reqwest::Error),
}

/// Who is believed, and who this side is; PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The one authority that servers are believed by.
    pub authority_pem: Vec<u8>,
    /// The client's certificate and key; a client without one shows none.
    pub client_pem: Option<ClientPem>,
}

/// A client's certificate and key, PEM.
#[derive(Clone)]
pub struct ClientPem {
    /// The certificate, and those between it and its authority.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Credentials")
    }
}

impl std::fmt::Debug for ClientPem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ClientPem")
    }
}

/// Makes a client whose every request ends after `total`.
pub fn client(credentials: &Credentials, total: Duration) -> Result<Client, HttpsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(&credentials.authority_pem, "authority's certificate")? {
        roots.add(root).map_err(HttpsError::Unfit)?;
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HttpsError::Unfit)?
        .with_root_certificates(roots);
    let tls = match &credentials.client_pem {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates(&client.certificate, "client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(&client.key)
                .map_err(|_no_pem| HttpsError::Pem("client key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(HttpsError::Unfit)?
        }
    };
    Client::builder()
        .user_agent(concat!("sealift-syncd/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(total)
        .pool_idle_timeout(IDLE)
        .build()
        .map_err(HttpsError::Client)
}

/// Reads an answer of at most `bytes_max` bytes; `None` when it is longer.
pub async fn read_capped(
    mut response: Response,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len().saturating_add(chunk.len()) > bytes_max {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

fn certificates(
    pem: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, HttpsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or(HttpsError::Pem(what))
}
