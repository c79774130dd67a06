//! Keys in minisign's own text formats: public keys, and secret keys encrypted with a password or plain.
//!
//! Layouts (minisign `src/minisign.h`), base64 behind one comment line:
//!
//! | public key, 42 bytes | secret key, 158 bytes |
//! |---|---|
//! | `Ed` | `Ed`, `Sc` (scrypt) or two zero bytes (no password), `B2` |
//! | key id, 8 | salt 32, opslimit 8, memlimit 8 (little-endian) |
//! | key, 32 | under the password's key stream: key id 8, seed 32, public key 32, BLAKE2b-256 of `Ed` ‖ key id ‖ seed ‖ public key |
//!
//! Attacks it answers: a weak or non-canonical public key (identity, low order, mixed order) is no key; a secret key
//! whose public half is not its own is refused (signing with a foreign half gives the secret away, RUSTSEC-2022-0093);
//! a key file that asks for endless memory or time is refused before it gets any; secrets have no `Display`, a `Debug`
//! that tells the id only, and are wiped when dropped.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

mod error;
mod secret;
#[cfg(test)]
mod tests;

pub use error::KeyError;
pub use secret::SecretKey;
pub use secret::SecretKeyFile;

/// The name of a key: eight bytes, written as minisign does (a little-endian number in 16 capital hex digits).
///
/// A hint for looking a key up, never a proof: two keys may carry one id. Ordered as its text is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

/// A public key that can verify signatures; never a weak one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey {
    id: KeyId,
    key: VerifyingKey,
}

const ALGORITHM: [u8; 2] = *b"Ed";
const PUBLIC_BYTES: usize = 42;
const COMMENT_PREFIX: &str = "untrusted comment: ";
/// A key file is two lines of at most 1 KiB; more is not read.
pub const KEY_FILE_BYTES_MAX: usize = 4 << 10;

impl KeyId {
    /// Takes the eight bytes of a signature or key.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// The eight bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016X}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let canonical = text.len() == 16
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| canonical);
        number.map(Self).ok_or(KeyError::Form {
            what: "key id",
            why: "expected 16 capital hexadecimal digits",
        })
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PublicKey {
    /// Takes an id and 32 raw bytes; refuses weak keys and encodings that are not the one of their point.
    pub fn new(id: KeyId, raw: &[u8; 32]) -> Result<Self, KeyError> {
        let weak = || KeyError::Weak { id };
        let key = VerifyingKey::from_bytes(raw).map_err(|_not_a_point| weak())?;
        let point = key.to_edwards();
        // Of the 19 values with a second spelling only the identity's is free of torsion, and it is weak.
        if key.is_weak() || !point.is_torsion_free() {
            return Err(weak());
        }
        Ok(Self { id, key })
    }

    /// Parses a public key file: a comment line and a base64 line.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let what = "public key";
        let line = second_line(what, text)?;
        Self::from_base64(line)
    }

    /// Parses the base64 line alone, as `minisign -P` and `root.json` take it.
    pub fn from_base64(line: &str) -> Result<Self, KeyError> {
        let form = |why| KeyError::Form {
            what: "public key",
            why,
        };
        let bytes = STANDARD
            .decode(line)
            .map_err(|_not_base64| form("not base64"))?;
        let bytes: [u8; PUBLIC_BYTES] = bytes
            .try_into()
            .map_err(|_length| form("expected 42 bytes"))?;
        let [a0, a1, rest @ ..] = bytes;
        if [a0, a1] != ALGORITHM {
            return Err(form("unknown algorithm"));
        }
        let (id, raw) = rest.split_at(8);
        match (id.try_into(), raw.try_into()) {
            (Ok(id), Ok(raw)) => Self::new(KeyId::from_bytes(id), raw),
            _ => Err(form("expected 42 bytes")),
        }
    }

    /// The base64 line.
    pub fn to_base64(&self) -> String {
        let mut bytes = Vec::with_capacity(PUBLIC_BYTES);
        bytes.extend_from_slice(&ALGORITHM);
        bytes.extend_from_slice(&self.id.to_bytes());
        bytes.extend_from_slice(self.raw());
        STANDARD.encode(bytes)
    }

    /// The text of a public key file.
    pub fn to_file(&self) -> String {
        format!(
            "{COMMENT_PREFIX}minisign public key {}\n{}\n",
            self.id,
            self.to_base64()
        )
    }

    /// The key's name.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 raw bytes: what a key *is*, whatever id it carries.
    pub fn raw(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Checks one plain Ed25519 signature, with every strictness there is.
    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({})", self.id)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(serde::de::Error::custom)
    }
}

/// The base64 line of a key file: a comment line, then it, each ended by one LF, then nothing.
fn second_line<'a>(what: &'static str, text: &'a [u8]) -> Result<&'a str, KeyError> {
    let form = |why| KeyError::Form { what, why };
    if text.len() > KEY_FILE_BYTES_MAX {
        return Err(form("the file is larger than 4 KiB"));
    }
    let text = std::str::from_utf8(text).map_err(|_not_utf8| form("the file is not text"))?;
    let (comment, rest) = text
        .split_once('\n')
        .ok_or(form("expected a comment line and a base64 line"))?;
    if !comment.starts_with(COMMENT_PREFIX) {
        return Err(form("the first line is no untrusted comment"));
    }
    let line = rest.strip_suffix('\n').unwrap_or(rest);
    if line.contains('\n') {
        return Err(form("there is more after the base64 line"));
    }
    Ok(line)
}
