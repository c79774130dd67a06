//! zstd frames (RFC 8878). Raw frames are written and read by hand, in one form; compressed ones by libzstd within caps.
//!
//! The raw frame of some content is fully determined by it: magic, descriptor `0x84` (4-byte content size, content
//! checksum), window byte `0x38` (128 KiB), blocks of 128 KiB and a last one of 1 byte to 128 KiB, the low half of
//! XXH64. No decompressor runs to read it, and any other form is refused.

use std::fmt;
use std::io;
use std::io::Read;
use std::io::Write;

use xxhash_rust::xxh64::Xxh64;

use crate::digest::Digest;
use crate::digest::Hasher;
use crate::limits;
use crate::read::ReadError;

#[cfg(test)]
mod tests;

/// Content of a full block; also the largest that a frame with our window may have.
pub const BLOCK_BYTES: usize = 128 << 10;

/// Bytes before the first block of a raw frame.
pub(crate) const RAW_HEADER_BYTES: usize = 10;

/// Bytes in front of each block.
pub(crate) const BLOCK_HEADER_BYTES: usize = 3;

/// Bytes of the content checksum.
pub(crate) const CHECKSUM_BYTES: usize = 4;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// 4-byte content size, no single segment, content checksum, no dictionary.
const RAW_DESCRIPTOR: u8 = 0x84;

/// Window of 2^17, the size of a block.
const RAW_WINDOW: u8 = 0x38;

/// A frame that the format does not allow, or that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The file does not begin like a bundle.
    #[error("this is not a Sealift bundle: it does not begin with a frame of stored blocks")]
    NotABundle,
    /// The head is empty or larger than any head may be.
    #[error("head is {actual} bytes, expected 1 to {limit}")]
    HeadSize {
        /// Bytes that the frame announces.
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// A frame header that differs from the prescribed one.
    #[error("frame {frame} does not begin as its codec prescribes")]
    Header {
        /// Number of the frame, the head is 0.
        frame: usize,
    },
    /// A block that is not stored, or not of the prescribed size.
    #[error("frame {frame} holds a block that is not the prescribed one")]
    Block {
        /// Number of the frame, the head is 0.
        frame: usize,
    },
    /// The content checksum is another.
    #[error("frame {frame} is damaged: its content checksum differs")]
    Checksum {
        /// Number of the frame, the head is 0.
        frame: usize,
    },
    /// Compressed content that does not decode to what the packing says.
    #[error("frame {frame} does not decode to its content")]
    Content {
        /// Number of the frame, the head is 0.
        frame: usize,
    },
}

/// Bytes of the raw frame of `plain` bytes of content, which is not empty.
pub const fn raw_frame_bytes(plain: u64) -> u64 {
    // Constants as literals, because `as` and `try_from` are not for const functions.
    let blocks = if plain == 0 {
        1
    } else {
        plain.div_ceil(128 << 10)
    };
    10 + plain + 3 * blocks + 4
}

/// The most bytes that a compressed frame may have; libzstd's own bound (`ZSTD_compressBound`) and room for a header.
pub const fn zstd_frame_bytes_max(plain: u64) -> u64 {
    plain + (plain >> 8) + 1024
}

/// The first bytes of a raw frame.
pub(crate) const fn raw_header(plain_bytes: u32) -> [u8; RAW_HEADER_BYTES] {
    let [m0, m1, m2, m3] = MAGIC;
    let [s0, s1, s2, s3] = plain_bytes.to_le_bytes();
    [m0, m1, m2, m3, RAW_DESCRIPTOR, RAW_WINDOW, s0, s1, s2, s3]
}

/// The header of a stored block.
pub(crate) fn block_header(bytes: usize, last: bool) -> [u8; BLOCK_HEADER_BYTES] {
    let [b0, b1, b2, _] = (u32::try_from(bytes).unwrap_or(0) << 3 | u32::from(last)).to_le_bytes();
    [b0, b1, b2]
}

/// Whether `start`, the first bytes of a compressed frame, announces exactly `plain_bytes` within the limits:
/// content size and checksum there, no dictionary, no reserved bit, a window of at most 2^26.
pub fn is_zstd_header(start: &[u8], plain_bytes: u64) -> bool {
    let announced = || {
        let (&descriptor, rest) = start.strip_prefix(&MAGIC)?.split_first()?;
        let single_segment = descriptor & 0x20 != 0;
        // Unused bit, reserved bit and dictionary flag clear, checksum flag set.
        if descriptor & 0b0001_1111 != 0b0000_0100 {
            return None;
        }
        let rest = if single_segment {
            rest
        } else {
            let (&window, rest) = rest.split_first()?;
            let (exponent, mantissa) = (u32::from(window >> 3), u64::from(window & 7));
            let base = 1_u64 << (10 + exponent);
            let window_bytes = base + base / 8 * mantissa;
            (window_bytes <= 1 << limits::WINDOW_LOG_MAX).then_some(rest)?
        };
        match (descriptor >> 6, single_segment) {
            (0, true) => rest.first().copied().map(u64::from),
            (1, _) => rest
                .first_chunk()
                .map(|size| u64::from(u16::from_le_bytes(*size)) + 256),
            (2, _) => rest
                .first_chunk()
                .map(|size| u64::from(u32::from_le_bytes(*size))),
            (3, _) => rest.first_chunk().map(|size| u64::from_le_bytes(*size)),
            _ => None,
        }
    };
    plain_bytes <= limits::FRAME_PLAIN_BYTES_MAX && announced() == Some(plain_bytes)
}

