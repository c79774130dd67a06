//! Payloads whose packing was made to fit the attack: nobody signs a packing, so an attacker can always do that.

use std::io;
use std::io::Read;
use std::sync::LazyLock;

use crate::digest::Digest;
use crate::fault::Fault as _;
use crate::frame;
use crate::head;
use crate::head::VerifiedHead;
use crate::index::BlobMember;
use crate::index::Stage;
use crate::packing::Codec;
use crate::packing::Frame;
use crate::pieces::PieceList;
use crate::read::PayloadSink;
use crate::read::ReadError;
use crate::read::ReadEvent;
use crate::read::read_payload;
use crate::testing::Content;
use crate::testing::GZIP_LAYER;
use crate::testing::MemorySink;
use crate::testing::gzip_like;
use crate::testing::read;
use crate::testing::read_head;
use crate::testing::text;
use crate::write::Effort;
use crate::write::WriteOptions;

/// Frames: 1 the layout, 2 a text, 3 a layer over two blocks, 4 a second text, 5 the end.
static CONTENT: LazyLock<Content> = LazyLock::new(|| {
    let mut content = Content::default();
    content.add("text/plain", Stage::Metadata, text(1, 3000));
    content.add(GZIP_LAYER, Stage::Cluster, gzip_like(2, 150_000));
    content.add("text/plain", Stage::Documents, text(3, 700));
    content
});

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    CONTENT.write(&WriteOptions {
        effort: Effort::Fast,
        ..WriteOptions::default()
    })
});

/// A frame of a bundle that is taken apart.
struct Part {
    frame: Frame,
    bytes: Vec<u8>,
}

impl Part {
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(&self.bytes[..]).unwrap();
        decoder.read_to_end(&mut plain).unwrap();
        plain
    }

    /// Gives the frame other content of the same size.
    fn set_plain(&mut self, plain: &[u8]) {
        self.bytes = match self.frame.codec {
            Codec::Raw => {
                let mut bytes = Vec::new();
                frame::write_raw(plain, &mut bytes).unwrap();
                bytes
            }
            Codec::Zstd => compress(plain, |_| {}),
        };
    }

    fn edit(&mut self, change: impl FnOnce(&mut [u8])) {
        let mut plain = self.plain();
        change(&mut plain);
        self.set_plain(&plain);
    }
}

