//! The join broker on a real etcd and a real API server, without a kubelet: machines that join do to etcd exactly what
//! `kubeadm join` does, each step once, so that whatever the broker lets through at the wrong moment is an error here.

mod stories;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use api::join::Attempt;
use api::join::Joined;
use api::join::Master;
use api::join::Role;
use api::join::Turn;
use api::join::TurnWish;
use api::site::ClusterId;
use api::site::NodeSite;
use api::sync::NodeName;
use bundle::Digest;
use program::FileError;
use syncd::join::Broker;
use syncd::join::JoinError;
use syncd::join::Pace;
use syncd::join::Plane;
use syncd::join::PlaneFiles;
use syncd::join::Roster;
use syncd::lease::LeasePace;
use tests::cluster_parts::Parts;
use tests::control_plane::ControlPlane;
use tests::process::Finished;
use tests::process::Running;
use tests::process::wait_for;
use tokio::runtime::Runtime;

/// As in production but for the waiting: etcd's own rule of 5 s stays. The machines of a scene take their steps one after
/// the other, so silence is longer than several of them take on a busy machine.
const QUICK: Pace = Pace {
    lease: LeasePace {
        duration: Duration::from_secs(20),
        renew: Duration::from_secs(1),
    },
    silence: Duration::from_secs(15),
    settle: Duration::from_secs(6),
    tick: Duration::from_millis(250),
    done: Duration::from_secs(1),
    clearing: Duration::from_secs(20),
};

/// One control plane at a time: each has an API server, and its times are measured.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A site of one master, with daemons that broker joins.
struct Scene {
    plane: ControlPlane,
    runtime: Runtime,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A machine on its way to become a master.
struct Machine {
    number: u8,
    who: Attempt,
    state: State,
    etcd: Option<Running>,
    /// Every state of the queue that it was told.
    positions: BTreeSet<u32>,
}

enum State {
    Waits,
    Adds,
    Promotes,
    Registers,
    Done(Joined),
}

/// The masters that a daemon has admitted.
#[derive(Debug, Default)]
struct Admitted(Mutex<BTreeSet<NodeName>>);

impl Admitted {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<NodeName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roster for Admitted {
    fn has(&self, node: &NodeName) -> bool {
        self.lock().contains(node)
    }

    fn admit(&self, master: &Master) -> Result<(), FileError> {
        self.lock().insert(master.name.clone());
        Ok(())
    }
}

impl Scene {
    fn set(parts: &Parts) -> Result<Self> {
        let turn = alone();
        let folder = tempfile::tempdir()?;
        let plane = ControlPlane::start(parts, folder.path())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        plane.make_node("m1", plane.address(1), true)?;
        let scene = Self {
            plane,
            runtime,
            folder,
            _turn: turn,
        };
        scene.write_site()?;
        Ok(scene)
    }

    fn write_site(&self) -> Result<()> {
        let cluster_id = ClusterId::from_random([3; 10]);
        let site = NodeSite {
            endpoint: cluster_id.endpoint(),
            cluster_id,
            node: "m1".parse()?,
            role: Role::Master,
            address: [10, 9, 9, 9].into(),
            vendor: "acme".parse()?,
            kubernetes: Digest::of(b"bundle"),
            first_master: "m1".parse()?,
            load_balancer: None,
            ha: true,
            taint_control_plane: false,
        };
        std::fs::write(self.sealift().join("site.json"), site.to_json())?;
        Ok(())
    }

    fn sealift(&self) -> &Path {
        self.folder.path()
    }

    /// The daemon of a master: all of them reach the one control plane, each under its own name.
    fn daemon(&self, name: &str) -> Result<Broker> {
        let plane = Plane::new(PlaneFiles {
            kubernetes: self.plane.kubernetes(),
            etcd: self.plane.etcd_url(1),
            kubeadm: self.plane.kubeadm()?,
            sealift: self.sealift().to_owned(),
            api_port: self.plane.api_port,
        });
        let _inside = self.runtime.enter();
        Ok(Broker::start(
            name.parse()?,
            Arc::new(plane),
            Arc::new(Admitted::default()),
            None,
            QUICK,
        ))
    }