/// Writes a raw frame block by block; gives the digest of the frame's bytes.
#[derive(Debug)]
pub(crate) struct RawWriter<W> {
    out: W,
    left: usize,
    sum: Xxh64Sum,
    digest: Hasher,
}

impl<W: Write> RawWriter<W> {
    /// Begins a frame of `plain_bytes`.
    pub(crate) fn begin(mut out: W, plain_bytes: u32) -> io::Result<Self> {
        let header = raw_header(plain_bytes);
        let mut digest = Hasher::new();
        digest.update(&header);
        out.write_all(&header)?;
        Ok(Self {
            out,
            left: usize::try_from(plain_bytes).map_err(io::Error::other)?,
            sum: Xxh64Sum::default(),
            digest,
        })
    }

    /// Writes the next bytes: whole blocks, unless they are the frame's last.
    pub(crate) fn write(&mut self, plain: &[u8]) -> io::Result<()> {
        for block in plain.chunks(BLOCK_BYTES) {
            let expected = self.left.min(BLOCK_BYTES);
            if block.len() != expected {
                return Err(io::Error::other("content is not cut into whole blocks"));
            }
            self.left -= block.len();
            let header = block_header(block.len(), self.left == 0);
            self.digest.update(&header);
            self.digest.update(block);
            self.sum.update(block);
            self.out.write_all(&header)?;
            self.out.write_all(block)?;
        }
        Ok(())
    }

    /// Ends the frame.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        if self.left > 0 {
            return Err(io::Error::other("frame is not complete"));
        }
        let checksum = self.sum.finish();
        self.digest.update(&checksum);
        self.out.write_all(&checksum)?;
        Ok(self.digest.finish())
    }
}

/// The running content checksum of a frame.
#[derive(Default)]
pub(crate) struct Xxh64Sum(Xxh64);

impl fmt::Debug for Xxh64Sum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Xxh64Sum")
    }
}

impl Xxh64Sum {
    /// Adds content.
    pub(crate) fn update(&mut self, plain: &[u8]) {
        self.0.update(plain);
    }

    /// The low four bytes, as a frame ends with them.
    pub(crate) fn finish(&self) -> [u8; CHECKSUM_BYTES] {
        let [c0, c1, c2, c3, ..] = self.0.digest().to_le_bytes();
        [c0, c1, c2, c3]
    }
}

/// Writes content of at least one byte as one raw frame.
pub(crate) fn write_raw(plain: &[u8], out: &mut impl Write) -> io::Result<Digest> {
    let size = u32::try_from(plain.len()).map_err(io::Error::other)?;
    let mut frame = RawWriter::begin(out, size)?;
    frame.write(plain)?;
    frame.finish()
}

/// Reads the head frame; gives its content and its bytes in the file. Memory grows only with what has been read.
pub(crate) fn read_head_frame(reader: &mut impl Read) -> Result<(Vec<u8>, u64), ReadError> {
    let head = || "the head".to_owned();
    let mut header = [0; RAW_HEADER_BYTES];
    read_exact(reader, &mut header, head)?;
    let [.., s0, s1, s2, s3] = header;
    let announced = u32::from_le_bytes([s0, s1, s2, s3]);
    if raw_header(announced) != header {
        return Err(FrameError::NotABundle.into());
    }
    let size = usize::try_from(announced).unwrap_or(usize::MAX);
    if !(1..=limits::HEAD_BYTES_MAX).contains(&size) {
        return Err(ReadError::Frame(FrameError::HeadSize {
            actual: u64::from(announced),
            limit: u64::try_from(limits::HEAD_BYTES_MAX).unwrap_or(u64::MAX),
        }));
    }
    let mut plain = Vec::new();
    while plain.len() < size {
        let start = plain.len();
        let end = size.min(start + BLOCK_BYTES);
        let mut block = [0; BLOCK_HEADER_BYTES];
        read_exact(reader, &mut block, head)?;
        if block != block_header(end - start, end == size) {
            return Err(FrameError::Block { frame: 0 }.into());
        }
        plain.resize(end, 0);
        let open = plain.get_mut(start..).unwrap_or_default();
        read_exact(reader, open, head)?;
    }
    let mut sum = [0; CHECKSUM_BYTES];
    read_exact(reader, &mut sum, head)?;
    let mut expected = Xxh64Sum::default();
    expected.update(&plain);
    if expected.finish() != sum {
        return Err(FrameError::Checksum { frame: 0 }.into());
    }
    Ok((plain, raw_frame_bytes(u64::from(announced))))
}

/// Fills `buffer`; a file that ends before that is truncated in the middle of `part`.
pub(crate) fn read_exact(
    reader: &mut impl Read,
    buffer: &mut [u8],
    part: impl Fn() -> String,
) -> Result<(), ReadError> {
    reader.read_exact(buffer).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            ReadError::Truncated { part: part() }
        } else {
            ReadError::Io(error)
        }
    })
}
