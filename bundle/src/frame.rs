//! zstd frames (RFC 8878). Raw frames are written and read by hand, in one form; compressed ones by libzstd within caps.
//!
//! The raw frame of some content is fully determined by it: magic, descriptor `0x84` (4-byte content size, content
//! checksum), window byte `0x38` (128 KiB), blocks of 128 KiB and a last one of 1 byte to 128 KiB, the low half of
//! XXH64. No decompressor runs to read it, and any other form is refused.

use std::io;
use std::io::Read;
use std::io::Write;

use xxhash_rust::xxh64::Xxh64;

use crate::limits;
use crate::read::ReadError;

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

/// Bytes of the raw frame of `plain` bytes of content.
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

/// The content checksum of a frame.
pub(crate) fn checksum(hash: &Xxh64) -> [u8; CHECKSUM_BYTES] {
    let [c0, c1, c2, c3, ..] = hash.digest().to_le_bytes();
    [c0, c1, c2, c3]
}

/// Writes content as one raw frame.
pub fn write_raw(plain: &[u8], out: &mut impl Write) -> io::Result<()> {
    let size = u32::try_from(plain.len()).map_err(io::Error::other)?;
    out.write_all(&raw_header(size))?;
    let mut rest = plain;
    loop {
        let (block, later) = rest.split_at(rest.len().min(BLOCK_BYTES));
        out.write_all(&block_header(block.len(), later.is_empty()))?;
        out.write_all(block)?;
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let mut hash = Xxh64::new(0);
    hash.update(plain);
    out.write_all(&checksum(&hash))
}

/// Reads the head frame; gives its content and its bytes in the file. Memory grows only with what has been read.
pub(crate) fn read_head_frame(reader: &mut impl Read) -> Result<(Vec<u8>, u64), ReadError> {
    let mut header = [0; RAW_HEADER_BYTES];
    read_exact(reader, &mut header, "the head")?;
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
        read_exact(reader, &mut block, "the head")?;
        if block != block_header(end - start, end == size) {
            return Err(FrameError::Block { frame: 0 }.into());
        }
        plain.resize(end, 0);
        let open = plain.get_mut(start..).unwrap_or_default();
        read_exact(reader, open, "the head")?;
    }
    let mut sum = [0; CHECKSUM_BYTES];
    read_exact(reader, &mut sum, "the head")?;
    let mut hash = Xxh64::new(0);
    hash.update(&plain);
    if checksum(&hash) != sum {
        return Err(FrameError::Checksum { frame: 0 }.into());
    }
    Ok((plain, raw_frame_bytes(u64::from(announced))))
}

/// Fills `buffer`; a file that ends before that is truncated in the middle of `part`.
pub(crate) fn read_exact(
    reader: &mut impl Read,
    buffer: &mut [u8],
    part: &str,
) -> Result<(), ReadError> {
    reader.read_exact(buffer).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            ReadError::Truncated {
                part: part.to_owned(),
            }
        } else {
            ReadError::Io(error)
        }
    })
}
