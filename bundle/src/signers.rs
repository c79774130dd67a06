//! Who signed a document: from signature files to the keys that count for a role.
//!
//! 1. Every signature file is parsed strictly; one that is malformed refuses the document.
//! 2. A signature that names a known key must hold, or the document is refused; one by an unknown key is passed over
//!    (that is how keys are rotated), and if nothing else is left the document is not trusted.
//! 3. Only then is the document parsed, from the same buffer.
//! 4. The role is known now: its keys are counted. A key counts once, by its raw bytes, whatever ids it goes by
//!    (RUSTSEC-2020-0024); a revoked key does not count; each signature must have been made for exactly this document.

use std::collections::BTreeSet;

use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;
use crate::key::KeyId;
use crate::key::PublicKey;
use crate::minisig::Prehash;
use crate::minisig::Signature;
use crate::minisig::SignatureError;
use crate::root::RoleName;

/// The kinds of signed documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `bundle.json`.
    Bundle,
    /// A license file.
    License,
    /// `root.json`.
    Root,
    /// `revocations.json`.
    Revocations,
}

/// Signatures that hold for a buffer, by keys that are known; it is still open whether these keys may sign it.
#[derive(Clone, Debug)]
pub(crate) struct Signers {
    document: Document,
    holding: Vec<(PublicKey, Signature)>,
    unknown: Vec<KeyId>,
}

/// The keys of a role and how many of them it takes.
#[derive(Clone, Debug)]
pub(crate) struct Quorum<'a> {
    pub(crate) role: RoleName,
    pub(crate) keys: Vec<&'a PublicKey>,
    pub(crate) threshold: u32,
    pub(crate) revoked: &'a BTreeSet<[u8; 32]>,
}

/// Why a document is not signed by those who may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct SignersError {
    document: Document,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Missing,
    TooMany,
    Signature(SignatureError),
    Untrusted {
        signed_by: Vec<KeyId>,
        role: Option<RoleName>,
        allowed: Vec<KeyId>,
    },
    Revoked(KeyId),
    Threshold {
        role: RoleName,
        have: usize,
        need: u32,
    },
}

impl Signers {
    /// Verifies all signature files of a buffer with the keys that are known.
    pub(crate) fn of<'a>(
        document: Document,
        buffer: &[u8],
        files: impl Iterator<Item = &'a [u8]>,
        known: &[&PublicKey],
    ) -> Result<Self, SignersError> {
        let error = |problem| SignersError { document, problem };
        let prehash = Prehash::of(buffer);
        let mut signers = Self {
            document,
            holding: Vec::new(),
            unknown: Vec::new(),
        };
        for (count, file) in files.enumerate() {
            if count >= crate::limits::SIGNATURES_MAX {
                return Err(error(Problem::TooMany));
            }
            let signature =
                Signature::parse(file).map_err(|wrong| error(Problem::Signature(wrong)))?;
            match known.iter().find(|key| key.id() == signature.key_id()) {
                None => signers.unknown.push(signature.key_id()),
                Some(key) => {
                    signature
                        .verify_strict(key, &prehash)
                        .map_err(|wrong| error(Problem::Signature(wrong)))?;
                    signers.holding.push((**key, signature));
                }
            }
        }
        if signers.holding.is_empty() && signers.unknown.is_empty() {
            return Err(error(Problem::Missing));
        }
        if signers.holding.is_empty() {
            return Err(signers.untrusted(None, Vec::new()));
        }
        Ok(signers)
    }

    /// Requires that enough keys of a role signed for exactly `comment`; returns those that count.
    pub(crate) fn require(
        &self,
        quorum: &Quorum<'_>,
        comment: &str,
    ) -> Result<Vec<KeyId>, SignersError> {
        let error = |problem| SignersError {
            document: self.document,
            problem,
        };
        let mut counted = BTreeSet::new();
        let mut ids = Vec::new();
        let mut revoked = None;
        for (key, signature) in &self.holding {
            if !quorum.keys.iter().any(|allowed| allowed.raw() == key.raw()) {
                continue;
            }
            signature
                .require_comment(comment)
                .map_err(|wrong| error(Problem::Signature(wrong)))?;
            if quorum.revoked.contains(key.raw()) {
                revoked = Some(key.id());
            } else if counted.insert(*key.raw()) {
                ids.push(key.id());
            }
        }
        let enough = usize::try_from(quorum.threshold).is_ok_and(|need| counted.len() >= need);
        match revoked {
            _ if enough && !counted.is_empty() => Ok(ids),
            Some(key) => Err(error(Problem::Revoked(key))),
            None if counted.is_empty() => {
                let allowed = quorum.keys.iter().map(|key| key.id()).collect();
                Err(self.untrusted(Some(quorum.role.clone()), allowed))
            }
            None => Err(error(Problem::Threshold {
                role: quorum.role.clone(),
                have: counted.len(),
                need: quorum.threshold,
            })),
        }
    }

    fn untrusted(&self, role: Option<RoleName>, allowed: Vec<KeyId>) -> SignersError {
        let holding = self.holding.iter().map(|(key, _signature)| key.id());
        SignersError {
            document: self.document,
            problem: Problem::Untrusted {
                signed_by: holding.chain(self.unknown.iter().copied()).collect(),
                role,
                allowed,
            },
        }
    }
}

impl Document {
    /// What it is called in a sentence.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::License => "license",
            Self::Root => "trust root",
            Self::Revocations => "list of revocations",
        }
    }
}

impl SignersError {
    /// The document is signed, but by nobody that the trust root knows for it.
    pub(crate) const fn is_untrusted(&self) -> bool {
        matches!(
            self.problem,
            Problem::Untrusted { .. } | Problem::Threshold { .. }
        )
    }

