//! The store's `trust/`: for each vendor the root and the revocations that this site trusts, and the state that never falls.
//!
//! | path | holds |
//! |---|---|
//! | `trust/<vendor>.root.json` | the newest trusted root, byte for byte |
//! | `trust/<vendor>.revocations.json` | the newest list of revocations with its signatures |
//! | `trust/state.json` | the highest numbers that were accepted (`bundle::state`) |
//!
//! Writers take turns by the lock of the directory: a state is read, changed and replaced under it, so no number that one
//! process has accepted is lost to another.

use std::collections::BTreeMap;
use std::io;

use bundle::head::SignedFile;
use bundle::json;
use bundle::key::KeyId;
use bundle::limits as bundle_limits;
use bundle::name::Name;
use bundle::revocations::TrustedRevocations;
use bundle::root::TrustedRoot;
use bundle::state::STATE_BYTES_MAX;
use bundle::state::TrustState;
use bundle::verify::Trust;
use serde::Deserialize;
use serde::Serialize;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Target;
use crate::fs::read_exact_at;
use crate::layout;
use crate::staging;
use crate::store::Store;

const ROOT_SUFFIX: &str = ".root.json";
const REVOCATIONS_SUFFIX: &str = ".revocations.json";
const STATE: &str = "state.json";

/// A signed file as it is kept: text beside text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    document: String,
    signatures: BTreeMap<KeyId, String>,
}

impl<F: Fs> Store<F> {
    /// The vendors that this site trusts, sorted.
    pub fn vendors(&self) -> Result<Vec<Name>> {
        let about = About::new(self.fs(), layout::TRUST);
        let names = self
            .fs()
            .list(layout::TRUST)
            .map_err(about.failed("list"))?;
        let vendors = names
            .iter()
            .filter_map(|name| name.strip_suffix(ROOT_SUFFIX)?.parse().ok());
        Ok(vendors.collect())
    }

    /// What this site trusts of a vendor; `None` when no root of it was pinned.
    pub fn trust(&self, vendor: &Name) -> Result<Option<Trust>> {
        let name = root_name(vendor);
        let Some(json) = self.read_trust_file(&name, bundle_limits::ROOT_BYTES_MAX)? else {
            return Ok(None);
        };
        let root = TrustedRoot::restore(json).map_err(|error| corrupt(&name, &error))?;
        let revocations = self.revocations(vendor)?;
        Ok(Some(Trust::new(root).with_revocations(revocations)))
    }

    /// The highest numbers that this site has accepted.
    pub fn trust_state(&self) -> Result<TrustState> {
        match self.read_trust_file(STATE, STATE_BYTES_MAX)? {
            Some(bytes) => TrustState::parse(&bytes).map_err(|error| corrupt(STATE, &error)),
            None => Ok(TrustState::default()),
        }
    }

    /// Changes the state of trust durably, or not at all when `change` refuses.
    pub fn change_trust_state<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut TrustState) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let _turn = self.trust_turn()?;
        let before = self.trust_state()?;
        let mut after = before.clone();
        let done = change(&mut after)?;
        if after != before {
            let bytes = after.to_bytes().map_err(|error| corrupt(STATE, &error))?;
            self.write_trust_file(STATE, &bytes)?;
        }
        Ok(done)
    }

    /// Keeps what the site trusts of a vendor from now on. Whoever calls has judged it; an older root is not taken.
    pub fn keep_trust(&self, trust: &Trust) -> Result<()> {
        let _turn = self.trust_turn()?;
        let root = trust.root();
        let vendor = &root.root().vendor;
        let known = self.trust(vendor)?;
        let version = |trust: &Trust| trust.root().root().version;
        if known
            .as_ref()
            .is_none_or(|known| version(known) < version(trust))
        {
            self.write_trust_file(&root_name(vendor), root.json())?;
        }
        let Some(list) = trust.revocations() else {
            return Ok(());
        };
        let known = known.as_ref().and_then(Trust::revocations);
        if known.is_none_or(|known| known.list().sequence < list.list().sequence) {
            self.write_trust_file(&revocations_name(vendor), &encode_kept(list.file())?)?;
        }
        Ok(())
    }

    fn revocations(&self, vendor: &Name) -> Result<Option<TrustedRevocations>> {
        let name = revocations_name(vendor);
        // Text in text: quotes and line feeds are escaped, nothing doubles more often than once.
        let Some(bytes) = self.read_trust_file(&name, 2 * bundle_limits::REVOCATIONS_BYTES_MAX)?
        else {
            return Ok(None);
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| corrupt(&name, &error))?;
        let signatures = kept
            .signatures
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes()));
        let file = SignedFile {
            json: kept.document.into_bytes(),
            signatures: signatures.collect(),
        };
        TrustedRevocations::restore(file)
            .map(Some)
            .map_err(|error| corrupt(&name, &error))
    }

    fn trust_turn(&self) -> Result<F::File> {
        let about = About::new(self.fs(), layout::TRUST);
        let turn = self
            .fs()
            .open_dir(layout::TRUST)
            .map_err(about.failed("open"))?;
        turn.lock().map_err(about.failed("lock"))?;
        Ok(turn)
    }

    fn read_trust_file(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        let path = staging::join(layout::TRUST, name);
        let about = About::new(self.fs(), &path);
        let file = match self.fs().open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about.judge("open", error)),
        };
        let size = file.metadata().map_err(about.failed("look at"))?.size;
        let length = usize::try_from(size)
            .ok()
            .filter(|length| *length <= bytes_max);
        let length = length.ok_or_else(|| StoreError::Corrupt {
            object: path.clone(),
            why: format!("it has {size} bytes, at most {bytes_max} are expected"),
        })?;
        let mut bytes = vec![0; length];
        read_exact_at(&file, &mut bytes, 0).map_err(about.failed("read"))?;
        Ok(Some(bytes))
    }

    fn write_trust_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        staging::write_durably(self.fs(), layout::TRUST, name, bytes, Target::Replace)
    }
}

