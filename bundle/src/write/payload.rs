//! The thread that writes: frames in their order, then the head into the room before them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::sync::mpsc::sync_channel;

use crate::digest::Digest;
use crate::frame;
use crate::frame::RawWriter;
use crate::head;
use crate::head::HeadFiles;
use crate::index::BundleIndex;
use crate::packing::Codec;
use crate::packing::Frame;
use crate::packing::Packing;
use crate::write::BlobSource;
use crate::write::WriteError;
use crate::write::WriteEvent;
use crate::write::WriteOptions;
use crate::write::Written;
use crate::write::compress;
use crate::write::content;
use crate::write::content::Channels;
use crate::write::content::Message;
use crate::write::content::Pieces;
use crate::write::plan::Plan;
use crate::write::plan::PlannedFrame;

pub(super) fn write(
    head: &HeadFiles,
    source: &dyn BlobSource,
    out: &mut (impl Write + Seek),
    options: &WriteOptions,
    events: &dyn Fn(WriteEvent),
) -> Result<Written, WriteError> {
    let mut payload = Payload::begin(head, source, out, options)?;
    payload.write_frames(Pieces::Listed, source, out, options, events)?;
    payload.end(head, out)
}

pub(super) fn write_late<E: From<WriteError>>(
    draft: &HeadFiles,
    source: &dyn BlobSource,
    out: &mut (impl Write + Seek),
    options: &WriteOptions,
    events: &dyn Fn(WriteEvent),
    complete: impl FnOnce(&BTreeMap<Digest, Digest>) -> Result<HeadFiles, E>,
) -> Result<Written, E> {
    let mut payload = Payload::begin(draft, source, out, options)?;
    let lists = payload.write_frames(Pieces::Open, source, out, options, events)?;
    let head = complete(&lists)?;
    payload.complete(&head, &lists)?;
    Ok(payload.end(&head, out)?)
}

/// A payload that is being written behind the room for its head.
struct Payload {
    index: BundleIndex,
    packing: Packing,
    plan: Plan,
    room: usize,
}

impl Payload {
    /// Plans the payload and moves `out` to where it begins.
    fn begin(
        head: &HeadFiles,
        source: &dyn BlobSource,
        out: &mut impl Seek,
        options: &WriteOptions,
    ) -> Result<Self, WriteError> {
        let index = BundleIndex::parse(&head.bundle_json)?;
        let listed: BTreeSet<_> = index.blobs.iter().map(|blob| blob.digest).collect();
        if let Some(unknown) = options.omitted.difference(&listed).next() {
            return Err(WriteError::Omitted(*unknown));
        }
        let mut packing = Packing {
            bundle: head.id(),
            base: options.base,
            omitted: options.omitted.clone(),
            frames: Vec::new(),
            total_size: 0,
        };
        let plan = Plan::new(&index, packing.carried(&index), source)?;
        packing.frames = plan.frames.iter().map(placeholder).collect();
        let room = head_frame(head, &packing)?.len();
        out.seek(SeekFrom::Start(length(room)))
            .map_err(WriteError::Output)?;
        Ok(Self {
            index,
            packing,
            plan,
            room,
        })
    }

    /// Writes all frames; gives the digests of the piece lists among their members.
    fn write_frames(
        &mut self,
        pieces: Pieces,
        source: &dyn BlobSource,
        out: &mut impl Write,
        options: &WriteOptions,
        events: &dyn Fn(WriteEvent),
    ) -> Result<BTreeMap<Digest, Digest>, WriteError> {
        let (frames, lists) = write_frames(&self.plan, pieces, source, out, options, events)?;
        self.packing.total_size = frames.iter().map(|frame| frame.size).sum();
        self.packing.frames = frames;
        Ok(lists)
    }

    /// Takes the head whose index is the draft's, with the piece lists that were written.
    fn complete(
        &mut self,
        head: &HeadFiles,
        lists: &BTreeMap<Digest, Digest>,
    ) -> Result<(), WriteError> {
        let mut expected = self.index.clone();
        expected.set_pieces(lists);
        if BundleIndex::parse(&head.bundle_json)? != expected {
            return Err(WriteError::Completed);
        }
        self.packing.bundle = head.id();
        Ok(())
    }

    /// Writes the head into its room.
    fn end(self, head: &HeadFiles, out: &mut (impl Write + Seek)) -> Result<Written, WriteError> {
        let head_frame = head_frame(head, &self.packing)?;
        if head_frame.len() != self.room {
            return Err(WriteError::Completed);
        }
        out.seek(SeekFrom::Start(0)).map_err(WriteError::Output)?;
        out.write_all(&head_frame).map_err(WriteError::Output)?;
        out.seek(SeekFrom::End(0)).map_err(WriteError::Output)?;
        out.flush().map_err(WriteError::Output)?;
        Ok(Written {
            id: self.packing.bundle,
            size: length(self.room) + self.packing.total_size,
            frames: self.packing.frames.len() + 1,
        })
    }
}