    fn sentence(&self) -> String {
        let document = self.document.word();
        match &self.problem {
            Problem::Missing => format!("the {document} carries no signature"),
            Problem::TooMany => format!("the {document} carries too many signatures"),
            Problem::Signature(SignatureError::Form(why)) => {
                format!("a signature of the {document} is malformed: {why}")
            }
            Problem::Signature(SignatureError::Legacy(key)) => {
                format!("the {document} is signed by key {key} with the legacy algorithm Ed")
            }
            Problem::Signature(SignatureError::Wrong(key) | SignatureError::Comment(key)) => {
                format!("the signature of the {document} by key {key} does not fit its bytes")
            }
            Problem::Signature(SignatureError::Purpose { key, .. }) => {
                format!("the signature of the {document} by key {key} was made for something else")
            }
            Problem::Untrusted { .. } => {
                format!("the {document} is not signed by a key that may sign it")
            }
            Problem::Revoked(key) => {
                format!("the {document} is signed by key {key}, which is revoked")
            }
            Problem::Threshold { have, need, .. } => {
                format!("the {document} has {have} of {need} signatures that it needs")
            }
        }
    }
}

/// Joins ids for a person.
fn list(ids: &[KeyId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}

impl Fault for SignersError {
    fn code(&self) -> &'static str {
        let [bundle, license, root, revocations] = match &self.problem {
            Problem::Missing => [
                "BUNDLE_SIGNATURE_MISSING",
                "LICENSE_SIGNATURE_MISSING",
                "ROOT_SIGNATURE_MISSING",
                "REVOCATIONS_SIGNATURE_MISSING",
            ],
            Problem::TooMany | Problem::Signature(SignatureError::Form(_)) => [
                "BUNDLE_SIGNATURE_FORM",
                "LICENSE_SIGNATURE_FORM",
                "ROOT_SIGNATURE_FORM",
                "REVOCATIONS_SIGNATURE_FORM",
            ],
            Problem::Signature(SignatureError::Legacy(_)) => [
                "BUNDLE_SIGNATURE_LEGACY",
                "LICENSE_SIGNATURE_LEGACY",
                "ROOT_SIGNATURE_LEGACY",
                "REVOCATIONS_SIGNATURE_LEGACY",
            ],
            Problem::Signature(
                SignatureError::Wrong(_)
                | SignatureError::Comment(_)
                | SignatureError::Purpose { .. },
            ) => [
                "BUNDLE_SIGNATURE",
                "LICENSE_SIGNATURE",
                "ROOT_SIGNATURE",
                "REVOCATIONS_SIGNATURE",
            ],
            Problem::Untrusted { .. } => [
                "BUNDLE_UNTRUSTED_KEY",
                "LICENSE_UNTRUSTED_KEY",
                "ROOT_UNTRUSTED_KEY",
                "REVOCATIONS_UNTRUSTED_KEY",
            ],
            Problem::Revoked(_) => [
                "BUNDLE_KEY_REVOKED",
                "LICENSE_KEY_REVOKED",
                "ROOT_UNTRUSTED_KEY", // root keys are replaced, never revoked
                "REVOCATIONS_UNTRUSTED_KEY",
            ],
            Problem::Threshold { .. } => [
                "BUNDLE_THRESHOLD",
                "LICENSE_THRESHOLD",
                "ROOT_THRESHOLD",
                "REVOCATIONS_THRESHOLD",
            ],
        };
        match self.document {
            Document::Bundle => bundle,
            Document::License => license,
            Document::Root => root,
            Document::Revocations => revocations,
        }
    }

    fn blame(&self) -> Blame {
        Blame::Input
    }

    fn facts(&self) -> Vec<Fact> {
        match &self.problem {
            Problem::Missing
            | Problem::TooMany
            | Problem::Revoked(_)
            | Problem::Signature(
                SignatureError::Form(_)
                | SignatureError::Legacy(_)
                | SignatureError::Wrong(_)
                | SignatureError::Comment(_),
            ) => Vec::new(),
            Problem::Signature(SignatureError::Purpose {
                expected, actual, ..
            }) => vec![
                Fact::new("made for", actual),
                Fact::new("expected", expected),
            ],
            Problem::Untrusted {
                signed_by,
                role,
                allowed,
            } => {
                let mut facts = vec![Fact::new("signed by", list(signed_by))];
                if let Some(role) = role {
                    facts.push(Fact::new("role", role));
                    facts.push(Fact::new("its keys", list(allowed)));
                }
                facts
            }
            Problem::Threshold { role, have, need } => {
                vec![
                    Fact::new("role", role),
                    Fact::new("need", need),
                    Fact::new("have", have),
                ]
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match (&self.problem, self.document) {
            (Problem::Missing, Document::Bundle) => "sign it: bundler sign FILE --key KEY",
            (Problem::Missing, _) => "ask the vendor for the signed file",
            (Problem::Signature(SignatureError::Legacy(_)), _) => {
                "sign it again with bundler sign, or with minisign 0.10 or later (-S -H)"
            }
            (Problem::Signature(_) | Problem::TooMany, _) => {
                "the file is damaged or forged: copy it again from its source, or ask the vendor"
            }
            (Problem::Untrusted { .. }, _) => {
                "make sure that the trust root is this vendor's newest: installer trust show"
            }
            (Problem::Revoked(_), _) => "ask the vendor for a file that is signed by a valid key",
            (Problem::Threshold { .. }, _) => "let further keys of the role sign: bundler sign",
        };
        Some(hint.to_owned())
    }
}
