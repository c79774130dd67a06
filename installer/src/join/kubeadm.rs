//! `join`: the turn, kubeadm, and the broker's word that it has seen this node from outside.
//!
//! 1. The wish for a turn is repeated until it is granted, and while kubeadm works: it is also the sign of life.
//! 2. What a killed try has left on this machine is taken back under the lease, unless this node's etcd has a vote
//!    already: then the rest of kubeadm's phases is done, for a voter must not lose its data.
//! 3. kubeadm joins; its credentials are in a file that only root can read and that is gone afterwards.
//! 4. `done` until the broker agrees.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use api::join::Attempt;
use api::join::Credentials;
use api::join::DONE_MS;
use api::join::Joined;
use api::join::Role;
use api::join::SILENCE_MS;
use api::join::TURN_MS;
use api::join::Turn;
use api::join::TurnWish;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fault;
use program::Failure;
use program::Outcome;

use super::Client;
use super::ClientError;
use crate::machine::Call;
use crate::machine::Machine;
use crate::machine::Mode;
use crate::render::kubeadm as render;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::steps::Ground;
use crate::steps::input_of;
use crate::tools::kubeadm;
use crate::tools::systemctl;

/// This step's id.
pub(crate) const STEP: &str = "join";

/// The fact that the broker has seen this node from outside.
pub(crate) const JOINED: &str = "joined";

/// The fact that kubeadm has done its part.
const KUBEADM_DONE: &str = "kubeadm-done";

const CONFIG: &str = "/var/lib/sealift-node/join/kubeadm.yaml";
const ATTEMPT: &str = "/var/lib/sealift-node/join/attempt";
const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";

/// How long the masters may be silent before a waiting machine gives up.
const SILENT_MAX: Duration = Duration::from_mins(5);

/// How long the broker may look before this node counts as not joined.
const DONE_LIMIT: Duration = Duration::from_mins(10);

/// Joins the cluster.
pub(crate) struct Join<'a> {
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) client: &'a Client,
    pub(crate) machine_id: &'a str,
}

/// What a turn came to.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    /// Waiting was in vain.
    #[error("the masters did not answer for {silent_s} s while this machine waited for its turn")]
    Silent {
        /// How long.
        silent_s: u64,
        /// The last reason.
        source: ClientError,
    },
    /// The system's randomness.
    #[error("the system gives no random bytes")]
    Random,
}

