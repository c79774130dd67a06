//! The first of the reader's two threads: reads frames, checks each against the packing, yields their plain content.

use std::io;
use std::io::Read;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;

use zstd::stream::raw::Decoder;
use zstd::stream::raw::InBuffer;
use zstd::stream::raw::Operation as _;
use zstd::stream::raw::OutBuffer;
use zstd::zstd_safe::DParameter;

use crate::digest::Hasher;
use crate::frame;
use crate::frame::BLOCK_BYTES;
use crate::frame::FrameError;
use crate::frame::Xxh64Sum;
use crate::limits;
use crate::packing::Codec;
use crate::packing::Frame;
use crate::read::ReadError;

/// Plain bytes that are handed over at once: enough to make the hand-over cheap, little enough to stay in a cache.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks that may be under way, filled or empty.
pub(super) const CHUNKS: usize = 6;

/// What may lie behind a block in the same read: the next block's header, or the checksum.
const TAIL_BYTES: usize = 4;

/// Compressed bytes that are read at once.
const INPUT_BYTES: usize = 256 << 10;

/// A part of the plain content. Its buffer goes back to the thread that fills it.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    buffer: Vec<u8>,
    filled: usize,
}

/// What the first thread says to the second.
pub(super) enum Message {
    /// The next plain bytes.
    Plain(Chunk),
    /// Nothing more will come, for this reason.
    Failed(ReadError),
    /// All frames were read, and the file ends there.
    End,
}

/// Why the first thread stops early.
enum Stop {
    /// Something is wrong with the file.
    Failed(ReadError),
    /// The second thread is gone; it knows why.
    Abandoned,
}

