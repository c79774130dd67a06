//! The join broker on a real etcd and a real API server, without a kubelet: machines that join do to etcd exactly what
//! `kubeadm join` does, each step once, so that whatever the broker lets through at the wrong moment is an error here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

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
use tests::skip;
use tokio::runtime::Runtime;

/// As in production but for the waiting: etcd's own rule of 5 s stays.
const QUICK: Pace = Pace {
    lease: LeasePace {
        duration: Duration::from_secs(8),
        renew: Duration::from_secs(1),
    },
    silence: Duration::from_secs(4),
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

#[test]
fn two_masters_join_at_the_same_instant_ten_times() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [one, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    for round in 0..10 {
        let begun = Instant::now();
        let (mut m2, mut m3) = (Machine::new(2, 'a')?, Machine::new(3, 'b')?);
        // Every second time both ask one daemon.
        let second = if round % 2 == 0 { &other } else { &one };
        scene.join(&mut [(&one, &mut m2), (second, &mut m3)])?;
        assert_eq!(scene.members()?, ["m1", "m2", "m3"], "round {round}");
        scene.require_nothing_left()?;
        let last = [&m2, &m3].map(|machine| match &machine.state {
            State::Done(joined) => joined.etcd_members,
            State::Waits | State::Adds | State::Promotes | State::Registers => 0,
        });
        assert_eq!(BTreeSet::from(last), BTreeSet::from([2, 3]));
        assert!(
            [&m2, &m3]
                .iter()
                .any(|machine| machine.positions.contains(&1))
        );
        println!("round {round}: {:.1} s", begun.elapsed().as_secs_f64());
        scene.remove(vec![m3, m2])?;
    }
    Ok(())
}

#[test]
fn five_masters_grow_from_three_at_once() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [one, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    let mut machines = [2, 3, 4, 5].map(|number| Machine::new(number, 'a'));
    let [Ok(m2), Ok(m3), Ok(m4), Ok(m5)] = &mut machines else {
        anyhow::bail!("four machines");
    };
    scene.join(&mut [(&one, m2), (&other, m3), (&one, m4), (&other, m5)])?;
    assert_eq!(scene.members()?, ["m1", "m2", "m3", "m4", "m5"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_that_dies_in_the_middle_lets_the_next_one_in() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let daemon = scene.daemon("m1")?;
    let mut dying = Machine::new(2, 'a')?;
    wait_for("m2 to have its learner", || {
        let stepped = scene.step(&mut [(&daemon, &mut dying)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        dying.is_half_a_member()
    })?;
    drop(dying);
    let died = Instant::now();
    let mut next = Machine::new(3, 'b')?;
    scene.join(&mut [(&daemon, &mut next)])?;
    println!(
        "the next master was done {:.1} s later",
        died.elapsed().as_secs_f64()
    );
    assert_eq!(scene.members()?, ["m1", "m3"]);
    scene.require_nothing_left()?;
    // The dead machine comes back with a new try.
    let mut again = Machine::new(2, 'c')?;
    scene.join(&mut [(&daemon, &mut again)])?;
    assert_eq!(scene.members()?, ["m1", "m2", "m3"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_that_was_killed_begins_again_without_its_old_learner() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let daemon = scene.daemon("m1")?;
    let mut killed = Machine::new(2, 'a')?;
    wait_for("m2 to have its learner", || {
        let stepped = scene.step(&mut [(&daemon, &mut killed)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        killed.is_half_a_member()
    })?;
    let before = scene.plane.members()?;
    drop(killed);
    // The same try, at once, with nothing of its data: its learner would never catch up.
    let mut again = Machine::new(2, 'a')?;
    scene.join(&mut [(&daemon, &mut again)])?;
    let after = scene.plane.members()?;
    assert_eq!(scene.members()?, ["m1", "m2"]);
    assert!(
        after
            .iter()
            .filter(|member| before.contains(member))
            .count()
            == 1
    );
    scene.require_nothing_left()
}

#[test]
fn a_machine_that_dies_together_with_its_master_lets_the_next_one_in() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [dying_daemon, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    let mut dying = Machine::new(2, 'a')?;
    wait_for("m2 to have its learner", || {
        let stepped = scene.step(&mut [(&dying_daemon, &mut dying)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        dying.is_half_a_member()
    })?;
    drop(dying);
    drop(dying_daemon);
    assert!(scene.holder()?.starts_with("m2 "));
    let died = Instant::now();
    let mut next = Machine::new(3, 'b')?;
    scene.join(&mut [(&other, &mut next)])?;
    assert!(died.elapsed() >= QUICK.lease.duration);
    println!(
        "the next master was done {:.1} s later",
        died.elapsed().as_secs_f64()
    );
    assert_eq!(scene.members()?, ["m1", "m3"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_whose_master_dies_goes_on_through_another_one() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [dying, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    let mut m2 = Machine::new(2, 'a')?;
    let mut m3 = Machine::new(3, 'b')?;
    wait_for("m2 to want its vote", || {
        let stepped = scene.step(&mut [(&dying, &mut m2), (&dying, &mut m3)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        m2.is_half_a_member().or_else(|_| m3.is_half_a_member())
    })?;
    drop(dying);
    scene.join(&mut [(&other, &mut m2), (&other, &mut m3)])?;
    assert_eq!(scene.members()?, ["m1", "m2", "m3"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_with_a_taken_name_is_refused_and_nobody_waits_for_it() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let daemon = scene.daemon("m1")?;
    let twin = TurnWish {
        who: Attempt {
            node: "m1".parse()?,
            attempt: "d".repeat(32),
        },
        address: IpAddr::from([10, 1, 1, 1]),
        machine_id: "ANOTHER".to_owned(),
        doing: "joins".to_owned(),
        begins: true,
    };
    let refused = scene.runtime.block_on(daemon.turn(Role::Master, twin));
    assert!(matches!(refused, Err(JoinError::NameTaken(_))));
    assert_eq!(scene.members()?, ["m1"]);
    let mut m2 = Machine::new(2, 'a')?;
    scene.join(&mut [(&daemon, &mut m2)])?;
    assert_eq!(m2.positions.iter().max(), Some(&0));
    scene.require_nothing_left()
}
