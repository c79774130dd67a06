//! The cluster's own certificate authority: `ca init` makes it, `ca issue` gives a node its name.
//!
//! It is not Kubernetes' authority, so renewing that one never stops replication. A node is who its certificate names: one
//! DNS name, the node's. What it may do is in the certificate too (`OU=master`, `OU=worker`): one without it may do nothing.
//! Keys are Ed25519. Certificates do not end (1975 to 4096), because a site's clock may be wrong by
//! decades; a node is expelled by taking it out of the members' configuration.
//!
//! The authority's subject carries the cluster's incarnation, so every node that has `ca.pem` knows which stores are the
//! cluster's own. A renewed authority keeps it.
//!
//! Nothing is ever overwritten: a lost authority is a lost cluster, so a file that is there is a refusal.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use api::join::Role;
use api::sync::NodeName;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::FileError;
use program::durable::write_new;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PKCS_ED25519;
use rustls_pki_types::DnsName;
use store::Incarnation;

/// The authority's certificate, in its directory and in every node's.
pub const CA_FILE: &str = "ca.pem";
/// The authority's secret key.
pub const CA_KEY_FILE: &str = "ca.key";
/// A node's certificate.
pub const NODE_FILE: &str = "node.pem";
/// A node's secret key.
pub const NODE_KEY_FILE: &str = "node.key";

/// What stands before the incarnation in the authority's subject.
const SUBJECT: &str = "Sealift cluster ";

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// A certificate authority with its key.
#[derive(Debug)]
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A node's certificate and secret key, both PEM.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Issued")
    }
}

