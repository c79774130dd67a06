//! Why the API gave no answer, or another one than was hoped for.

use std::io;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

use crate::https::HttpsError;

/// A call that did not work.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// There is no kubeconfig yet, or it can't be read.
    #[error("the kubeconfig {} can't be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kubeconfig is none that kubeadm writes.
    #[error("the kubeconfig {} can't be used: {why}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// One clause.
        why: String,
    },
    /// Its certificates are of no use.
    #[error("the certificates of the kubeconfig are of no use")]
    Https(#[from] HttpsError),
    /// No answer: no connection, or not in time.
    #[error("the Kubernetes API gives no answer to {call}")]
    Silent {
        /// Method and path.
        call: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Somebody else has changed or made the object meanwhile.
    #[error("{call}: somebody else was faster")]
    Conflict {
        /// Method and path.
        call: String,
    },
    /// The API says no.
    #[error("the Kubernetes API refuses {call} with {status}")]
    Refused {
        /// Method and path.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("the answer to {call} can't be understood")]
    Answer {
        /// Method and path.
        call: String,
        /// Why.
        why: String,
    },
}

impl KubernetesError {
    /// Whether somebody else was faster.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

impl Fault for KubernetesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Config { .. } | Self::Https(_) => "KUBERNETES_CONFIG",
            Self::Silent { .. } => "KUBERNETES_SILENT",
            Self::Conflict { .. } => "KUBERNETES_CONFLICT",
            Self::Refused { .. } => "KUBERNETES_REFUSED",
            Self::Answer { .. } => "KUBERNETES_ANSWER",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Unreadable { .. } | Self::Config { .. } | Self::Https(_) => Blame::Machine,
            Self::Silent { .. } | Self::Conflict { .. } | Self::Answer { .. } => Blame::Network,
            Self::Refused { .. } => Blame::Policy,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Refused { message, .. } => vec![Fact::new("answer", message)],
            Self::Answer { why, .. } => vec![Fact::new("reason", why)],
            Self::Unreadable { .. }
            | Self::Config { .. }
            | Self::Https(_)
            | Self::Silent { .. }
            | Self::Conflict { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } | Self::Config { .. } | Self::Https(_) => {
                Some("only a master has it, once `installer install` has made it one".to_owned())
            }
            Self::Silent { .. } => {
                Some("look at the API server of this master: installer status".to_owned())
            }
            Self::Conflict { .. } | Self::Refused { .. } | Self::Answer { .. } => None,
        }
    }
}
