//! Behind the reader: one thread writes bytes, another makes finished blobs durable and names them.
//!
//! The writer never waits for a sync, so reading, hashing, writing and syncing overlap. On a disk that is not concurrent
//! the same code runs on the caller. The first error ends everything; it is kept in [`Shared`].

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;

use bundle::Digest;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::bytes_u64;
use crate::layout;
use crate::limits;
use crate::staging::Stage;
use crate::store::Store;
use crate::store::lock;

/// What the threads of an import tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    failed: AtomicBool,
    failure: Mutex<Option<StoreError>>,
    published: AtomicU64,
}

/// The next thing to do for the writer.
#[derive(Debug)]
pub(super) enum Work {
    /// A blob begins.
    Begin(Digest, u64),
    /// Its next bytes.
    Bytes(Vec<u8>),
    /// It is complete and its bytes are right.
    End,
    /// The blob that has begun will not be completed.
    Drop,
}

/// Blobs whose bytes are written.
#[derive(Debug)]
pub(super) enum Job<F: Fs> {
    /// A large one, synced by itself.
    One(Digest, F::File),
    /// Small ones, synced together.
    Batch(Vec<Digest>),
}

/// Writes blobs into the stage.
#[derive(Debug)]
pub(super) struct Writer<F: Fs> {
    fs: F,
    stage: Arc<Stage<F>>,
    open: Option<Open<F>>,
    batch: Vec<Digest>,
    /// Bytes written since the last batch went off.
    batch_age_bytes: u64,
    next: Next<F>,
}

#[derive(Debug)]
struct Open<F: Fs> {
    digest: Digest,
    size: u64,
    file: F::File,
    offset: u64,
    /// Up to here the system was asked to begin writing.
    begun: u64,
}

/// Where finished blobs go.
#[derive(Debug)]
pub(super) enum Next<F: Fs> {
    Here(Publisher<F>),
    Thread(SyncSender<Job<F>>),
}

/// Syncs blobs and gives them their names.
#[derive(Debug)]
pub(super) struct Publisher<F: Fs> {
    store: Store<F>,
    stage: Arc<Stage<F>>,
    shared: Arc<Shared>,
    /// Named, but the directory is not synced.
    named: u64,
}

/// So many bytes are collected before the system is asked to begin writing them out.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// A batch of small blobs goes off after so many bytes at the latest, so that a crash does not cost it.
const BATCH_AGE_BYTES_MAX: u64 = 64 << 20;

/// Finished blobs that may wait for their sync.
const JOBS: usize = 16;

impl Shared {
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Keeps the first error.
    pub(super) fn fail(&self, error: StoreError) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn take_failure(&self) -> Option<StoreError> {
        lock(&self.failure).take()
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

impl<F: Fs> Writer<F> {
    pub(super) fn new(store: &Store<F>, stage: &Arc<Stage<F>>, shared: &Arc<Shared>) -> Self {
        Self {
            fs: store.fs().clone(),
            stage: Arc::clone(stage),
            open: None,
            batch: Vec::new(),
            batch_age_bytes: 0,
            next: Next::Here(Publisher {
                store: store.clone(),
                stage: Arc::clone(stage),
                shared: Arc::clone(shared),
                named: 0,
            }),
        }
    }

    /// Whether the work may go to threads.
    pub(super) fn is_concurrent(&self) -> bool {
        self.fs.is_concurrent()
    }

    /// Lets finished blobs be published by another thread, which runs what is returned.
    pub(super) fn detach_publisher(&mut self) -> Option<(Publisher<F>, Receiver<Job<F>>)> {
        let (jobs, receiver) = std::sync::mpsc::sync_channel(JOBS);
        match std::mem::replace(&mut self.next, Next::Thread(jobs)) {
            Next::Here(publisher) => Some((publisher, receiver)),
            Next::Thread(_already) => None,
        }
    }

    pub(super) fn handle(&mut self, work: &Work) -> Result<()> {
        match work {
            Work::Begin(digest, size) => self.begin(*digest, *size),
            Work::Bytes(bytes) => self.write(bytes),
            Work::End => self.end(),
            Work::Drop => {
                self.open = None;
                Ok(())
            }
        }
    }

    fn begin(&mut self, digest: Digest, size: u64) -> Result<()> {
        let about = About::new(&self.fs, format!("blob {digest}")).needs(size);
        let file = self
            .stage
            .create(&digest.to_hex())
            .map_err(about.failed("create"))?;
        self.open = Some(Open {
            digest,
            size,
            file,
            offset: 0,
            begun: 0,
        });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if let Err(error) = open.file.write_at(bytes, open.offset) {
            let about = About::new(&self.fs, format!("blob {}", open.digest)).needs(open.size);
            return Err(about.judge("write", error));
        }
        open.offset += bytes_u64(bytes.len());
        if open.offset - open.begun >= WRITEBACK_BYTES {
            open.file.start_writeback(open.begun..open.offset);
            open.begun = open.offset;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let about = About::new(&self.fs, format!("blob {}", open.digest));
        open.file.set_read_only().map_err(about.failed("protect"))?;
        self.batch_age_bytes += open.size;
        if open.size <= limits::SMALL_BLOB_BYTES_MAX {
            self.batch.push(open.digest);
        } else {
            self.publish(Job::One(open.digest, open.file))?;
        }
        if self.batch.len() >= limits::BATCH_FILES_MAX
            || self.batch_age_bytes >= BATCH_AGE_BYTES_MAX
        {
            self.flush()?;
        }
        Ok(())
    }

    /// Publishes the small blobs so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.batch_age_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.publish(Job::Batch(batch))
    }

    fn publish(&mut self, job: Job<F>) -> Result<()> {
        match &mut self.next {
            Next::Here(publisher) => {
                publisher.publish(job)?;
                publisher.settle()
            }
            Next::Thread(jobs) => {
                // The publisher is gone only after an error, which it has kept.
                let _gone = jobs.send(job);
                Ok(())
            }
        }
    }
}

impl<F: Fs> Publisher<F> {
    /// Works until nobody can send any more, or until the first error.
    pub(super) fn run(mut self, jobs: &Receiver<Job<F>>) {
        while let Ok(job) = jobs.recv() {
            let mut done = self.publish(job);
            // The directory is synced once for all that is waiting.
            while done.is_ok() {
                match jobs.try_recv() {
                    Ok(job) => done = self.publish(job),
                    Err(_none_waiting) => break,
                }
            }
            if let Err(error) = done.and_then(|()| self.settle()) {
                self.shared.fail(error);
                return;
            }
        }
    }

    fn publish(&mut self, job: Job<F>) -> Result<()> {
        match job {
            Job::One(digest, file) => {
                let about = About::new(self.store.fs(), format!("blob {digest}"));
                file.sync_data().map_err(about.not_durable())?;
                self.name(&digest)
            }
            Job::Batch(digests) => {
                let object = format!("a batch of {} blobs", digests.len());
                let about = About::new(self.store.fs(), object);
                self.stage.sync().map_err(about.not_durable())?;
                digests.iter().try_for_each(|digest| self.name(digest))
            }
        }
    }

    fn name(&mut self, digest: &Digest) -> Result<()> {
        let about = About::new(self.store.fs(), format!("blob {digest}"));
        self.stage
            .publish(&digest.to_hex(), &layout::blob(digest))
            .map_err(about.failed("publish"))?;
        self.named += 1;
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.store.sync_names()?;
        let named = std::mem::take(&mut self.named);
        self.shared.published.fetch_add(named, Ordering::Relaxed);
        Ok(())
    }
}
