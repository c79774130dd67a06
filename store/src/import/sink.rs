//! Between the reader of a bundle and the writer of the store: passes on what is missing here.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::channel;
use std::sync::mpsc::sync_channel;
use std::thread::Scope;

use bundle::Digest;
use bundle::index::BlobMember;
use bundle::pieces::PieceList;
use bundle::read::PayloadSink;

use crate::fs::Fs;
use crate::import::writer::Shared;
use crate::import::writer::Work;
use crate::import::writer::Writer;
use crate::limits;
use crate::store::Store;

/// Takes the missing blobs.
pub(super) struct Sink<F: Fs> {
    store: Store<F>,
    missing: BTreeSet<Digest>,
    feed: Feed<F>,
    /// Bytes of the open blob that are not handed over yet.
    buffer: Vec<u8>,
    is_open: bool,
}

/// The way to the writer.
pub(super) struct Feed<F: Fs> {
    shared: Arc<Shared>,
    to: To<F>,
}

enum To<F: Fs> {
    Here(Writer<F>),
    Thread {
        works: SyncSender<Work>,
        emptied: Receiver<Vec<u8>>,
    },
}

/// Pieces of work that may wait for the writer; with the reader's own buffers all stay far below 64 MiB.
const WORKS: usize = 8;

impl<F: Fs> Feed<F> {
    /// Starts the writer and the publisher, when the disk is one that threads may use.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut writer: Writer<F>,
        shared: &Arc<Shared>,
    ) -> Self {
        let shared = Arc::clone(shared);
        if !writer.is_concurrent() {
            let to = To::Here(writer);
            return Self { shared, to };
        }
        if let Some((publisher, jobs)) = writer.detach_publisher() {
            scope.spawn(move || publisher.run(&jobs));
        }
        let (works, receiver) = sync_channel(WORKS);
        let (empty, emptied) = channel();
        let told = Arc::clone(&shared);
        scope.spawn(move || run(writer, &receiver, &empty, &told));
        let to = To::Thread { works, emptied };
        Self { shared, to }
    }

    fn send(&mut self, work: Work) -> io::Result<()> {
        match &mut self.to {
            To::Here(writer) => {
                if let Err(error) = writer.handle(&work) {
                    self.shared.fail(error);
                }
            }
            To::Thread { works, .. } => {
                // The writer is gone only after an error, which it has kept.
                let _gone = works.send(work);
            }
        }
        self.check()
    }

    fn check(&self) -> io::Result<()> {
        if self.shared.has_failed() {
            return Err(io::Error::other("the store has failed"));
        }
        Ok(())
    }

    fn empty_buffer(&self) -> Vec<u8> {
        let used = match &self.to {
            To::Here(_) => None,
            To::Thread { emptied, .. } => emptied.try_recv().ok(),
        };
        used.unwrap_or_else(|| Vec::with_capacity(limits::IO_BYTES))
    }
}

/// The writer's thread: works until the sink is gone, or until the first error.
fn run<F: Fs>(
    mut writer: Writer<F>,
    works: &Receiver<Work>,
    emptied: &Sender<Vec<u8>>,
    shared: &Shared,
) {
    while let Ok(work) = works.recv() {
        if let Err(error) = writer.handle(&work) {
            return shared.fail(error);
        }
        if let Work::Bytes(mut bytes) = work {
            bytes.clear();
            let _sink_gone = emptied.send(bytes);
        }
    }
    if let Err(error) = writer.flush() {
        shared.fail(error);
    }
}

impl<F: Fs> Sink<F> {
    pub(super) fn new(store: &Store<F>, missing: BTreeSet<Digest>, feed: Feed<F>) -> Self {
        Self {
            store: store.clone(),
            missing,
            buffer: feed.empty_buffer(),
            feed,
            is_open: false,
        }
    }

    /// Ends the writing: a blob that is not complete is dropped, all others are published.
    pub(super) fn finish(mut self) {
        if self.is_open {
            let _failure_is_kept = self.feed.send(Work::Drop);
        }
        let Feed { shared, to } = self.feed;
        if let To::Here(mut writer) = to
            && !shared.has_failed()
            && let Err(error) = writer.flush()
        {
            shared.fail(error);
        }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let empty = self.feed.empty_buffer();
        let full = std::mem::replace(&mut self.buffer, empty);
        self.feed.send(Work::Bytes(full))
    }
}

impl<F: Fs> PayloadSink for Sink<F> {
    fn has_already(&mut self, blob: &BlobMember) -> io::Result<bool> {
        self.store.has(&blob.digest).map_err(|error| {
            self.feed.shared.fail(error);
            io::Error::other("the store has failed")
        })
    }

    fn wants(&mut self, blob: &BlobMember) -> io::Result<bool> {
        self.feed.check()?;
        if !self.missing.remove(&blob.digest) {
            return Ok(false);
        }
        self.is_open = true;
        self.feed.send(Work::Begin(blob.digest, blob.size))?;
        Ok(true)
    }

    fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = limits::IO_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == limits::IO_BYTES {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn end(&mut self, _blob: &BlobMember, _pieces: Option<&PieceList>) -> io::Result<()> {
        self.hand_over()?;
        self.is_open = false;
        self.feed.send(Work::End)
    }
}
