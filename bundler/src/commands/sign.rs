//! `bundler sign`: adds signatures to a bundle that was built elsewhere. The payload is copied as it is.

use std::fs::File;
use std::io::Seek as _;
use std::path::PathBuf;

use bundle::Digest;
use bundle::head::UntrustedHead;
use bundle::minisig::Signature;
use bundle::write::replace_head;
use serde::Serialize;

use crate::cli::SignArgs;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::output::Output;
use crate::pending;
use crate::pending::Pending;
use crate::secrets;
use crate::signing;
use crate::trust;

#[derive(Serialize)]
struct Signed {
    file: PathBuf,
    bundle: Digest,
    signers: Vec<String>,
    lacks: Option<String>,
}

/// Signs a bundle in place, all at once.
pub(super) fn run(arguments: &SignArgs, output: &Output) -> Outcome {
    let path = &arguments.file;
    let failed = |source| FileError::new("read", path, source);
    let trust = trust::load(&arguments.root, None)?;
    let mut file = File::open(path).map_err(failed)?;
    let untrusted = UntrustedHead::read(&mut file)?;
    // The signer vouches for it from now on, so it has to be well-formed; whether it is right, the signer has to know.
    let index = untrusted.index_unverified()?;
    let keys = secrets::open_all(&arguments.keys, &arguments.password, output)?;
    signing::require_role(&keys, trust.root().root(), &index.product)?;
    let mut head = untrusted.head_files().clone();
    for key in &keys {
        let signature = Signature::sign(key, &head.bundle_json, &index.purpose());
        signing::add(&mut head, &signature)?;
    }
    let lacks = signing::require_verifies(&head, &trust)?;
    pending::require_space(path, file.metadata().map_err(failed)?.len())?;
    file.rewind().map_err(failed)?;
    let mut pending = Pending::begin(path)?;
    let written = replace_head(&mut file, &head, pending.file())?;
    pending.publish()?;
    let signed = Signed {
        file: path.clone(),
        bundle: written.id,
        signers: keys
            .iter()
            .map(|key| key.public().id().to_string())
            .collect(),
        lacks,
    };
    output.result(&signed, |out| {
        let who = signed.signers.join(", ");
        out.line(format!(
            "{}/{} {}: signed",
            index.vendor, index.product, index.version
        ));
        out.row("sign", format!("key {who} (bundle:{})", index.product));
        out.row(
            "sha256",
            format!(
                "{}  the bundle's id: sha256 of bundle.json",
                written.id.to_hex()
            ),
        );
        if let Some(lacks) = &signed.lacks {
            out.row("lacks", lacks);
        }
    })
}
