//! Credentials as `docker login` and `podman login` keep them: a file, and helper programs that the file names.
//!
//! A credential belongs to one host and port, exactly; it is never looked up for another name of the same machine.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::helper;
use crate::source::SourceError;

/// A credential file is small; desktops with a hundred logins have some tens of KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The key under which Docker keeps the credentials of Docker Hub.
const HUB_KEY: &str = "index.docker.io";

/// What a registry may be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        name: String,
        /// The password, or a token that is used like one.
        password: String,
    },
    /// A refresh token, good only at the place that gives out tokens.
    Identity(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { name, .. } => write!(out, "Password({name})"),
            Self::Identity(_) => out.write_str("Identity"),
        }
    }
}

/// Where credentials are looked for.
#[derive(Clone, Debug, Default)]
pub struct CredentialStore {
    /// Credential files, the first one that knows a host wins; an absent one is skipped.
    pub files: Vec<PathBuf>,
    /// Directories with helper programs, as in `PATH`; that of this process when absent.
    pub helper_path: Option<OsString>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    /// Name and password, joined by a colon, in base64.
    #[serde(rename = "auth")]
    both: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity: Option<String>,
}

impl CredentialStore {
    /// The files that Docker and Podman use for this user.
    pub fn of_this_user() -> Self {
        let from = |variable: &str, below: &str| {
            let directory = env::var_os(variable).filter(|value| !value.is_empty())?;
            Some(Path::new(&directory).join(below))
        };
        let docker =
            from("DOCKER_CONFIG", "config.json").or_else(|| from("HOME", ".docker/config.json"));
        let files = [
            env::var_os("REGISTRY_AUTH_FILE")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
            docker,
            from("XDG_RUNTIME_DIR", "containers/auth.json"),
            from("HOME", ".config/containers/auth.json"),
        ];
        Self {
            files: files.into_iter().flatten().collect(),
            helper_path: None,
        }
    }