impl Join<'_> {
    /// This try's name; a killed one goes on under its own.
    fn attempt(&self) -> Outcome<Attempt> {
        let machine = self.ground.machine;
        let known = machine.read(ATTEMPT)?.map(|text| text.trim().to_owned());
        let attempt = if let Some(known) = known.filter(|text| text.len() == 32) {
            known
        } else {
            let mut drawn = [0; 16];
            getrandom::fill(&mut drawn).map_err(|_error| TurnError::Random)?;
            let attempt = format!("{:032x}", u128::from_be_bytes(drawn));
            machine.write(ATTEMPT, &attempt, Mode::Secret)?;
            attempt
        };
        Ok(Attempt {
            node: self.ground.site.node.clone(),
            attempt,
        })
    }

    fn wish(&self, who: &Attempt, doing: &str) -> TurnWish {
        TurnWish {
            who: who.clone(),
            address: self.ground.site.address,
            machine_id: self.machine_id.to_owned(),
            doing: doing.to_owned(),
            begins: false,
        }
    }

    /// Waits for the turn and says who is before.
    fn wait_for_turn(&self, who: &Attempt, work: &Work<'_>) -> Outcome<Credentials> {
        let mut heard = Instant::now();
        let mut told = String::new();
        let mut wish = self.wish(who, "waits for its turn");
        // What a killed run has left is taken back before kubeadm runs; a voter goes on with what it has.
        wish.begins = self.ground.site.role != Role::Master || !is_voter(self.ground.machine);
        loop {
            match self.client.post("/v1/join/turn", &wish) {
                Ok(Turn::Go { credentials }) => return Ok(credentials),
                Ok(Turn::Wait {
                    position,
                    holder,
                    holder_age_s,
                    blocked,
                }) => {
                    heard = Instant::now();
                    let (key, text) = waiting(
                        position,
                        holder.as_deref(),
                        holder_age_s,
                        blocked.as_deref(),
                    );
                    work.doing(&text);
                    if key != told {
                        work.output()
                            .note(format!("  waiting for the join lease: {text}"));
                        told = key;
                    }
                }
                Err(error) if error.is_retryable() && heard.elapsed() < SILENT_MAX => {
                    work.doing(&error.to_string());
                }
                Err(error) if error.is_retryable() => {
                    return Err(TurnError::Silent {
                        silent_s: heard.elapsed().as_secs(),
                        source: error,
                    }
                    .into());
                }
                Err(error) => return Err(error.into()),
            }
            thread::sleep(Duration::from_millis(TURN_MS));
        }
    }

    /// Runs kubeadm while another thread repeats the wish.
    fn run_kubeadm(&self, who: &Attempt, credentials: &Credentials) -> Outcome {
        let machine = self.ground.machine;
        let resume = self.ground.site.role == Role::Master && is_voter(machine);
        let text = render::join(self.ground.site, credentials, self.ground.features);
        machine.write(CONFIG, &text, Mode::Secret)?;
        let patch = render::kubelet_patch(self.ground.features);
        machine.write(render::KUBELET_PATCH, &patch, Mode::Plain)?;
        let ended = AtomicBool::new(false);
        let done: Outcome = thread::scope(|scope| {
            scope.spawn(|| self.stay_heard(who, &ended));
            let done = if resume {
                let config = machine.path(CONFIG);
                kubeadm::finish_join(machine, &config.to_string_lossy()).map_err(Failure::from)
            } else {
                self.join_anew(machine)
            };
            ended.store(true, Ordering::Relaxed);
            done
        });
        machine.remove(CONFIG)?;
        done
    }

    fn join_anew(&self, machine: &Machine) -> Outcome {
        if self.has_remains() {
            kubeadm::reset_join(machine)?;
            machine.remove_folder("/var/lib/etcd")?;
            machine.remove_folder("/etc/kubernetes")?;
        }
        let config = machine.path(CONFIG);
        Ok(kubeadm::join(machine, &config.to_string_lossy())?)
    }

    fn stay_heard(&self, who: &Attempt, ended: &AtomicBool) {
        let wish = self.wish(who, "kubeadm join");
        let mut last = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            if last.elapsed() >= Duration::from_millis(TURN_MS) {
                // A master that does not answer now is asked again; the lease outlives some silence.
                let _heard: Result<Turn, ClientError> = self.client.post("/v1/join/turn", &wish);
                last = Instant::now();
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Says that it is done until the broker has seen it.
    fn done(&self, who: &Attempt, work: &Work<'_>) -> Result<Joined, ClientError> {
        let begun = Instant::now();
        loop {
            work.doing("the masters look at this node from outside");
            match self.client.post("/v1/join/done", who) {
                Ok(joined) => return Ok(joined),
                Err(error) if error.is_retryable() && begun.elapsed() < DONE_LIMIT => {
                    thread::sleep(Duration::from_millis(TURN_MS));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn has_remains(&self) -> bool {
        let machine = self.ground.machine;
        [
            KUBELET_CONF,
            "/etc/kubernetes/pki",
            "/etc/kubernetes/manifests",
            "/etc/kubernetes/bootstrap-kubelet.conf",
            "/var/lib/etcd/member",
        ]
        .iter()
        .any(|path| machine.has(path))
    }

    /// A try that has no chance any more gives its turn back, so that the next machine need not wait.
    fn give_up(&self, who: &Attempt) {
        let _silent = self.client.tell("/v1/join/abandon", who);
        let _stays = self.ground.machine.remove(ATTEMPT);
    }
}

/// Whether this node's own etcd answers and has a vote.
pub(crate) fn is_voter(machine: &Machine) -> bool {
    if !machine.has("/etc/kubernetes/manifests/etcd.yaml") {
        return false;
    }
    let pki = "/etc/kubernetes/pki/etcd";
    let status = Call::new(
        "etcdctl",
        [
            "--endpoints=https://127.0.0.1:2379",
            "endpoint",
            "status",
            "-w",
            "json",
        ],
    )
    .arg(format!("--cacert={pki}/ca.crt"))
    .arg(format!("--cert={pki}/healthcheck-client.crt"))
    .arg(format!("--key={pki}/healthcheck-client.key"));
    machine.run(&status).is_ok_and(|ran| {
        ran.output.contains("\"leader\":") && !ran.output.contains("\"isLearner\":true")
    })
}

/// What is waited for: a key that changes when the news does, and the sentence with its age.
fn waiting(
    position: u32,
    holder: Option<&str>,
    age_s: u64,
    blocked: Option<&str>,
) -> (String, String) {
    let place = match position {
        0 | 1 => "you are next".to_owned(),
        more => format!("{} are before you", more - 1),
    };
    if let Some(why) = blocked {
        return (why.to_owned(), format!("nobody may go on: {why}"));
    }
    match holder {
        Some(holder) => (
            format!("{holder} {position}"),
            format!("{holder} (since {age_s} s), {place}"),
        ),
        None => (format!("free {position}"), place),
    }
}

impl Step for Join<'_> {
    fn id(&self) -> &'static str {
        STEP
    }

    fn input(&self) -> Digest {
        let site = self.ground.site;
        input_of(&[site.cluster_id.as_str(), site.node.as_str()])
    }

    fn probe(&self, past: &Journal) -> Outcome<Option<String>> {
        let machine = self.ground.machine;
        let good = past.has_note(STEP, JOINED)
            && machine.has(KUBELET_CONF)
            && systemctl::is_active(machine, "kubelet.service");
        let site = self.ground.site;
        let what = match site.role {
            Role::Master => "a master",
            Role::Worker => "a worker",
        };
        Ok(good.then(|| {
            format!(
                "{} is {what} of {}, seen from outside",
                site.node, site.cluster_id
            )
        }))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let who = self.attempt()?;
        let machine = self.ground.machine;
        if work.past().has_note(STEP, KUBEADM_DONE) && machine.has(KUBELET_CONF) {
            // Only the last word is missing, or the answer to it was lost.
            if let Ok(joined) = self.done(&who, work) {
                return self.keep(&joined, work);
            }
        }
        let credentials = self.wait_for_turn(&who, work)?;
        work.doing("kubeadm join");
        if let Err(failure) = self.run_kubeadm(&who, &credentials) {
            self.give_up(&who);
            return Err(failure);
        }
        work.note(KUBEADM_DONE)?;
        match self.done(&who, work) {
            Ok(joined) => self.keep(&joined, work),
            Err(error) => Err(Failure::from(error)),
        }
    }
}

impl Join<'_> {
    fn keep(&self, joined: &Joined, work: &mut Work<'_>) -> Outcome {
        work.note(JOINED)?;
        self.ground.machine.remove(ATTEMPT)?;
        if self.ground.site.role == Role::Master {
            let members = joined.etcd_members;
            work.output().note(format!(
                "  ✓ etcd            learner caught up, promoted: {members} members, all started"
            ));
        }
        Ok(())
    }
}

// The broker has to look longer than one answer takes, and the lease has to outlive one missed sign of life.
const _: () = assert!(DONE_MS < 600_000 && TURN_MS * 3 < SILENCE_MS);

impl Fault for TurnError {
    fn code(&self) -> &'static str {
        match self {
            Self::Silent { .. } => "JOIN_UNREACHABLE",
            Self::Random => "RANDOM",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Silent { .. } => Blame::Network,
            Self::Random => Blame::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Silent { .. } => {
                Some("start the masters, then run the script again: it goes on".to_owned())
            }
            Self::Random => None,
        }
    }
}
