//! Repository names as clients write them, and the images of a list that they mean.

use std::fmt;

/// distribution-spec, "Pulling manifests": many clients stop at 255, and so does this.
const NAME_BYTES_MAX: usize = 255;

/// A repository as a request names it: a path and, from a mirror's client, the registry it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    registry: Option<String>,
    path: String,
}

impl Repository {
    /// Takes a path by the grammar of distribution-spec and a registry host; `None` when either is not one.
    pub fn parse(path: &str, registry: Option<&str>) -> Option<Self> {
        let registry = match registry {
            None | Some("") => None,
            Some(host) if is_host(host) => Some(host.to_owned()),
            Some(_not_a_host) => return None,
        };
        is_path(path).then(|| Self {
            registry,
            path: path.to_owned(),
        })
    }

    /// Whether an image's full repository name (`registry/path`, or a path alone) is the one that is asked for.
    ///
    /// Without `?ns=` the request's path may be the full name or the name without its registry.
    pub fn is(&self, full: &str) -> bool {
        let (registry, path) = split_registry(full);
        match &self.registry {
            Some(wanted) => registry.is_some_and(|is| is == wanted) && path == self.path,
            None => full == self.path || path == self.path,
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.registry {
            Some(registry) => write!(out, "{registry}/{}", self.path),
            None => out.write_str(&self.path),
        }
    }
}

/// Splits `repository:tag`; a colon before the last slash belongs to the registry's port.
pub(super) fn split_tag(reference: &str) -> Option<(&str, &str)> {
    let (repository, tag) = reference.rsplit_once(':')?;
    (!tag.contains('/')).then_some((repository, tag))
}

/// Splits off the registry: a first component with a dot, a colon, or `localhost` (distribution `reference`).
fn split_registry(full: &str) -> (Option<&str>, &str) {
    match full.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        Some(_) | None => (None, full),
    }
}

/// Whether this is a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// Lower-case components; the first may be a registry, hence the colon.
fn is_path(text: &str) -> bool {
    let component = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|is| is.is_ascii_alphanumeric());
        edge(part.bytes().next())
            && edge(part.bytes().next_back())
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'.' | b'_' | b'-' | b':')
            })
    };
    text.len() <= NAME_BYTES_MAX && text.split('/').all(component)
}

fn is_host(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_request_means_one_registry_and_a_plain_one_any() {
        let mirrored = Repository::parse("library/nginx", Some("docker.io")).unwrap();
        assert!(mirrored.is("docker.io/library/nginx"));
        assert!(!mirrored.is("quay.io/library/nginx"));
        assert!(!mirrored.is("library/nginx"));

        let plain = Repository::parse("library/nginx", None).unwrap();
        assert!(plain.is("docker.io/library/nginx"));
        assert!(plain.is("library/nginx"));
        assert!(
            Repository::parse("docker.io/library/nginx", None)
                .unwrap()
                .is("docker.io/library/nginx")
        );
    }

    #[test]
    fn paths_that_climb_or_hide_are_no_names() {
        for wrong in [
            "", "/", "a//b", "../a", "a/..", "A", "a/%2e", "a\0b", ".a", "a/",
        ] {
            assert_eq!(Repository::parse(wrong, None), None, "{wrong:?}");
        }
        assert_eq!(Repository::parse("a", Some("do/cker")), None);
    }

    #[test]
    fn a_port_is_not_a_tag() {
        assert_eq!(split_tag("127.0.0.1:5000/web"), None);
        assert_eq!(
            split_tag("127.0.0.1:5000/web:1"),
            Some(("127.0.0.1:5000/web", "1"))
        );
        assert!(is_tag("v1.2-rc_3"));
        assert!(!is_tag(".hidden") && !is_tag("") && !is_tag(&"x".repeat(129)));
    }
}
