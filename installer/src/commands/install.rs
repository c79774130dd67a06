//! `installer install`: from one file to a cluster.
//!
//! Verified and licensed first. What is asked for and what is there become one wish. Then the preflights; up to here
//! nothing is changed. Then the steps, journalled: killed anywhere, the same command goes on.

mod license;
mod settings;

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use api::join::Role;
use api::site::NodeSite;
use bundle::fault::Blame;
use bundle::fault::Fault;
use bundle::head::VerifiedHead;
use bundle::state::Site;
use program::Outcome;
use program::Output;
use serde::Serialize;
use serde_json::Value;
use store::Store;

use self::settings::Settings;
use super::preflight;
use crate::cli::InstallArgs;
use crate::clock;
use crate::machine::Machine;
use crate::machine::NODE_DIRECTORY;
use crate::machine::RealPrograms;
use crate::observe::Host;
use crate::place;
use crate::plan::Plan;
use crate::preflight::Check;
use crate::render::kubeadm::CONTROL_PLANE;
use crate::run;
use crate::run::Done;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Turn;
use crate::steps;
use crate::steps::Ground;
use crate::tools::kubectl;

/// How long a run waits for what a killed one has left running.
const PATIENCE: Duration = Duration::from_mins(20);

/// Where the turn of a node is.
pub(super) const TURN: &str = "/run/sealift-installer/turn";

/// What this version does not do.
#[derive(Debug, thiserror::Error)]
#[error("this version of the installer does not {0} yet")]
pub(super) struct NotInThisVersion(pub(super) &'static str);

#[derive(Serialize)]
struct Installed {
    cluster_id: String,
    node: String,
    endpoint: String,
    masters: usize,
    steps_applied: usize,
    steps_found: usize,
}

/// A verified bundle and what is wanted with it.
struct Install<'a> {
    store: &'a Store,
    head: &'a VerifiedHead,
    settings: &'a Settings,
    host: &'a Host,
}

/// Installs.
pub(super) fn run(directory: &Path, arguments: &InstallArgs, output: &Output) -> Outcome {
    let store = place::open(directory)?;
    let mut file = super::open(&arguments.file)?;
    let head = store.open_bundle(&mut file, &Site::default(), clock::now())?;
    let look = Machine::new(Path::new("/"), Box::new(RealPrograms::to_look()));
    let host = Host::observe(Path::new("/"), directory);
    let settings = Settings::of(arguments, &head, &host, &look, output)?;
    let license = license::given_or_kept(&store, &head, &settings)?;
    Settings::greet(&head, license.as_ref(), output);
    let install = Install {
        store: &store,
        head: &head,
        settings: &settings,
        host: &host,
    };
    let plan = Plan::bootstrap(
        &settings.wanted(&store, &head)?,
        &host,
        install.preflight(arguments, output)?,
    );
    if arguments.dry_run {
        return output.result(&plan, |lines| {
            plan.to_string().lines().for_each(|line| lines.line(line));
        });
    }
    steps::require_parts(head.index())?;
    crate::preflight::require(&plan.checks, Role::Master)?;
    preflight::tell(&plan.checks, output);
    let turn = Turn::take(Path::new(TURN), PATIENCE, output)?;
    let machine = Machine::new(Path::new("/"), Box::new(RealPrograms::of_run(turn)));
    let done = install.apply(&machine, file, output)?;
    install.tell(&machine, done, output)
}

