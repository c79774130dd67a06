//! Installs that do not get to their end.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::process::Finished;
use tests::real_site;
use tests::real_site::RealSite;
use tests::real_site::at;
use tests::real_site::wait_for_nodes;
use tests::scenarios::note;
use tests::scenarios::step;

/// More power cuts than steps: something would go round in circles.
const CUTS_MAX: usize = 40;

/// Longest time between two kills at random moments; what an uninterrupted install takes is a small multiple.
const RANDOM_MS_MAX: u64 = 6_000;

/// The node loses power whenever its journal says that a step has begun in which it had not lost it before.
pub(crate) fn at_every_step() -> Result<()> {
    let site = crate::site()?;
    let m1 = site.machine_with_media("m1", NodePlan::default())?;
    site.trust(&m1)?;
    let mut cut = BTreeSet::new();
    for _ in 0..CUTS_MAX {
        let ended = install_until(&site, &m1, |step| !cut.contains(step))?;
        match ended {
            Ended::Finished => break,
            Ended::Cut(step) => {
                note(&format!("power cut in {step}"));
                cut.insert(step);
                m1.start()?;
            }
        }
    }
    ensure!(cut.len() > 8, "only cut in {cut:?}");
    is_whole(&site, &m1)
}

enum Ended {
    Finished,
    Cut(String),
}

/// Runs an install; cuts the power at the first step that is to be cut.
fn install_until(
    site: &RealSite,
    node: &Node,
    is_to_be_cut: impl Fn(&str) -> bool,
) -> Result<Ended> {
    thread::scope(|scope| {
        let install = scope.spawn(|| site.install(node, "--yes"));
        let mut cut = None;
        while !install.is_finished() && cut.is_none() {
            match current_step(node) {
                Some(step) if is_to_be_cut(&step) => {
                    node.kill()?;
                    cut = Some(step);
                }
                _ => thread::sleep(Duration::from_millis(2)),
            }
        }
        let ended = install.join().ok().context("the install panicked")?;
        if let Some(step) = cut {
            Ok(Ended::Cut(step))
        } else {
            ended?.succeeded()?;
            Ok(Ended::Finished)
        }
    })
}

/// The step that the last line of the journal says has begun.
fn current_step(node: &Node) -> Option<String> {
    let journal = fs::read_to_string(node.var().join("lib/sealift-node/install.journal")).ok()?;
    let line: Value = serde_json::from_str(journal.lines().last()?).ok()?;
    let step = at(&line, "/step").as_str()?.to_owned();
    (at(&line, "/record") == "started").then_some(step)
}

/// The installer and all that it runs are killed; the machine runs on.
pub(crate) fn at_random_moments() -> Result<()> {
    let seed = rand::random::<u64>();
    note(&format!("seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let site = crate::site()?;
    let m1 = site.machine_with_media("m1", NodePlan::default())?;
    site.trust(&m1)?;
    for _ in 0..20 {
        let moment = Duration::from_millis(random.random_range(50..RANDOM_MS_MAX));
        let mut command = m1.command(["sh", "-c", &RealSite::install_line("--yes")])?;
        let mut install = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        thread::sleep(moment);
        // In the node's own process namespace; what it runs must notice by itself.
        m1.sh("for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = installer ] && kill -9 ${p#/proc/}; done; true")?;
        install.wait()?;
    }
    step("m1: installer install, left alone", || {
        site.install(&m1, "--yes")?.succeeded()
    })?;
    is_whole(&site, &m1)
}

/// One cluster, one member of etcd, every byte of the bundle, and the application.
fn is_whole(site: &RealSite, m1: &Node) -> Result<()> {
    wait_for_nodes(m1, &["m1"])?;
    real_site::require_members(m1, &["m1"])?;
    let address = real_site::demo_address(m1)?;
    tests::process::wait_for("the application", || {
        let answer = real_site::ask_demo(m1, address).and_then(Finished::succeeded);
        answer.map(drop).map_err(|error| format!("{error:#}"))
    })?;
    m1.put("/run/sums", "600", site.sums()?.as_bytes())?;
    m1.output("cd /var/lib/sealift && sha256sum --quiet --check /run/sums")?;
    Ok(())
}