fn compress(plain: &[u8], set: impl FnOnce(&mut zstd::bulk::Compressor<'_>)) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    compressor.include_checksum(true).unwrap();
    set(&mut compressor);
    compressor.compress(plain).unwrap()
}

/// Takes a good bundle apart, lets `change` have its way, and makes a packing that fits.
fn forge(change: impl FnOnce(&mut Vec<Part>)) -> Vec<u8> {
    let mut payload = &GOOD[..];
    let head = read_head(&mut payload).unwrap();
    let mut parts: Vec<_> = head
        .packing()
        .frames
        .iter()
        .map(|frame| {
            let (bytes, rest) = payload.split_at(usize::try_from(frame.size).unwrap());
            payload = rest;
            Part {
                frame: *frame,
                bytes: bytes.to_vec(),
            }
        })
        .collect();
    change(&mut parts);
    assemble(&head, parts)
}

fn assemble(head: &VerifiedHead, parts: Vec<Part>) -> Vec<u8> {
    let mut packing = head.packing().clone();
    packing.frames.clear();
    let mut payload = Vec::new();
    for Part { mut frame, bytes } in parts {
        frame.offset = u64::try_from(payload.len()).unwrap();
        frame.size = u64::try_from(bytes.len()).unwrap();
        frame.sha256 = Digest::of(&bytes);
        packing.frames.push(frame);
        payload.extend_from_slice(&bytes);
    }
    packing.total_size = u64::try_from(payload.len()).unwrap();
    let plain = head::encode(head.head_files(), &packing.to_bytes()).unwrap();
    let mut file = Vec::new();
    frame::write_raw(&plain, &mut file).unwrap();
    file.extend_from_slice(&payload);
    file
}

/// Reads a forged bundle; whatever gets a name is one of the right blobs.
fn refuse(change: impl FnOnce(&mut Vec<Part>)) -> ReadError {
    let mut sink = MemorySink::default();
    let error = read(&forge(change), &mut sink).unwrap_err();
    for (digest, bytes) in &sink.blobs {
        assert_eq!(CONTENT.blobs.get(digest), Some(bytes));
    }
    error
}

#[track_caller]
fn assert_code(error: &ReadError, code: &str) {
    assert_eq!(error.code(), code, "{error:?}");
}

#[test]
fn taking_apart_and_assembling_changes_nothing() {
    assert!(forge(|_| {}) == *GOOD);
}

#[test]
fn a_blob_of_other_bytes_is_refused_before_it_gets_its_name() {
    for part in [1, 2, 3] {
        let error = refuse(|parts| parts[part].edit(|plain| plain[512 + 5] ^= 1));
        assert_code(&error, "BUNDLE_DIGEST");
    }
}

#[test]
fn a_layout_that_does_not_follow_from_the_index_is_refused() {
    for at in [512, 512 + 1024] {
        let error = refuse(|parts| parts[0].edit(|plain| plain[at] ^= 1));
        assert!(
            matches!(
                error,
                ReadError::Member {
                    what: "content",
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn every_changed_byte_of_a_header_is_refused() {
    for at in 0..512 {
        let error = refuse(|parts| parts[1].edit(|plain| plain[at] ^= 1));
        assert!(
            matches!(error, ReadError::Member { what: "header", .. }),
            "{at} {error:?}"
        );
    }
}

#[test]
fn padding_and_end_are_zero() {
    let error = refuse(|parts| parts[1].edit(|plain| *plain.last_mut().unwrap() = 1));
    assert!(
        matches!(
            error,
            ReadError::Member {
                what: "padding",
                ..
            }
        ),
        "{error:?}"
    );
    let error = refuse(|parts| parts[4].edit(|plain| plain[1000] = 1));
    assert_code(&error, "BUNDLE_FORMAT");
}

#[test]
fn a_frame_that_differs_from_its_digest_is_refused() {
    let mut bad = GOOD.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert_code(
        &read(&bad, &mut MemorySink::default()).unwrap_err(),
        "BUNDLE_FORMAT",
    );
    let error = refuse(|parts| *parts[2].bytes.last_mut().unwrap() ^= 1);
    assert!(
        matches!(
            error,
            ReadError::Frame(frame::FrameError::Checksum { frame: 3 })
        ),
        "{error:?}"
    );
}

#[test]
fn a_stored_frame_has_one_form() {
    let block = frame::RAW_HEADER_BYTES;
    let second = block + frame::BLOCK_HEADER_BYTES + frame::BLOCK_BYTES;
    for (at, xor) in [
        (4, 0x20),
        (4, 0x04),
        (5, 8),
        (6, 1),
        (block, 1),
        (block, 2),
        (second, 1),
        (second, 4),
    ] {
        let error = refuse(|parts| parts[2].bytes[at] ^= xor);
        assert_code(&error, "BUNDLE_FORMAT");
    }
    // The same content as a frame of another encoder and the same size in the table.
    let error = refuse(|parts| {
        let plain = parts[2].plain();
        let mut other = compress(&plain, |_| {});
        other.resize(parts[2].bytes.len(), 0);
        parts[2].bytes = other;
    });
    assert_code(&error, "BUNDLE_FORMAT");
}

#[test]
fn frames_of_odd_compressors_are_refused() {
    let odd: [fn(&mut Part); 9] = [
        |part| part.bytes = compress(&part.plain(), |it| it.include_checksum(false).unwrap()),
        |part| part.bytes = compress(&part.plain(), |it| it.include_contentsize(false).unwrap()),
        // A frame of more or less than announced.
        |part| part.bytes = compress(&[&part.plain()[..], &[0; 512]].concat(), |_| {}),
        |part| part.bytes = compress(&part.plain()[..512], |_| {}),
        // Skippable: alone, before, behind.
        |part| part.bytes = [&[0x50, 0x2a, 0x4d, 0x18, 8, 0, 0, 0][..], &[0; 8]].concat(),
        |part| part.bytes = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &part.bytes].concat(),
        |part| part.bytes = [&part.bytes[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat(),
        // Two frames in the place of one; garbage behind it.
        |part| {
            part.bytes = [
                compress(&part.plain()[..512], |_| {}),
                compress(&part.plain()[512..], |_| {}),
            ]
            .concat();
        },
        |part| part.bytes.push(0),
    ];
    for (number, change) in odd.into_iter().enumerate() {
        let error = refuse(|parts| change(&mut parts[1]));
        assert!(matches!(error, ReadError::Frame(_)), "{number}: {error:?}");
    }
}

#[test]
fn a_bomb_stops_at_the_announced_size() {
    // 64 MiB of zeros behind a header that announces 4096 bytes.
    let error = refuse(|parts| {
        let mut bomb = compress(&vec![0; 64 << 20], |_| {});
        let plain = u32::try_from(parts[1].frame.plain_size).unwrap();
        let size = bomb
            .windows(4)
            .position(|it| it == (64_u32 << 20).to_le_bytes())
            .unwrap();
        bomb[size..size + 4].copy_from_slice(&plain.to_le_bytes());
        parts[1].bytes = bomb;
    });
    assert!(matches!(error, ReadError::Frame(_)), "{error:?}");
}

#[test]
fn damage_inside_a_compressed_frame_is_refused_or_changes_nothing() {
    let bytes = forge(|_| {});
    let head = read_head(&mut &bytes[..]).unwrap();
    let size = usize::try_from(head.packing().frames[1].size).unwrap();
    let mut refused = 0;
    for at in 0..size {
        let mut sink = MemorySink::default();
        match read(&forge(|parts| parts[1].bytes[at] ^= 0x10), &mut sink) {
            // Another window, for one, decodes to the same content.
            Ok(_) => assert_eq!(sink.blobs, CONTENT.blobs, "{at}"),
            Err(error) => {
                assert!(
                    ["BUNDLE_FORMAT", "BUNDLE_DIGEST"].contains(&error.code()),
                    "{at}: {error:?}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > size * 9 / 10);
}

#[test]
fn frames_swapped_are_refused() {
    let error = refuse(|parts| parts.swap(1, 3));
    assert_code(&error, "BUNDLE_FORMAT");
    let error = refuse(|parts| {
        let second = parts[3].bytes.clone();
        parts[3].bytes = std::mem::replace(&mut parts[1].bytes, second);
    });
    assert_code(&error, "BUNDLE_FORMAT");
}

#[test]
fn nothing_may_follow_the_last_frame() {
    let good = &GOOD[..];
    for tail in [&[0][..], good, &[0; 1024]] {
        let error = read(&[good, tail].concat(), &mut MemorySink::default()).unwrap_err();
        assert!(matches!(error, ReadError::Trailing), "{error:?}");
    }
}

#[test]
fn every_cut_is_noticed() {
    let mut payload = &GOOD[..];
    let head = read_head(&mut payload).unwrap();
    for cut in (0..payload.len()).step_by(97) {
        let mut sink = MemorySink::default();
        let error = read_payload(&head, &payload[..cut], &mut sink, &mut |_| {}).unwrap_err();
        assert_code(&error, "BUNDLE_TRUNCATED");
    }
}

#[test]
fn unwanted_blobs_are_checked_all_the_same() {
    let bad = forge(|parts| parts[2].edit(|plain| plain[600] ^= 1));
    let here = CONTENT.blobs.keys().copied().collect();
    let mut sink = MemorySink {
        here,
        ..MemorySink::default()
    };
    assert_code(&read(&bad, &mut sink).unwrap_err(), "BUNDLE_DIGEST");
    let summary = read(&GOOD, &mut sink).unwrap();
    assert_eq!(
        (summary.members, summary.wanted, summary.wanted_bytes),
        (3, 0, 0)
    );
    assert!(sink.blobs.is_empty());
}

/// Fails at its n-th call.
struct FailingSink(usize);

impl FailingSink {
    fn call(&mut self) -> io::Result<()> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

impl PayloadSink for FailingSink {
    fn wants(&mut self, _: &BlobMember) -> io::Result<bool> {
        self.call().map(|()| true)
    }

    fn data(&mut self, _: &[u8]) -> io::Result<()> {
        self.call()
    }

    fn end(&mut self, _: &BlobMember, _: Option<&PieceList>) -> io::Result<()> {
        self.call()
    }
}

#[test]
fn an_error_of_the_sink_ends_the_reading_at_any_call() {
    let good = &GOOD[..];
    for calls in 0..9 {
        let mut payload = good;
        let head = read_head(&mut payload).unwrap();
        let error = read_payload(&head, payload, &mut FailingSink(calls), &mut |_| {}).unwrap_err();
        assert_code(&error, "DISK_FULL");
    }
}

#[test]
fn an_error_of_the_reader_is_told_and_interruptions_are_not() {
    struct Odd<'a>(&'a [u8], usize);
    impl Read for Odd<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 {
                40 => Err(io::Error::other("bad sector")),
                odd if odd % 2 == 1 => Err(io::ErrorKind::Interrupted.into()),
                _ => self.0.read(buffer.get_mut(..1).unwrap_or_default()),
            }
        }
    }
    let mut payload = &GOOD[..];
    let head = read_head(&mut payload).unwrap();
    let error = read_payload(
        &head,
        Odd(payload, 0),
        &mut MemorySink::default(),
        &mut |_| {},
    )
    .unwrap_err();
    assert_code(&error, "BUNDLE_IO");
    read_payload(
        &head,
        Odd(payload, 100),
        &mut MemorySink::default(),
        &mut |_| {},
    )
    .unwrap();
}

#[test]
fn progress_ends_at_the_total() {
    let mut payload = &GOOD[..];
    let head = read_head(&mut payload).unwrap();
    let mut last = None;
    read_payload(&head, payload, &mut MemorySink::default(), &mut |event| {
        last = Some(event);
    })
    .unwrap();
    let Some(ReadEvent::Progress {
        plain_bytes,
        plain_bytes_total,
    }) = last
    else {
        panic!("no event");
    };
    assert_eq!(plain_bytes, plain_bytes_total);
}
