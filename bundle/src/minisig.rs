//! Signatures in minisign's format, made and read so strictly that each signature has one spelling.
//!
//! Four lines, each ended by one LF, and nothing after:
//!
//! ```text
//! untrusted comment: <anything>
//! base64("ED" ‖ key id ‖ Ed25519 over BLAKE2b-512 of the document)
//! trusted comment: <what this signature is for>
//! base64(Ed25519 over signature ‖ trusted comment)
//! ```
//!
//! Attacks it answers: the legacy algorithm `Ed` (its label is not signed, so a prehashed signature can be relabelled,
//! minisign#104); a second signature, a fifth line, CR or other bytes that the original tools skip; base64 with other
//! padding, spaces or loose bits; a signature of one document shown for another kind of document (the verifier rebuilds
//! the trusted comment and requires equality); weak keys and malleable signatures (`verify_strict`). The untrusted
//! comment may be anything printable; nothing depends on it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::Digest as _;

use crate::digest::Digest;
use crate::key::KeyId;
use crate::key::PublicKey;
use crate::key::SecretKey;
use crate::limits;

/// A parsed signature file, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    untrusted_comment: String,
    key_id: KeyId,
    document: [u8; 64],
    trusted_comment: String,
    global: [u8; 64],
}

/// BLAKE2b-512 of a document: what minisign signs. Computed once, however many signatures there are.
#[derive(Clone, Debug)]
pub struct Prehash([u8; 64]);

/// What a signature is for: the roles that minisign itself does not know. Written into the trusted comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// `bundle.json`.
    Bundle {
        /// Vendor name.
        vendor: &'a str,
        /// Product name.
        product: &'a str,
        /// Channel name.
        channel: &'a str,
        /// Epoch of the sequence.
        epoch: u64,
        /// Sequence of the release.
        sequence: u64,
    },
    /// The JSON of a license file.
    License {
        /// Vendor name.
        vendor: &'a str,
        /// Product name.
        product: &'a str,
        /// License id.
        id: &'a str,
        /// Sequence of the license.
        sequence: u64,
    },
    /// `root.json`.
    Root {
        /// Vendor name.
        vendor: &'a str,
        /// Version of the root.
        version: u32,
    },
    /// `revocations.json`.
    Revocations {
        /// Vendor name.
        vendor: &'a str,
        /// Sequence of the list.
        sequence: u64,
    },
}

/// Why a signature file is not one, or does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The text is not exactly a minisign signature.
    #[error("not a signature file: {0}")]
    Form(&'static str),
    /// The legacy algorithm, which signs the document without a prehash.
    #[error("signature by key {0} uses the legacy algorithm Ed")]
    Legacy(KeyId),
    /// The signature was made by another key, or for other bytes.
    #[error("signature by key {0} does not fit these bytes")]
    Wrong(KeyId),
    /// The signature holds, but the trusted comment was made by another key or changed.
    #[error("signature by key {0} has a trusted comment that does not belong to it")]
    Comment(KeyId),
    /// The signature holds for these bytes but was made for something else.
    #[error("signature by key {key} was made for something else")]
    Purpose {
        /// The signer.
        key: KeyId,
        /// The trusted comment that these bytes need.
        expected: String,
        /// The one it has.
        actual: String,
    },
}

const UNTRUSTED_PREFIX: &str = "untrusted comment: ";
const TRUSTED_PREFIX: &str = "trusted comment: ";
const ALGORITHM: [u8; 2] = *b"ED";
const ALGORITHM_LEGACY: [u8; 2] = *b"Ed";

/// Longest comments (minisign.h: `COMMENTMAXBYTES`, `TRUSTEDCOMMENTMAXBYTES`).
const UNTRUSTED_COMMENT_BYTES_MAX: usize = 1024;
const TRUSTED_COMMENT_BYTES_MAX: usize = 8192;

impl Prehash {
    /// Hashes a document.
    pub fn of(document: &[u8]) -> Self {
        Self(blake2::Blake2b512::digest(document).into())
    }
}

impl Purpose<'_> {
    /// The trusted comment of a document with this digest. No field can hold a `;`, so no field can pose as another.
    pub fn comment(&self, digest: &Digest) -> String {
        let sha256 = digest.to_hex();
        match self {
            Self::Bundle {
                vendor,
                product,
                channel,
                epoch,
                sequence,
            } => format!(
                "sealift1;type=bundle;vendor={vendor};product={product};channel={channel};epoch={epoch};seq={sequence};sha256={sha256}"
            ),
            Self::License {
                vendor,
                product,
                id,
                sequence,
            } => format!(
                "sealift1;type=license;vendor={vendor};product={product};id={id};seq={sequence};sha256={sha256}"
            ),
            Self::Root { vendor, version } => {
                format!("sealift1;type=root;vendor={vendor};version={version};sha256={sha256}")
            }
            Self::Revocations { vendor, sequence } => {
                format!("sealift1;type=revocations;vendor={vendor};seq={sequence};sha256={sha256}")
            }
        }
    }
}

impl Signature {
    /// Signs a document for a purpose. Deterministic: the same key, document and purpose give the same bytes.
    pub fn sign(key: &SecretKey, document: &[u8], purpose: &Purpose<'_>) -> Self {
        let comment = purpose.comment(&Digest::of(document));
        Self::sign_with_comment(key, &Prehash::of(document), comment)
    }

