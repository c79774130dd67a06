//! `control-plane`: kubeadm makes the first master.
//!
//! What a killed try has left, up to the moment at which its API server was ready for the first time, is thrown away:
//! only this installer has ever seen it, and nobody can have joined. From that moment on nothing is ever reset: the rest
//! of kubeadm's phases are done again, each of which may be.

use std::thread;
use std::time::Duration;

use bundle::Digest;
use program::Outcome;
use serde_json::Value;

use super::Ground;
use super::input_of;
use crate::machine::Mode;
use crate::machine::ProgramError;
use crate::machine::wait_for;
use crate::render::kubeadm as render;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::kubeadm;
use crate::tools::kubectl;
use crate::tools::syncd;
use crate::tools::systemctl;

/// This step's id.
pub(crate) const CONTROL_PLANE: &str = "control-plane";

/// The fact after which nothing is ever reset.
const API_READY: &str = "api-ready";

const CONFIG: &str = "/var/lib/sealift-node/kubeadm.yaml";

/// How long an API server that a killed try has started may take to show itself.
const REVIVAL_LIMIT: Duration = Duration::from_secs(45);

/// How long one that was ready before may take to be so again.
const RETURN_LIMIT: Duration = Duration::from_mins(5);

/// Time between two looks at an API server that is starting.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Makes the first master.
pub(crate) struct ControlPlane<'a>(pub(crate) &'a Ground<'a>);

impl ControlPlane<'_> {
    fn config(&self) -> String {
        render::init(self.0.site, self.0.versions, self.0.features)
    }

    /// What makes a control plane whole, as kubeadm leaves it.
    fn is_whole(&self) -> Outcome<bool> {
        let objects = [
            "-n",
            "kube-system",
            "configmap/kubeadm-config",
            "daemonset/kube-proxy",
            "deployment/coredns",
        ];
        let list: Option<Value> = kubectl::get(self.0.machine, &objects)?;
        let count = list.and_then(|list| list.get("items")?.as_array().map(Vec::len));
        let info: Option<Value> = kubectl::get(
            self.0.machine,
            &["-n", "kube-public", "configmap/cluster-info"],
        )?;
        Ok(count == Some(3) && info.is_some())
    }

    fn has_remains(&self) -> bool {
        let machine = self.0.machine;
        [
            "/etc/kubernetes/manifests/kube-apiserver.yaml",
            "/etc/kubernetes/pki",
            kubectl::ADMIN,
            "/var/lib/etcd/member",
        ]
        .iter()
        .any(|path| machine.has(path))
    }

    fn answers(&self) -> Result<(), String> {
        let site = self.0.site;
        if !syncd::listens(site.address, api::site::API_PORT) {
            return Err("the API server does not listen yet".to_owned());
        }
        let address = std::net::SocketAddr::new(site.address, api::site::API_PORT);
        kubectl::is_ready_at(self.0.machine, &address.to_string())
            .map_err(|error| error.to_string())
    }

    /// Whether an earlier try came as far as an API server; if so it is ready now.
    fn revive(&self, work: &mut Work<'_>) -> Outcome<bool> {
        let machine = self.0.machine;
        if !self.has_remains() {
            return Ok(false);
        }
        let was_ready = work.past().has_note(CONTROL_PLANE, API_READY);
        let limit = if was_ready {
            RETURN_LIMIT
        } else {
            REVIVAL_LIMIT
        };
        if machine.has(kubectl::ADMIN) && machine.has("/var/lib/kubelet/config.yaml") {
            work.doing("waiting for the API server of the try before");
            systemctl::start(machine, "kubelet.service")?;
            let waited = wait_for("the API server is ready", limit, || self.answers());
            match waited {
                Ok(()) => {
                    if !was_ready {
                        work.note(API_READY)?;
                    }
                    return Ok(true);
                }
                Err(failure) if was_ready => return Err(failure),
                Err(_never_ready) => {}
            }
        }
        work.doing("taking back what a killed try has made");
        kubeadm::reset(machine)?;
        machine.remove_folder("/var/lib/etcd")?;
        machine.remove_folder("/etc/kubernetes")?;
        work.begin_again(self.input())?;
        Ok(false)
    }

    /// Runs kubeadm, and notes the moment from which on nothing may be reset.
    fn init(&self, work: &mut Work<'_>) -> Outcome {
        let machine = self.0.machine;
        let config = machine.path(CONFIG);
        let config = config.to_string_lossy();
        thread::scope(|scope| {
            let init = scope.spawn(|| kubeadm::init(machine, &config));
            let mut noted = false;
            while !init.is_finished() {
                if !noted && self.answers().is_ok() {
                    work.note(API_READY)?;
                    work.doing("the API server is ready");
                    noted = true;
                }
                thread::sleep(LOOK_EVERY);
            }
            let ended: Result<(), ProgramError> = init.join().unwrap_or(Ok(()));
            ended?;
            if !noted {
                work.note(API_READY)?;
            }
            Ok(())
        })
    }
}

impl Step for ControlPlane<'_> {
    fn id(&self) -> &'static str {
        CONTROL_PLANE
    }

    fn input(&self) -> Digest {
        input_of(&[self.0.site.cluster_id.as_str(), &self.0.versions.kubernetes])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let machine = self.0.machine;
        let there = machine.has(kubectl::ADMIN) && machine.has("/etc/kubernetes/kubelet.conf");
        if !there || self.answers().is_err() || kubectl::is_ready(machine).is_err() {
            return Ok(None);
        }
        let address = self.0.site.address;
        Ok(self
            .is_whole()?
            .then(|| format!("API server answers on {address}:{}", api::site::API_PORT)))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let machine = self.0.machine;
        machine.write(CONFIG, &self.config(), Mode::Secret)?;
        machine.write(
            render::KUBELET_PATCH,
            &render::kubelet_patch(self.0.features),
            Mode::Plain,
        )?;
        if self.revive(work)? {
            work.doing("finishing what a killed try has begun");
            let config = machine.path(CONFIG);
            kubeadm::finish_init(machine, &config.to_string_lossy())?;
        } else {
            work.doing("kubeadm init");
            self.init(work)?;
        }
        wait_for(
            "the API is ready through this node's forwarder",
            Duration::from_mins(1),
            || kubectl::is_ready(machine).map_err(|error| error.to_string()),
        )
    }
}
