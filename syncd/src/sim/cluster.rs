//! Nodes on simulated machines: start, crash, lose their disks, and import like another process would.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use api::sync::Boot;
use api::sync::NodeName;
use api::sync::Status;
use api::sync::Wait;
use bundle::Digest;
use bundle::pieces::PieceList;
use store::SimFs;
use store::Store;
use store::StoreError;
use store::fs::sim::Survival;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::net::SimNet;
use super::vendor::INCARNATION;
use super::vendor::Release;
use super::vendor::SimJudge;
use super::vendor::Vendor;
use crate::Syncd;
use crate::contents::ContentBlob;
use crate::contents::Judge;
use crate::contents::TrustJudge;
use crate::env::Offload;
use crate::handle::Handle;
use crate::node::Node;
use crate::settings::Bandwidth;
use crate::settings::Budget;
use crate::settings::Settings;
use crate::settings::Timing;

/// Simulated time of one step.
pub(super) const STEP: Duration = Duration::from_millis(25);

/// A simulated machine.
pub(super) struct Machine {
    pub(super) name: NodeName,
    disk: Arc<Mutex<SimFs>>,
    pub(super) probe: Arc<Mutex<Option<Probe>>>,
    /// Comes up again then.
    pub(super) down_until: Option<Duration>,
    /// Imports that an operator wants, and repeats until they are done.
    pub(super) imports: VecDeque<Import>,
}

/// A look inside a running node.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) node: Arc<Node<SimFs>>,
    /// The last status that the node was asked for.
    status: Arc<Mutex<Option<Status>>>,
    commands: mpsc::UnboundedSender<Command>,
}

/// What the world outside tells a node.
#[derive(Debug)]
enum Command {
    Imported(Digest),
    Suspect(Digest),
    ReplicateWith(Vec<NodeName>, Vec<NodeName>),
    Status,
}

/// An import that was acknowledged with copies on a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) release: Digest,
}

/// A cluster under simulation.
pub(super) struct Cluster {
    pub(super) sim: turmoil::Sim<'static>,
    pub(super) vendor: Arc<Vendor>,
    pub(super) machines: Vec<Machine>,
    pub(super) acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

/// What differs between nodes.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) seed: u64,
    pub(super) bandwidth: Bandwidth,
    /// Believes every record: a node that was taken over.
    pub(super) gullible: Vec<&'static str>,
}

impl Cluster {
    pub(super) fn new(names: &[&'static str], vendor: Vendor, options: &Options) -> Self {
        let mut sim = turmoil::Builder::new()
            .simulation_duration(Duration::from_hours(24))
            .tick_duration(STEP)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(30))
            .tcp_capacity(1024)
            .rng_seed(options.seed)
            .build();
        let vendor = Arc::new(vendor);
        let acknowledged = Arc::default();
        let mut machines = Vec::new();
        for (number, name) in (0_u64..).zip(names) {
            let fs = SimFs::new(options.seed * 31 + number);
            format(&fs, &vendor);
            let disk = Arc::new(Mutex::new(fs));
            let probe = Arc::new(Mutex::new(None));
            let start = Start {
                name: (*name).parse().unwrap(),
                peers: names.iter().map(|name| name.parse().unwrap()).collect(),
                disk: Arc::clone(&disk),
                vendor: Arc::clone(&vendor),
                options: options.clone(),
                number,
                boots: Arc::default(),
                probe: Arc::clone(&probe),
                acknowledged: Arc::clone(&acknowledged),
            };
            sim.host(*name, move || {
                let start = start.clone();
                let span = tracing::info_span!("node", name = %start.name);
                let run = async move {
                    // A node that can't start ends; the world starts it again.
                    let ended = start.run().await;
                    tracing::info!(?ended, "the node ended");
                    Ok(())
                };
                run.instrument(span)
            });
            machines.push(Machine {
                name: (*name).parse().unwrap(),
                disk,
                probe,
                down_until: None,
                imports: VecDeque::new(),
            });
        }
        Self {
            sim,
            vendor,
            machines,
            acknowledged,
        }
    }

