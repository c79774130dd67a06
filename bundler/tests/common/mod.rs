//! A vendor's desk: a folder, the program, and what it answers.
#![expect(clippy::unwrap_used, reason = "a test's own set-up may end the test")]
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod layout;

use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::sync::LazyLock;

/// A vendor's folder that goes away with the test.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a text file, its folder too.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The program in this folder, with nothing of the caller's environment that matters to it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bundler"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .env_remove("SOURCE_DATE_EPOCH")
            .env("SEALIFT_CACHE_DIR", self.path("cache"))
            .env("SEALIFT_KEY_PASSWORD", "hunter2")
            .stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it, requires success, returns standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}\n{}", all(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, requires a refusal, returns exit code and text without this test's folder.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}\n{}", all(&output));
        let text = String::from_utf8(output.stderr).unwrap();
        let text = text.replace(&self.folder.path().display().to_string(), "[desk]");
        format!("exit {}\n{text}", output.status.code().unwrap())
    }

    /// A root and the keys that it names, made once for all tests: locking a key is slow on purpose.
    pub(crate) fn with_trust() -> Self {
        static TRUST: LazyLock<Desk> = LazyLock::new(|| {
            let desk = Desk::new();
            for name in ["root1", "root2", "shop", "license"] {
                desk.ok(&["key", "new", &format!("keys/{name}")]);
            }
            desk.ok(&ROOT_INIT);
            desk
        });
        let desk = Self::new();
        std::fs::create_dir(desk.path("keys")).unwrap();
        for part in ["keys", "."] {
            for entry in std::fs::read_dir(TRUST.path(part)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let to = desk.path(part).join(entry.file_name());
                    std::fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        desk
    }
}

const ROOT_INIT: [&str; 18] = [
    "root",
    "init",
    "--vendor",
    "acme",
    "--key",
    "keys/root1.pub",
    "--key",
    "keys/root2.pub",
    "--bundle",
    "shop=keys/shop.pub",
    "--license",
    "shop=keys/license.pub",
    "--sign-with",
    "keys/root1.key",
    "--sign-with",
    "keys/root2.key",
    "--issued-at",
    "2026-01-01T00:00:00Z",
];

pub(crate) fn all(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
