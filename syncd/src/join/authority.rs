//! Certificates for machines that join, from the cluster's own authority.
//!
//! A machine sends a request with its public key and its name; nothing else of the request is believed. Whoever has a
//! token for workers can get no master's name: that name is how masters know each other.

use std::path::Path;

use api::join::CertificateWish;
use api::join::NodeCertificate;
use api::join::Role;

use super::fault::JoinError;
use super::plane::Roster;
use super::plane::read_text;
use crate::ca;
use crate::ca::Authority;

/// Issues a node's certificate. Reads files: not for a socket's thread.
pub(super) fn certify(
    sealift: &Path,
    roster: &dyn Roster,
    role: Role,
    wish: &CertificateWish,
) -> Result<NodeCertificate, JoinError> {
    match role {
        Role::Worker if roster.has(&wish.node) => {
            return Err(JoinError::NameTaken(wish.node.to_string()));
        }
        Role::Worker | Role::Master => {}
    }
    let authority = Authority::load(sealift)?;
    let certificate_pem = authority.sign_request(&wish.request_pem, &wish.node, role)?;
    if role == Role::Master {
        roster.invite(&wish.node)?;
    }
    let ca_key_pem = match role {
        Role::Master => Some(read_text(&sealift.join(ca::CA_KEY_FILE))?),
        Role::Worker => None,
    };
    Ok(NodeCertificate {
        certificate_pem,
        ca_key_pem,
    })
}
