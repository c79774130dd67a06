//! `syncd inventory`: what is complete on this node's disk, read from the disk; no daemon is needed.

use program::Outcome;
use program::Output;
use program::output::bytes;
use program::output::count;

use super::place::Place;

pub(super) fn run(place: &Place, output: &Output) -> Outcome {
    let blobs = place.open_store()?.inventory()?;
    let total = blobs.iter().map(|blob| blob.size).sum();
    let listed = blobs
        .iter()
        .map(|blob| serde_json::json!({ "digest": blob.digest, "size": blob.size }));
    let result = serde_json::json!({ "blobs": listed.collect::<Vec<_>>(), "bytes": total });
    output.result(&result, |lines| {
        for blob in &blobs {
            lines.line(format!("{}  {:>14}", blob.digest, blob.size));
        }
        lines.line(format!("{}, {}", count(blobs.len(), "blob"), bytes(total)));
    })
}
