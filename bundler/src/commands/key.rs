//! `bundler key new` and `key show`.

use std::path::Path;
use std::path::PathBuf;

use bundle::key::KEY_FILE_BYTES_MAX;
use bundle::key::KeyError;
use bundle::key::PublicKey;
use bundle::key::SecretKey;
use serde::Serialize;

use crate::cli::KeyNewArgs;
use crate::cli::KeyShowArgs;
use crate::durable;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::output::Output;
use crate::secrets;

#[derive(Serialize)]
struct Shown {
    id: String,
    public: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_file: Option<PathBuf>,
}

/// Makes a key pair and writes both files; neither may exist.
pub(super) fn make(arguments: &KeyNewArgs, output: &Output) -> Outcome {
    let secret_file = with_ending(&arguments.name, "key");
    let public_file = with_ending(&arguments.name, "pub");
    for path in [&secret_file, &public_file] {
        if path.exists() {
            let taken = std::io::ErrorKind::AlreadyExists.into();
            return Err(FileError::new("write", path, taken).into());
        }
    }
    let password = secrets::new_password(&secret_file, &arguments.password)?;
    let secret = SecretKey::generate()?;
    let text = secret.to_file(Some(&password))?;
    durable::write_new(&secret_file, text.as_bytes(), 0o600)?;
    let public = secret.public();
    durable::write_new(&public_file, public.to_file().as_bytes(), 0o644)?;
    let shown = Shown {
        id: public.id().to_string(),
        public: public.to_base64(),
        secret_file: Some(secret_file.clone()),
        public_file: Some(public_file.clone()),
    };
    output.result(&shown, |out| {
        out.row("key", &shown.id);
        out.row(
            "secret",
            format!(
                "{}  keep it, and keep it apart from its password",
                secret_file.display()
            ),
        );
        out.row(
            "public",
            format!("{}  give it to `bundler root init`", public_file.display()),
        );
    })
}

/// Shows a public key, or the public half of a secret one.
pub(super) fn show(arguments: &KeyShowArgs, output: &Output) -> Outcome {
    let public = read_either(arguments, output)?;
    let shown = Shown {
        id: public.id().to_string(),
        public: public.to_base64(),
        secret_file: None,
        public_file: None,
    };
    output.result(&shown, |out| {
        out.row("key", &shown.id);
        out.row("public", &shown.public);
    })
}

fn read_either(arguments: &KeyShowArgs, output: &Output) -> Outcome<PublicKey> {
    let bytes = durable::read_capped(&arguments.file, KEY_FILE_BYTES_MAX)?;
    match PublicKey::parse(&bytes) {
        Ok(public) => Ok(public),
        Err(KeyError::Weak { .. }) => secrets::read_public(&arguments.file),
        Err(_maybe_secret) => {
            let secret = secrets::open(&arguments.file, &arguments.password, output)?;
            Ok(secret.public())
        }
    }
}

/// Adds an ending to a name that may hold dots of its own.
fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut path = name.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}