    /// One step of simulated time; what fell over in it is noticed, what was to come up comes up.
    pub(super) fn step(&mut self) {
        self.sim.step().unwrap();
        let now = self.sim.elapsed();
        for at in 0..self.machines.len() {
            let machine = &self.machines[at];
            let up = self.sim.is_host_running(machine.name.as_str());
            match machine.down_until {
                Some(until) if until <= now => {
                    self.machines[at].down_until = None;
                    self.sim.bounce(self.machines[at].name.as_str());
                }
                None if !up => {
                    self.take_probe(at);
                    self.machines[at].down_until = Some(now + Duration::from_secs(1));
                }
                Some(_) | None => {}
            }
        }
    }

    /// Takes the power from a machine, and gives it back after `down`.
    pub(super) fn crash(&mut self, at: usize, survival: Survival, down: Duration) {
        let now = self.sim.elapsed();
        if self.machines[at].down_until.is_none() {
            self.sim.crash(self.machines[at].name.as_str());
        }
        self.take_probe(at);
        let machine = &mut self.machines[at];
        if let Some(import) = machine.imports.front_mut() {
            import.store = None;
        }
        machine.fs().crash(survival);
        machine.down_until = Some(now + down);
    }

    /// Gives a crashed machine an empty disk, prepared as for a new member.
    pub(super) fn replace_disk(&mut self, at: usize) {
        let machine = &self.machines[at];
        assert!(machine.down_until.is_some(), "a disk is replaced at rest");
        let fs = SimFs::new(0);
        format(&fs, &self.vendor);
        *machine.disk.lock().unwrap() = fs;
    }

    /// Goes on with the import at a machine, one piece of work a step.
    pub(super) fn import_step(&mut self, at: usize) {
        let vendor = Arc::clone(&self.vendor);
        let machine = &mut self.machines[at];
        let fs = machine.fs();
        let up = machine.down_until.is_none();
        let Some(import) = machine.imports.front_mut().filter(|_| up) else {
            return;
        };
        let release = &vendor.releases[import.release];
        let name = machine.name.to_string();
        match import.step(&fs, release, &name) {
            Ok(true) => {
                machine.imports.pop_front();
                self.command(at, Command::Imported(release.id()));
            }
            // Not done, or another process is at it: it goes on with the next step.
            Ok(false) | Err(StoreError::Busy { .. }) => {}
            Err(_failed) => import.store = None,
        }
    }

    /// Lets a node read a blob again.
    pub(super) fn suspect(&self, at: usize, blob: Digest) {
        self.command(at, Command::Suspect(blob));
    }

    /// Tells a node who the other members are from now on.
    pub(super) fn replicate_with(&self, at: usize, others: &[&str], guests: &[&str]) {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        self.command(at, Command::ReplicateWith(names(others), names(guests)));
    }

    /// The records that imports of a release make, one for each node.
    pub(super) fn records_of(&self, release: &Release) -> BTreeSet<Digest> {
        let machines = self.machines.iter();
        machines
            .map(|machine| {
                let counter = release.order.sequence;
                release.record(machine.name.as_str(), counter).digest()
            })
            .collect()
    }

    /// Whether a promised piece on a disk is what the vendor made.
    pub(super) fn piece_is_right(&self, at: usize, blob: &Digest, piece: u64) -> bool {
        let mut releases = self.vendor.releases.iter();
        let bytes = releases.find_map(|release| release.bytes.get(blob));
        let (_list, cut) = self.vendor.lists[blob];
        let range = cut.range(piece);
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let fs = self.machines[at].fs();
        let hex = blob.to_hex();
        let on_disk = fs.peek(&format!("incoming/{hex}/data"));
        let on_disk = on_disk
            .or_else(|| fs.peek(&format!("blobs/sha256/{hex}")))
            .unwrap();
        on_disk[range.clone()] == bytes.unwrap()[range]
    }

