//! Which certificate names which member, and the check of it inside the handshake.

use std::sync::Arc;

use api::join::Role;
use api::sync::NodeName;
use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::ca;
use crate::membership::Roster;

/// What a certificate says about a node: its name and what it may do.
pub(super) fn caller_in(certificate: &CertificateDer<'_>) -> Option<(NodeName, Role)> {
    Some((name_in(certificate)?, role_in(certificate)?))
}

/// The role that a certificate names: its only organisational unit.
fn role_in(certificate: &CertificateDer<'_>) -> Option<Role> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let mut units = parsed.subject().iter_organizational_unit();
    let (unit, None) = (units.next()?.as_str().ok()?, units.next()) else {
        return None;
    };
    [Role::Master, Role::Worker]
        .into_iter()
        .find(|role| ca::unit(*role) == unit)
}

/// The node that a certificate names: its only subject alternative name, a DNS name.
pub(super) fn name_in(certificate: &CertificateDer<'_>) -> Option<NodeName> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => name.parse().ok(),
        _ => None,
    }
}

/// Lets in whom the authority signed *and* the list of members lets in, as it is at that moment.
#[derive(Debug)]
pub(super) struct MembersOnly {
    authority: Arc<dyn ClientCertVerifier>,
    roster: watch::Receiver<Arc<Roster>>,
}

/// Believes to be masters those whom the authority signed as such, under the name that was called.
#[derive(Debug)]
pub(super) struct MastersOnly(pub(super) Arc<WebPkiServerVerifier>);

impl MembersOnly {
    pub(super) fn new(
        authority: Arc<dyn ClientCertVerifier>,
        roster: watch::Receiver<Arc<Roster>>,
    ) -> Self {
        Self { authority, roster }
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
        match caller_in(end_entity) {
            Some((name, role)) if self.roster.borrow().lets_in(&name, role) => Ok(verified),
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

impl ServerCertVerifier for MastersOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.0.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        match role_in(end_entity) {
            Some(Role::Master) => Ok(verified),
            Some(Role::Worker) | None => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