    /// Finds what to show to `host`, which has the form `host:port` or `host`. Blocks while a helper runs.
    pub(crate) fn find(&self, host: &str) -> Result<Option<Credential>, SourceError> {
        for file in &self.files {
            if let Some(config) = load(file, host)?
                && let Some(found) = self.find_in(&config, file, host)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find_in(
        &self,
        config: &Config,
        file: &Path,
        host: &str,
    ) -> Result<Option<Credential>, SourceError> {
        let helper = config
            .cred_helpers
            .iter()
            .find(|(key, _)| is_for(key, host));
        let helper = helper
            .map(|(_, program)| program)
            .or(config.creds_store.as_ref());
        if let Some(program) = helper
            && let Some(found) = helper::get(program, self.helper_path.as_deref(), host)?
        {
            return Ok(Some(found));
        }
        let entry = config.auths.iter().find(|(key, _)| is_for(key, host));
        entry.map_or(Ok(None), |(_, auth)| {
            auth.credential()
                .map_err(|reason| SourceError::Credentials {
                    place: host.to_owned(),
                    from: file.display().to_string(),
                    reason: reason.to_owned(),
                })
        })
    }
}

impl Auth {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        if let Some(token) = self.identity.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::Identity(token.clone())));
        }
        if let (Some(name), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Credential::Password {
                name: name.clone(),
                password: password.clone(),
            }));
        }
        let Some(auth) = self.both.as_ref().filter(|auth| !auth.is_empty()) else {
            return Ok(None);
        };
        let bytes = STANDARD
            .decode(auth.trim())
            .map_err(|_not| "`auth` is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_not| "`auth` is not UTF-8")?;
        let (name, password) = text.split_once(':').ok_or("`auth` has no colon in it")?;
        Ok(Some(Credential::Password {
            name: name.to_owned(),
            // Docker pads old entries with NUL.
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// Whether a key of the file, a host or an address, means `host`.
fn is_for(key: &str, host: &str) -> bool {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = match key.split_once('/') {
        Some((key, "" | "v1/" | "v2/" | "v1" | "v2")) => key,
        Some(_a_repository) => return false,
        None => key,
    };
    key == host || (host == "docker.io" && key == HUB_KEY)
}

fn load(path: &Path, host: &str) -> Result<Option<Config>, SourceError> {
    let failed = |reason: String| SourceError::Credentials {
        place: host.to_owned(),
        from: path.display().to_string(),
        reason,
    };
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_count) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| failed(error.to_string()))
}

/// The name that a helper knows a host by.
pub(super) fn helper_key(host: &str) -> String {
    if host == "docker.io" {
        return format!("https://{HUB_KEY}/v1/");
    }
    host.to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn store(text: &str) -> (TempDir, CredentialStore) {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("config.json");
        fs::write(&file, text).unwrap();
        let store = CredentialStore {
            files: vec![directory.path().join("absent.json"), file],
            helper_path: Some(directory.path().as_os_str().to_owned()),
        };
        (directory, store)
    }

    fn helper(directory: &TempDir, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = directory.path().join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn password(name: &str, password: &str) -> Credential {
        Credential::Password {
            name: name.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn a_credential_is_found_by_exact_host_and_port() {
        let (_directory, store) = store(
            r#"{"auths": {
                "registry.example:5000": {"auth": "YW5uOnNlOmNyZXQ="},
                "https://index.docker.io/v1/": {"username": "hub", "password": "x"},
                "ghcr.io": {"auth": "", "identitytoken": "refresh"},
                "quay.io/team": {"auth": "YW5uOnNlOmNyZXQ="}
            }}"#,
        );
        assert_eq!(
            store.find("registry.example:5000").unwrap(),
            Some(password("ann", "se:cret"))
        );
        assert_eq!(store.find("docker.io").unwrap(), Some(password("hub", "x")));
        assert_eq!(
            store.find("ghcr.io").unwrap(),
            Some(Credential::Identity("refresh".to_owned()))
        );
        for other in [
            "registry.example",
            "registry.example:5001",
            "example:5000",
            "quay.io",
            "io",
        ] {
            assert_eq!(store.find(other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn a_helper_gives_a_password_or_a_refresh_token() {
        let (directory, store) =
            store(r#"{"credsStore": "all", "credHelpers": {"a.example": "one"}}"#);
        helper(
            &directory,
            "one",
            r#"read host; echo "{\"Username\":\"$1\",\"Secret\":\"$host\"}""#,
        );
        helper(
            &directory,
            "all",
            r#"echo '{"Username":"<token>","Secret":"refresh"}'"#,
        );
        assert_eq!(
            store.find("a.example").unwrap(),
            Some(password("get", "a.example"))
        );
        assert_eq!(
            store.find("b.example").unwrap(),
            Some(Credential::Identity("refresh".to_owned()))
        );
    }

    #[test]
    fn a_helper_that_knows_nothing_leaves_the_file_to_answer() {
        let (directory, store) =
            store(r#"{"credsStore": "all", "auths": {"a.example": {"auth": "YW5uOngA"}}}"#);
        helper(
            &directory,
            "all",
            "echo credentials not found in native keychain; exit 1",
        );
        assert_eq!(store.find("a.example").unwrap(), Some(password("ann", "x")));
        assert_eq!(store.find("b.example").unwrap(), None);
    }

    #[test]
    fn what_can_not_be_understood_is_told_and_not_skipped() {
        for text in [
            "{",
            r#"{"auths": {"a.example": {"auth": "%%"}}}"#,
            r#"{"auths": {"a.example": {"auth": "YW5u"}}}"#,
            r#"{"credsStore": "absent"}"#,
            r#"{"credsStore": "../../bin/sh"}"#,
        ] {
            let (_directory, store) = store(text);
            assert!(
                matches!(
                    store.find("a.example"),
                    Err(SourceError::Credentials { .. })
                ),
                "{text}"
            );
        }
        let (directory, store) = store(r#"{"credsStore": "bad"}"#);
        helper(&directory, "bad", "echo locked >&2; exit 3");
        assert!(
            store
                .find("a.example")
                .unwrap_err()
                .to_string()
                .contains("locked")
        );
    }
}
