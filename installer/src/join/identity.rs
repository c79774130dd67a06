//! `identity`: this node's key, which never leaves it, and the certificate that the masters issue for it.

use api::join::CertificateWish;
use api::join::JoinRequest;
use api::join::NodeCertificate;
use api::join::Role;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fault;
use program::Outcome;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::KeyPair;
use rcgen::PKCS_ED25519;

use super::Client;
use crate::machine::Mode;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::steps::Ground;
use crate::steps::input_of;

const CA: &str = "/etc/sealift/ca.pem";
const CA_KEY: &str = "/etc/sealift/ca.key";
const CERTIFICATE: &str = "/etc/sealift/node.pem";
const KEY: &str = "/etc/sealift/node.key";

/// Gets this node its certificate.
pub(crate) struct Identity<'a> {
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) request: &'a JoinRequest,
    pub(crate) client: &'a Client,
}

/// The library that makes keys failed.
#[derive(Debug, thiserror::Error)]
#[error("this node's key or its request can't be made")]
struct KeyError(#[source] rcgen::Error);

impl Identity<'_> {
    /// The key of a killed try is as good as a new one.
    fn key(&self) -> Outcome<KeyPair> {
        let machine = self.ground.machine;
        if let Some(pem) = machine.read(KEY)?
            && let Ok(key) = KeyPair::from_pem(&pem)
        {
            return Ok(key);
        }
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(KeyError)?;
        machine.write(KEY, &key.serialize_pem(), Mode::Secret)?;
        Ok(key)
    }

    fn request_pem(&self, key: &KeyPair) -> Outcome<String> {
        let node = self.ground.site.node.to_string();
        let mut params = CertificateParams::new([node.clone()]).map_err(KeyError)?;
        params.distinguished_name.push(DnType::CommonName, node);
        let request = params.serialize_request(key).map_err(KeyError)?;
        Ok(request.pem().map_err(KeyError)?)
    }

    fn files(&self) -> &'static [&'static str] {
        match self.request.role {
            Role::Master => &[CERTIFICATE, KEY, CA_KEY],
            Role::Worker => &[CERTIFICATE, KEY],
        }
    }
}

impl Step for Identity<'_> {
    fn id(&self) -> &'static str {
        "identity"
    }

    fn input(&self) -> Digest {
        input_of(&[self.ground.site.node.as_str(), &self.request.ca_pem])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let machine = self.ground.machine;
        let good = machine.holds(CA, &self.request.ca_pem, Mode::Plain)
            && self.files().iter().all(|file| machine.has(file));
        Ok(good.then(|| format!("certificate for {}", self.ground.site.node)))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        let machine = self.ground.machine;
        let key = self.key()?;
        let wish = CertificateWish {
            node: self.ground.site.node.clone(),
            request_pem: self.request_pem(&key)?,
        };
        let certified: NodeCertificate = self.client.post("/v1/join/certificate", &wish)?;
        machine.write(CA, &self.request.ca_pem, Mode::Plain)?;
        if let Some(secret) = &certified.ca_key_pem {
            machine.write(CA_KEY, secret, Mode::Secret)?;
        }
        machine.write(CERTIFICATE, &certified.certificate_pem, Mode::Plain)?;
        Ok(())
    }
}

impl Fault for KeyError {
    fn code(&self) -> &'static str {
        "NODE_KEY"
    }

    fn blame(&self) -> Blame {
        Blame::Bug
    }
}
