//! The writer's first thread: reads blobs, checks them against the index, and fills frames with the tar's plain bytes.

use std::io;
use std::io::Read;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;

use crate::digest::Digest;
use crate::index::BlobMember;
use crate::index::MemberHasher;
use crate::packing::Codec;
use crate::tar;
use crate::write::BlobSource;
use crate::write::WriteError;
use crate::write::compress::Job;
use crate::write::plan::Member;
use crate::write::plan::Plan;
use crate::write::plan::PlannedFrame;

/// Plain bytes of a stored frame that are handed over at once: whole blocks, so that the frame's cut is simple.
const CHUNK_BYTES: usize = 1 << 20;

/// Messages that may wait; bounds the compressed frames in memory.
pub(super) const MESSAGES: usize = 3;

/// What goes to the thread that writes, in the order of the file.
pub(super) enum Message {
    /// The next bytes of a stored frame.
    Stored(Vec<u8>),
    /// A compressed frame, as soon as it is there.
    Compressed(Receiver<io::Result<Vec<u8>>>),
    /// Nothing more will come.
    Failed(WriteError),
}

/// Why this thread stops early.
enum Stop {
    Failed(WriteError),
    /// The writing thread is gone; it knows why.
    Abandoned,
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        Self::Failed(error)
    }
}

/// The ends of the channels that this thread holds.
pub(super) struct Channels {
    pub(super) messages: SyncSender<Message>,
    pub(super) jobs: SyncSender<Job>,
    /// Buffers of stored bytes that are written.
    pub(super) emptied: Receiver<Vec<u8>>,
}

/// Sends the content of all frames of the plan.
pub(super) fn run(plan: &Plan, source: &dyn BlobSource, channels: Channels) {
    let mut content = Content {
        source,
        output: Output {
            frames: plan.frames.iter().copied(),
            open: None,
            channels,
        },
    };
    if let Err(Stop::Failed(error)) = content.put_all(&plan.members) {
        // When the other side is gone, it has an error of its own.
        let _gone = content
            .output
            .channels
            .messages
            .send(Message::Failed(error));
    }
}

struct Content<'a, I> {
    source: &'a dyn BlobSource,
    output: Output<I>,
}

impl<I: Iterator<Item = PlannedFrame>> Content<'_, I> {
    fn put_all(&mut self, members: &[Member]) -> Result<(), Stop> {
        for member in members {
            match member {
                Member::Fixed(name, content) => {
                    self.put_header(name, member.size())?;
                    self.output.put(content)?;
                }
                Member::Blob(blob) => {
                    self.put_header(&blob.path(), blob.size)?;
                    self.put_blob(blob)?;
                }
            }
            let padding = usize::try_from(tar::padding(member.size())).unwrap_or(0);
            let zeros = [0; tar::BLOCK_BYTES];
            self.output.put(zeros.get(..padding).unwrap_or_default())?;
        }
        self.output.put(&[0; 1024])
    }

    fn put_header(&mut self, name: &str, size: u64) -> Result<(), Stop> {
        let header = tar::header(name, size)
            .ok_or_else(|| WriteError::Output(io::Error::other("name does not fit a header")))?;
        self.output.put(&header)
    }

    /// Copies a blob; its size, digest and pieces are those of the index when this returns.
    fn put_blob(&mut self, blob: &BlobMember) -> Result<(), Stop> {
        let failed = |source| WriteError::Source {
            digest: blob.digest,
            source,
        };
        let mut reader = self.source.open(&blob.digest).map_err(failed)?;
        let mut hasher = MemberHasher::new(blob);
        let mut left = blob.size;
        while left > 0 {
            let room = self.output.room()?;
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
            let room = room.get_mut(..most).unwrap_or_default();
            let bytes = read_some(&mut reader, room).map_err(failed)?;
            if bytes == 0 {
                return Err(differs(blob, "size", &(blob.size - left), &blob.size).into());
            }
            hasher.update(room.get(..bytes).unwrap_or_default());
            left -= u64::try_from(bytes).unwrap_or(left);
            self.output.advance(bytes)?;
        }
        if read_some(&mut reader, &mut [0]).map_err(failed)? > 0 {
            let more = format!("more than {}", blob.size);
            return Err(differs(blob, "size", &more, &blob.size).into());
        }
        Ok(require_right(blob, hasher)?)
    }
}

