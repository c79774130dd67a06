//! `bundler root init` and `root show`: the trust root and its signatures.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::key::KeyId;
use bundle::key::PublicKey;
use bundle::key::SecretKey;
use bundle::limits;
use bundle::minisig::Signature;
use bundle::root::KeyAlgorithm;
use bundle::root::Role;
use bundle::root::RoleName;
use bundle::root::Root;
use bundle::root::RootKey;
use bundle::root::RootType;
use serde::Serialize;

use crate::cli::RootInitArgs;
use crate::cli::RootShowArgs;
use crate::clock;
use crate::durable;
use crate::failure::Outcome;
use crate::output::Lines;
use crate::output::Output;
use crate::secrets;
use crate::trust::signature_path;

/// A trust root that would not do what it is made for.
#[derive(Debug, thiserror::Error)]
enum RootInitError {
    /// The signer is no root key.
    #[error("{} is key {key}, which is not among the root keys", path.display())]
    Stranger {
        /// The secret key's file.
        path: PathBuf,
        /// Its id.
        key: KeyId,
    },
    /// Nobody would take it.
    #[error("the root is signed by {have} of its keys, its threshold is {need}")]
    TooFew {
        /// Distinct signers.
        have: usize,
        /// The threshold.
        need: u32,
    },
}

#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    vendor: String,
    version: u32,
    fingerprint: String,
    roles: BTreeMap<String, ShownRole>,
    signatures: Vec<PathBuf>,
}

#[derive(Serialize)]
struct ShownRole {
    threshold: u32,
    keys: Vec<String>,
}

/// Writes root version 1 and a signature for each signer.
pub(super) fn init(arguments: &RootInitArgs, output: &Output) -> Outcome {
    let root = compose(arguments)?;
    let json = root.to_bytes()?;
    let signers = open_signers(arguments, &root, output)?;
    let mut signatures = Vec::new();
    for signer in &signers {
        let path = signature_path(&arguments.output, &signer.public().id());
        let text = Signature::sign(signer, &json, &root.purpose()).to_file();
        durable::write_new(&path, text.as_bytes(), 0o644)?;
        signatures.push(path);
    }
    // The root itself last: where it is, its signatures are.
    durable::write_new(&arguments.output, &json, 0o644)?;
    let shown = Shown::of(&arguments.output, &root, &json, signatures);
    output.result(&shown, |out| shown.lines(out))
}

/// Shows what a root says and which signature files lie beside it.
pub(super) fn show(arguments: &RootShowArgs, output: &Output) -> Outcome {
    let json = durable::read_capped(&arguments.file, limits::ROOT_BYTES_MAX)?;
    let root = Root::parse(&json)?;
    let paths = root
        .keys
        .keys()
        .map(|id| signature_path(&arguments.file, id));
    let signatures = paths.filter(|path| path.exists()).collect();
    let shown = Shown::of(&arguments.file, &root, &json, signatures);
    output.result(&shown, |out| shown.lines(out))
}

fn compose(arguments: &RootInitArgs) -> Outcome<Root> {
    let mut composer = Composer::default();
    composer.add_role(RoleName::Root, &arguments.keys, arguments.threshold)?;
    for (product, path) in &arguments.bundles {
        composer.add_role(
            RoleName::Bundle(product.clone()),
            std::slice::from_ref(path),
            1,
        )?;
    }
    for (product, path) in &arguments.licenses {
        composer.add_role(
            RoleName::License(product.clone()),
            std::slice::from_ref(path),
            1,
        )?;
    }
    Ok(Root {
        document_type: RootType::V1,
        vendor: arguments.vendor.clone(),
        version: 1,
        epoch: 1,
        issued_at: arguments.issued_at.map_or_else(clock::now, Ok)?,
        keys: composer.keys,
        roles: composer.roles,
    })
}

#[derive(Default)]
struct Composer {
    keys: BTreeMap<KeyId, RootKey>,
    roles: BTreeMap<RoleName, Role>,
}

impl Composer {
    fn add_role(&mut self, name: RoleName, paths: &[PathBuf], threshold: u32) -> Outcome {
        let role = self.roles.entry(name).or_insert_with(|| Role {
            keys: BTreeSet::new(),
            threshold,
        });
        for path in paths {
            let public = secrets::read_public(path)?;
            role.keys.insert(public.id());
            self.keys.insert(public.id(), root_key(public));
        }
        Ok(())
    }
}

fn root_key(public: PublicKey) -> RootKey {
    RootKey {
        alg: KeyAlgorithm::MinisignPrehashed,
        public,
    }
}

/// Opens the secret keys and makes sure that their signatures will count.
fn open_signers(arguments: &RootInitArgs, root: &Root, output: &Output) -> Outcome<Vec<SecretKey>> {
    let mut signers: BTreeMap<KeyId, SecretKey> = BTreeMap::new();
    let allowed = root.roles.get(&RoleName::Root).map(|role| &role.keys);
    for path in &arguments.sign_with {
        let secret = secrets::open(path, &arguments.password, output)?;
        let id = secret.public().id();
        if allowed.is_none_or(|keys| !keys.contains(&id)) {
            let path = path.clone();
            return Err(RootInitError::Stranger { path, key: id }.into());
        }
        signers.insert(id, secret);
    }
    let need = arguments.threshold;
    if usize::try_from(need).is_ok_and(|need| signers.len() < need) {
        let have = signers.len();
        return Err(RootInitError::TooFew { have, need }.into());
    }
    Ok(signers.into_values().collect())
}

impl Shown {
    fn of(file: &Path, root: &Root, json: &[u8], signatures: Vec<PathBuf>) -> Self {
        let roles = root.roles.iter().map(|(name, role)| {
            let role = ShownRole {
                threshold: role.threshold,
                keys: role.keys.iter().map(ToString::to_string).collect(),
            };
            (name.to_string(), role)
        });
        Self {
            file: file.to_path_buf(),
            vendor: root.vendor.to_string(),
            version: root.version,
            fingerprint: Digest::of(json).to_hex(),
            roles: roles.collect(),
            signatures,
        }
    }

    fn lines(&self, out: &mut Lines) {
        out.line(format!(
            "{}: trust root {} of {}",
            self.file.display(),
            self.version,
            self.vendor
        ));
        for (name, role) in &self.roles {
            let keys = role.keys.join(", ");
            out.line(format!("  {name}: {} of {keys}", role.threshold));
        }
        for path in &self.signatures {
            out.line(format!("  signed: {}", path.display()));
        }
        out.line(format!("fingerprint: {}", self.fingerprint));
    }
}

impl Fault for RootInitError {
    fn code(&self) -> &'static str {
        match self {
            Self::Stranger { .. } => "ROOT_UNTRUSTED_KEY",
            Self::TooFew { .. } => "ROOT_THRESHOLD",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn facts(&self) -> Vec<Fact> {
        Vec::new()
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Stranger { .. } => "name its public half with --key, or sign with another key",
            Self::TooFew { .. } => "repeat --sign-with for more of the root keys",
        };
        Some(hint.to_owned())
    }
}
