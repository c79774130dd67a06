//! `store`: an empty store of the cluster, and whom it trusts; what is in it comes from the other masters.

use std::path::Path;

use bundle::Digest;
use bundle::verify::Trust;
use program::Outcome;
use store::admit::AdmitError;

use crate::machine::Machine;
use crate::place;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::syncd;

/// Makes the store.
pub(crate) struct JoinStore<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) directory: &'a Path,
    /// The vendor's root, which the script's fingerprint has proven.
    pub(crate) trust: &'a Trust,
}

impl Step for JoinStore<'_> {
    fn id(&self) -> &'static str {
        "store"
    }

    fn input(&self) -> Digest {
        self.trust.root().fingerprint()
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        if !self.directory.join("STORE_ID").exists() {
            return Ok(None);
        }
        let vendor = &self.trust.root().root().vendor;
        let store = place::open(self.directory)?;
        let trusts = store.trust(vendor)?.is_some();
        Ok(trusts.then(|| format!("{}, trusts {vendor}", self.directory.display())))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        syncd::make_store(self.machine)?;
        let store = place::open(self.directory)?;
        store
            .change_trust_state(|state| state.accept_trust(self.trust).map_err(AdmitError::from))?;
        store.keep_trust(self.trust)?;
        Ok(())
    }
}