/// Requires the digests that the index has.
fn require_right(blob: &BlobMember, hasher: MemberHasher) -> Result<(), WriteError> {
    let (digest, list) = hasher.finish();
    if digest != blob.digest {
        return Err(differs(blob, "digest", &digest, &blob.digest));
    }
    if let (Some(list), Some(expected)) = (list, blob.pieces()) {
        let actual = Digest::of(&list.to_bytes());
        if actual != expected {
            return Err(differs(
                blob,
                "digest of its piece list",
                &actual,
                &expected,
            ));
        }
    }
    Ok(())
}

fn differs(
    blob: &BlobMember,
    field: &'static str,
    actual: &dyn ToString,
    expected: &dyn ToString,
) -> WriteError {
    WriteError::Blob {
        digest: blob.digest,
        field,
        actual: actual.to_string(),
        expected: expected.to_string(),
    }
}

/// Reads once, again when interrupted.
fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Cuts the plain bytes into frames and hands their content over.
struct Output<I> {
    frames: I,
    open: Option<OpenFrame>,
    channels: Channels,
}

struct OpenFrame {
    codec: Codec,
    /// Plain bytes of the frame that are not in a buffer yet.
    unbuffered: usize,
    buffer: Vec<u8>,
    filled: usize,
}

impl<I: Iterator<Item = PlannedFrame>> Output<I> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room.get_mut(..now.len())
                .unwrap_or_default()
                .copy_from_slice(now);
            bytes = later;
            self.advance(now.len())?;
        }
        Ok(())
    }

    /// Room for at least one byte in the frame that is open.
    fn room(&mut self) -> Result<&mut [u8], Stop> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin_frame()?,
        };
        let open = self.open.insert(open);
        Ok(open.buffer.get_mut(open.filled..).unwrap_or_default())
    }

    fn begin_frame(&mut self) -> Result<OpenFrame, Stop> {
        let bug = || WriteError::Output(io::Error::other("more content than planned"));
        let frame = self.frames.next().ok_or_else(bug)?;
        let mut open = OpenFrame {
            codec: frame.codec,
            unbuffered: usize::try_from(frame.plain_size).map_err(|_too_large| bug())?,
            buffer: Vec::new(),
            filled: 0,
        };
        self.begin_buffer(&mut open);
        Ok(open)
    }

    /// Gives a frame its next buffer: all of a compressed frame, a chunk of a stored one.
    fn begin_buffer(&self, open: &mut OpenFrame) {
        let most = match open.codec {
            Codec::Raw => CHUNK_BYTES,
            Codec::Zstd => usize::MAX,
        };
        let bytes = open.unbuffered.min(most);
        open.buffer = match open.codec {
            Codec::Raw => self.channels.emptied.try_recv().unwrap_or_default(),
            Codec::Zstd => Vec::new(),
        };
        open.buffer.resize(bytes, 0);
        open.unbuffered -= bytes;
        open.filled = 0;
    }

    /// Takes the first `bytes` of the room as filled; sends the buffer when it is full.
    fn advance(&mut self, bytes: usize) -> Result<(), Stop> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.filled += bytes;
        if open.filled == open.buffer.len() {
            self.send(open.codec, std::mem::take(&mut open.buffer))?;
            if open.unbuffered == 0 {
                return Ok(());
            }
            self.begin_buffer(&mut open);
        }
        self.open = Some(open);
        Ok(())
    }

    fn send(&self, codec: Codec, plain: Vec<u8>) -> Result<(), Stop> {
        let message = match codec {
            Codec::Raw => Message::Stored(plain),
            Codec::Zstd => {
                let (reply, compressed) = sync_channel(1);
                let job = Job { plain, reply };
                self.channels
                    .jobs
                    .send(job)
                    .map_err(|_gone| Stop::Abandoned)?;
                Message::Compressed(compressed)
            }
        };
        self.channels
            .messages
            .send(message)
            .map_err(|_gone| Stop::Abandoned)
    }
}
