//! `bundler inspect`: no decompressor runs and no payload is read.

use std::fs::File;

use bundle::Digest;
use bundle::head::UntrustedHead;

use crate::cli::InspectArgs;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::output::Output;
use crate::trust;

/// Shows the head of a bundle, verified when a root is given.
pub(super) fn run(arguments: &InspectArgs, output: &Output) -> Outcome {
    let path = &arguments.file;
    let mut file = File::open(path).map_err(|source| FileError::new("read", path, source))?;
    let head = UntrustedHead::read(&mut file)?;
    let id = Digest::of(head.bundle_json());
    let Some(root) = &arguments.root else {
        let index = head.index_unverified()?;
        return program::inspect::show(path, &index, &id, &[], arguments.part, output);
    };
    let head = head.verify(&trust::load(root, None)?)?;
    program::inspect::show(
        path,
        head.index(),
        &id,
        head.signers(),
        arguments.part,
        output,
    )
}
