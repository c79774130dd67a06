//! How far the shared site has come; each stage is reached once, whoever needs it first.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use tests::bed;
use tests::bed::Bed;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::cluster_bundle::ClusterBundle;
use tests::cluster_parts::Parts;
use tests::process::wait_for;
use tests::real_site::Becoming;
use tests::real_site::RealSite;
use tests::real_site::at_once;
use tests::real_site::wait_for_nodes;
use tests::scenarios::step;

use crate::secrets::watching_commands;

/// The machines of the finished cluster, sorted.
pub(crate) const NODES: [&str; 4] = ["m1", "m2", "m3", "w1"];

/// The masters among them.
pub(crate) const MASTERS: [&str; 3] = ["m1", "m2", "m3"];

/// Stages that a site goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// One machine is a master.
    FirstMaster,
    /// Three masters and a worker.
    FourNodes,
}

/// The shared site.
#[derive(Debug, Default)]
pub(crate) struct Story {
    site: Option<RealSite>,
    nodes: BTreeMap<String, Node>,
    reached: Option<Stage>,
    /// What was being brought about, when it has failed.
    failed: Option<Stage>,
    /// Tokens of the scripts that were pasted.
    tokens: Vec<String>,
    /// Command lines that were seen on all machines while others joined.
    commands: BTreeSet<String>,
}

/// Why there can be no cluster on this machine.
pub(crate) fn obstacle() -> Option<String> {
    Parts::find().err().or_else(bed::obstacle)
}

impl Story {
    /// The site; made when it is asked for the first time.
    pub(crate) fn site(&mut self) -> Result<&RealSite> {
        if self.site.is_none() {
            let parts = Parts::find().map_err(anyhow::Error::msg)?;
            let bundle = step("the signed bundle", || ClusterBundle::build(&parts))?;
            self.site = Some(RealSite::on(Bed::new()?, bundle)?);
        }
        self.site.as_ref().context("the site was just made")
    }

    /// A machine by name.
    pub(crate) fn node(&self, name: &str) -> Result<Node> {
        let node = self.nodes.get(name);
        Ok(node
            .with_context(|| format!("there is no machine {name}"))?
            .clone())
    }

    /// Remembers a machine.
    pub(crate) fn add(&mut self, node: Node) {
        self.nodes.insert(node.name.clone(), node);
    }

    /// Tokens of the scripts that were pasted.
    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Command lines that were seen on all machines while others joined.
    pub(crate) const fn commands(&self) -> &BTreeSet<String> {
        &self.commands
    }

    /// A site with one master; gives it.
    pub(crate) fn first_master(&mut self) -> Result<Node> {
        self.reach(Stage::FirstMaster, Self::make_first_master)?;
        self.node("m1")
    }

    /// A site with three masters and a worker; gives the first master.
    pub(crate) fn four_nodes(&mut self) -> Result<Node> {
        self.first_master()?;
        self.reach(Stage::FourNodes, Self::make_four_nodes)?;
        self.node("m1")
    }

    fn reach(&mut self, stage: Stage, make: fn(&mut Self) -> Result<()>) -> Result<()> {
        if let Some(failed) = self.failed {
            bail!("the site did not come to {failed:?} in an earlier scenario");
        }
        if self.reached >= Some(stage) {
            return Ok(());
        }
        self.failed = Some(stage);
        make(self)?;
        self.failed = None;
        self.reached = Some(stage);
        Ok(())
    }

    fn make_first_master(&mut self) -> Result<()> {
        let site = self.site()?;
        let m1 = step("m1 boots", || {
            site.machine_with_media("m1", NodePlan::default())
        })?;
        step("m1: installer trust add", || site.trust(&m1))?;
        step("m1: installer install", || {
            site.install(&m1, "--yes")?.succeeded()
        })?;
        step("m1 is Ready", || wait_for_nodes(&m1, &["m1"]))?;
        self.add(m1);
        Ok(())
    }

    fn make_four_nodes(&mut self) -> Result<()> {
        let m1 = self.node("m1")?;
        let site = self.site()?;
        step("m1: installer install … ha", || {
            site.install(&m1, "ha --yes")?.succeeded()
        })?;
        let [m2, m3, w1] = step("m2, m3 and w1 boot", || site.machines(["m2", "m3", "w1"]))?;
        let masters = step("m1: installer join-script --master", || {
            site.join_script(&m1, Becoming::Master)
        })?;
        let workers = site.join_script(&m1, Becoming::Worker)?;
        let ((), commands) = watching_commands(site.bed(), || {
            step("m2 and m3 join at the same instant", || {
                let pastes = [&m2, &m3].map(|node| || RealSite::paste(node, &masters)?.succeeded());
                at_once(pastes.into())
                    .into_iter()
                    .try_for_each(|join| join.map(drop))
            })?;
            step("w1 joins", || {
                RealSite::paste(&w1, &workers)?.succeeded().map(drop)
            })
        })?;
        step("every node is Ready", || wait_for_nodes(&m1, &NODES))?;
        self.commands = commands;
        self.tokens = [&masters, &workers]
            .iter()
            .filter_map(|script| token_of(script))
            .collect();
        for node in [m2, m3, w1] {
            self.add(node);
        }
        Ok(())
    }
}

/// The secret that a join script carries.
fn token_of(script: &str) -> Option<String> {
    let line = script
        .lines()
        .find_map(|line| line.strip_prefix("Authorization: Bearer "));
    line.map(|token| token.trim().to_owned())
}

/// Waits until a look succeeds; what it saw last is in the message when it never does.
pub(crate) fn wait_until(what: &str, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    wait_for(what, || look().map_err(|error| format!("{error:#}")))
}