    /// Lets machines join until all are done; each asks the daemon beside it. Nothing may go wrong, not even once.
    fn join(&self, joining: &mut [(&Broker, &mut Machine)]) -> Result<()> {
        wait_for("all machines to have joined", || {
            let stepped = self.step(joining).map_err(|error| format!("{error:#}"));
            match stepped {
                Err(error) => Ok(Err(anyhow::anyhow!(error))),
                Ok(true) => Ok(Ok(())),
                Ok(false) => {
                    let at = joining.iter();
                    let at: Vec<_> = at.map(|(_, machine)| machine.at()).collect();
                    Err(at.join(", "))
                }
            }
        })?
    }

    /// One step of every machine, all turns asked for at the same instant; whether all are done.
    fn step(&self, joining: &mut [(&Broker, &mut Machine)]) -> Result<bool> {
        let turns: Vec<_> = joining
            .iter()
            .map(|(broker, machine)| {
                let (broker, wish) = ((*broker).clone(), machine.wish(self));
                let is_done = matches!(machine.state, State::Done(_));
                self.runtime.spawn(async move {
                    if is_done {
                        return None;
                    }
                    Some(broker.turn(Role::Master, wish).await)
                })
            })
            .collect();
        for ((broker, machine), turn) in joining.iter_mut().zip(turns) {
            if let Some(turn) = self.runtime.block_on(turn)? {
                machine.step(self, broker, turn)?;
            }
        }
        let members = self.plane.members()?;
        let learners = members.iter().filter(|member| member.is_learner).count();
        ensure!(learners <= 1, "two learners at once: {members:?}");
        let mut machines = joining.iter();
        Ok(machines.all(|(_, machine)| matches!(machine.state, State::Done(_))))
    }

    /// Takes masters out again, as their reset would.
    fn remove(&self, machines: Vec<Machine>) -> Result<()> {
        for machine in machines {
            let name = machine.name();
            let members = self.plane.members()?;
            let member = members.iter().find(|member| member.name == name);
            let id = &member.context("the machine is a member")?.id;
            // Etcd takes no change within 5 s of the last one.
            wait_for("etcd to let a member go", || {
                let removed = self.plane.try_etcdctl(&["member", "remove", id]);
                let removed = removed.map_err(|error| format!("{error:#}"))?;
                removed
                    .succeeded()
                    .map(drop)
                    .map_err(|error| format!("{error:#}"))
            })?;
            drop(machine.etcd);
            self.plane
                .kubectl(&["delete", "node", &name])?
                .succeeded()?;
        }
        Ok(())
    }