/// Why an authority can't be made, or can't issue.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file that would be written is there.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// A file can't be read.
    #[error("{} can't be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The name can't stand in a certificate.
    #[error("{0} can't be a node's name in a certificate")]
    Name(NodeName),
    /// Certificate and key of the authority are damaged or do not belong together.
    #[error("{} and {CA_KEY_FILE} are no certificate authority", .0.display())]
    Broken(PathBuf),
    /// What a node sent is no PKCS #10 request, or not signed with its own key.
    #[error("this is no request for a certificate")]
    Request(#[source] rcgen::Error),
    /// The library that makes certificates failed.
    #[error("a certificate can't be made")]
    Generate(#[source] rcgen::Error),
}

impl Authority {
    /// Makes the authority of a cluster, and its key.
    pub fn generate(cluster: Incarnation) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(CaError::Generate)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{SUBJECT}{cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(CaError::Generate)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads the authority of a directory.
    pub fn load(directory: &Path) -> Result<Self, CaError> {
        let certificate_pem = read(&directory.join(CA_FILE))?;
        let broken = |_why| CaError::Broken(directory.join(CA_FILE));
        let key = KeyPair::from_pem(&read(&directory.join(CA_KEY_FILE))?).map_err(broken)?;
        let public_key = key.public_key_raw().to_vec();
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(broken)?;
        if !certifies(&certificate_pem, &public_key) {
            return Err(CaError::Broken(directory.join(CA_FILE)));
        }
        Ok(Self {
            certificate_pem,
            issuer,
        })
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Makes a key and a certificate for both ends of a connection.
    pub fn issue(&self, node: &NodeName, role: Role) -> Result<Issued, CaError> {
        self.sign(&node_params(node, role)?)
    }

    /// Makes a certificate for the key of a PKCS #10 request, PEM. Of the request nothing but the key is taken over.
    pub fn sign_request(
        &self,
        request_pem: &str,
        node: &NodeName,
        role: Role,
    ) -> Result<String, CaError> {
        let request =
            CertificateSigningRequestParams::from_pem(request_pem).map_err(CaError::Request)?;
        let certificate = node_params(node, role)?
            .signed_by(&request.public_key, &self.issuer)
            .map_err(CaError::Generate)?;
        Ok(certificate.pem())
    }

    fn sign(&self, params: &CertificateParams) -> Result<Issued, CaError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(CaError::Generate)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(CaError::Generate)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Issues a certificate that says nothing about what the node may do.
    #[cfg(test)]
    pub(crate) fn issue_without_role(&self, node: &NodeName) -> Issued {
        let mut params = node_params(node, Role::Master).unwrap();
        params
            .distinguished_name
            .remove(DnType::OrganizationalUnitName);
        self.sign(&params).unwrap()
    }

    /// Issues a certificate that ended in 2001.
    #[cfg(test)]
    pub(crate) fn issue_expired(&self, node: &NodeName) -> Issued {
        let mut params = node_params(node, Role::Master).unwrap();
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        self.sign(&params).unwrap()
    }
}

/// A node's new secret key and its request for a certificate, both PEM; the key stays on the node.
pub fn request(node: &NodeName) -> Result<(String, String), CaError> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(CaError::Generate)?;
    let params = CertificateParams::new([node.to_string()]).map_err(CaError::Generate)?;
    let request = params.serialize_request(&key).map_err(CaError::Generate)?;
    Ok((
        key.serialize_pem(),
        request.pem().map_err(CaError::Generate)?,
    ))
}

/// Makes an authority in a directory, of a new cluster or of one whose store is there already.
pub fn init(directory: &Path, cluster: Option<Incarnation>) -> Result<(), CaError> {
    let [certificate, key] = [CA_FILE, CA_KEY_FILE].map(|name| directory.join(name));
    refuse_existing(&[&certificate, &key])?;
    let cluster = cluster.unwrap_or_else(|| Incarnation::from_bytes(rand::random()));
    let authority = Authority::generate(cluster)?;
    write_new(
        &key,
        authority.issuer.key().serialize_pem().as_bytes(),
        SECRET,
    )?;
    write_new(&certificate, authority.certificate_pem().as_bytes(), PUBLIC)?;
    Ok(())
}

/// Writes all that a node needs into `out`: its key, its certificate, and the authority's certificate.
pub fn issue(authority: &Path, node: &NodeName, role: Role, out: &Path) -> Result<(), CaError> {
    let [ca, certificate, key] = [CA_FILE, NODE_FILE, NODE_KEY_FILE].map(|name| out.join(name));
    refuse_existing(&[&certificate, &key])?;
    let authority = Authority::load(authority)?;
    let issued = authority.issue(node, role)?;
    if !ca.exists() {
        write_new(&ca, authority.certificate_pem().as_bytes(), PUBLIC)?;
    } else if read(&ca)? != authority.certificate_pem() {
        // Another cluster's: mixing the two would make a node that trusts nobody.
        return Err(CaError::Exists(ca));
    }
    write_new(&key, issued.key_pem.as_bytes(), SECRET)?;
    write_new(&certificate, issued.certificate_pem.as_bytes(), PUBLIC)?;
    Ok(())
}

/// The word for a role in a certificate's subject, as its organisational unit.
pub(crate) const fn unit(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Worker => "worker",
    }
}

fn node_params(node: &NodeName, role: Role) -> Result<CertificateParams, CaError> {
    let name = || CaError::Name(node.clone());
    DnsName::try_from(node.as_str()).map_err(|_no_host_name| name())?;
    let mut params = CertificateParams::new([node.to_string()]).map_err(CaError::Generate)?;
    params
        .distinguished_name
        .push(DnType::CommonName, node.as_str());
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, unit(role));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The cluster that an authority's certificate belongs to.
pub fn cluster_of(certificate_pem: &str) -> Option<Incarnation> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let subject = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    subject.strip_prefix(SUBJECT)?.parse().ok()
}

/// Whether a certificate is for this public key.
fn certifies(certificate_pem: &str, public_key: &[u8]) -> bool {
    x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).is_ok_and(|(_, pem)| {
        pem.parse_x509().is_ok_and(|certificate| {
            certificate.public_key().subject_public_key.data.as_ref() == public_key
        })
    })
}

fn refuse_existing(files: &[&PathBuf]) -> Result<(), CaError> {
    match files.iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(file) => Err(CaError::Exists((*file).clone())),
        None => Ok(()),
    }
}

fn read(file: &Path) -> Result<String, CaError> {
    fs::read_to_string(file).map_err(|source| CaError::Read {
        file: file.to_owned(),
        source,
    })
}

