//! The store itself: tells what is there, and puts blobs under their names.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use bundle::Digest;

use crate::bitmap::Bitmap;
use crate::error::About;
use crate::error::Result;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Kind;
use crate::fs::RealFs;
use crate::fs::Space;
use crate::fs::Target;
use crate::id::Incarnation;
use crate::id::StoreId;
use crate::layout;
use crate::limits;
use crate::partial::Partial;
use crate::records::Cache;
use crate::staging;
use crate::staging::Stage;

/// A master's store. Clones share what they know; several processes may open one store.
#[derive(Clone, Debug)]
pub struct Store<F: Fs = RealFs> {
    pub(crate) inner: Arc<Inner<F>>,
}

#[derive(Debug)]
pub(crate) struct Inner<F: Fs> {
    pub(crate) fs: F,
    id: StoreId,
    /// Blobs whose names are known to be durable, with their sizes.
    known: Mutex<BTreeMap<Digest, u64>>,
    /// Partials that this process has open.
    pub(crate) partials: Mutex<BTreeMap<Digest, Weak<Partial<F>>>>,
    pub(crate) records: Mutex<Cache>,
}

/// One complete blob of the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobStat {
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// How much of a blob can be served to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Have {
    /// All of it, durable.
    Complete,
    /// These pieces of an unfinished blob; each is verified.
    Partial(Bitmap),
    /// Nothing.
    Nothing,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Blobs that are new.
    pub stored: Vec<Digest>,
    /// Blobs that were there already.
    pub present: Vec<Digest>,
    /// Names whose bytes hash to something else; nothing was stored for them.
    pub refused: Vec<Digest>,
}

impl<F: Fs> Store<F> {
    /// Nothing is known yet.
    pub(crate) fn over(fs: F, id: StoreId) -> Self {
        let inner = Inner {
            fs,
            id,
            known: Mutex::default(),
            partials: Mutex::default(),
            records: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The disk below the store.
    pub fn fs(&self) -> &F {
        &self.inner.fs
    }

    /// The cluster that the store belongs to.
    pub fn incarnation(&self) -> Incarnation {
        self.inner.id.incarnation
    }

    /// Free and total bytes.
    pub fn space(&self) -> Result<Space> {
        let about = About::new(self.fs(), "the filesystem");
        self.fs().space().map_err(about.failed("measure"))
    }

    /// Fails with `DISK_FULL` when there is no room for `bytes` and the reserve.
    pub fn require_space(&self, object: &str, bytes: u64) -> Result<()> {
        let need = bytes.saturating_add(limits::RESERVE_BYTES);
        if self.space()?.free_bytes >= need {
            return Ok(());
        }
        Err(About::new(self.fs(), object).needs(need).full())
    }

    /// Removes what interrupted writes of any process have left behind, and gives their space back.
    pub fn sweep(&self) -> Result<()> {
        staging::sweep(self.fs())
    }

    /// Whether a blob is complete and durable here.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.size(digest)?.is_some())
    }

    /// The size of a complete blob.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = layout::blob(digest);
        match self.fs().metadata(&path) {
            Ok(found) if found.kind == Kind::File => {
                if !lock(&self.inner.known).contains_key(digest) {
                    self.learn()?;
                }
                Ok(Some(found.size))
            }
            Ok(_not_a_blob) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lock(&self.inner.known).remove(digest);
                Ok(None)
            }
            Err(error) => Err(About::new(self.fs(), path).judge("look at", error)),
        }
    }

    /// Every complete blob, sorted; each is durable.
    pub fn inventory(&self) -> Result<Vec<BlobStat>> {
        self.learn()?;
        let known = lock(&self.inner.known);
        Ok(known
            .iter()
            .map(|(digest, size)| BlobStat {
                digest: *digest,
                size: *size,
            })
            .collect())
    }

    /// Forgets what is remembered of the directories, so that the next look trusts nothing.
    pub fn forget(&self) {
        lock(&self.inner.known).clear();
        *lock(&self.inner.records) = Cache::default();
    }

    /// Moves a damaged blob out of the inventory; its bytes are kept as evidence.
    pub fn quarantine(&self, digest: &Digest) -> Result<()> {
        let from = layout::blob(digest);
        let to = staging::join(layout::QUARANTINE, &digest.to_hex());
        let about = About::new(self.fs(), format!("blob {digest}"));
        lock(&self.inner.known).remove(digest);
        self.fs()
            .rename(&from, &to, Target::Replace)
            .map_err(about.failed("quarantine"))?;
        for directory in [layout::QUARANTINE, layout::BLOBS] {
            self.fs().sync_dir(directory).map_err(about.not_durable())?;
        }
        Ok(())
    }

    /// Stores many small blobs behind one sync. Each is hashed; a wrong one delays no other.
    pub fn put_batch(
        &self,
        blobs: impl IntoIterator<Item = (Digest, Vec<u8>)>,
    ) -> Result<BatchOutcome> {
        let mut outcome = BatchOutcome::default();
        let mut stage = None;
        for (digest, bytes) in blobs {
            if Digest::of(&bytes) != digest {
                outcome.refused.push(digest);
            } else if outcome.stored.contains(&digest) || self.has(&digest)? {
                outcome.present.push(digest);
            } else {
                let stage = match &mut stage {
                    Some(stage) => stage,
                    empty @ None => empty.insert(Stage::open(self.fs())?),
                };
                stage
                    .write(&digest.to_hex(), &bytes)?
                    .set_read_only()
                    .map_err(About::new(self.fs(), format!("blob {digest}")).failed("protect"))?;
                outcome.stored.push(digest);
            }
        }
        if let Some(stage) = stage {
            self.publish_staged(&stage, &outcome.stored)?;
        }
        Ok(outcome)
    }

    /// Syncs the files of a stage and gives them their names.
    pub(crate) fn publish_staged(&self, stage: &Stage<F>, digests: &[Digest]) -> Result<()> {
        let about = About::new(self.fs(), format!("a batch of {} blobs", digests.len()));
        stage.sync().map_err(about.not_durable())?;
        for digest in digests {
            stage
                .publish(&digest.to_hex(), &layout::blob(digest))
                .map_err(about.failed("publish"))?;
        }
        self.sync_names()
    }

    /// Makes the names of all blobs durable.
    pub(crate) fn sync_names(&self) -> Result<()> {
        let about = About::new(self.fs(), layout::BLOBS);
        self.fs()
            .sync_dir(layout::BLOBS)
            .map_err(about.not_durable())
    }

    /// Lists the blobs and makes sure that what is listed is durable: another process may be about to sync it.
    fn learn(&self) -> Result<()> {
        let about = About::new(self.fs(), layout::BLOBS);
        let names = self
            .fs()
            .list(layout::BLOBS)
            .map_err(about.failed("list"))?;
        let old = lock(&self.inner.known).clone();
        let mut now = BTreeMap::new();
        let mut news = false;
        for digest in names.iter().filter_map(|name| Digest::from_hex(name).ok()) {
            if let Some(size) = old.get(&digest) {
                now.insert(digest, *size);
                continue;
            }
            match self.fs().metadata(&layout::blob(&digest)) {
                Ok(found) if found.kind == Kind::File => {
                    news = true;
                    now.insert(digest, found.size);
                }
                Ok(_not_a_blob) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(about.judge("look at", error)),
            }
        }
        if news {
            self.sync_names()?;
        }
        *lock(&self.inner.known) = now;
        Ok(())
    }
}

/// Takes a lock that no panic can leave in a bad state: every guarded value is whole at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
