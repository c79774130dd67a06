//! A customer's machine: a store and the `installer` that works on it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::process;
use crate::process::Finished;
use crate::programs::Program;
use crate::vendor::Vendor;

/// A store that trusts a vendor.
#[derive(Clone, Debug)]
pub struct Site {
    store: PathBuf,
}

impl Site {
    /// Trusts the vendor's root by its fingerprint.
    pub fn trusting(vendor: &Vendor, store: &Path) -> Result<Self> {
        let site = Self {
            store: store.to_owned(),
        };
        let fingerprint = vendor.fingerprint()?;
        let root = vendor.root();
        let root = root.display().to_string();
        site.does(&["trust", "add", &root, "--fingerprint", &fingerprint])?;
        Ok(site)
    }

    /// Its store's directory.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// `installer …` on this store.
    pub fn installer(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Program::Installer.command()?;
        command.arg("--store").arg(&self.store).args(arguments);
        Ok(command)
    }

    /// Runs `installer …`, which must succeed.
    pub fn does(&self, arguments: &[&str]) -> Result<Finished> {
        process::run(&mut self.installer(arguments)?)?.succeeded()
    }

    /// Runs `installer …`, which must refuse with this code and a hint.
    pub fn refuses(&self, code: &str, arguments: &[&str]) -> Result<()> {
        let refused = process::run(&mut self.installer(arguments)?)?.refused()?;
        require_refusal(&refused, code)
    }

    /// Imports a file.
    pub fn import(&self, file: &Path) -> Result<Finished> {
        self.does(&["import", &file.display().to_string()])
    }

    /// Refuses to import a file, by this code.
    pub fn refuses_import(&self, code: &str, file: &Path) -> Result<()> {
        self.refuses(code, &["import", &file.display().to_string()])
    }
}

/// A refusal has the shape that every one has: the code, a sentence, a next step.
pub fn require_refusal(refused: &Finished, code: &str) -> Result<()> {
    let text = &refused.stderr;
    ensure!(
        text.contains(&format!("error[{code}]: ")),
        "expected {code}: {refused}"
    );
    ensure!(text.contains("\nhelp: "), "no next step: {refused}");
    Ok(())
}

/// What a program printed with `--json`.
pub fn json(finished: &Finished) -> Result<Value> {
    Ok(serde_json::from_str(&finished.stdout)?)
}