    /// Whether every node has everything that it knows of.
    pub(super) fn is_complete(&self) -> bool {
        self.machines.iter().all(|machine| {
            let probe = machine.probe.lock().unwrap();
            let holdings = &probe.as_ref().unwrap().node.holdings;
            let records = holdings.records();
            let releases = self.vendor.releases.iter();
            let known = releases.filter(|release| !self.records_of(release).is_disjoint(&records));
            let mut blobs = known.flat_map(|release| &release.blobs);
            blobs.all(|blob| holdings.has(&blob.digest))
        })
    }

    /// What every node holds, for the message of a failure.
    pub(super) fn picture(&self) -> String {
        let machines = self.machines.iter().map(|machine| {
            let probe = machine.probe.lock().unwrap();
            let inventory = probe.as_ref().map(|probe| probe.node.holdings.inventory());
            let import = machine.imports.front();
            match inventory {
                None => format!("{} is down", machine.name),
                Some(inventory) => format!(
                    "{}: {} blobs, {} partials, records {:?}, importing {:?}",
                    machine.name,
                    inventory.blobs.len(),
                    inventory.partials.len(),
                    inventory.records,
                    import.map(|import| import.release),
                ),
            }
        });
        machines.collect::<Vec<_>>().join("; ")
    }

    fn command(&self, at: usize, command: Command) {
        let probe = self.machines[at].probe.lock().unwrap();
        // A node that is down reads everything when it comes up.
        let _down = probe.as_ref().map(|probe| probe.commands.send(command));
    }

    fn take_probe(&self, at: usize) {
        self.machines[at].probe.lock().unwrap().take();
    }
}

impl Probe {
    /// Asks for the status, and gives the one that was asked for last.
    pub(super) fn status(&self) -> Option<Status> {
        let _ended = self.commands.send(Command::Status);
        self.status.lock().unwrap().clone()
    }
}

impl Machine {
    /// Its disk.
    pub(super) fn fs(&self) -> SimFs {
        self.disk.lock().unwrap().clone()
    }
}

/// Prepares an empty disk as a store that trusts the vendor.
fn format(fs: &SimFs, vendor: &Vendor) {
    let store = Store::create(fs.clone(), INCARNATION).unwrap();
    store.keep_trust(&vendor.trust).unwrap();
}

/// How a node starts, again and again.
#[derive(Clone)]
struct Start {
    name: NodeName,
    peers: Vec<NodeName>,
    disk: Arc<Mutex<SimFs>>,
    vendor: Arc<Vendor>,
    options: Options,
    number: u64,
    boots: Arc<Mutex<u64>>,
    probe: Arc<Mutex<Option<Probe>>>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

impl Start {
    async fn run(self) -> Result<(), StoreError> {
        let boots = {
            let mut boots = self.boots.lock().unwrap();
            *boots += 1;
            *boots
        };
        let boot = Boot::new(u128::from(self.number) << 64 | u128::from(boots));
        let fs = self.disk.lock().unwrap().clone();
        let store = Store::open(fs, Some(INCARNATION))?;
        let net = Arc::new(SimNet::bind().await.unwrap());
        let real = TrustJudge::new(store.clone());
        let is_gullible = self.options.gullible.contains(&self.name.as_str());
        let judge: Arc<dyn Judge> = if is_gullible {
            Arc::new(super::Gullible)
        } else {
            let lists = Arc::clone(&self.vendor.lists);
            Arc::new(SimJudge { real, lists })
        };
        let settings = self.settings(boot, boots);
        let syncd = Syncd::new(settings, store, net, judge, Offload::Inline);
        let (commands, told) = mpsc::unbounded_channel();
        let handle = syncd.handle();
        let status = Arc::default();
        let acknowledged = Arc::clone(&self.acknowledged);
        tokio::spawn(obey(told, handle, acknowledged, Arc::clone(&status)));
        *self.probe.lock().unwrap() = Some(Probe {
            node: syncd.node(),
            status,
            commands,
        });
        syncd.run(std::future::pending()).await
    }

