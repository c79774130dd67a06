//! Who this node is to its peers: certificate, key, and the authority that both sides trust.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use api::sync::NodeName;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;

use super::members::MastersOnly;
use super::members::MembersOnly;
use super::members::name_in;
use crate::config::Config;
use crate::membership::Roster;

/// Largest PEM file: a certificate of ours has one KiB.
const PEM_BYTES_MAX: u64 = 64 << 10;

/// Checked certificate, key and authority of this node.
pub struct Identity {
    client: Arc<ClientConfig>,
    server: ServerParts,
}

/// What becomes a server's configuration once the members are known.
struct ServerParts {
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    resolver: Arc<dyn rustls::server::ResolvesServerCert>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Identity")
    }
}

/// Why certificate and key are of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file can't be read.
    #[error("{} can't be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the secret key.
    #[error("the secret key {} can be read by others", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is not PEM of the right kind.
    #[error("{} holds no {expected}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The certificate is another node's.
    #[error("the certificate is not for this node")]
    Name {
        /// Who this node is.
        node: NodeName,
        /// Whom the certificate names.
        certificate: Option<NodeName>,
    },
    /// Key, certificate and authority do not fit each other.
    #[error("certificate, key and authority do not belong together")]
    Unfit(#[source] rustls::Error),
    /// The authority's certificate can't be one.
    #[error("the authority's certificate is unusable")]
    Authority(#[source] rustls::server::VerifierBuilderError),
}

impl Identity {
    /// Reads the three files that the configuration names, and checks that they are this node's.
    pub fn load(config: &Config) -> Result<Self, IdentityError> {
        let roots = certificates(&config.ca, &read(&config.ca)?)?;
        let chain = certificates(&config.certificate, &read(&config.certificate)?)?;
        refuse_open_key(&config.key)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&config.key)?).map_err(|_no_key| {
            IdentityError::Pem {
                file: config.key.clone(),
                expected: "secret key",
            }
        })?;
        let certificate = chain.first().and_then(name_in);
        if certificate.as_ref() != Some(&config.node) {
            return Err(IdentityError::Name {
                node: config.node.clone(),
                certificate,
            });
        }
        Self::new(roots, chain, key)
    }

    /// Puts checked parts together.
    pub(crate) fn new(
        roots: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let provider = Arc::new(provider());
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(IdentityError::Unfit)?;
        }
        let store = Arc::new(store);
        let verifier = WebPkiClientVerifier::builder_with_provider(store.clone(), provider.clone())
            .build()
            .map_err(IdentityError::Authority)?;
        let certified =
            rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
                .map_err(IdentityError::Unfit)?;
        let masters = WebPkiServerVerifier::builder_with_provider(store, provider.clone())
            .build()
            .map_err(IdentityError::Authority)?;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Unfit)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(MastersOnly(masters)))
            .with_client_auth_cert(chain, key)
            .map_err(IdentityError::Unfit)?;
        client.resumption = Resumption::disabled();
        Ok(Self {
            client: Arc::new(client),
            server: ServerParts {
                provider,
                verifier,
                resolver: Arc::new(rustls::sign::SingleCertAndKey::from(certified)),
            },
        })
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// The called side's configuration; only members get in, as the list says at that moment.
    pub(super) fn server(
        &self,
        roster: watch::Receiver<Arc<Roster>>,
    ) -> Result<Arc<ServerConfig>, IdentityError> {
        let verifier = MembersOnly::new(self.server.verifier.clone(), roster);
        let mut server = ServerConfig::builder_with_provider(self.server.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Unfit)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.server.resolver.clone());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Arc::new(server))
    }
}

impl Identity {
    /// The called side's configuration for callers that show no certificate: the public port.
    pub(crate) fn public(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut server = ServerConfig::builder_with_provider(self.server.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Unfit)?
            .with_no_client_auth()
            .with_cert_resolver(self.server.resolver.clone());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Arc::new(server))
    }
}

/// Ring, AES-128-GCM first: as fast as AES-256 or faster on every machine measured, and 1.7 × `ChaCha20`.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use ring::cipher_suite::TLS13_AES_256_GCM_SHA384;
    use ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let unreadable = |source| IdentityError::Read {
        file: file.to_owned(),
        source,
    };
    let size = fs::metadata(file).map_err(unreadable)?.len();
    if size > PEM_BYTES_MAX {
        return Err(unreadable(io::Error::other("it is larger than 64 KiB")));
    }
    fs::read(file).map_err(unreadable)
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let wrong = || IdentityError::Pem {
        file: file.to_owned(),
        expected: "certificate",
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(wrong)
}

fn refuse_open_key(file: &Path) -> Result<(), IdentityError> {
    let metadata = fs::metadata(file).map_err(|source| IdentityError::Read {
        file: file.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o700 == mode {
        return Ok(());
    }
    Err(IdentityError::Open {
        file: file.to_owned(),
        mode,
    })
}

impl Fault for IdentityError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "TLS_UNREADABLE",
            Self::Open { .. } => "TLS_KEY_OPEN",
            Self::Pem { .. } => "TLS_PEM",
            Self::Name { .. } => "TLS_NODE_NAME",
            Self::Unfit(_) | Self::Authority(_) => "TLS_UNFIT",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Read { .. } | Self::Open { .. } => Blame::Machine,
            Self::Pem { .. } | Self::Name { .. } | Self::Unfit(_) | Self::Authority(_) => {
                Blame::Input
            }
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Open { mode, .. } => vec![Fact::new("mode", format!("{mode:04o}"))],
            Self::Name { node, certificate } => vec![
                Fact::new("node", node),
                Fact::new(
                    "certificate",
                    certificate
                        .as_ref()
                        .map_or("no node's name", NodeName::as_str),
                ),
            ],
            Self::Read { .. } | Self::Pem { .. } | Self::Unfit(_) | Self::Authority(_) => {
                Vec::new()
            }
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { .. } | Self::Pem { .. } | Self::Name { .. } => {
                "`syncd ca issue NODE` makes the three files".to_owned()
            }
            Self::Open { file, .. } => format!("chmod 600 {}", file.display()),
            Self::Unfit(_) | Self::Authority(_) => {
                "take all three files from one `syncd ca issue`".to_owned()
            }
        })
    }
}
