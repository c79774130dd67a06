//! `installer preflight`: every check of this machine, alone or for a bundle, and nothing is changed.

use std::path::Path;
use std::time::Instant;

use api::join::Role;
use bundle::index::BundleIndex;
use bundle::index::Stage;
use bundle::state::Site;
use program::Outcome;
use program::Output;
use serde::Serialize;
use store::Store;

use crate::cli::PreflightArgs;
use crate::cli::RoleArg;
use crate::clock;
use crate::observe::Host;
use crate::place;
use crate::preflight;
use crate::preflight::Check;
use crate::preflight::Subject;
use crate::preflight::Verdict;
use crate::render::kubeadm::Versions;

/// The network of the pods when the bundle names none; kubeadm has no default, the field's guides use this one.
const POD_SUBNET: &str = "10.244.0.0/16";

/// How much larger than packed an image is on a node, and how much its unpacking takes beside.
const UNPACKED: u64 = 2;

#[derive(Serialize)]
struct Report<'a> {
    good: bool,
    checks: &'a [Check],
}

/// Checks this machine.
pub(super) fn run(directory: &Path, arguments: &PreflightArgs, output: &Output) -> Outcome {
    let role = match arguments.role {
        RoleArg::Master => Role::Master,
        RoleArg::Worker => Role::Worker,
    };
    let host = Host::observe(Path::new("/"), directory);
    let host = host.with_fsync_measured(Path::new("/var/lib/etcd"));
    let mut checks = match &arguments.file {
        Some(file) => {
            let store = place::open(directory)?;
            let mut file = super::open(file)?;
            let head = store.open_bundle(&mut file, &Site::default(), clock::now())?;
            of_bundle(&store, head.index(), &host, role)?
        }
        None => of_host(&host, role),
    };
    preflight::ignore(&mut checks, &arguments.ignore)?;
    let good = preflight::require(&checks, role).is_ok();
    let report = Report {
        good,
        checks: &checks,
    };
    if good {
        output.result(&report, |lines| {
            for check in &checks {
                lines.line(line(check));
            }
            lines.line(format!(
                "This machine can become a node: {}.",
                preflight::summary(&checks)
            ));
        })
    } else {
        for check in &checks {
            output.note(line(check));
        }
        Ok(preflight::require(&checks, role)?)
    }
}

fn line(check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Pass => "✓",
        Verdict::Warn => "!",
        Verdict::Fail => "✗",
        Verdict::Ignored => "-",
    };
    format!("  {mark} {:<17} {}", check.id, check.text)
}

/// One line for all, and one for each remark.
pub(super) fn tell(checks: &[Check], output: &Output) {
    let begun = Instant::now();
    output.check("preflight", &preflight::summary(checks), begun.elapsed());
    for check in checks.iter().filter(|check| check.verdict != Verdict::Pass) {
        output.note(format!(
            "      ! {}: {} (--ignore {})",
            check.id, check.text, check.id
        ));
    }
}

/// All checks for a bundle.
pub(super) fn of_bundle(
    store: &Store,
    index: &BundleIndex,
    host: &Host,
    role: Role,
) -> Outcome<Vec<Check>> {
    let platforms: Vec<String> = index.platforms.iter().map(ToString::to_string).collect();
    let (_count, store_bytes) = missing(store, index)?;
    // What is unpacked already is not needed again, and a rerun has to fit on the disk that it filled itself.
    let node_bytes = if host.kubernetes.ours {
        0
    } else {
        node_bytes(index)
    };
    Ok(preflight::check(&Subject {
        host,
        role,
        platforms: &platforms,
        store_bytes,
        node_bytes,
        brings_kubernetes: index.kubernetes.is_some(),
        cluster: None,
    }))
}

fn of_host(host: &Host, role: Role) -> Vec<Check> {
    preflight::check(&Subject {
        host,
        role,
        platforms: std::slice::from_ref(&host.platform),
        store_bytes: 0,
        node_bytes: 0,
        brings_kubernetes: true,
        cluster: None,
    })
}

/// Blobs that the store lacks, and their bytes.
pub(super) fn missing(store: &Store, index: &BundleIndex) -> Outcome<(usize, u64)> {
    let mut missing = (0, 0);
    for member in index.members() {
        if !store.has(&member.digest)? {
            missing = (missing.0 + 1, missing.1 + member.size);
        }
    }
    Ok(missing)
}

/// Bytes that a bundle takes on a node beside the store: its files, and its images unpacked.
pub(super) fn node_bytes(index: &BundleIndex) -> u64 {
    let sized = |blob: &bundle::index::BlobEntry| match blob.stage {
        Stage::Node => blob.size,
        Stage::Cluster | Stage::Application => blob.size.saturating_mul(UNPACKED),
        Stage::Metadata | Stage::Documents => 0,
    };
    index.blobs.iter().map(sized).sum()
}

/// What of a bundle kubeadm has to know.
pub(super) fn versions(index: &BundleIndex) -> Versions {
    let kubernetes = index.kubernetes.as_ref();
    Versions {
        kubernetes: kubernetes
            .map(|it| it.version.to_string())
            .unwrap_or_default(),
        pod_subnet: kubernetes
            .and_then(|it| it.pod_subnet.clone())
            .unwrap_or_else(|| POD_SUBNET.to_owned()),
        service_subnet: kubernetes.and_then(|it| it.service_subnet.clone()),
    }
}