    /// Names of the members of etcd, learners marked with `~`.
    fn members(&self) -> Result<Vec<String>> {
        let members = self.plane.members()?.into_iter();
        let mut names: Vec<String> = members
            .map(|member| {
                format!(
                    "{}{}",
                    member.name,
                    if member.is_learner { "~" } else { "" }
                )
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// The holder of the lease; empty when it is free.
    fn holder(&self) -> Result<String> {
        let asked = self.plane.kubectl(&[
            "get",
            "lease",
            "-n",
            "kube-system",
            "sealift-control-plane-change",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ])?;
        Ok(asked.succeeded()?.stdout)
    }

    /// Fails when anything of a join is left in the cluster.
    fn require_nothing_left(&self) -> Result<()> {
        ensure!(self.holder()?.is_empty(), "the lease is held");
        let left = self.plane.kubectl(&[
            "get",
            "secrets,leases",
            "-n",
            "kube-system",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name} {end}",
        ])?;
        let left = left.succeeded()?.stdout;
        let of_a_join = |name: &&str| {
            name.starts_with("bootstrap-token-")
                || *name == "kubeadm-certs"
                || name.starts_with("sealift-join-")
        };
        let left: Vec<&str> = left.split_whitespace().filter(of_a_join).collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }
}

impl Machine {
    /// A machine that has done nothing yet; it is master number `number` of the bed, in its try `attempt`.
    fn new(number: u8, attempt: char) -> Result<Self> {
        Ok(Self {
            number,
            who: Attempt {
                node: format!("m{number}").parse()?,
                attempt: attempt.to_string().repeat(32),
            },
            state: State::Waits,
            etcd: None,
            positions: BTreeSet::new(),
        })
    }

    fn name(&self) -> String {
        format!("m{}", self.number)
    }

    fn at(&self) -> String {
        let at = match self.state {
            State::Waits => "waits",
            State::Adds => "adds its member",
            State::Promotes => "wants its vote",
            State::Registers => "registers",
            State::Done(_) => "is done",
        };
        format!("{} {at}, was at {:?}", self.name(), self.positions)
    }

    /// Whether etcd has it as a learner that has been started.
    fn is_half_a_member(&self) -> Result<(), String> {
        match self.state {
            State::Promotes => Ok(()),
            State::Waits | State::Adds | State::Registers | State::Done(_) => Err(self.at()),
        }
    }

    fn wish(&self, scene: &Scene) -> TurnWish {
        TurnWish {
            who: self.who.clone(),
            address: self.address(scene).into(),
            machine_id: self.name().to_uppercase(),
            doing: "joins".to_owned(),
            begins: matches!(self.state, State::Waits),
        }
    }

    fn address(&self, scene: &Scene) -> Ipv4Addr {
        scene.plane.address(self.number)
    }

    /// What `kubeadm join` does next.
    fn step(
        &mut self,
        scene: &Scene,
        broker: &Broker,
        turn: Result<Turn, JoinError>,
    ) -> Result<()> {
        let may_go = match turn {
            Ok(Turn::Wait { position, .. }) => {
                self.positions.insert(position);
                // Whoever is under way goes on, also when another daemon has taken over.
                position == 0 && !matches!(self.state, State::Waits)
            }
            Ok(Turn::Go { credentials }) => {
                ensure!(
                    credentials
                        .certificate_key
                        .is_some_and(|key| key.len() == 64)
                );
                true
            }
            // A first try of the API while etcd elects is no fault of the broker's.
            Err(error) if error.is_retryable() => return Ok(()),
            Err(error) => return Err(error).context(self.name()),
        };
        let began = !matches!(self.state, State::Waits);
        ensure!(may_go || !began, "{} has lost its turn", self.name());
        match self.state {
            State::Waits if may_go => self.state = State::Adds,
            State::Adds => self.add(scene)?,
            State::Promotes => self.promote(scene)?,
            State::Registers => self.tell_done(scene, broker)?,
            State::Waits | State::Done(_) => {}
        }
        Ok(())
    }

    fn add(&mut self, scene: &Scene) -> Result<()> {
        let added: Finished = scene.plane.add_learner(self.number)?.succeeded()?;
        self.etcd = Some(scene.plane.start_member(self.number, &added)?);
        self.state = State::Promotes;
        Ok(())
    }

    fn promote(&mut self, scene: &Scene) -> Result<()> {
        let members = scene.plane.members()?;
        let Some(own) = members.iter().find(|member| member.name == self.name()) else {
            // It has not started yet.
            return Ok(());
        };
        let promoted = scene.plane.try_etcdctl(&["member", "promote", &own.id])?;
        if promoted.code == Some(0) {
            let address = self.address(scene);
            scene.plane.make_node(&self.name(), address, true)?;
            self.state = State::Registers;
            return Ok(());
        }
        ensure!(
            promoted.stderr.contains("in sync with leader"),
            "{promoted}"
        );
        Ok(())
    }

    fn tell_done(&mut self, scene: &Scene, broker: &Broker) -> Result<()> {
        match scene
            .runtime
            .block_on(broker.done(Role::Master, self.who.clone()))
        {
            Ok(joined) => self.state = State::Done(joined),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error).context(self.name()),
        }
        Ok(())
    }
}

fn parts() -> Result<Parts, String> {
    Parts::find()
}
