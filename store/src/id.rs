//! `STORE_ID`: which cluster a store belongs to and which filesystem it was made on.
//!
//! An empty mount point or a foreign disk must be refused, never taken for a store that lost everything.
//!
//! ```text
//! sealift-store 1
//! incarnation 0123456789abcdef0123456789abcdef
//! filesystem 00000000deadbeef
//! ```
//! Exactly these lines. Without the last one the store takes the filesystem that it is found on: so an operator moves it.

use std::fmt;
use std::str::FromStr;

/// One life of a cluster: 16 random bytes, drawn when it is founded. Records of another life are never merged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation([u8; 16]);

/// Text that is no incarnation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cluster incarnation: expected 32 lower-case hexadecimal digits")]
pub struct IncarnationError(String);

/// The contents of `STORE_ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId {
    /// The cluster's life.
    pub incarnation: Incarnation,
    /// The filesystem that the store was made on; absent when it may be adopted.
    pub filesystem: Option<u64>,
}

impl Incarnation {
    /// Takes 16 bytes that the caller drew at random.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Incarnation {
    type Err = IncarnationError;

    fn from_str(text: &str) -> Result<Self, IncarnationError> {
        let mut bytes = [0; 16];
        let canonical = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if canonical && hex::decode_to_slice(text, &mut bytes).is_ok() {
            return Ok(Self(bytes));
        }
        Err(IncarnationError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl StoreId {
    /// Parses the text of `STORE_ID`; one text for one id.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("sealift-store 1\nincarnation ")?;
        let (incarnation, rest) = rest.split_once('\n')?;
        let id = Self {
            incarnation: incarnation.parse().ok()?,
            filesystem: match rest.strip_prefix("filesystem ") {
                Some(line) => Some(u64::from_str_radix(line.strip_suffix('\n')?, 16).ok()?),
                None => None,
            },
        };
        (id.to_text() == text).then_some(id)
    }

    /// Writes the text of `STORE_ID`.
    pub fn to_text(&self) -> String {
        let filesystem = self
            .filesystem
            .map_or_else(String::new, |id| format!("filesystem {id:016x}\n"));
        let incarnation = self.incarnation;
        format!("sealift-store 1\nincarnation {incarnation}\n{filesystem}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_stands_for_one_id() {
        let id = StoreId {
            incarnation: Incarnation::from_bytes([7; 16]),
            filesystem: Some(0xdead_beef),
        };
        assert_eq!(StoreId::parse(&id.to_text()), Some(id));
        let adopted = StoreId {
            filesystem: None,
            ..id
        };
        assert_eq!(StoreId::parse(&adopted.to_text()), Some(adopted));
        for cut in 0..id.to_text().len() {
            let text = &id.to_text()[..cut];
            assert!(
                StoreId::parse(text).is_none_or(|id| id == adopted),
                "{text:?}"
            );
        }
        assert_eq!(StoreId::parse(&format!("{}\n", id.to_text())), None);
        assert_eq!(StoreId::parse(&id.to_text().to_uppercase()), None);
    }
}
