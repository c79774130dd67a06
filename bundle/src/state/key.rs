//! Map keys of names: `acme/shop/stable`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::name::Name;

/// `N` names. A name holds no `/`, so the text has one meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key<const N: usize>([Name; N]);

impl<const N: usize> Key<N> {
    /// Takes the names.
    pub fn of(names: [&Name; N]) -> Self {
        Self(names.map(Name::clone))
    }
}

impl<const N: usize> fmt::Display for Key<N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(Name::as_str).collect();
        out.write_str(&names.join("/"))
    }
}

impl<const N: usize> FromStr for Key<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Result<Vec<Name>, _> = text.split('/').map(str::parse).collect();
        let names = names.map_err(|wrong| wrong.to_string())?;
        let names = names
            .try_into()
            .map_err(|_count| format!("expected {N} names joined by '/'"))?;
        Ok(Self(names))
    }
}

impl<const N: usize> Serialize for Key<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Key<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
