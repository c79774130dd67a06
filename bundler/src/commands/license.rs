//! `bundler license new`, `license sign` and `license show`.

use std::path::Path;
use std::path::PathBuf;

use bundle::license::Bind;
use bundle::license::Customer;
use bundle::license::Features;
use bundle::license::License;
use bundle::license::LicenseKind;
use bundle::license::LicenseType;
use bundle::license::Limits;
use bundle::license::VerifiedLicense;
use bundle::limits;
use bundle::name::Name;
use serde::Serialize;

use crate::cli::LicenseKindArg;
use crate::cli::LicenseNewArgs;
use crate::cli::LicenseShowArgs;
use crate::cli::LicenseSignArgs;
use crate::clock;
use crate::durable;
use crate::failure::Outcome;
use crate::output::Lines;
use crate::output::Output;
use crate::secrets;
use crate::trust;

#[derive(Serialize)]
struct Shown<'a> {
    file: &'a Path,
    license: &'a License,
    #[serde(skip_serializing_if = "Option::is_none")]
    signers: Option<Vec<String>>,
}

/// Writes an unsigned license.
pub(super) fn make(arguments: LicenseNewArgs, output: &Output) -> Outcome {
    let default = || PathBuf::from(format!("{}.json", arguments.id));
    let path = arguments.output.clone().unwrap_or_else(default);
    let license = compose(arguments)?;
    durable::write_new(&path, &license.to_bytes()?, 0o644)?;
    let shown = Shown {
        file: &path,
        license: &license,
        signers: None,
    };
    output.result(&shown, |out| {
        lines(&license, out);
        out.line(format!(
            "next: read {0} over, then  bundler license sign {0} --key KEY.key",
            path.display()
        ));
    })
}

/// Signs a license for the site of its customer.
pub(super) fn sign(arguments: &LicenseSignArgs, output: &Output) -> Outcome {
    let trust = trust::load(&arguments.root, None)?;
    let json = durable::read_capped(&arguments.file, limits::LICENSE_BYTES_MAX)?;
    let license = License::parse(&json)?;
    let key = secrets::open(&arguments.key, &arguments.password, output)?;
    let file = license.to_file(&key)?;
    // What a site would refuse does not leave the house.
    let verified = VerifiedLicense::verify(file, &trust)?;
    let default = || arguments.file.with_extension("lic");
    let path = arguments.output.clone().unwrap_or_else(default);
    durable::write_new(&path, verified.file(), 0o644)?;
    show_verified(&path, &verified, output)
}

/// Shows a license; only with a root is it more than a claim.
pub(super) fn show(arguments: &LicenseShowArgs, output: &Output) -> Outcome {
    let path = &arguments.file;
    let file = durable::read_capped(path, limits::LICENSE_BYTES_MAX)?;
    if let Some(root) = &arguments.root {
        let trust = trust::load(root, None)?;
        return show_verified(path, &VerifiedLicense::verify(file, &trust)?, output);
    }
    // The document begins behind the four lines of the signature.
    let document = file.splitn(5, |byte| *byte == b'\n').nth(4);
    let license = License::parse(document.unwrap_or_default())?;
    let shown = Shown {
        file: path,
        license: &license,
        signers: None,
    };
    output.result(&shown, |out| {
        out.line("NOT VERIFIED: no --root was given, so this is only what the file claims");
        lines(&license, out);
    })
}

fn show_verified(path: &Path, verified: &VerifiedLicense, output: &Output) -> Outcome {
    let signers: Vec<String> = verified.signers().iter().map(ToString::to_string).collect();
    let shown = Shown {
        file: path,
        license: verified.license(),
        signers: Some(signers.clone()),
    };
    output.result(&shown, |out| {
        lines(verified.license(), out);
        out.row("file", path.display());
        out.row(
            "signed",
            format!(
                "by key {} (license:{})",
                signers.join(", "),
                verified.license().product
            ),
        );
    })
}

fn lines(license: &License, out: &mut Lines) {
    let License {
        license_id,
        sequence,
        vendor,
        product,
        customer,
        ..
    } = license;
    out.line(format!(
        "license {license_id}, sequence {sequence}, for {vendor}/{product}"
    ));
    out.row("for", format!("{} ({})", customer.name, customer.id));
    out.row("kind", kind(license.kind));
    let channels: Vec<&str> = license.channels.iter().map(Name::as_str).collect();
    out.row("channels", channels.join(", "));
    out.row("updates", format!("until {}", license.updates_until));
    match license.expires_at {
        Some(end) => out.row(
            "ends",
            format!("{end}, and {} days of grace", license.grace_days),
        ),
        None => out.row("ends", "never"),
    }
    let limit = |limit: Option<u32>| {
        limit.map_or("any number of".to_owned(), |limit| format!("up to {limit}"))
    };
    let Limits { masters, nodes } = license.limits;
    out.row(
        "size",
        format!("{} masters, {} nodes", limit(masters), limit(nodes)),
    );
}

fn kind(kind: LicenseKind) -> &'static str {
    match kind {
        LicenseKind::Production => "production",
        LicenseKind::Trial => "trial",
        LicenseKind::Development => "development",
    }
}

fn compose(arguments: LicenseNewArgs) -> Outcome<License> {
    Ok(License {
        document_type: LicenseType::V1,
        license_id: arguments.id,
        sequence: arguments.sequence,
        vendor: arguments.vendor,
        product: arguments.product,
        customer: Customer {
            id: arguments.customer_id,
            name: arguments.customer,
            email: arguments.email,
        },
        kind: match arguments.kind {
            LicenseKindArg::Production => LicenseKind::Production,
            LicenseKindArg::Trial => LicenseKind::Trial,
            LicenseKindArg::Development => LicenseKind::Development,
        },
        channels: arguments.channels.into_iter().collect(),
        issued_at: arguments.issued_at.map_or_else(clock::now, Ok)?,
        updates_until: arguments.updates_until,
        expires_at: arguments.expires_at,
        grace_days: arguments.grace_days,
        features: Features {
            airgap: true,
            ha: !arguments.no_ha,
            multi_node: true,
        },
        limits: Limits {
            masters: arguments.masters,
            nodes: arguments.nodes,
        },
        entitlements: std::collections::BTreeMap::new(),
        bind: Bind { cluster_id: None },
        supersedes: arguments.supersedes.into_iter().collect(),
    })
}
