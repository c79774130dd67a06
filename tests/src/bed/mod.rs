//! A bed: several machines on one, each a node with namespaces of its own and systemd as its first process.
//!
//! A node is an overlay of one Debian root file system in its own mount, process, network, host name, IPC and control
//! group namespaces; a bridge in a network namespace connects a bed's nodes. Nothing but util-linux, iproute2, nftables
//! and mmdebstrap is needed, and root. The machine's own network is never touched. Dropping a bed removes all of it, and
//! the next bed on the machine removes those whose owners were killed.

mod base;
mod groups;
mod lan;
mod node;
mod place;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

pub use self::lan::Outside;
pub use self::node::Node;
pub use self::node::NodePlan;
use self::place::Place;
pub use self::place::beds;
use crate::process;
use crate::real_parts;
use crate::scenarios;

/// The first node's address ends with this; the administrator has 1.
const FIRST: u8 = 11;

/// Machines on one network.
#[derive(Debug)]
pub struct Bed {
    place: Arc<Place>,
    is_kept: bool,
    making: Mutex<()>,
}

impl Bed {
    /// Makes a bed without nodes; it is removed when it is dropped.
    pub fn new() -> Result<Self> {
        Self::at(Place::create()?, false)
    }

    /// Makes a bed that stays when this program ends, under a name.
    pub fn new_kept(name: &str) -> Result<Self> {
        Self::at(Place::create_kept(name)?, true)
    }

    fn at(place: Place, is_kept: bool) -> Result<Self> {
        let bed = Self {
            place: Arc::new(place),
            is_kept,
            making: Mutex::new(()),
        };
        lan::create(&bed.place)?;
        Ok(bed)
    }

    /// A bed that was made by [`Bed::new_kept`]; `None` when there is none of this name.
    pub fn open(name: &str) -> Result<Option<Self>> {
        let place = Place::open_kept(name)?;
        Ok(place.map(|place| Self {
            place: Arc::new(place),
            is_kept: true,
            making: Mutex::new(()),
        }))
    }

    /// Its name on this machine: in control groups, network namespaces and the folder below [`beds`].
    pub fn id(&self) -> &str {
        &self.place.id
    }

    /// Its folder.
    pub fn folder(&self) -> &std::path::Path {
        &self.place.folder
    }

    /// Makes a node; it does not run yet.
    pub fn create(&self, name: &str, plan: &NodePlan) -> Result<Node> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.nodes()?;
        let free = (FIRST..=254).find(|last| {
            let address = lan::address(*last);
            taken.iter().all(|node| node.address != address)
        });
        Node::create(&self.place, name, free.context("the bed is full")?, plan)
    }

    /// Makes a node and switches it on.
    pub fn start(&self, name: &str, plan: &NodePlan) -> Result<Node> {
        let node = self.create(name, plan)?;
        node.start()?;
        Ok(node)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(self.place.folder.join("nodes"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        names
            .iter()
            .map(|name| Node::open(&self.place, name))
            .collect()
    }

    /// A command of this machine on the bed's network, where the administrator sits.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        lan::command(&self.place, program, arguments)
    }

    /// These two nodes do not see each other, everybody else sees both, until [`Bed::clear`].
    pub fn split(&self, one: &Node, other: &Node) -> Result<()> {
        let rule = |from: &Node, to: &Node| {
            format!("ip saddr {} ip daddr {} drop", from.address, to.address)
        };
        lan::filter(&self.place, &weather(&[rule(one, other), rule(other, one)]))
    }

    /// Ends every split and loss.
    pub fn clear(&self) -> Result<()> {
        lan::filter(
            &self.place,
            "table bridge weather\ndelete table bridge weather\n",
        )
    }

    /// What nodes have sent to addresses outside the bed since it was made.
    pub fn outside(&self) -> Result<Outside> {
        lan::outside(&self.place)
    }

    /// Removes a kept bed.
    pub fn remove(self) -> Result<()> {
        ensure!(
            self.is_kept,
            "a bed that is not kept is removed by dropping it"
        );
        self.place.remove()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = self.place.remove() {
            // The next bed on this machine tries again; a test that looks for remains fails.
            scenarios::note(&format!(
                "the bed {} could not be removed: {error:#}",
                self.place.id
            ));
        }
    }
}

/// Rules between nodes, in the table that [`Bed::clear`] removes.
fn weather(rules: &[String]) -> String {
    let chain = "chain forward {\n    type filter hook forward priority 0;\n  }";
    let mut text = format!("table bridge weather {{\n  {chain}\n}}\n");
    for rule in rules {
        text.push_str("add rule bridge weather forward ");
        text.push_str(rule);
        text.push('\n');
    }
    text
}

/// Why there can be no beds on this machine; `None` when there can. Looked for once a process.
pub fn obstacle() -> Option<String> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND.get_or_init(find_obstacle).clone()
}

fn find_obstacle() -> Option<String> {
    if !real_parts::is_root() {
        return Some("not root, so no nodes can be made".to_owned());
    }
    let mut namespaces = process::command(
        "unshare",
        [
            "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork",
        ],
    );
    namespaces.args(["mount", "-t", "tmpfs", "none", "/mnt"]);
    match process::run(&mut namespaces).and_then(process::Finished::succeeded) {
        Err(error) => Some(format!("no namespaces can be made: {error:#}")),
        Ok(_) => base::folder()
            .err()
            .map(|error| format!("no root file system for nodes: {error:#}")),
    }
}
