//! Which certificate names which member, and the check of it inside the handshake.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::sync::NodeName;
use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// The node that a certificate names: its only subject alternative name, a DNS name.
pub(super) fn name_in(certificate: &CertificateDer<'_>) -> Option<NodeName> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => name.parse().ok(),
        _ => None,
    }
}

/// Lets in whom the authority signed *and* the configuration names.
#[derive(Debug)]
pub(super) struct MembersOnly {
    authority: Arc<dyn ClientCertVerifier>,
    members: Arc<BTreeSet<NodeName>>,
}

impl MembersOnly {
    pub(super) fn new(
        authority: Arc<dyn ClientCertVerifier>,
        members: Arc<BTreeSet<NodeName>>,
    ) -> Self {
        Self { authority, members }
    }
}

impl ClientCertVerifier for MembersOnly {
    /// Empty: a stranger need not learn the authority's name.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .authority
            .verify_client_cert(end_entity, intermediates, now)?;
        match name_in(end_entity) {
            Some(name) if self.members.contains(&name) => Ok(verified),
            Some(_) | None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}
