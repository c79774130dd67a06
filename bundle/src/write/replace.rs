//! Puts another head before the payload of a bundle: signatures are added without building again.

use std::io;
use std::io::Read;
use std::io::Write;

use crate::head::HeadFiles;
use crate::head::UntrustedHead;
use crate::index::BundleIndex;
use crate::packing::Packing;
use crate::read::ReadError;
use crate::write::WriteError;
use crate::write::Written;
use crate::write::payload::head_frame;

/// Copies `old` under the head `new`. The packing stays as it is: its offsets count from the end of the head.
pub(super) fn replace(
    old: &mut impl Read,
    new: &HeadFiles,
    out: &mut impl Write,
) -> Result<Written, WriteError> {
    let old_head = UntrustedHead::read(old)?;
    let old_id = old_head.head_files().id();
    if new.id() != old_id {
        return Err(WriteError::OtherBundle {
            old: old_id,
            new: new.id(),
        });
    }
    let index = BundleIndex::parse(&new.bundle_json)?;
    let packing = Packing::parse(old_head.packing_json(), &old_id, &index)
        .map_err(|error| WriteError::Old(ReadError::Packing(error)))?;
    let head = head_frame(new, &packing)?;
    out.write_all(&head).map_err(WriteError::Output)?;
    let copied = copy(old, out)?;
    if copied != packing.total_size {
        return Err(WriteError::Old(if copied < packing.total_size {
            ReadError::Truncated {
                part: "the payload".to_owned(),
            }
        } else {
            ReadError::Trailing
        }));
    }
    out.flush().map_err(WriteError::Output)?;
    Ok(Written {
        id: old_id,
        size: u64::try_from(head.len()).unwrap_or(u64::MAX) + copied,
        frames: packing.frames.len() + 1,
    })
}

/// Copies all, telling errors of the reader from those of the writer.
fn copy(old: &mut impl Read, out: &mut impl Write) -> Result<u64, WriteError> {
    let mut buffer = vec![0; 1 << 20];
    let mut copied = 0;
    loop {
        let bytes = match old.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(WriteError::Old(ReadError::Io(error))),
        };
        let part = buffer.get(..bytes).unwrap_or_default();
        out.write_all(part).map_err(WriteError::Output)?;
        copied += u64::try_from(bytes).unwrap_or(0);
    }
}
