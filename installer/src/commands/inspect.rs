//! `installer inspect`: the head alone, verified when this site trusts its vendor, else only claimed and said so.

use std::path::Path;

use bundle::Digest;
use bundle::head::UntrustedHead;
use program::Outcome;
use program::Output;

use crate::cli::InspectArgs;
use crate::place;

/// Shows the head of a bundle.
pub(super) fn run(store: &Path, arguments: &InspectArgs, output: &Output) -> Outcome {
    let path = &arguments.file;
    let head = UntrustedHead::read(&mut super::open(path)?)?;
    let trusting = place::open(store).ok();
    if let Some(head) = trusting.and_then(|store| store.verify_head(&head).ok()) {
        let id = head.id();
        return program::inspect::show(
            path,
            head.index(),
            &id,
            head.signers(),
            arguments.part,
            output,
        );
    }
    let id = Digest::of(head.bundle_json());
    program::inspect::show(
        path,
        &head.index_unverified()?,
        &id,
        &[],
        arguments.part,
        output,
    )
}
