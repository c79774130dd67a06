//! A warning about one sequence for two contents: a site that has accepted the first refuses the second.

use std::fs::File;
use std::path::Path;

use bundle::Digest;
use bundle::head::UntrustedHead;
use bundle::index::BundleIndex;

use crate::output::Output;

/// The bundle that has the name now. Nothing is done but a comparison, so it is not verified.
pub(super) fn look_at(target: &Path) -> Option<(Digest, BundleIndex)> {
    let head = UntrustedHead::read(&mut File::open(target).ok()?).ok()?;
    Some((head.head_files().id(), head.index_unverified().ok()?))
}

/// Warns when the bundle that had the name was another one of the same number.
pub(super) fn warn(
    before: Option<&(Digest, BundleIndex)>,
    index: &BundleIndex,
    id: &Digest,
    output: &Output,
) {
    let order = |index: &BundleIndex| (index.channel.clone(), index.epoch, index.sequence);
    let is_reused =
        |(other, before): &(Digest, BundleIndex)| other != id && order(before) == order(index);
    if before.is_some_and(is_reused) {
        let text = format!(
            "another bundle had the sequence {} here: a site that has accepted it will refuse this one; raise it",
            index.sequence
        );
        output.warn("RELEASE_SEQUENCE_REUSED", text);
    }
}
