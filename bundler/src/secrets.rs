//! Secret key files and their passwords: from `--password-file`, `SEALIFT_KEY_PASSWORD`, or the terminal.
//!
//! A password is asked for only when both ends are a terminal; without one nothing waits for an answer. Passwords and
//! keys are wiped when they are dropped and are never part of a message.

use std::io;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::thread::JoinHandle;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::key::KEY_FILE_BYTES_MAX;
use bundle::key::KeyError;
use bundle::key::PublicKey;
use bundle::key::SecretKey;
use bundle::key::SecretKeyFile;
use zeroize::Zeroizing;

use crate::cli::PasswordArgs;
use crate::durable;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::output::Output;

/// The variable that holds the password where nobody can be asked.
const PASSWORD_VARIABLE: &str = "SEALIFT_KEY_PASSWORD";

/// A line with a password; anything longer is another file.
const PASSWORD_BYTES_MAX: usize = 1 << 10;

/// A key file that can't be used, with its path.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct KeyFileError {
    path: String,
    source: KeyError,
}

/// A password that can't be had or must not be.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Nobody can be asked.
    #[error("a password is needed for {0}, and there is no terminal to ask for it")]
    NoTerminal(String),
    /// The terminal failed.
    #[error("the terminal gave no password")]
    Terminal(#[source] io::Error),
    /// A key on disk without protection.
    #[error("the password is empty")]
    Empty,
    /// Two answers.
    #[error("the two passwords differ")]
    Differ,
}

/// Opens a secret key file, asking for its password if it has one.
pub fn open(path: &Path, arguments: &PasswordArgs, output: &Output) -> Outcome<SecretKey> {
    read(path, arguments, output)?.open()
}

/// Opens several secret key files.
pub fn open_all(
    paths: &[PathBuf],
    arguments: &PasswordArgs,
    output: &Output,
) -> Outcome<Vec<SecretKey>> {
    let open = |path: &PathBuf| open(path, arguments, output);
    paths.iter().map(open).collect()
}

/// Secret keys that a thread of their own is unlocking: slow on purpose, so other work goes on beside it.
#[derive(Debug)]
pub struct Unlocking {
    thread: JoinHandle<Outcome<Vec<SecretKey>>>,
}

impl Unlocking {
    /// Reads the files and gets the passwords, which may ask the terminal, and begins.
    pub fn begin(paths: &[PathBuf], arguments: &PasswordArgs, output: &Output) -> Outcome<Self> {
        let read = |path: &PathBuf| read(path, arguments, output);
        let closed = paths.iter().map(read).collect::<Outcome<Vec<_>>>()?;
        let open = move || closed.into_iter().map(Closed::open).collect();
        Ok(Self {
            thread: std::thread::spawn(open),
        })
    }

    /// Waits for the keys.
    pub fn finish(self) -> Outcome<Vec<SecretKey>> {
        match self.thread.join() {
            Ok(keys) => keys,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A key file that was read, with its password.
struct Closed {
    path: PathBuf,
    file: SecretKeyFile,
    password: Option<Zeroizing<String>>,
}

impl Closed {
    fn open(self) -> Outcome<SecretKey> {
        let password = self.password.as_ref().map(|password| password.as_str());
        let key = self.file.open(password);
        Ok(key.map_err(|source| KeyFileError::new(&self.path, source))?)
    }
}

fn read(path: &Path, arguments: &PasswordArgs, output: &Output) -> Outcome<Closed> {
    let bytes = Zeroizing::new(durable::read_capped(path, KEY_FILE_BYTES_MAX)?);
    warn_of_readers(path, output);
    let file = SecretKeyFile::parse(&bytes).map_err(|source| KeyFileError::new(path, source))?;
    let password = if file.is_locked() {
        Some(existing_password(path, arguments)?)
    } else {
        None
    };
    Ok(Closed {
        path: path.to_path_buf(),
        file,
        password,
    })
}

/// Reads a public key file.
pub fn read_public(path: &Path) -> Outcome<PublicKey> {
    let bytes = durable::read_capped(path, KEY_FILE_BYTES_MAX)?;
    Ok(PublicKey::parse(&bytes).map_err(|source| KeyFileError::new(path, source))?)
}

/// Gets a password for a key that is being made; a terminal is asked twice.
pub fn new_password(path: &Path, arguments: &PasswordArgs) -> Outcome<Zeroizing<String>> {
    let given = given_password(arguments)?;
    let password = given.map_or_else(|| ask_twice(path), Ok)?;
    if password.is_empty() {
        return Err(PasswordError::Empty.into());
    }
    Ok(password)
}

fn existing_password(path: &Path, arguments: &PasswordArgs) -> Outcome<Zeroizing<String>> {
    match given_password(arguments)? {
        Some(password) => Ok(password),
        None => ask(path, "Password for"),
    }
}

/// The password that was given without asking.
fn given_password(arguments: &PasswordArgs) -> Outcome<Option<Zeroizing<String>>> {
    if let Some(path) = &arguments.password_file {
        let bytes = Zeroizing::new(durable::read_capped(path, PASSWORD_BYTES_MAX)?);
        let text = str::from_utf8(&bytes).map_err(|error| {
            let reason = io::Error::new(io::ErrorKind::InvalidData, error);
            FileError::new("read password from", path, reason)
        })?;
        let line = text.lines().next().unwrap_or_default();
        return Ok(Some(Zeroizing::new(line.to_owned())));
    }
    Ok(std::env::var(PASSWORD_VARIABLE).ok().map(Zeroizing::new))
}

fn ask(path: &Path, question: &str) -> Outcome<Zeroizing<String>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(PasswordError::NoTerminal(path.display().to_string()).into());
    }
    let answer = rpassword::prompt_password(format!("{question} {}: ", path.display()));
    Ok(Zeroizing::new(answer.map_err(PasswordError::Terminal)?))
}

fn ask_twice(path: &Path) -> Outcome<Zeroizing<String>> {
    let first = ask(path, "New password for")?;
    if first == ask(path, "The same again for")? {
        return Ok(first);
    }
    Err(PasswordError::Differ.into())
}

fn warn_of_readers(path: &Path, output: &Output) {
    let mode = path
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        let path = path.display();
        let text = format!("{path} can be read by others than its owner: chmod 600 {path}");
        output.warn("KEY_MODE", text);
    }
}

impl KeyFileError {
    fn new(path: &Path, source: KeyError) -> Self {
        Self {
            path: path.display().to_string(),
            source,
        }
    }
}

impl Fault for KeyFileError {
    fn code(&self) -> &'static str {
        self.source.code()
    }

    fn blame(&self) -> Blame {
        self.source.blame()
    }

    fn facts(&self) -> Vec<Fact> {
        self.source.facts()
    }

    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

impl Fault for PasswordError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoTerminal(_) => "KEY_PASSWORD_MISSING",
            Self::Terminal(_) => "KEY_PASSWORD_IO",
            Self::Empty | Self::Differ => "KEY_PASSWORD_INVALID",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoTerminal(_) | Self::Empty | Self::Differ => Blame::Usage,
            Self::Terminal(_) => Blame::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoTerminal(_) => Some(format!(
                "set {PASSWORD_VARIABLE} or give --password-file FILE"
            )),
            Self::Empty => Some("a secret key on disk needs a password".into()),
            Self::Terminal(_) | Self::Differ => None,
        }
    }
}
