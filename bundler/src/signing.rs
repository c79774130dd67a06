//! Signatures of bundles: who may make them, where they go in the head, and whether they are enough.

use std::collections::BTreeSet;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::head::HeadFiles;
use bundle::key::KeyId;
use bundle::key::SecretKey;
use bundle::minisig::Signature;
use bundle::minisig::SignatureError;
use bundle::name::Name;
use bundle::root::RoleName;
use bundle::root::Root;
use bundle::verify::Trust;
use bundle::verify::TrustError;

use crate::failure::Outcome;

/// A key that has no right to sign this.
#[derive(Debug, thiserror::Error)]
#[error("key {key} may not sign bundles of {product}")]
pub struct NotASigner {
    key: KeyId,
    product: Name,
    allowed: String,
}

/// A signature in the head that is none, so it can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("a signature that the bundle carries is malformed")]
pub struct ForeignSignature(#[source] SignatureError);

/// Requires that each key may sign bundles of `product`.
pub fn require_role(keys: &[SecretKey], root: &Root, product: &Name) -> Result<(), NotASigner> {
    let role = root.roles.get(&RoleName::Bundle(product.clone()));
    let allowed: Vec<KeyId> =
        role.map_or_else(Vec::new, |role| role.keys.iter().copied().collect());
    let is_allowed = |key: &SecretKey| {
        let listed = |id| {
            root.keys
                .get(id)
                .is_some_and(|listed| listed.public == key.public())
        };
        allowed.iter().any(listed)
    };
    match keys.iter().find(|key| !is_allowed(key)) {
        None => Ok(()),
        Some(stranger) => Err(NotASigner {
            key: stranger.public().id(),
            product: product.clone(),
            allowed: ids(&allowed),
        }),
    }
}

/// How many signatures the keys, each of which may sign, still lack of the threshold; no key at all lacks nothing.
pub fn lacks(keys: &[SecretKey], root: &Root, product: &Name) -> Option<String> {
    let need = root
        .roles
        .get(&RoleName::Bundle(product.clone()))?
        .threshold;
    let distinct: BTreeSet<KeyId> = keys.iter().map(|key| key.public().id()).collect();
    let have = distinct.len();
    let is_short = have > 0 && usize::try_from(need).is_ok_and(|need| have < need);
    is_short.then(|| format!("{have} of {need} signatures that it needs"))
}

/// Puts a signature into the head: the first one by itself, further ones by their key; one by the same key is replaced.
pub fn add(head: &mut HeadFiles, signature: &Signature) -> Result<(), ForeignSignature> {
    let bytes = signature.to_file().into_bytes();
    let first = head.signature.as_deref().map(Signature::parse).transpose();
    match first.map_err(ForeignSignature)? {
        Some(first) if first.key_id() != signature.key_id() => {
            head.more_signatures.insert(signature.key_id(), bytes);
        }
        _none_or_same => head.signature = Some(bytes),
    }
    Ok(())
}

/// Verifies a head as a site will; a threshold that is not reached yet is no error here.
pub fn require_verifies(head: &HeadFiles, trust: &Trust) -> Outcome<Option<String>> {
    match head.verify(trust) {
        Ok(_verified) => Ok(None),
        Err(TrustError::Signers(error)) if error.code() == "BUNDLE_THRESHOLD" => {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

fn ids(keys: &[KeyId]) -> String {
    let ids: Vec<String> = keys.iter().map(ToString::to_string).collect();
    ids.join(", ")
}

impl Fault for NotASigner {
    fn code(&self) -> &'static str {
        "BUNDLE_UNTRUSTED_KEY"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("may sign", &self.allowed)]
    }

    fn hint(&self) -> Option<String> {
        Some("give the secret key of one of these by --key, or another root by --root".to_owned())
    }
}

impl Fault for ForeignSignature {
    fn code(&self) -> &'static str {
        "BUNDLE_SIGNATURE_FORM"
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }
}
