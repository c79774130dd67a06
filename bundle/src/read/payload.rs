//! The second of the reader's two threads: takes the plain content apart into members and checks each.

use std::io::Read;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::sync::mpsc::sync_channel;

use crate::digest::Digest;
use crate::head::VerifiedHead;
use crate::index::BlobMember;
use crate::index::MemberHasher;
use crate::oci;
use crate::packing::PackingError;
use crate::pieces::PieceList;
use crate::read::PayloadSink;
use crate::read::ReadError;
use crate::read::ReadEvent;
use crate::read::Summary;
use crate::read::frames;
use crate::read::frames::Chunk;
use crate::read::frames::Message;
use crate::tar;

pub(super) fn read(
    head: &VerifiedHead,
    reader: impl Read + Send,
    sink: &mut dyn PayloadSink,
    events: &mut dyn FnMut(ReadEvent),
) -> Result<Summary, ReadError> {
    let frames = &head.packing().frames;
    let left_out = require_left_out(head, sink)?;
    let (message_sender, messages) = sync_channel(frames::CHUNKS);
    let (emptied, emptied_receiver) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || frames::run(frames, reader, message_sender, emptied_receiver));
        let mut members = Members {
            stream: PlainStream {
                chunk: Chunk::default(),
                taken: 0,
                messages,
                emptied,
                events,
                plain_bytes: 0,
                plain_bytes_total: frames.iter().map(|frame| frame.plain_size).sum(),
            },
            sink,
            summary: Summary {
                left_out,
                ..Summary::default()
            },
        };
        members.read_all(head)?;
        Ok(members.summary)
        // Here the channels close, so the other thread ends as well.
    })
}

/// Asks the sink for everything that the file leaves out; gives how many members that are.
fn require_left_out(head: &VerifiedHead, sink: &mut dyn PayloadSink) -> Result<u64, ReadError> {
    let (mut here, mut count, mut bytes, mut first) = (0, 0, 0, None);
    for member in head.packing().left_out(head.index()) {
        if sink.has_already(&member).map_err(ReadError::Sink)? {
            here += 1;
        } else {
            count += 1;
            bytes += member.size;
            first.get_or_insert(member.digest);
        }
    }
    match first {
        None => Ok(here),
        Some(first) => Err(ReadError::Incomplete {
            count,
            bytes,
            first,
            base: head.packing().base,
        }),
    }
}

struct Members<'a> {
    stream: PlainStream<'a>,
    sink: &'a mut dyn PayloadSink,
    summary: Summary,
}

impl Members<'_> {
    fn read_all(&mut self, head: &VerifiedHead) -> Result<(), ReadError> {
        let oci_index = oci::oci_index_bytes(head.index())
            .map_err(|error| ReadError::Packing(PackingError::Json(error)))?;
        self.read_fixed("oci-layout", oci::oci_layout_bytes())?;
        self.read_fixed("index.json", &oci_index)?;
        for member in head.packing().carried(head.index()) {
            self.read_blob(&member)?;
        }
        self.stream
            .expect(&[0; 1024], "end of the archive", "content")?;
        self.stream.expect_end()
    }

    /// A member whose bytes follow from the index.
    fn read_fixed(&mut self, name: &str, content: &[u8]) -> Result<(), ReadError> {
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.read_header(name, size)?;
        self.stream.expect(content, name, "content")?;
        self.read_padding(name, size)
    }

    fn read_blob(&mut self, member: &BlobMember) -> Result<(), ReadError> {
        let name = member.path();
        self.read_header(&name, member.size)?;
        let wanted = self.sink.wants(member).map_err(ReadError::Sink)?;
        let list = self.read_content(member, wanted)?;
        self.read_padding(&name, member.size)?;
        if wanted {
            self.sink
                .end(member, list.as_ref())
                .map_err(ReadError::Sink)?;
            self.summary.wanted += 1;
            self.summary.wanted_bytes += member.size;
        }
        self.summary.members += 1;
        self.summary.bytes += member.size;
        Ok(())
    }

    /// Reads a blob's bytes; gives its piece list when it has one. Everything is as signed when this returns.
    fn read_content(
        &mut self,
        member: &BlobMember,
        wanted: bool,
    ) -> Result<Option<PieceList>, ReadError> {
        let mut hasher = MemberHasher::new(member);
        let mut left = member.size;
        while left > 0 {
            let bytes = self.stream.take(left)?;
            left -= u64::try_from(bytes.len()).unwrap_or(left);
            hasher.update(bytes);
            if wanted {
                self.sink.data(bytes).map_err(ReadError::Sink)?;
            }
        }
        let (digest, list) = hasher.finish();
        let what = || format!("blob {}", member.digest);
        require_digest(what, digest, member.digest)?;
        if let (Some(list), Some(expected)) = (&list, member.pieces()) {
            let what = || format!("piece list of blob {}", member.digest);
            require_digest(what, Digest::of(&list.to_bytes()), expected)?;
        }
        Ok(list)
    }

    fn read_header(&mut self, name: &str, size: u64) -> Result<(), ReadError> {
        let header = tar::header(name, size).ok_or_else(|| ReadError::Member {
            name: name.to_owned(),
            what: "name",
        })?;
        self.stream.expect(&header, name, "header")
    }

    fn read_padding(&mut self, name: &str, size: u64) -> Result<(), ReadError> {
        let bytes = usize::try_from(tar::padding(size)).unwrap_or(0);
        let zeros = [0; tar::BLOCK_BYTES];
        let zeros = zeros.get(..bytes).unwrap_or_default();
        self.stream.expect(zeros, name, "padding")
    }
}

