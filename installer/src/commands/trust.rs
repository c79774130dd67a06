//! `installer trust`: whose bundles this site accepts. The first root comes with a fingerprint, or not at all.

use std::path::Path;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::limits;
use bundle::name::Name;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;
use program::Outcome;
use program::Output;
use program::durable::read_capped;
use serde::Serialize;
use store::admit::AdmitError;

use crate::cli::TrustAddArgs;
use crate::place;

/// A root without a word from the vendor about which one it is.
#[derive(Debug, thiserror::Error)]
#[error("a trust root needs its fingerprint, brought by another way than the file")]
struct FingerprintMissing {
    actual: Digest,
}

/// Another root of a vendor that is trusted already.
#[derive(Debug, thiserror::Error)]
#[error("this site trusts another root of {vendor} already")]
struct OtherRoot {
    vendor: Name,
    known: u32,
    offered: u32,
}

#[derive(Serialize)]
struct Trusted {
    vendor: Name,
    root_version: u32,
    fingerprint: String,
    roles: Vec<String>,
    revocations: Option<u64>,
}

/// Trusts a root from now on.
pub(super) fn add(store: &Path, arguments: &TrustAddArgs, output: &Output) -> Outcome {
    let json = read_capped(&arguments.root, limits::ROOT_BYTES_MAX)?;
    let actual = Digest::of(&json);
    let fingerprint = arguments.fingerprint.ok_or(FingerprintMissing { actual })?;
    let trust = Trust::new(TrustedRoot::pin(json, &fingerprint)?);
    let store = place::open_or_begin(store)?;
    let root = trust.root().root();
    let known = store.trust(&root.vendor)?;
    if let Some(known) = known
        .as_ref()
        .filter(|known| known.root().fingerprint() != actual)
    {
        let (known, offered) = (known.root().root().version, root.version);
        return Err(OtherRoot {
            vendor: root.vendor.clone(),
            known,
            offered,
        }
        .into());
    }
    if known.is_none() {
        store.change_trust_state(|state| state.accept_trust(&trust).map_err(AdmitError::from))?;
        store.keep_trust(&trust)?;
    }
    let trusted = Trusted::of(&trust);
    output.result(&trusted, |lines| {
        lines.line(format!("This site trusts {} from now on.", trusted.vendor));
        lines.row(
            "root",
            format!(
                "version {}, fingerprint {}",
                trusted.root_version, trusted.fingerprint
            ),
        );
        lines.row("roles", trusted.roles.join(", "));
    })
}

/// Shows whom this site trusts.
pub(super) fn show(store: &Path, output: &Output) -> Outcome {
    let store = place::open(store)?;
    let mut all = Vec::new();
    for vendor in store.vendors()? {
        all.extend(store.trust(&vendor)?.as_ref().map(Trusted::of));
    }
    output.result(&all, |lines| {
        if all.is_empty() {
            lines.line("This site trusts nobody yet.");
        }
        for trusted in &all {
            lines.line(format!(
                "{}: root version {}",
                trusted.vendor, trusted.root_version
            ));
            lines.row("finger", &trusted.fingerprint);
            lines.row("roles", trusted.roles.join(", "));
            if let Some(sequence) = trusted.revocations {
                lines.row("revoked", format!("list {sequence}"));
            }
        }
    })
}

impl Trusted {
    fn of(trust: &Trust) -> Self {
        let root = trust.root().root();
        Self {
            vendor: root.vendor.clone(),
            root_version: root.version,
            fingerprint: trust.root().fingerprint().to_hex(),
            roles: root.roles.keys().map(ToString::to_string).collect(),
            revocations: trust.revocations().map(|list| list.list().sequence),
        }
    }
}

impl Fault for FingerprintMissing {
    fn code(&self) -> &'static str {
        "TRUST_FINGERPRINT_MISSING"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("this file has", self.actual.to_hex())]
    }

    fn hint(&self) -> Option<String> {
        Some("compare it with what the vendor gave you, then give it with --fingerprint".to_owned())
    }
}

impl Fault for OtherRoot {
    fn code(&self) -> &'static str {
        "TRUST_OTHER_ROOT"
    }

    fn blame(&self) -> Blame {
        Blame::Policy
    }

    fn facts(&self) -> Vec<Fact> {
        let version = |number| format!("version {number}");
        vec![
            Fact::new("site", version(self.known)),
            Fact::new("file", version(self.offered)),
        ]
    }

    fn hint(&self) -> Option<String> {
        Some(
            "newer roots come in with the vendor's bundles, each signed by the one before"
                .to_owned(),
        )
    }
}
