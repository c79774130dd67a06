//! `syncd`: who this node is to its peers, its configuration, and its two units: the daemon and the forwarder to the API.
//!
//! `members.json` and `endpoint.json` are seeds: from the first start on the daemon keeps them, so one that is there is
//! left alone.

use std::time::Duration;

use api::endpoint::Endpoint;
use api::endpoint::Facts;
use api::join::Master;
use api::join::Role;
use api::members::Members;
use bundle::Digest;
use program::Outcome;

use super::Ground;
use super::containerd::IMAGES_PORT;
use super::input_of;
use crate::machine::Mode;
use crate::machine::wait_for;
use crate::render::units;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::syncd;
use crate::tools::systemctl;

const CONFIG: &str = "/etc/sealift/syncd.toml";
const CA: &str = "/etc/sealift/ca.pem";
const CA_KEY: &str = "/etc/sealift/ca.key";
const CERTIFICATE: &str = "/etc/sealift/node.pem";
const KEY: &str = "/etc/sealift/node.key";

const DAEMON: &str = "syncd.service";
const FORWARDER: &str = "syncd-endpoint.service";

/// How long the daemon may take to open its store.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Brings the daemon and the forwarder up.
pub(crate) struct Syncd<'a> {
    pub(crate) ground: &'a Ground<'a>,
    /// The cluster's life, where this node founds its authority; a node that joins has its certificate already.
    pub(crate) founds: Option<String>,
    /// All masters that are known, this node not among them.
    pub(crate) masters: &'a [Master],
}

impl Syncd<'_> {
    fn config(&self) -> String {
        let site = self.ground.site;
        let role = match site.role {
            Role::Master => "master",
            Role::Worker => "worker",
        };
        format!(
            "# Written by Sealift's installer.\nnode = \"{}\"\nrole = \"{role}\"\n",
            site.node
        )
    }

    fn members(&self) -> Members {
        let site = self.ground.site;
        let mut members = Members::default();
        for master in self.masters {
            members.admit(&master.name, (master.address, api::members::PORT).into());
        }
        // Who joins is no master until the broker says so, and hears it from the others.
        if self.founds.is_some() {
            members.admit(&site.node, (site.address, api::members::PORT).into());
        }
        members
    }

    fn endpoint(&self, members: &Members) -> Endpoint {
        let site = self.ground.site;
        Endpoint::plan(&Facts {
            node: &site.node,
            role: site.role,
            address: site.address,
            endpoint: &site.endpoint,
            load_balancer: site.load_balancer.as_deref(),
            first_master: &site.first_master,
            members,
        })
    }

    fn has_identity(&self) -> bool {
        let machine = self.ground.machine;
        let authority = self.founds.is_none() || machine.has(CA_KEY);
        authority && [CA, CERTIFICATE, KEY].iter().all(|file| machine.has(file))
    }

    /// Makes the authority and the node's certificate; half of a pair is a killed try's, and worth nothing.
    fn make_identity(&self) -> Outcome {
        let (machine, site) = (self.ground.machine, self.ground.site);
        let Some(life) = &self.founds else {
            return Ok(());
        };
        if !machine.has(CA) {
            machine.remove(CA_KEY)?;
            syncd::make_authority(machine, life)?;
        }
        if !machine.has(CERTIFICATE) {
            machine.remove(KEY)?;
            syncd::issue(machine, &site.node, site.role)?;
        }
        Ok(())
    }

    fn seed(&self) -> Outcome {
        let machine = self.ground.machine;
        let members = self.members();
        if !machine.has(api::members::FILE) {
            machine.place(
                api::members::FILE,
                members.to_bytes()?.as_slice(),
                Mode::Plain,
            )?;
        }
        if !machine.has(api::endpoint::FILE) {
            let endpoint = self.endpoint(&members).to_bytes()?;
            machine.place(api::endpoint::FILE, endpoint.as_slice(), Mode::Plain)?;
        }
        Ok(())
    }

    fn units(&self) -> [units::Unit; 2] {
        [
            units::syncd(),
            units::endpoint(&self.ground.site.cluster_id),
        ]
    }

    fn has_hosts_line(&self) -> Outcome<bool> {
        let wanted = units::hosts_line(&self.ground.site.cluster_id);
        let hosts = self.ground.machine.read("/etc/hosts")?.unwrap_or_default();
        Ok(hosts.lines().any(|line| line.trim() == wanted))
    }

    fn listens() -> Result<(), String> {
        let loopback = [127, 0, 0, 1].into();
        for port in [IMAGES_PORT, api::endpoint::PORT] {
            if !syncd::listens(loopback, port) {
                return Err(format!("nobody listens on 127.0.0.1:{port}"));
            }
        }
        Ok(())
    }
}

impl Step for Syncd<'_> {
    fn id(&self) -> &'static str {
        "syncd"
    }

    fn input(&self) -> Digest {
        let [daemon, forwarder] = self.units();
        input_of(&[&self.config(), &daemon.1, &forwarder.1])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let machine = self.ground.machine;
        let units = self.units();
        let good = self.has_identity()
            && machine.holds(CONFIG, &self.config(), Mode::Plain)
            && machine.has(api::members::FILE)
            && machine.has(api::endpoint::FILE)
            && self.has_hosts_line()?
            && units.iter().all(|unit| {
                systemctl::is_written(machine, unit) && systemctl::is_enabled(machine, unit.0)
            })
            && systemctl::is_active(machine, DAEMON)
            && systemctl::is_active(machine, FORWARDER)
            && Self::listens().is_ok();
        let name = self.ground.site.cluster_id.endpoint_name();
        Ok(good.then(|| format!("runs; {name} is this node")))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let machine = self.ground.machine;
        self.make_identity()?;
        let mut changed = machine.write(CONFIG, &self.config(), Mode::Plain)?;
        self.seed()?;
        if !self.has_hosts_line()? {
            let mut hosts = machine.read("/etc/hosts")?.unwrap_or_default();
            if !hosts.is_empty() && !hosts.ends_with('\n') {
                hosts.push('\n');
            }
            hosts.push_str(&units::hosts_line(&self.ground.site.cluster_id));
            hosts.push('\n');
            machine.write("/etc/hosts", &hosts, Mode::Plain)?;
        }
        let mut reload = false;
        for unit in &self.units() {
            reload |= systemctl::write(machine, unit)?;
        }
        if reload {
            systemctl::reload(machine)?;
            changed = true;
        }
        work.doing("starting");
        for service in [DAEMON, FORWARDER] {
            if !systemctl::is_enabled(machine, service) {
                systemctl::enable(machine, service)?;
            }
            if changed && systemctl::is_active(machine, service) {
                systemctl::restart(machine, service)?;
            } else {
                systemctl::start(machine, service)?;
            }
        }
        wait_for("syncd listens", START_LIMIT, Self::listens)
    }
}
