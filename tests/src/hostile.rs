//! Bundles as an attacker would make them: changed, and then made consistent again as far as that needs no key.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use bundle::Digest;
use bundle::head::HeadFiles;
use bundle::head::UntrustedHead;
use bundle::write::replace_head;
use serde_json::Value;
use xxhash_rust::xxh64::xxh64;

/// Bytes of a raw frame before its first block, in front of each block, and behind the last (`docs/format.md`).
const HEADER: usize = 10;
const BLOCK_HEADER: usize = 3;
const CHECKSUM: usize = 4;

/// Replaces the files of a bundle's head; everything behind it stays.
pub fn with_head(file: &Path, change: impl FnOnce(&mut HeadFiles)) -> Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    let mut head = UntrustedHead::read(&mut bytes.as_slice())?
        .head_files()
        .clone();
    change(&mut head);
    let mut changed = Vec::new();
    replace_head(&mut bytes.as_slice(), &head, &mut changed)?;
    Ok(changed)
}

/// The bytes of the head's files: what `import` and `export` must carry unchanged.
pub fn head_files(file: &Path) -> Result<HeadFiles> {
    let mut reader = fs::File::open(file)?;
    Ok(UntrustedHead::read(&mut reader)?.head_files().clone())
}

/// Changes one byte of a stored blob, then every checksum and every unsigned digest that would give it away.
pub fn with_other_blob(file: &Path, blob: &Digest) -> Result<Vec<u8>> {
    let mut bytes = fs::read(file)?;
    let name = format!("blobs/sha256/{}", blob.to_hex());
    let head = UntrustedHead::read(&mut bytes.as_slice())?;
    let head_bytes = usize::try_from(head.frame_bytes())?;
    let member = find(&bytes, head_bytes, name.as_bytes()).context("the blob is not stored")?;
    // Behind the header of 512 bytes and what may be a block's.
    let at = member + 512 + 16;
    let frame = frame_around(head.packing_json(), head_bytes, at)?;
    let old = digest(&bytes, &frame)?.to_hex();
    *bytes.get_mut(at).context("the blob is too short")? ^= 0x01;
    reseal(
        bytes
            .get_mut(frame.clone())
            .context("the frame is not all there")?,
    )?;
    let new = digest(&bytes, &frame)?.to_hex();
    let told = find(&bytes, 0, old.as_bytes()).context("the packing does not tell the frame")?;
    ensure!(told < head_bytes, "the packing is in the head");
    bytes
        .get_mut(told..told + 64)
        .context("in the head")?
        .copy_from_slice(new.as_bytes());
    reseal(
        bytes
            .get_mut(..head_bytes)
            .context("the head is not all there")?,
    )?;
    Ok(bytes)
}

/// The range of the frame that holds the byte at `at`.
fn frame_around(packing: &[u8], head_bytes: usize, at: usize) -> Result<std::ops::Range<usize>> {
    let packing: Value = serde_json::from_slice(packing)?;
    let frames = packing
        .get("frames")
        .and_then(Value::as_array)
        .context("no frames")?;
    for frame in frames {
        let number = |key: &str| -> Result<usize> {
            let value = frame
                .get(key)
                .and_then(Value::as_u64)
                .context("no number")?;
            Ok(usize::try_from(value)?)
        };
        let start = head_bytes + number("offset")?;
        let range = start..start + number("size")?;
        if range.contains(&at) {
            return Ok(range);
        }
    }
    anyhow::bail!("no frame holds byte {at}")
}

fn digest(bytes: &[u8], range: &std::ops::Range<usize>) -> Result<Digest> {
    Ok(Digest::of(
        bytes
            .get(range.clone())
            .context("the frame is not all there")?,
    ))
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let at = bytes
        .get(from..)?
        .windows(wanted.len())
        .position(|window| window == wanted)?;
    Some(from + at)
}

/// Writes the content checksum that a raw frame's blocks now have.
fn reseal(frame: &mut [u8]) -> Result<()> {
    let mut content = Vec::new();
    let mut at = HEADER;
    loop {
        let header = frame
            .get(at..at + BLOCK_HEADER)
            .context("a block's header is missing")?;
        let header = header
            .iter()
            .rev()
            .fold(0_usize, |value, byte| (value << 8) | usize::from(*byte));
        at += BLOCK_HEADER;
        let (is_last, size) = (header & 1 == 1, header >> 3);
        content.extend_from_slice(frame.get(at..at + size).context("a block is cut")?);
        at += size;
        if is_last {
            break;
        }
    }
    let [.., c3, c2, c1, c0] = xxh64(&content, 0).to_be_bytes();
    let checksum = frame
        .get_mut(at..at + CHECKSUM)
        .context("the checksum is missing")?;
    checksum.copy_from_slice(&[c0, c1, c2, c3]);
    Ok(())
}