    fn sign_with_comment(key: &SecretKey, prehash: &Prehash, trusted_comment: String) -> Self {
        let document = key.sign_raw(&prehash.0);
        let global = key.sign_raw(&[&document, trusted_comment.as_bytes()].concat());
        Self {
            untrusted_comment: format!("signature from sealift key {}", key.public().id()),
            key_id: key.public().id(),
            document,
            trusted_comment,
            global,
        }
    }

    /// Parses a signature file; accepts exactly what [`Signature::to_file`] could write.
    pub fn parse(text: &[u8]) -> Result<Self, SignatureError> {
        let form = SignatureError::Form;
        if text.len() > limits::SIGNATURE_BYTES_MAX {
            return Err(form("it is larger than 12 KiB"));
        }
        let text = std::str::from_utf8(text).map_err(|_not_utf8| form("it is not text"))?;
        let lines: Vec<&str> = text.split('\n').collect();
        let &[untrusted, signature, trusted, global, ""] = lines.as_slice() else {
            return Err(form("expected four lines and nothing after them"));
        };
        let untrusted = untrusted
            .strip_prefix(UNTRUSTED_PREFIX)
            .filter(|comment| is_comment(comment, UNTRUSTED_COMMENT_BYTES_MAX))
            .ok_or(form("line 1 is no untrusted comment"))?;
        let signature: [u8; 74] = decode(signature).ok_or(form("line 2 is no signature"))?;
        let trusted = trusted
            .strip_prefix(TRUSTED_PREFIX)
            .filter(|comment| is_comment(comment, TRUSTED_COMMENT_BYTES_MAX))
            .ok_or(form("line 3 is no trusted comment"))?;
        let global = decode(global).ok_or(form("line 4 is no signature"))?;
        let [a0, a1, k0, k1, k2, k3, k4, k5, k6, k7, ref document @ ..] = signature;
        let key_id = KeyId::from_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
        match [a0, a1] {
            ALGORITHM => {}
            ALGORITHM_LEGACY => return Err(SignatureError::Legacy(key_id)),
            _other => return Err(form("unknown algorithm")),
        }
        Ok(Self {
            untrusted_comment: untrusted.to_owned(),
            key_id,
            document: *document,
            trusted_comment: trusted.to_owned(),
            global,
        })
    }

    /// The text of the signature file.
    pub fn to_file(&self) -> String {
        let line = [&ALGORITHM[..], &self.key_id.to_bytes(), &self.document].concat();
        format!(
            "{UNTRUSTED_PREFIX}{}\n{}\n{TRUSTED_PREFIX}{}\n{}\n",
            self.untrusted_comment,
            STANDARD.encode(line),
            self.trusted_comment,
            STANDARD.encode(self.global)
        )
    }

    /// The id that the signature says it was made by: a hint, not signed.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The trusted comment; trusted only after [`Signature::verify_strict`].
    pub fn trusted_comment(&self) -> &str {
        &self.trusted_comment
    }

    /// Verifies document and trusted comment with one key. Says nothing yet about what the signature is for.
    pub fn verify_strict(&self, key: &PublicKey, prehash: &Prehash) -> Result<(), SignatureError> {
        if key.id() != self.key_id || !key.accepts(&prehash.0, &self.document) {
            return Err(SignatureError::Wrong(self.key_id));
        }
        let global = [&self.document, self.trusted_comment.as_bytes()].concat();
        if !key.accepts(&global, &self.global) {
            return Err(SignatureError::Comment(self.key_id));
        }
        Ok(())
    }

    /// Requires that the signature was made for exactly this.
    pub fn require_comment(&self, expected: &str) -> Result<(), SignatureError> {
        if self.trusted_comment == expected {
            return Ok(());
        }
        Err(SignatureError::Purpose {
            key: self.key_id,
            expected: expected.to_owned(),
            actual: self.trusted_comment.clone(),
        })
    }
}

/// Strict, canonical base64 of exactly `N` bytes.
fn decode<const N: usize>(line: &str) -> Option<[u8; N]> {
    STANDARD.decode(line).ok()?.try_into().ok()
}

fn is_comment(text: &str, bytes_max: usize) -> bool {
    // minisign itself puts tabs into the comments that it makes.
    let odd = |letter: char| letter.is_control() && letter != '\t';
    text.len() <= bytes_max && !text.chars().any(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by minisign 0.11 over `hi` and a line feed: `minisign -S -H`.
    const MINISIGN: &str = "untrusted comment: signature from minisign secret key
RUTAvaTB/4gH4oviVrFxP0olcHyNkMi9kIEqT/OptM+XrIS4j3gK4ou1FqQ2p/6hsA7tIckGEe1BcTWNKtcFXUMA0iLMK5IoYgY=
trusted comment: timestamp:1795552355\tfile:m\thashed
nPB8sKNHUYH5sfUjxt32PHfFtV1x4qveIdV0psMlY0RZ/hA1hOwzpYOHTDfDt9NG4Ab/xL3F60U4nuthhGlZAA==
";

    #[test]
    fn a_signature_that_minisign_wrote_holds() {
        let line = "RWTAvaTB/4gH4vaPfBgQwWr0NWew69c3hEdvsbkF68IwnGRxBLJXtfuz";
        let key = PublicKey::from_base64(line).unwrap();
        let signature = Signature::parse(MINISIGN.as_bytes()).unwrap();
        assert_eq!(signature.verify_strict(&key, &Prehash::of(b"hi\n")), Ok(()));
        let other = signature.verify_strict(&key, &Prehash::of(b"hi"));
        assert_eq!(other, Err(SignatureError::Wrong(key.id())));
        assert_eq!(signature.to_file(), MINISIGN);
    }
}
