//! The writer's first thread: reads blobs, checks them against the index, and fills frames with the tar's plain bytes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::io::Read;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;

use crate::digest::Digest;
use crate::digest::Hasher;
use crate::index::BlobMember;
use crate::index::MemberKind;
use crate::packing::Codec;
use crate::pieces::PieceHasher;
use crate::tar;
use crate::write::BlobSource;
use crate::write::WriteError;
use crate::write::compress::Job;
use crate::write::plan;
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

/// What is known of the piece lists that the plan names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// Their digests are in the index; they are read from the source like blobs.
    Listed,
    /// Only their lengths are; the source has each when it has its blob.
    Open,
}

/// Sends the content of all frames of the plan; gives the digests of the piece lists that were open.
pub(super) fn run(
    plan: &Plan,
    pieces: Pieces,
    source: &dyn BlobSource,
    channels: Channels,
) -> BTreeMap<Digest, Digest> {
    let mut content = Content {
        source,
        assumed: &plan.assumed,
        pieces,
        open_list: None,
        lists: BTreeMap::new(),
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
    content.lists
}

struct Content<'a, I> {
    source: &'a dyn BlobSource,
    /// Blobs whose first bytes nobody has seen yet.
    assumed: &'a BTreeSet<Digest>,
    pieces: Pieces,
    /// The piece list of the blob that was just put, when it was open.
    open_list: Option<Vec<u8>>,
    /// Digests of open piece lists, by blob.
    lists: BTreeMap<Digest, Digest>,
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
                    if let Some(list) = self.open_list.take() {
                        self.put_list(blob, &list)?;
                    } else {
                        self.put_header(&blob.path(), blob.size)?;
                        self.put_blob(blob)?;
                    }
                }
            }
            let padding = usize::try_from(tar::padding(member.size())).unwrap_or(0);
            let zeros = [0; tar::BLOCK_BYTES];
            self.output.put(zeros.get(..padding).unwrap_or_default())?;
        }
        self.output.put(&[0; 1024])
    }

    /// Puts a piece list that was open, under the name that it has now; it comes right behind its blob.
    fn put_list(&mut self, planned: &BlobMember, list: &[u8]) -> Result<(), Stop> {
        let size = u64::try_from(list.len()).unwrap_or(u64::MAX);
        let MemberKind::PieceList { of } = planned.kind else {
            return Err(WriteError::Completed.into());
        };
        if size != planned.size {
            return Err(differs(planned, "size", &size, &planned.size).into());
        }
        let digest = Digest::of(list);
        self.lists.insert(of, digest);
        let named = BlobMember {
            digest,
            ..planned.clone()
        };
        self.put_header(&named.path(), size)?;
        self.output.put(list)
    }

    fn put_header(&mut self, name: &str, size: u64) -> Result<(), Stop> {
        let header = tar::header(name, size)
            .ok_or_else(|| WriteError::Output(io::Error::other("name does not fit a header")))?;
        self.output.put(&header)
    }

    /// Copies a blob; it is the one of the index when this returns.
    fn put_blob(&mut self, blob: &BlobMember) -> Result<(), Stop> {
        let failed = |source| WriteError::Source {
            digest: blob.digest,
            source,
        };
        let mut reader = self.source.open(&blob.digest).map_err(failed)?;
        let mut check = Check::of(blob);
        let mut left = blob.size;
        while left > 0 {
            let room = self.output.room()?;
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
            let room = room.get_mut(..most).unwrap_or_default();
            let bytes = read_some(&mut reader, room).map_err(failed)?;
            if bytes == 0 {
                return Err(differs(blob, "size", &(blob.size - left), &blob.size).into());
            }
            let read = room.get(..bytes).unwrap_or_default();
            if left == blob.size && self.assumed.contains(&blob.digest) && !says_type(blob, read) {
                return Err(WriteError::Mislabelled(blob.digest).into());
            }
            check.update(read);
            left -= u64::try_from(bytes).unwrap_or(left);
            self.output.advance(bytes)?;
        }
        if read_some(&mut reader, &mut [0]).map_err(failed)? > 0 {
            let more = format!("more than {}", blob.size);
            return Err(differs(blob, "size", &more, &blob.size).into());
        }
        self.require_right(blob, check)
    }

    /// Requires the digest that the index has, or the piece list.
    fn require_right(&mut self, blob: &BlobMember, check: Check) -> Result<(), Stop> {
        let (list, listed) = match check {
            Check::Whole(hasher) => {
                let digest = hasher.finish();
                if digest != blob.digest {
                    return Err(differs(blob, "digest", &digest, &blob.digest).into());
                }
                return Ok(());
            }
            Check::Pieces(hasher, listed) => (hasher.finish().to_bytes(), listed),
        };
        let actual = Digest::of(&list);
        let expected = match self.pieces {
            Pieces::Listed => listed,
            Pieces::Open => {
                let known = self.source.piece_list(&blob.digest);
                let known = known.map_err(|source| WriteError::Source {
                    digest: blob.digest,
                    source,
                })?;
                Digest::of(&known.to_bytes())
            }
        };
        if actual != expected {
            let what = "digest of its piece list";
            return Err(differs(blob, what, &actual, &expected).into());
        }
        if self.pieces == Pieces::Open {
            self.open_list = Some(list);
        }
        Ok(())
    }
}

/// How a blob is held against what is known of it: by one hash, the cheaper one where there are two.
///
/// A piece list was made in the same pass as the blob's SHA-256, so bytes that have the one have the other. Every
/// reader checks both.
enum Check {
    Whole(Hasher),
    /// With the digest of the list in the index.
    Pieces(Box<PieceHasher>, Digest),
}

impl Check {
    fn of(blob: &BlobMember) -> Self {
        match blob.pieces() {
            Some(list) => Self::Pieces(Box::new(PieceHasher::standard()), list),
            None => Self::Whole(Hasher::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Whole(hasher) => hasher.update(bytes),
            Self::Pieces(hasher, _listed) => hasher.update(bytes),
        }
    }
}

/// Whether a blob begins as its media type says.
fn says_type(blob: &BlobMember, start: &[u8]) -> bool {
    plan::magic_of(&blob.media_type).is_none_or(|magic| start.starts_with(magic))
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
