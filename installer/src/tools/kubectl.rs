//! `kubectl`: reads and applies objects, as the cluster's administrator, through this node's own forwarder.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::machine::Call;
use crate::machine::Machine;
use crate::machine::Mode;
use crate::machine::ProgramError;

/// The administrator's credentials, as kubeadm leaves them on each master.
pub(crate) const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// Who owns what the installer applies (Kubernetes, "server-side apply").
const MANAGER: &str = "sealift";

/// Why an object can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubectlError {
    /// The call failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The answer is not what was asked for.
    #[error("kubectl's answer to `{call}` can't be understood")]
    Answer {
        /// What was asked.
        call: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The file of objects can't be written.
    #[error(transparent)]
    File(#[from] program::FileError),
}

fn call<const N: usize>(arguments: [&str; N]) -> Call {
    let mut call = Call::new("kubectl", ["--kubeconfig", ADMIN, "--request-timeout=20s"]);
    for argument in arguments {
        call = call.arg(argument);
    }
    call
}

/// An object, or a list of them, as the type that is looked for; `None` where there is none.
pub(crate) fn get<T: DeserializeOwned>(
    machine: &Machine,
    what: &[&str],
) -> Result<Option<T>, KubectlError> {
    let mut get = call(["get", "--ignore-not-found", "-o", "json"]);
    for word in what {
        get = get.arg(word);
    }
    let ran = machine.run(&get)?;
    if ran.output.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&ran.output)
        .map(Some)
        .map_err(|source| KubectlError::Answer {
            call: get.to_string(),
            source,
        })
}

/// Whether the API server says that it is ready.
pub(crate) fn is_ready(machine: &Machine) -> Result<(), ProgramError> {
    let ask = call(["get", "--raw", "/readyz"]).within(Duration::from_secs(10));
    machine.run(&ask).map(drop)
}

/// Whether the API server at this address itself, no forwarder between, says that it is ready.
pub(crate) fn is_ready_at(machine: &Machine, address: &str) -> Result<(), ProgramError> {
    let ask = call(["get", "--raw", "/readyz", "--server"])
        .arg(format!("https://{address}"))
        .within(Duration::from_secs(10));
    machine.run(&ask).map(drop)
}

/// Applies a file of objects; what is already so is not touched.
pub(crate) fn apply(machine: &Machine, file: &str) -> Result<(), ProgramError> {
    let apply = call([
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager",
    ])
    .arg(MANAGER)
    .arg("-f")
    .arg(file)
    .within(Duration::from_mins(2));
    machine.run(&apply).map(drop)
}

/// Applies one object.
pub(crate) fn apply_object(machine: &Machine, object: &Value) -> Result<(), KubectlError> {
    let file = "/run/sealift-installer/object.json";
    machine.write(file, &object.to_string(), Mode::Secret)?;
    apply(machine, machine.path(file).to_string_lossy().as_ref())?;
    machine.remove(file)?;
    Ok(())
}

/// Puts a taint on a node, or with a `-` behind its effect takes it away.
pub(crate) fn taint(machine: &Machine, node: &str, taint: &str) -> Result<(), ProgramError> {
    machine
        .run(&call(["taint", "--overwrite", "node", node, taint]))
        .map(drop)
}

/// Waits until an object has a condition.
pub(crate) fn wait(
    machine: &Machine,
    condition: &str,
    object: &str,
    namespace: &str,
    limit: Duration,
) -> Result<(), ProgramError> {
    let wait = call(["wait", "-n", namespace, object])
        .arg(format!("--for=condition={condition}"))
        .arg(format!("--timeout={}s", limit.as_secs()))
        .within(limit + Duration::from_secs(30));
    machine.run(&wait).map(drop)
}

impl bundle::fault::Fault for KubectlError {
    fn code(&self) -> &'static str {
        match self {
            Self::Program(error) => error.code(),
            Self::Answer { .. } => "KUBECTL_ANSWER",
            Self::File(error) => error.code(),
        }
    }

    fn blame(&self) -> bundle::fault::Blame {
        match self {
            Self::Program(error) => error.blame(),
            Self::Answer { .. } => bundle::fault::Blame::Machine,
            Self::File(error) => error.blame(),
        }
    }

    fn facts(&self) -> Vec<bundle::fault::Fact> {
        match self {
            Self::Program(error) => error.facts(),
            Self::Answer { .. } => Vec::new(),
            Self::File(error) => error.facts(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Program(error) => error.hint(),
            Self::Answer { .. } => None,
            Self::File(error) => error.hint(),
        }
    }
}
