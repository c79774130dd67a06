//! `installer install`: observe this machine, plan its bootstrap, print the plan.

use std::collections::BTreeMap;
use std::path::Path;

use bundle::fault::Blame;
use bundle::fault::Fault;
use bundle::head::VerifiedHead;
use bundle::index::Stage;
use bundle::license::Action;
use bundle::license::Feature;
use bundle::license::VerifiedLicense;
use bundle::limits;
use bundle::state::Site;
use program::Outcome;
use program::Output;
use program::durable::read_capped;
use store::Store;

use crate::cli::InstallArgs;
use crate::clock;
use crate::observe::Host;
use crate::place;
use crate::plan::Kubernetes;
use crate::plan::Options;
use crate::plan::Plan;
use crate::plan::Wanted;

/// The network of the pods when the bundle names none; kubeadm has no default, the field's guides use this one.
const POD_SUBNET: &str = "10.244.0.0/16";

/// What this version does not do yet.
#[derive(Debug, thiserror::Error)]
#[error("this version of the installer plans a bootstrap and does not apply it yet")]
struct NotInThisVersion;

/// A bundle that is to be installed without anybody's license.
#[derive(Debug, thiserror::Error)]
#[error("no license for {product} is here")]
struct NoLicense {
    product: String,
}

/// Plans the bootstrap of this machine. Verified and licensed first, looked at next, and nothing is changed.
pub(super) fn run(directory: &Path, arguments: &InstallArgs, output: &Output) -> Outcome {
    let store = place::open(directory)?;
    let mut file = super::open(&arguments.file)?;
    let head = store.open_bundle(&mut file, &Site::default(), clock::now())?;
    let license = license(&store, &head, arguments)?;
    if !arguments.dry_run {
        return Err(NotInThisVersion.into());
    }
    let wanted = wanted(&store, &head, &license, arguments)?;
    let plan = Plan::bootstrap(&wanted, &Host::observe(Path::new("/"), directory));
    output.result(&plan, |lines| {
        plan.to_string().lines().for_each(|line| lines.line(line));
    })
}

/// The license that counts: the given one, or the one in the store. It must allow what is asked for.
fn license(
    store: &Store,
    head: &VerifiedHead,
    arguments: &InstallArgs,
) -> Outcome<VerifiedLicense> {
    let license = match &arguments.license {
        Some(path) => Some(store.verify_license(&read_capped(path, limits::LICENSE_BYTES_MAX)?)?),
        None => store.license_for(head.index())?,
    };
    let product = head.index().product.to_string();
    let license = license.ok_or(NoLicense { product })?;
    license.allows_release(head.index())?;
    license.allows_feature(Feature::Airgap)?;
    if arguments.ha {
        license.allows_feature(Feature::Ha)?;
    }
    license.allows_action(Action::Install, store.judging_time(clock::now())?)?;
    Ok(license)
}

fn wanted(
    store: &Store,
    head: &VerifiedHead,
    license: &VerifiedLicense,
    arguments: &InstallArgs,
) -> Outcome<Wanted> {
    let index = head.index();
    let mut node_files = BTreeMap::<_, usize>::new();
    for file in &index.files {
        *node_files
            .entry(format!("{:?}", file.role).to_lowercase())
            .or_default() += 1;
    }
    let mut missing = (0, 0);
    for member in index.members() {
        if !store.has(&member.digest)? {
            missing = (missing.0 + 1, missing.1 + member.size);
        }
    }
    let of_cluster = index
        .images
        .iter()
        .filter(|image| image.stage <= Stage::Cluster)
        .count();
    Ok(Wanted {
        release: format!("{}/{} {}", index.vendor, index.product, index.version),
        platforms: index.platforms.iter().map(ToString::to_string).collect(),
        kubernetes: index.kubernetes.as_ref().map(|kubernetes| Kubernetes {
            version: kubernetes.version.to_string(),
            pod_subnet: kubernetes
                .pod_subnet
                .clone()
                .unwrap_or_else(|| POD_SUBNET.to_owned()),
        }),
        node_files: node_files.into_iter().collect(),
        images: (of_cluster, index.images.len() - of_cluster),
        missing,
        manifests: index.manifests.len(),
        charts: index
            .charts
            .iter()
            .map(|chart| format!("{}/{}", chart.namespace, chart.release))
            .collect(),
        options: Options {
            ha: arguments.ha,
            load_balancer: arguments.load_balancer_address.clone(),
            taint_control_plane: arguments.taint_control_plane.as_deref() == Some("1"),
            licensed_to: Some(license.license().customer.name.clone()),
        },
    })
}

impl Fault for NotInThisVersion {
    fn code(&self) -> &'static str {
        "NOT_IN_THIS_VERSION"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "print the plan with --dry-run; bring the bundle to all masters with installer import"
                .to_owned(),
        )
    }
}

impl Fault for NoLicense {
    fn code(&self) -> &'static str {
        "LICENSE_ABSENT"
    }

    fn blame(&self) -> Blame {
        Blame::Policy
    }

    fn hint(&self) -> Option<String> {
        Some("give the customer's file with license=FILE, or bring it in with installer import FILE.lic".to_owned())
    }
}
