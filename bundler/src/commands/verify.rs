//! `bundler verify`: signatures, then every byte, in one reading of the file.

use std::fs::File;

use bundle::head::UntrustedHead;

use crate::cli::VerifyArgs;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::output::Output;
use crate::trust;

/// Verifies a bundle and says who signed it.
pub(super) fn run(arguments: &VerifyArgs, output: &Output) -> Outcome {
    let trust = trust::load(&arguments.trust.root, arguments.trust.fingerprint)?;
    let path = &arguments.file;
    let mut file = File::open(path).map_err(|source| FileError::new("read", path, source))?;
    let head = UntrustedHead::read(&mut file)?.verify(&trust)?;
    program::verify::payload(path, &head, file, arguments.print_sums, output)
}