impl<E: Into<ReadError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Chunk {
    /// The bytes.
    pub(super) fn plain(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

/// Reads all frames and the end of the file, sending what they hold.
pub(super) fn run(
    frames: &[Frame],
    reader: impl Read,
    messages: SyncSender<Message>,
    emptied: Receiver<Chunk>,
) {
    let mut thread = Frames {
        reader,
        number: 0,
        output: Output {
            chunk: Chunk::default(),
            made: 0,
            messages,
            emptied,
        },
        input: Vec::new(),
    };
    let last = match thread.read_all(frames) {
        Ok(()) => Message::End,
        Err(Stop::Failed(error)) => Message::Failed(error),
        Err(Stop::Abandoned) => return,
    };
    // Nobody to tell it to: the second thread has failed by itself and says so.
    let _abandoned = thread.output.messages.send(last);
}

struct Frames<R> {
    reader: R,
    /// The frame that is read; the head is 0.
    number: usize,
    output: Output,
    input: Vec<u8>,
}

impl<R: Read> Frames<R> {
    fn read_all(&mut self, frames: &[Frame]) -> Result<(), Stop> {
        for (number, frame) in (1..).zip(frames) {
            self.number = number;
            let actual = match frame.codec {
                Codec::Raw => self.read_raw(frame)?,
                Codec::Zstd => self.read_zstd(frame)?,
            };
            if actual != frame.sha256 {
                return Err(Stop::Failed(ReadError::Digest {
                    what: format!("frame {number}"),
                    actual,
                    expected: frame.sha256,
                }));
            }
        }
        self.output.flush()?;
        self.require_end()
    }

    /// Reads a frame of stored blocks straight into the output; each read takes a block and what follows it.
    fn read_raw(&mut self, frame: &Frame) -> Result<crate::Digest, Stop> {
        let number = self.number;
        let size = u32::try_from(frame.plain_size)
            .map_err(|_too_large| FrameError::Header { frame: number })?;
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        let (mut digest, mut sum) = (Hasher::new(), Xxh64Sum::default());

        let mut start = [0; frame::RAW_HEADER_BYTES + frame::BLOCK_HEADER_BYTES];
        self.fill(&mut start)?;
        digest.update(&start);
        let block = |left: usize| frame::block_header(left.min(BLOCK_BYTES), left <= BLOCK_BYTES);
        if start != *[&frame::raw_header(size)[..], &block(left)[..]].concat() {
            return Err(FrameError::Header { frame: number }.into());
        }
        while left > 0 {
            let bytes = left.min(BLOCK_BYTES);
            left -= bytes;
            let tail_bytes = if left == 0 {
                frame::CHECKSUM_BYTES
            } else {
                frame::BLOCK_HEADER_BYTES
            };
            let room = self.output.room(bytes + TAIL_BYTES)?;
            let room = room.get_mut(..bytes + tail_bytes).unwrap_or_default();
            read_part(&mut self.reader, room, number)?;
            digest.update(room);
            let (content, tail) = room.split_at(bytes);
            sum.update(content);
            if left == 0 && tail != sum.finish() {
                return Err(FrameError::Checksum { frame: number }.into());
            }
            if left > 0 && tail != block(left) {
                return Err(FrameError::Block { frame: number }.into());
            }
            self.output.advance(bytes);
        }
        Ok(digest.finish())
    }

    /// Decodes a compressed frame into the output, within the frame's size and its content's.
    fn read_zstd(&mut self, frame: &Frame) -> Result<crate::Digest, Stop> {
        let damaged = FrameError::Content { frame: self.number };
        let mut decoder = new_decoder().map_err(ReadError::Io)?;
        let mut digest = Hasher::new();
        let (mut file_left, mut plain_left) = (frame.size, frame.plain_size);
        let mut ended = false;
        self.input.resize(INPUT_BYTES, 0);
        while file_left > 0 {
            let take = usize::try_from(file_left)
                .unwrap_or(usize::MAX)
                .min(INPUT_BYTES);
            let input = self.input.get_mut(..take).unwrap_or_default();
            read_part(&mut self.reader, input, self.number)?;
            digest.update(input);
            if file_left == frame.size && !frame::is_zstd_header(input, frame.plain_size) {
                return Err(FrameError::Header { frame: self.number }.into());
            }
            file_left -= u64::try_from(take).unwrap_or(file_left);
            let mut input = InBuffer::around(input);
            while input.pos() < take {
                if ended {
                    return Err(damaged.into());
                }
                let room = self.output.room(1)?;
                let most = usize::try_from(plain_left)
                    .unwrap_or(usize::MAX)
                    .min(room.len());
                let mut output = OutBuffer::around(room.get_mut(..most).unwrap_or_default());
                let before = input.pos();
                let hint = decoder.run(&mut input, &mut output);
                let (hint, made) = (hint.map_err(|_zstd| damaged)?, output.pos());
                if made == 0 && input.pos() == before {
                    return Err(damaged.into());
                }
                ended = hint == 0;
                self.output.advance(made);
                plain_left -= u64::try_from(made).unwrap_or(plain_left);
            }
        }
        if !ended || plain_left > 0 {
            return Err(damaged.into());
        }
        Ok(digest.finish())
    }

    fn require_end(&mut self) -> Result<(), Stop> {
        let mut byte = [0];
        loop {
            match self.reader.read(&mut byte) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(Stop::Failed(ReadError::Trailing)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Failed(ReadError::Io(error))),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        read_part(&mut self.reader, buffer, self.number)
    }
}

fn read_part(reader: &mut impl Read, buffer: &mut [u8], frame: usize) -> Result<(), ReadError> {
    frame::read_exact(reader, buffer, || format!("frame {frame}"))
}

fn new_decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(limits::WINDOW_LOG_MAX))?;
    Ok(decoder)
}

/// Collects plain bytes into chunks and hands full ones over.
struct Output {
    chunk: Chunk,
    /// Buffers that exist.
    made: usize,
    messages: SyncSender<Message>,
    emptied: Receiver<Chunk>,
}

impl Output {
    /// Room for at least `bytes` behind what is filled; what is there is handed over when it does not fit.
    fn room(&mut self, bytes: usize) -> Result<&mut [u8], Stop> {
        if self.chunk.buffer.len() < self.chunk.filled + bytes {
            self.flush()?;
        }
        if self.chunk.buffer.is_empty() {
            self.chunk = self.empty_chunk()?;
        }
        let filled = self.chunk.filled;
        Ok(self.chunk.buffer.get_mut(filled..).unwrap_or_default())
    }

    /// Takes the first `bytes` of the room as filled.
    fn advance(&mut self, bytes: usize) {
        self.chunk.filled += bytes;
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if self.chunk.filled == 0 {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        let sent = self.messages.send(Message::Plain(chunk));
        sent.map_err(|_receiver_gone| Stop::Abandoned)
    }

    fn empty_chunk(&mut self) -> Result<Chunk, Stop> {
        let mut chunk = match self.emptied.try_recv() {
            Ok(chunk) => chunk,
            Err(_none_yet) if self.made < CHUNKS => {
                self.made += 1;
                Chunk {
                    buffer: vec![0; CHUNK_BYTES + TAIL_BYTES],
                    filled: 0,
                }
            }
            Err(_none_yet) => self.emptied.recv().map_err(|_gone| Stop::Abandoned)?,
        };
        chunk.filled = 0;
        Ok(chunk)
    }
}
