//! The one strict JSON decoder and the one canonical encoder.
//!
//! JSON readers differ where the text is odd, so no odd text is read:
//!
//! | attack | answer |
//! |---|---|
//! | duplicate keys, escaped or nested | refused at any depth |
//! | 1.0, 1e3, -0, 2^64 | integers of 64 bits only |
//! | BOM, other encodings, lone surrogates, NUL | refused |
//! | bytes behind the document | one LF at most |
//! | depth, long strings, long documents | `limits`, before anything is built |
//! | an array where an object is meant, unknown fields | refused (`deny_unknown_fields` is the type's part) |
//!
//! A document whose bytes are signed or compared is moreover *canonical*: compact, keys sorted by bytes, one LF at the
//! end. [`decode_canonical`] requires that writing what was read gives the same bytes again.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::Error as _;
use serde::de::IntoDeserializer;
use serde::de::value::MapDeserializer;
use serde::de::value::SeqDeserializer;

use crate::limits;

#[cfg(test)]
mod tests;

/// A document that is not strict JSON, or not of its type.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Too many bytes.
    #[error("document is {actual} bytes, at most {limit} are allowed")]
    Size {
        /// Bytes given.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// Something in front of the object or behind it.
    #[error("document is not one JSON object with one line feed behind it")]
    Frame,
    /// A text that JSON, or the strict profile of it, does not allow; or that does not fit the type.
    #[error("{0}")]
    Content(#[from] serde_json::Error),
    /// Strict JSON, but not as the canonical encoder writes it.
    #[error("document is not in canonical form, first difference at byte {at}")]
    NotCanonical {
        /// Offset of the first byte that differs.
        at: usize,
    },
}

/// Decodes one strict document of at most `bytes_max` bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, JsonError> {
    let node = parse(bytes, bytes_max)?;
    Ok(T::deserialize(node)?)
}

/// Decodes one strict document and requires that it is in canonical form.
pub fn decode_canonical<T: DeserializeOwned + Serialize>(
    bytes: &[u8],
    bytes_max: usize,
) -> Result<T, JsonError> {
    let value: T = decode(bytes, bytes_max)?;
    require_same(bytes, &encode(&value)?)?;
    Ok(value)
}

/// Encodes in canonical form: compact, keys sorted by bytes, one LF at the end.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    let mut bytes = encode_compact(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Encodes in canonical form without the final LF, for one line of a larger text.
pub(crate) fn encode_compact<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    // Through our own tree, because the order of serde_json's maps depends on a feature that any crate can turn on.
    let text = serde_json::to_vec(value)?;
    let node: Node = serde_json::from_slice(&text)?;
    Ok(serde_json::to_vec(&node)?)
}

/// Requires that `bytes` are the `canonical` ones.
pub(crate) fn require_same(bytes: &[u8], canonical: &[u8]) -> Result<(), JsonError> {
    if bytes == canonical {
        return Ok(());
    }
    let same = bytes
        .iter()
        .zip(canonical)
        .take_while(|(a, b)| a == b)
        .count();
    Err(JsonError::NotCanonical { at: same })
}

fn parse(bytes: &[u8], bytes_max: usize) -> Result<Node, JsonError> {
    if bytes.len() > bytes_max {
        return Err(JsonError::Size {
            actual: bytes.len(),
            limit: bytes_max,
        });
    }
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if body.first() != Some(&b'{') || body.last() != Some(&b'}') {
        return Err(JsonError::Frame);
    }
    check_depth(body)?;
    Ok(serde_json::from_slice(body)?)
}

/// Refuses deep nesting before a parser recurses. Brackets in strings don't count.
fn check_depth(body: &[u8]) -> Result<(), JsonError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in body {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::JSON_DEPTH_MAX {
            let text = format!("nested deeper than {}", limits::JSON_DEPTH_MAX);
            return Err(serde_json::Error::custom(text).into());
        }
    }
    Ok(())
}

/// A strict JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Text(String),
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Negative(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(nodes) => serializer.collect_seq(nodes),
            Self::Object(entries) => serializer.collect_map(entries),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> serde::de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("strict JSON (integers of 64 bits, no duplicate keys)")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Negative(value), Node::Unsigned))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Node, E> {
        check_text(&value)?;
        Ok(Node::Text(value))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, node)) = access.next_entry::<String, Node>()? {
            check_text(&key)?;
            if entries.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            entries.insert(key, node);
        }
        Ok(Node::Object(entries))
    }
}

fn check_text<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.len() > limits::STRING_BYTES_MAX {
        return Err(E::custom(format_args!(
            "string of {} bytes, at most {} are allowed",
            text.len(),
            limits::STRING_BYTES_MAX
        )));
    }
    if text.contains('\0') {
        return Err(E::custom("string with a NUL"));
    }
    Ok(())
}

impl IntoDeserializer<'_, serde_json::Error> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> serde::Deserializer<'de> for Node {
    type Error = serde_json::Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Negative(value) => visitor.visit_i64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(nodes) => {
                let mut access = SeqDeserializer::new(nodes.into_iter());
                let value = visitor.visit_seq(&mut access)?;
                access.end()?;
                Ok(value)
            }
            Self::Object(entries) => {
                let mut access = MapDeserializer::new(entries.into_iter());
                let value = visitor.visit_map(&mut access)?;
                access.end()?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: serde::de::Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if self == Self::Null {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    /// The difference to `serde_json`: a struct is an object, never a list of its fields.
    fn deserialize_struct<V: serde::de::Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if matches!(self, Self::Object(_)) {
            return self.deserialize_any(visitor);
        }
        Err(Self::Error::custom(format_args!("{name} is not an object")))
    }

    fn deserialize_newtype_struct<V: serde::de::Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: serde::de::Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if let Self::Text(variant) = self {
            return visitor.visit_enum(variant.into_deserializer());
        }
        Err(Self::Error::custom(format_args!("{name} is not a string")))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl From<JsonError> for io::Error {
    fn from(error: JsonError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