fn root_name(vendor: &Name) -> String {
    format!("{vendor}{ROOT_SUFFIX}")
}

fn revocations_name(vendor: &Name) -> String {
    format!("{vendor}{REVOCATIONS_SUFFIX}")
}

fn encode_kept(file: &SignedFile) -> Result<Vec<u8>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let signatures = file
        .signatures
        .iter()
        .map(|(key, bytes)| (*key, text(bytes)));
    let kept = Kept {
        document: text(&file.json),
        signatures: signatures.collect(),
    };
    json::encode(&kept).map_err(|error| corrupt("the list of revocations", &error))
}

fn corrupt(name: &str, error: &dyn std::error::Error) -> StoreError {
    StoreError::Corrupt {
        object: staging::join(layout::TRUST, name),
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bundle::timestamp::Timestamp;

    use super::*;
    use crate::fs::RealFs;
    use crate::id::Incarnation;

    fn store(folder: &tempfile::TempDir) -> Store {
        let fs = RealFs::open(folder.path()).unwrap();
        Store::create(fs, Incarnation::from_bytes([7; 16])).unwrap()
    }

    #[test]
    fn a_state_that_was_changed_is_there_for_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let time: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        store(&folder)
            .change_trust_state(|state| {
                state.raise_time_floor(time);
                Ok::<_, StoreError>(())
            })
            .unwrap();
        let kept = store(&folder).trust_state().unwrap();
        assert!(kept.clock_floor().is_some());
        assert_ne!(kept, TrustState::default());
    }

    #[test]
    fn a_refused_change_leaves_the_state_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let refused: Result<()> = store.change_trust_state(|state| {
            state.raise_time_floor("2026-11-01T00:00:00Z".parse().unwrap());
            Err(StoreError::Busy {
                object: "test".to_owned(),
            })
        });
        assert!(refused.is_err());
        assert_eq!(store.trust_state().unwrap(), TrustState::default());
    }

    #[test]
    fn changes_of_many_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = store(&folder);
        let days = 1..=20;
        std::thread::scope(|scope| {
            for day in days.clone() {
                let store = Store::open(first.fs().clone(), None).unwrap();
                scope.spawn(move || {
                    let time = format!("2026-11-{day:02}T00:00:00Z").parse().unwrap();
                    store
                        .change_trust_state(|state| {
                            state.raise_time_floor(time);
                            Ok::<_, StoreError>(())
                        })
                        .unwrap();
                });
            }
        });
        let mut expected = TrustState::default();
        expected.raise_time_floor("2026-11-20T00:00:00Z".parse().unwrap());
        assert_eq!(first.trust_state().unwrap(), expected);
    }

    #[test]
    fn a_damaged_state_is_named_and_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        std::fs::write(folder.path().join("trust/state.json"), "{").unwrap();
        let error = store.trust_state().unwrap_err();
        assert!(error.to_string().contains("trust/state.json"), "{error}");
    }
}