impl Install<'_> {
    fn preflight(&self, arguments: &InstallArgs, output: &Output) -> Outcome<Vec<Check>> {
        let host = if self.host.kubernetes.ours {
            self.host.clone()
        } else {
            output.doing("preflight", "measuring the disk");
            self.host
                .clone()
                .with_fsync_measured(Path::new("/var/lib/etcd"))
        };
        let mut checks = preflight::of_bundle(self.store, self.head.index(), &host, Role::Master)?;
        crate::preflight::ignore(&mut checks, &arguments.ignore)?;
        Ok(checks)
    }

    fn apply(&self, machine: &Machine, payload: File, output: &Output) -> Outcome<Done> {
        let mut journal = Journal::open(
            &machine.path(&format!("{NODE_DIRECTORY}/install.journal")),
            &format!("install {}", self.head.id()),
        )?;
        super::tell_stopped(&journal, output);
        let index = self.head.index();
        let versions = preflight::versions(index);
        let ground = Ground {
            machine,
            site: &self.settings.site,
            index,
            versions: &versions,
            features: self.host.features,
            platform: &self.host.platform,
            blobs: self.store,
        };
        let mut all: Vec<Box<dyn Step + '_>> = Vec::new();
        if index.kubernetes.is_some() {
            all.push(Box::new(steps::SiteFile(&ground)));
        }
        all.push(Box::new(steps::Import {
            machine,
            store: self.store,
            head: self.head,
            payload: RefCell::new(Some(payload)),
            license: self.settings.license_file.clone(),
            origin: self.settings.site.node.to_string(),
        }));
        all.push(Box::new(license::Licensed {
            store: self.store,
            index,
            ha: self.settings.site.ha,
        }));
        let life = self.store.incarnation().to_string();
        if index.kubernetes.is_some() {
            all.extend(cluster_steps(&ground, life));
        }
        all.extend(application_steps(&ground));
        run::apply(&all, &mut journal, output)
    }

    fn tell(&self, machine: &Machine, done: Done, output: &Output) -> Outcome {
        let site = &self.settings.site;
        let masters: Option<Value> = kubectl::get(machine, &["nodes", "-l", CONTROL_PLANE])?;
        let masters = masters
            .and_then(|list| list.get("items")?.as_array().map(Vec::len))
            .unwrap_or(0);
        let installed = Installed {
            cluster_id: site.cluster_id.to_string(),
            node: site.node.to_string(),
            endpoint: site.endpoint.clone(),
            masters,
            steps_applied: done.applied,
            steps_found: done.found,
        };
        output.result(&installed, |lines| {
            if done.applied == 0 {
                lines.line("Everything was so already: nothing was changed.");
            }
            for line in advice(site, masters) {
                lines.line(line);
            }
        })
    }
}

fn cluster_steps<'a>(ground: &'a Ground<'a>, life: String) -> Vec<Box<dyn Step + 'a>> {
    vec![
        Box::new(steps::NodeFiles { ground, only: None }),
        Box::new(steps::Kernel(ground)),
        Box::new(steps::Containerd(ground)),
        Box::new(steps::Syncd {
            ground,
            founds: Some(life),
            masters: &[],
        }),
        Box::new(steps::Images(ground)),
        Box::new(steps::ControlPlane(ground)),
        Box::new(steps::Network(ground)),
        Box::new(steps::ClusterRecord(ground)),
        Box::new(steps::Taint(ground)),
        Box::new(steps::Ready(ground)),
    ]
}

fn application_steps<'a>(ground: &'a Ground<'a>) -> Vec<Box<dyn Step + 'a>> {
    let index = ground.index;
    let mut all: Vec<Box<dyn Step + 'a>> = Vec::new();
    for document in &index.manifests {
        if !steps::is_of_cluster(index, document) {
            all.push(Box::new(steps::Manifest { ground, document }));
        }
    }
    for chart in &index.charts {
        all.push(Box::new(steps::Chart { ground, chart }));
    }
    all
}

/// What the operator should know and do next.
fn advice(site: &NodeSite, masters: usize) -> Vec<String> {
    let mut lines = Vec::new();
    match masters {
        0 | 1 => {
            lines.push("The cluster is up, on one master: losing this machine loses the service.".to_owned());
            if site.ha {
                lines.push("next: add two masters. On each new machine run what this prints:".to_owned());
                lines.push("  installer join-script --master".to_owned());
            } else {
                lines.push("next: installer install … ha   (then two more masters), or add workers:".to_owned());
                lines.push("  installer join-script --worker".to_owned());
            }
        }
        2 => lines.push(
            "The cluster has 2 masters: losing one stops it. Add a third with installer join-script --master".to_owned(),
        ),
        more => lines.push(format!("The cluster has {more} masters. Look at it with installer status")),
    }
    lines
}

impl Fault for NotInThisVersion {
    fn code(&self) -> &'static str {
        "NOT_IN_THIS_VERSION"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }
}
