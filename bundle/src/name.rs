//! Names that come from outside, each a type: product names, image names, platforms, paths.
//!
//! A value in hand has passed its grammar, so it holds no separator, no control character, no `..`, and may be put
//! into a signed comment, a path below a directory, or a message.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// Text that is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: expected {expected}")]
pub struct NameError {
    text: String,
    what: &'static str,
    expected: &'static str,
}

/// A vendor, product, channel or chart: `^[a-z0-9][a-z0-9.-]{0,62}$`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A fully qualified tag, `registry.example:5000/path/name:tag`; nothing is implied.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    text: String,
    registry_bytes: usize,
    repository_bytes: usize,
}

/// A license's id as the vendor gives it, `H-0193` or a UUID: `^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LicenseId(String);

/// What a program runs on, `os/arch` or `os/arch/variant` (OCI image-spec, "platform").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform(String);

/// A safe relative path: components of `[A-Za-z0-9._+@-]`, none of them `.` or `..`, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(String);

impl Name {
    const WHAT: &str = "a name";
    const EXPECTED: &str = "1 to 63 of a-z, 0-9, '.' and '-', beginning with a letter or a digit";

    fn is_valid(text: &str) -> bool {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        text.len() <= 63
            && text.bytes().next().is_some_and(inside)
            && text
                .bytes()
                .all(|byte| inside(byte) || byte == b'.' || byte == b'-')
    }
}

impl LicenseId {
    const WHAT: &str = "a license id";
    const EXPECTED: &str =
        "1 to 63 letters, digits, '.' and '-', beginning with a letter or a digit";

    fn is_valid(text: &str) -> bool {
        let first = text.bytes().next();
        text.len() <= 63
            && first.is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
    }
}

impl Platform {
    const WHAT: &str = "a platform";
    const EXPECTED: &str = "os/arch or os/arch/variant, as in linux/amd64";

    fn is_valid(text: &str) -> bool {
        let part = |part: &str| {
            (1..=32).contains(&part.len())
                && part.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
                })
        };
        (2..=3).contains(&text.split('/').count()) && text.split('/').all(part)
    }

    /// The operating system, `linux`.
    pub fn os(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The architecture as Go names it, `amd64`.
    pub fn architecture(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// The variant of the architecture, `v7`.
    pub fn variant(&self) -> Option<&str> {
        self.0.split('/').nth(2)
    }
}

impl EntryPath {
    const WHAT: &str = "a path";
    const EXPECTED: &str =
        "components of letters, digits and ._+@- joined by '/', none '.' or '..'";

    fn is_valid(text: &str) -> bool {
        let component = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._+@-".contains(&byte))
        };
        text.len() <= limits::PATH_BYTES_MAX && text.split('/').all(component)
    }
}

impl ImageName {
    const WHAT: &str = "an image name";
    const EXPECTED: &str = "registry.example/path/name:tag, the registry and the tag written out";

    /// Host and port of the registry.
    pub fn registry(&self) -> &str {
        self.text.get(..self.registry_bytes).unwrap_or_default()
    }

    /// The repository, without registry and tag.
    pub fn repository(&self) -> &str {
        let start = self.registry_bytes + 1;
        self.text
            .get(start..start + self.repository_bytes)
            .unwrap_or_default()
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        let start = self.registry_bytes + 1 + self.repository_bytes + 1;
        self.text.get(start..).unwrap_or_default()
    }
}

/// Whether the first component of an image name is a host and not a directory of some default registry.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("localhost", rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_ok = host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let port_ok = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|it| it > 0)
    });
    let qualified = host.contains('.') || host == "localhost" || port.is_some();
    text.len() <= 255 && host_ok && port_ok && qualified
}

/// Whether `text` is a repository path of the distribution specification.
fn is_repository(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let component = |part: &str| {
        let ends =
            part.bytes().next().is_some_and(letter) && part.bytes().last().is_some_and(letter);
        let separators = part
            .split(|symbol: char| symbol.is_ascii_lowercase() || symbol.is_ascii_digit())
            .all(|run| {
                matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-')
            });
        ends && separators
    };
    (1..=255).contains(&text.len()) && text.split('/').all(component)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (registry, rest) = text.split_once('/')?;
            let (repository, tag) = rest.rsplit_once(':')?;
            (is_registry(registry) && is_repository(repository) && is_tag(tag)).then(|| Self {
                text: text.to_owned(),
                registry_bytes: registry.len(),
                repository_bytes: repository.len(),
            })
        };
        parse().ok_or_else(|| NameError::new(text, Self::WHAT, Self::EXPECTED))
    }
}

impl NameError {
    fn new(text: &str, what: &'static str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(120).collect(),
            what,
            expected,
        }
    }
}

macro_rules! text_name {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if Self::is_valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError::new(text, Self::WHAT, Self::EXPECTED))
                }
            }
        }

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text_name!(Name, LicenseId, Platform, EntryPath);

impl ImageName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

macro_rules! string_like {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

string_like!(Name, LicenseId, ImageName, Platform, EntryPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_inject_a_separator() {
        for good in ["a", "0", "shop", "acme.example", "a-b.c", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "A",
            "a;b",
            "a b",
            "a/b",
            "a\n",
            "é",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_license_id_can_not_inject_a_separator() {
        for good in ["H-0193", "0d0f5c34-0f0a-4a37-8df6-5f5a0a4a1f00", "7"] {
            assert!(good.parse::<LicenseId>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a;seq=9",
            "a b",
            "a/b",
            "a\n",
            "é",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<LicenseId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_name_says_its_registry_and_its_tag() {
        let name: ImageName = "registry.acme.example:5000/shop/web_1:1.4.0-rc.1"
            .parse()
            .unwrap();
        assert_eq!(name.registry(), "registry.acme.example:5000");
        assert_eq!(name.repository(), "shop/web_1");
        assert_eq!(name.tag(), "1.4.0-rc.1");
        for good in [
            "localhost/a:1",
            "[::1]:5000/a/b:1",
            "127.0.0.1:5000/a/b--c:_x",
            "docker.io/library/redis:7",
        ] {
            assert!(good.parse::<ImageName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn an_image_name_that_implies_something_is_refused() {
        for bad in [
            "redis",
            "redis:7",
            "library/redis:7",
            "docker.io/redis",
            "docker.io/Redis:7",
            "docker.io/a//b:1",
            "docker.io/a/../b:1",
            "docker.io/a:1@sha256:00",
            "docker.io/a:",
            "docker.io/.a:1",
            "docker.io/a_-b:1",
            "docker.io:0/a:1",
            "docker.io:99999/a:1",
            "docker..io/a:1",
            "[::g]:1/a:1",
            "docker.io/a:1\n",
            "",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_stays_below_its_directory() {
        for good in ["kubelet", "cni/bin/bridge", "a+b@c_d-e.f", "..a/b.."] {
            assert!(good.parse::<EntryPath>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\\b",
            "C:a",
            "a\nb",
            "a\u{202e}b",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<EntryPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platform_has_its_parts() {
        let platform: Platform = "linux/arm/v7".parse().unwrap();
        assert_eq!(
            (platform.os(), platform.architecture(), platform.variant()),
            ("linux", "arm", Some("v7"))
        );
        for bad in [
            "linux",
            "linux/",
            "/amd64",
            "linux/a/b/c",
            "Linux/amd64",
            "linux/am d64",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