/// The bytes of the head frame.
pub(super) fn head_frame(head: &HeadFiles, packing: &Packing) -> Result<Vec<u8>, WriteError> {
    let plain = head::encode(head, &packing.to_bytes())?;
    let mut frame = Vec::with_capacity(plain.len() + (plain.len() >> 8) + 64);
    frame::write_raw(&plain, &mut frame).map_err(WriteError::Output)?;
    Ok(frame)
}

/// An entry of the width that the frame's will have.
fn placeholder(frame: &PlannedFrame) -> Frame {
    Frame {
        offset: 0,
        size: 0,
        plain_size: frame.plain_size,
        codec: frame.codec,
        sha256: Digest::from_bytes([0; 32]),
        first: frame.first,
        count: frame.count,
    }
}

fn write_frames(
    plan: &Plan,
    pieces: Pieces,
    source: &dyn BlobSource,
    out: &mut impl Write,
    options: &WriteOptions,
    events: &dyn Fn(WriteEvent),
) -> Result<(Vec<Frame>, BTreeMap<Digest, Digest>), WriteError> {
    let (message_sender, messages) = sync_channel(content::MESSAGES);
    let (job_sender, jobs) = sync_channel(0);
    let (emptied, emptied_receiver) = channel();
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        // Moved in, so that they close when the writing fails and the other threads end.
        let (messages, jobs) = (messages, &jobs);
        for _ in 0..compress::THREADS {
            scope.spawn(move || compress::run(jobs, options.effort));
        }
        let channels = Channels {
            messages: message_sender,
            jobs: job_sender,
            emptied: emptied_receiver,
        };
        let content = scope.spawn(move || content::run(plan, pieces, source, channels));
        let mut writer = FrameWriter {
            out,
            messages,
            emptied,
            frame: 0,
        };
        let (mut offset, mut plain_bytes) = (0, 0);
        let mut frames = Vec::with_capacity(plan.frames.len());
        for (number, planned) in (1..).zip(&plan.frames) {
            writer.frame = number;
            let (size, sha256) = writer.write_frame(planned)?;
            frames.push(Frame {
                offset,
                size,
                sha256,
                ..placeholder(planned)
            });
            offset += size;
            plain_bytes += planned.plain_size;
            events(WriteEvent::Progress {
                plain_bytes,
                plain_bytes_total: plan.plain_bytes(),
            });
        }
        let lists = content.join().map_err(|_panic| out_of_step())?;
        Ok((frames, lists))
    })
}

struct FrameWriter<'a, W> {
    out: &'a mut W,
    messages: Receiver<Message>,
    emptied: Sender<Vec<u8>>,
    frame: usize,
}

impl<W: Write> FrameWriter<'_, W> {
    /// Writes one frame; gives its bytes and their digest.
    fn write_frame(&mut self, planned: &PlannedFrame) -> Result<(u64, Digest), WriteError> {
        match planned.codec {
            Codec::Raw => self.write_stored(planned.plain_size),
            Codec::Zstd => self.write_compressed(),
        }
    }

    fn write_stored(&mut self, plain_size: u64) -> Result<(u64, Digest), WriteError> {
        let too_large = |error| WriteError::Output(io::Error::other(error));
        let size = u32::try_from(plain_size).map_err(too_large)?;
        let mut left = usize::try_from(size).map_err(too_large)?;
        let mut frame = RawWriter::begin(&mut *self.out, size).map_err(WriteError::Output)?;
        while left > 0 {
            let plain = match self.messages.recv() {
                Ok(Message::Stored(plain)) => plain,
                Ok(Message::Failed(error)) => return Err(error),
                Ok(Message::Compressed(_)) | Err(_) => return Err(out_of_step()),
            };
            frame.write(&plain).map_err(WriteError::Output)?;
            left = left.saturating_sub(plain.len());
            // When the other thread is done, nobody needs the buffer.
            let _done = self.emptied.send(plain);
        }
        let digest = frame.finish().map_err(WriteError::Output)?;
        Ok((frame::raw_frame_bytes(plain_size), digest))
    }

    fn write_compressed(&mut self) -> Result<(u64, Digest), WriteError> {
        let compressed = match self.messages.recv() {
            Ok(Message::Compressed(compressed)) => compressed,
            Ok(Message::Failed(error)) => return Err(error),
            Ok(Message::Stored(_)) | Err(_) => return Err(out_of_step()),
        };
        let compressed = compressed.recv().map_err(|_gone| out_of_step())?;
        let bytes = compressed.map_err(|source| WriteError::Compress {
            frame: self.frame,
            source,
        })?;
        self.out.write_all(&bytes).map_err(WriteError::Output)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok((size, Digest::of(&bytes)))
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The threads disagree about the plan, or one of them has panicked.
fn out_of_step() -> WriteError {
    WriteError::Output(io::Error::other(
        "the threads of the writer are out of step",
    ))
}
