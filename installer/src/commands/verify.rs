//! `installer verify`: signatures, the site's own rules, then every byte, in one reading; nothing is changed.

use std::path::Path;

use bundle::state::Site;
use program::Outcome;
use program::Output;

use crate::cli::VerifyArgs;
use crate::clock;
use crate::place;

/// Verifies a bundle as an import would, without importing.
pub(super) fn run(store: &Path, arguments: &VerifyArgs, output: &Output) -> Outcome {
    let store = place::open(store)?;
    let path = &arguments.file;
    let mut file = super::open(path)?;
    let head = store.open_bundle(&mut file, &Site::default(), clock::now())?;
    program::verify::payload(path, &head, file, arguments.print_sums, output)
}