    fn settings(&self, boot: Boot, boots: u64) -> Settings {
        let mut peers = self.peers.clone();
        peers.retain(|peer| *peer != self.name);
        Settings {
            node: self.name.clone(),
            peers,
            boot,
            seed: self.options.seed ^ (self.number << 32) ^ boots,
            bandwidth: self.options.bandwidth,
            timing: Timing {
                full_pass: Duration::from_secs(90),
                backoff: (Duration::from_secs(1), Duration::from_secs(20)),
                ..Timing::default()
            },
            budget: Budget {
                open_blobs: 4,
                in_flight_bytes: 256 << 10,
                ..Budget::default()
            },
        }
    }
}

/// Carries out what the world tells, and keeps what the node acknowledges.
async fn obey(
    mut told: mpsc::UnboundedReceiver<Command>,
    handle: Handle,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    status: Arc<Mutex<Option<Status>>>,
) {
    while let Some(command) = told.recv().await {
        match command {
            Command::Suspect(blob) => drop(handle.suspect(blob).await),
            Command::ReplicateWith(others, guests) => {
                let _stopped = handle.replicate_with(others, guests).await;
            }
            Command::Status => *status.lock().unwrap() = handle.status().await.ok(),
            Command::Imported(release) => {
                let _stopped = handle.rescan().await;
                let (handle, acknowledged) = (handle.clone(), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    let waited = handle.wait_copies(release, Wait::Majority, None).await;
                    if waited.is_ok() {
                        acknowledged.lock().unwrap().push(Acknowledged { release });
                    }
                });
            }
        }
    }
}

/// An import: blobs first, the record last, a little in each step.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) release: usize,
    /// The store as another process has it open.
    store: Option<Store<SimFs>>,
    at: usize,
    counter: u64,
}

/// Pieces that an import writes in one step.
const IMPORT_PIECES: u64 = 8;

impl Import {
    pub(super) const fn new(release: usize, counter: u64) -> Self {
        Self {
            release,
            store: None,
            at: 0,
            counter,
        }
    }

    /// Works a little; says whether it is done. After an error it begins anew.
    fn step(&mut self, fs: &SimFs, release: &Release, origin: &str) -> Result<bool, StoreError> {
        if self.store.is_none() {
            self.store = Some(Store::open(fs.clone(), Some(INCARNATION))?);
            self.at = 0;
        }
        let store = self.store.as_ref().unwrap();
        let Some(blob) = release.blobs.get(self.at) else {
            store.put_record(&release.record(origin, self.counter))?;
            return Ok(true);
        };
        if import_blob(store, blob, release)? {
            self.at += 1;
        }
        Ok(false)
    }
}

/// Imports a part of a blob; says whether it is complete.
fn import_blob(
    store: &Store<SimFs>,
    blob: &ContentBlob,
    release: &Release,
) -> Result<bool, StoreError> {
    let bytes = &release.bytes[&blob.digest];
    if store.has(&blob.digest)? {
        return Ok(true);
    }
    let Some(list) = blob.list else {
        store.put_batch([(blob.digest, bytes.clone())])?;
        return Ok(true);
    };
    let list = PieceList::parse(&release.bytes[&list]).unwrap();
    let Some(partial) = store.partial(&blob.digest, blob.cut, Some(list))? else {
        return Ok(true);
    };
    let present = partial.pieces();
    let missing = (0..blob.cut.count()).filter(|piece| !present.contains(*piece));
    for piece in missing.take(usize::try_from(IMPORT_PIECES).unwrap()) {
        let range = blob.cut.range(piece);
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        partial.write_piece(piece, &bytes[range])?;
    }
    if !partial.pieces().is_full() {
        partial.checkpoint()?;
        return Ok(false);
    }
    partial.publish()?;
    Ok(true)
}

/// A limit of so many KiB a second on every link.
pub(super) fn slow(kib: u64) -> Bandwidth {
    let limit = NonZeroU64::new(kib << 10);
    Bandwidth {
        send: limit,
        receive: limit,
        ..Bandwidth::default()
    }
}
