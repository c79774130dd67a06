//! SHA-256 digests: the identity of every blob, image manifest and bundle.
//!
//! A [`Digest`] in hand has the OCI form `sha256:<64 lower-case hex>`; nothing else can be written as one, so a digest
//! that came from outside can safely name a file.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use sha2::Digest as _;
use sha2::Sha256;
use sha2::digest::common::hazmat::SerializableState;

/// A SHA-256 digest in the OCI form (image-spec `descriptor.md`, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Text that is not a SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest: expected {expected}")]
pub struct DigestError {
    text: String,
    expected: &'static str,
}

const PREFIX: &str = "sha256:";

impl Digest {
    /// Hashes a whole buffer.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes the 32 raw bytes of a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses exactly 64 lower-case hexadecimal digits, as in `blobs/sha256/<hex>`.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError {
            text: text.chars().take(80).collect(),
            expected: "64 lower-case hexadecimal digits",
        };
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_not_hex| error())?;
        Ok(Self(bytes))
    }

    /// Writes the 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PREFIX}{}", self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix(PREFIX).ok_or_else(|| DigestError {
            text: text.chars().take(80).collect(),
            expected: "sha256: and 64 lower-case hexadecimal digits",
        })?;
        Self::from_hex(hex)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A SHA-256 under way, whose state can be kept over a crash.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

/// The serialised state of a [`Hasher`]: 32 bytes of chaining value, the length so far, the open block.
pub type HasherState = [u8; HASHER_STATE_SIZE];

/// Bytes in a [`HasherState`]; fixed by sha2's own serialisation of SHA-256.
pub const HASHER_STATE_SIZE: usize = 104;

impl Hasher {
    /// Begins at the empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Ends the message.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    /// The state after all bytes so far, for a journal.
    pub fn state(&self) -> HasherState {
        self.0.serialize().into()
    }

    /// Continues from a state that [`Hasher::state`] gave; `None` when it is none.
    pub fn from_state(state: &HasherState) -> Option<Self> {
        Sha256::deserialize(&(*state).into()).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_digest() {
        let hex = Digest::of(b"sealift").to_hex();
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
        for wrong in [
            hex.to_uppercase(),
            format!("sha512:{hex}"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            "sha256:../../../../../../../../../../etc/passwd".to_owned(),
            String::new(),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hasher_continues_from_its_state() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for cut in [0, 1, 63, 64, 65, 999, 1000] {
            let mut first = Hasher::new();
            first.update(&bytes[..cut]);
            let mut second = Hasher::from_state(&first.state()).unwrap();
            second.update(&bytes[cut..]);
            assert_eq!(second.finish(), Digest::of(&bytes));
        }
    }
}