fn require_digest(
    what: impl Fn() -> String,
    actual: Digest,
    expected: Digest,
) -> Result<(), ReadError> {
    if actual == expected {
        return Ok(());
    }
    Err(ReadError::Digest {
        what: what(),
        actual,
        expected,
    })
}

/// The plain content of all frames as one stream of slices.
struct PlainStream<'a> {
    chunk: Chunk,
    taken: usize,
    messages: Receiver<Message>,
    emptied: Sender<Chunk>,
    events: &'a mut dyn FnMut(ReadEvent),
    plain_bytes: u64,
    plain_bytes_total: u64,
}

impl PlainStream<'_> {
    /// The next bytes: at least one, at most `most`, which is not 0.
    fn take(&mut self, most: u64) -> Result<&[u8], ReadError> {
        if self.taken == self.chunk.plain().len() {
            self.next_chunk()?;
        }
        let start = self.taken;
        let available = self.chunk.plain().get(start..).unwrap_or_default();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let bytes = available.get(..most).unwrap_or(available);
        self.taken += bytes.len();
        Ok(bytes)
    }

    /// Requires that exactly these bytes come next.
    fn expect(
        &mut self,
        mut bytes: &[u8],
        name: &str,
        what: &'static str,
    ) -> Result<(), ReadError> {
        while !bytes.is_empty() {
            let actual = self.take(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
            bytes = bytes
                .strip_prefix(actual)
                .ok_or_else(|| ReadError::Member {
                    name: name.to_owned(),
                    what,
                })?;
        }
        Ok(())
    }

    /// Requires that all content is taken and the first thread has found the end of the file.
    fn expect_end(&mut self) -> Result<(), ReadError> {
        if self.taken < self.chunk.plain().len() {
            return Err(ReadError::Trailing);
        }
        match self.messages.recv() {
            Ok(Message::End) => Ok(()),
            Ok(Message::Failed(error)) => Err(error),
            Ok(Message::Plain(_)) => Err(ReadError::Trailing),
            Err(_gone) => Err(reader_gone()),
        }
    }

    fn next_chunk(&mut self) -> Result<(), ReadError> {
        let next = match self.messages.recv() {
            Ok(Message::Plain(chunk)) => chunk,
            Ok(Message::Failed(error)) => return Err(error),
            // The packing was held against the index: the frames hold what the members need.
            Ok(Message::End) | Err(_) => return Err(reader_gone()),
        };
        let empty = std::mem::replace(&mut self.chunk, next);
        self.taken = 0;
        if !empty.plain().is_empty() {
            // The first thread may have read everything and be gone.
            let _gone = self.emptied.send(empty);
        }
        self.plain_bytes += u64::try_from(self.chunk.plain().len()).unwrap_or(0);
        (self.events)(ReadEvent::Progress {
            plain_bytes: self.plain_bytes,
            plain_bytes_total: self.plain_bytes_total,
        });
        Ok(())
    }
}

/// The first thread ended without a word; only a panic of the given reader does that.
fn reader_gone() -> ReadError {
    ReadError::Io(std::io::Error::other("the reading thread ended early"))
}