impl Fault for CaError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exists(_) => "CA_EXISTS",
            Self::Read { .. } => "CA_UNREADABLE",
            Self::File(error) => error.code(),
            Self::Name(_) => "CA_NODE_NAME",
            Self::Broken(_) => "CA_BROKEN",
            Self::Request(_) => "CA_REQUEST",
            Self::Generate(_) => "CA_GENERATE",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Exists(_) | Self::Name(_) => Blame::Usage,
            Self::Broken(_) | Self::Request(_) => Blame::Input,
            Self::Read { .. } => Blame::Machine,
            Self::File(error) => error.blame(),
            Self::Generate(_) => Blame::Bug,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::File(error) => error.facts(),
            Self::Exists(_)
            | Self::Read { .. }
            | Self::Name(_)
            | Self::Broken(_)
            | Self::Request(_)
            | Self::Generate(_) => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(_) => Some(
                "keys are never overwritten; choose another directory, or move the old files away"
                    .to_owned(),
            ),
            Self::Read { .. } => Some(
                "name the authority's directory with --ca; `syncd ca init` makes one".to_owned(),
            ),
            Self::Name(_) => Some("use a host name, such as m1 or master-1.site".to_owned()),
            Self::Broken(_) => Some("restore both files from another master".to_owned()),
            Self::File(error) => error.hint(),
            Self::Request(_) | Self::Generate(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CLUSTER: Incarnation = Incarnation::from_bytes([7; 16]);

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_node_gets_all_that_it_needs_and_secrets_are_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca");
        let out = directory.path().join("m1");
        init(&ca, None).unwrap();
        issue(&ca, &"m1".parse().unwrap(), Role::Master, &out).unwrap();
        assert_eq!(
            read(&ca.join(CA_FILE)).unwrap(),
            read(&out.join(CA_FILE)).unwrap()
        );
        assert_eq!(
            [mode(&ca.join(CA_KEY_FILE)), mode(&out.join(NODE_KEY_FILE))],
            [0o600, 0o600]
        );
        assert_eq!(mode(&out.join(NODE_FILE)), 0o644);
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path();
        init(ca, None).unwrap();
        let before = read(&ca.join(CA_KEY_FILE)).unwrap();
        assert_eq!(init(ca, None).unwrap_err().code(), "CA_EXISTS");
        assert_eq!(read(&ca.join(CA_KEY_FILE)).unwrap(), before);

        let node: NodeName = "m1".parse().unwrap();
        issue(ca, &node, Role::Master, ca).unwrap();
        assert_eq!(
            issue(ca, &node, Role::Master, ca).unwrap_err().code(),
            "CA_EXISTS"
        );
    }

    #[test]
    fn a_directory_of_another_cluster_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        init(&one, None).unwrap();
        init(&two, None).unwrap();
        assert_eq!(
            issue(&one, &"m1".parse().unwrap(), Role::Master, &two)
                .unwrap_err()
                .code(),
            "CA_EXISTS"
        );
        assert!(!two.join(NODE_KEY_FILE).exists());
    }

    #[test]
    fn a_certificate_with_anothers_key_is_no_authority() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        init(&one, None).unwrap();
        init(&two, None).unwrap();
        fs::copy(two.join(CA_KEY_FILE), one.join(CA_KEY_FILE)).unwrap();
        assert_eq!(Authority::load(&one).unwrap_err().code(), "CA_BROKEN");
    }

    #[test]
    fn the_authority_says_which_cluster_it_is_of() {
        let authority = Authority::generate(CLUSTER).unwrap();
        assert_eq!(cluster_of(authority.certificate_pem()), Some(CLUSTER));
        let node = authority
            .issue(&"m1".parse().unwrap(), Role::Master)
            .unwrap();
        assert_eq!(cluster_of(&node.certificate_pem), None);
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_is_refused() {
        let authority = Authority::generate(CLUSTER).unwrap();
        for name in ["10.0.0.1", "a..b", "a-"] {
            let error = authority
                .issue(&name.parse().unwrap(), Role::Master)
                .unwrap_err();
            assert_eq!(error.code(), "CA_NODE_NAME", "{name}");
        }
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let authority = Authority::generate(CLUSTER).unwrap();
        let (key_pem, request_pem) = request(&"m9".parse().unwrap()).unwrap();
        let node = "w1".parse().unwrap();
        let certificate = authority.sign_request(&request_pem, &node, Role::Worker);
        let certificate = certificate.unwrap();
        let key = KeyPair::from_pem(&key_pem).unwrap();
        assert!(certifies(&certificate, key.public_key_raw()));
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).unwrap();
        let subject = pem.parse_x509().unwrap().subject().to_string();
        assert_eq!(subject, "CN=w1, OU=worker");

        let error = authority.sign_request("not a request", &node, Role::Master);
        assert_eq!(error.unwrap_err().code(), "CA_REQUEST");
    }
}
