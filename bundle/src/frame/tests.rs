//! Frames: the one form of a raw frame, and compressed ones within their caps.

use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::fault::Fault as _;

fn raw(plain: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_raw(plain, &mut frame).unwrap();
    frame
}

fn read(mut bytes: &[u8]) -> Result<(Vec<u8>, u64), ReadError> {
    read_head_frame(&mut bytes)
}

#[test]
fn sizes_around_a_block_are_written_as_announced() {
    for size in [
        1,
        2,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES + 1,
        3 * BLOCK_BYTES,
    ] {
        let plain = crate::testing::noise(1, size);
        let frame = raw(&plain);
        let bytes = u64::try_from(frame.len()).unwrap();
        assert_eq!(bytes, raw_frame_bytes(u64::try_from(size).unwrap()));
        assert_eq!(read(&frame).unwrap(), (plain, bytes));
    }
}

#[test]
fn a_frame_that_is_no_head_is_told_apart() {
    let compressed = zstd::bulk::compress(&[7; 1000], 3).unwrap();
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0];
    let legacy = [0x24, 0xb5, 0x2f, 0xfd, 0x84, 0x38, 1, 0, 0, 0, 0, 0];
    for other in [&compressed[..], &skippable, &gzip, &legacy] {
        let error = read(other).unwrap_err();
        assert!(
            matches!(error, ReadError::Frame(FrameError::NotABundle)),
            "{error}"
        );
    }
    assert_eq!(read(b"").unwrap_err().code(), "BUNDLE_TRUNCATED");
}

#[test]
fn a_head_beyond_the_limit_is_refused_before_it_is_read() {
    for size in [
        0,
        u32::try_from(limits::HEAD_BYTES_MAX).unwrap() + 1,
        u32::MAX,
    ] {
        let error = read(&raw_header(size)).unwrap_err();
        assert!(
            matches!(error, ReadError::Frame(FrameError::HeadSize { .. })),
            "{error}"
        );
    }
}

#[test]
fn an_announced_head_takes_no_memory_before_its_bytes_are_there() {
    let mut frame = raw_header(u32::try_from(limits::HEAD_BYTES_MAX).unwrap()).to_vec();
    frame.extend_from_slice(&block_header(BLOCK_BYTES, false));
    assert_eq!(read(&frame).unwrap_err().code(), "BUNDLE_TRUNCATED");
}

#[test]
fn blocks_of_another_kind_or_cut_are_refused() {
    let good = raw(&crate::testing::noise(1, BLOCK_BYTES + 100));
    let (first, second) = (
        RAW_HEADER_BYTES,
        RAW_HEADER_BYTES + BLOCK_HEADER_BYTES + BLOCK_BYTES,
    );
    for (at, xor) in [
        (first, 1),      // last too early
        (first, 2),      // RLE
        (first, 4),      // compressed
        (first, 6),      // reserved
        (first, 8),      // one byte more
        (first + 2, 16), // larger than a block
        (second, 1),     // not the last
        (second, 8),     // one byte less
    ] {
        let mut bad = good.clone();
        bad[at] ^= xor;
        let error = read(&bad).unwrap_err();
        assert!(
            matches!(error, ReadError::Frame(FrameError::Block { frame: 0 })),
            "{at} {xor}: {error}"
        );
    }
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let error = read(&damaged).unwrap_err();
    assert!(
        matches!(error, ReadError::Frame(FrameError::Checksum { frame: 0 })),
        "{error}"
    );
}

/// A frame header with the given descriptor, then window byte and content size as given.
fn header(descriptor: u8, rest: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &[descriptor], rest].concat()
}

#[test]
fn only_frames_with_size_and_checksum_within_the_window_are_decoded() {
    let size = |size: u32| size.to_le_bytes();
    let with_window = |window: u8, bytes: u32| [&[window][..], &size(bytes)].concat();
    assert!(is_zstd_header(
        &header(0x84, &with_window(0x38, 1000)),
        1000
    ));
    assert!(is_zstd_header(
        &header(0x84, &with_window(0x80, 1000)),
        1000
    ));
    assert!(is_zstd_header(&header(0xa4, &size(70_000)), 70_000));
    assert!(is_zstd_header(&header(0x24, &[200]), 200));
    assert!(is_zstd_header(&header(0x64, &[0, 1]), 512));

    assert!(
        !is_zstd_header(&header(0x84, &with_window(0x38, 1000)), 1001),
        "another size"
    );
    assert!(
        !is_zstd_header(&header(0x80, &with_window(0x38, 1000)), 1000),
        "no checksum"
    );
    assert!(
        !is_zstd_header(&header(0x85, &with_window(0x38, 1000)), 1000),
        "dictionary"
    );
    assert!(
        !is_zstd_header(&header(0x8c, &with_window(0x38, 1000)), 1000),
        "reserved bit"
    );
    assert!(
        !is_zstd_header(&header(0x94, &with_window(0x38, 1000)), 1000),
        "unused bit"
    );
    assert!(
        !is_zstd_header(&header(0x04, &[0x38]), 0),
        "no content size"
    );
    assert!(
        !is_zstd_header(&header(0x84, &with_window(0x81, 1000)), 1000),
        "window above 2^26"
    );
    assert!(
        !is_zstd_header(&header(0x84, &with_window(0xff, 1000)), 1000),
        "window of 3.75 TB"
    );
    assert!(
        !is_zstd_header(&header(0xe4, &(1_u64 << 40).to_le_bytes()), 1 << 40),
        "content of 2^40"
    );
    assert!(
        !is_zstd_header(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], 0),
        "skippable"
    );
    assert!(
        !is_zstd_header(&[0x1e, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0], 0),
        "legacy"
    );
    for cut in 0..9 {
        assert!(!is_zstd_header(
            &header(0x84, &with_window(0x38, 1000))[..cut],
            1000
        ));
    }
}

proptest! {
    #[test]
    fn zstd_decodes_what_the_hand_writes_and_the_hand_reads_only_that(
        plain in proptest::collection::vec(any::<u8>(), 1..3000),
        edit in proptest::option::of((0_usize..3000, any::<u8>())),
    ) {
        let mut frame = raw(&plain);
        if let Some((at, byte)) = edit
            && let Some(place) = frame.get_mut(at)
        {
            *place = byte;
        }
        let other = |frame: &[u8]| {
            let mut plain = Vec::new();
            let mut decoder = zstd::stream::read::Decoder::new(frame).ok()?;
            decoder.read_to_end(&mut plain).ok().map(|_bytes| plain)
        };
        if let Ok((read, bytes)) = read(&frame) {
            prop_assert_eq!(usize::try_from(bytes), Ok(frame.len()));
            prop_assert_eq!(other(&frame), Some(read.clone()));
            prop_assert_eq!(raw(&read), frame);
        } else {
            prop_assert!(edit.is_some());
        }
    }
}
