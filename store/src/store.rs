//! The store itself: opens only what is its own, tells what is there, and puts blobs under their names.

use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use bundle::Digest;
use bundle::Hasher;

use crate::bitmap::Bitmap;
use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Kind;
use crate::fs::RealFs;
use crate::fs::Space;
use crate::fs::Target;
use crate::fs::bytes_u64;
use crate::fs::read_exact_at;
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

/// A complete blob, open for reading.
#[derive(Debug)]
pub struct Blob<F: Fs = RealFs> {
    digest: Digest,
    size: u64,
    file: F::File,
    position: u64,
}

impl<F: Fs> Store<F> {
    /// Makes a store in an empty directory, or opens the one of this cluster that is there.
    pub fn create(fs: F, incarnation: Incarnation) -> Result<Self> {
        if read_id(&fs)?.is_some() {
            return Self::open(fs, Some(incarnation));
        }
        refuse_foreign_names(&fs)?;
        let about = About::new(&fs, "the new store");
        for path in layout::DIRECTORIES {
            staging::ensure_dir(&fs, path)?;
        }
        fs.sync_dir("blobs").map_err(about.not_durable())?;
        fs.sync_dir("").map_err(about.not_durable())?;
        staging::write_durably(
            &fs,
            "",
            "oci-layout",
            bundle::oci::oci_layout_bytes(),
            Target::Replace,
        )?;
        let filesystem = fs.filesystem_id().map_err(about.failed("identify"))?;
        let id = StoreId {
            incarnation,
            filesystem: Some(filesystem),
        };
        write_id(&fs, &id)?;
        Self::open(fs, Some(incarnation))
    }

    /// Opens a store; refuses a directory that is none, another cluster's (when `expected` is given), or was copied here.
    ///
    /// Removes what interrupted writes left behind, nothing else.
    pub fn open(fs: F, expected: Option<Incarnation>) -> Result<Self> {
        let foreign = |why: String| StoreError::Foreign {
            place: fs.place(),
            why,
        };
        let id = read_id(&fs)?.ok_or_else(|| foreign("it has no STORE_ID".to_owned()))?;
        if let Some(expected) = expected.filter(|expected| *expected != id.incarnation) {
            let found = id.incarnation;
            return Err(foreign(format!(
                "its incarnation is {found}, the cluster's is {expected}"
            )));
        }
        let about = About::new(&fs, layout::STORE_ID);
        let here = fs.filesystem_id().map_err(about.failed("identify"))?;
        match id.filesystem {
            Some(made) if made == here => {}
            Some(made) => {
                return Err(foreign(format!(
                    "it was made on filesystem {made:016x}, this is {here:016x}"
                )));
            }
            None => write_id(
                &fs,
                &StoreId {
                    filesystem: Some(here),
                    ..id
                },
            )?,
        }
        for path in layout::DIRECTORIES {
            staging::ensure_dir(&fs, path)?;
        }
        staging::sweep(&fs)?;
        let inner = Inner {
            fs,
            id,
            known: Mutex::default(),
            partials: Mutex::default(),
            records: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
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

    /// Reads a part of a complete blob; fewer bytes than asked for mean its end.
    pub fn read_at(&self, digest: &Digest, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.open_blob(digest)?.read_at(buffer, offset)
    }

    /// Opens a complete blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob<F>> {
        let path = layout::blob(digest);
        let about = About::new(self.fs(), format!("blob {digest}"));
        let file = self
            .fs()
            .open(&path, Access::Read)
            .map_err(about.failed("open"))?;
        let size = file.metadata().map_err(about.failed("look at"))?.size;
        Ok(Blob {
            digest: *digest,
            size,
            file,
            position: 0,
        })
    }

    /// Reads a whole small blob of at most `bytes_max` bytes.
    pub fn read_blob(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
        let blob = self.open_blob(digest)?;
        let length = usize::try_from(blob.size.min(bytes_max)).unwrap_or(0);
        if blob.size > bytes_max {
            return Err(StoreError::Corrupt {
                object: format!("blob {digest}"),
                why: format!(
                    "it is {} bytes, at most {bytes_max} were expected",
                    blob.size
                ),
            });
        }
        let mut bytes = vec![0; length];
        read_exact_at(&blob.file, &mut bytes, 0)
            .map_err(About::new(self.fs(), format!("blob {digest}")).failed("read"))?;
        Ok(bytes)
    }

    /// Reads a whole blob from the medium; what its bytes hash to now. `progress` gets the bytes of each step.
    pub fn digest_of(&self, digest: &Digest, progress: &mut dyn FnMut(u64)) -> Result<Digest> {
        let blob = self.open_blob(digest)?;
        blob.file.forget_cache();
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; limits::IO_BYTES];
        let mut offset = 0;
        loop {
            let count = blob.read_at(&mut buffer, offset)?;
            if count == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            offset += bytes_u64(count);
            progress(bytes_u64(count));
        }
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

impl<F: Fs> Blob<F> {
    /// Its name.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Reads from any place; fewer bytes than asked for mean the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file
            .read_at(buffer, offset)
            .map_err(|source| StoreError::Io {
                action: "read",
                object: format!("blob {}", self.digest),
                source,
            })
    }
}

impl<F: Fs> Read for Blob<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position = self.position.saturating_add(bytes_u64(count));
        Ok(count)
    }
}

impl<F: Fs> Seek for Blob<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Takes a lock that no panic can leave in a bad state: every guarded value is whole at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_id<F: Fs>(fs: &F) -> Result<Option<StoreId>> {
    let about = About::new(fs, layout::STORE_ID);
    let file = match fs.open(layout::STORE_ID, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(about.judge("open", error)),
    };
    let size = file.metadata().map_err(about.failed("look at"))?.size;
    let mut bytes = vec![0; usize::try_from(size.min(limits::STORE_ID_BYTES_MAX)).unwrap_or(0)];
    read_exact_at(&file, &mut bytes, 0).map_err(about.failed("read"))?;
    let id = String::from_utf8(bytes)
        .ok()
        .and_then(|text| StoreId::parse(&text));
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(StoreError::Foreign {
            place: fs.place(),
            why: "its STORE_ID can't be read".to_owned(),
        }),
    }
}

fn write_id<F: Fs>(fs: &F, id: &StoreId) -> Result<()> {
    let text = id.to_text();
    staging::write_durably(fs, "", layout::STORE_ID, text.as_bytes(), Target::Replace)
}

/// A directory with names that a half-made store does not have belongs to somebody else.
fn refuse_foreign_names<F: Fs>(fs: &F) -> Result<()> {
    let about = About::new(fs, "the directory of the store");
    let foreign = |name: &str| StoreError::Foreign {
        place: fs.place(),
        why: format!("it has no STORE_ID, but {name:?} is there"),
    };
    let own = |name: &str| {
        name == "oci-layout"
            || layout::DIRECTORIES.contains(&name)
            || layout::TOLERATED.contains(&name)
    };
    let names = fs.list("").map_err(about.failed("list"))?;
    if let Some(name) = names.iter().find(|name| !own(name)) {
        return Err(foreign(name));
    }
    for directory in [layout::BLOBS, layout::RECORDS, layout::TRUST] {
        match fs.list(directory) {
            Ok(names) if names.is_empty() => {}
            Ok(_full) => return Err(foreign(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(about.judge("list", error)),
        }
    }
    Ok(())
}
