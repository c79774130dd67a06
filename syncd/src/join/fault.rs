//! Why a joining machine is told no.

use std::io;

use api::join::Refusal;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use http::StatusCode;
use program::FileError;

use crate::ca::CaError;
use crate::etcd::EtcdError;
use crate::kubernetes::KubernetesError;

/// A request that is not followed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No token, a wrong one, one that has ended or was revoked.
    #[error("the join token is not valid, or not any more")]
    Token,
    /// The token makes workers.
    #[error("this token is for workers")]
    Role,
    /// Too many wrong tokens from one address.
    #[error("too many requests")]
    Busy,
    /// A request that can't be understood.
    #[error("the request can't be understood: {0}")]
    Request(String),
    /// A blob, a bundle or a token that is not here.
    #[error("{0} is not here")]
    Unknown(String),
    /// Another machine has the name.
    #[error("another machine is the node {0} already, and it is ready")]
    NameTaken(String),
    /// Another node has the machine id.
    #[error("the node {0} has the same machine id")]
    MachineTaken(String),
    /// The license allows no more.
    #[error("the license does not allow one more node")]
    License(#[source] bundle::license::LicenseError),
    /// The machine is not yet what it says.
    #[error("{0}")]
    NotYet(String),
    /// Silent for too long, or never asked.
    #[error("it is not this machine's turn any more")]
    TurnLost,
    /// The Kubernetes API.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// Etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The cluster's authority.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// A file of this node.
    #[error(transparent)]
    File(#[from] FileError),
    /// A document of this site that can't be read.
    #[error("{what} can't be understood")]
    Document {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A program that failed.
    #[error("{argv} failed: {output}")]
    Program {
        /// What was run.
        argv: String,
        /// The end of what it said.
        output: String,
    },
    /// A program that can't be run.
    #[error("{argv} can't be run")]
    Run {
        /// What was to run.
        argv: String,
        /// Why.
        source: io::Error,
    },
    /// The bundle with Kubernetes brings no installer.
    #[error("the bundle of this site brings no installer for {0}")]
    NoInstaller(String),
    /// The daemon is about to end.
    #[error("the daemon is ending")]
    Ending,
}

impl JoinError {
    /// Whether the same request can be granted later, without anybody doing anything.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Busy | Self::NotYet(_) | Self::Kubernetes(_) | Self::Etcd(_) | Self::Ending
        )
    }

    /// What the machine is told.
    pub fn refusal(&self) -> Refusal {
        let mut message = self.to_string();
        for fact in self.facts() {
            message.push_str("; ");
            message.push_str(fact.label);
            message.push_str(": ");
            message.push_str(&fact.value);
        }
        Refusal {
            code: self.code().to_owned(),
            message,
            again: self.is_retryable(),
        }
    }

    /// The HTTP status of the refusal.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Role | Self::License(_) => StatusCode::FORBIDDEN,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::NameTaken(_) | Self::MachineTaken(_) | Self::TurnLost => StatusCode::CONFLICT,
            Self::NotYet(_) | Self::Kubernetes(_) | Self::Etcd(_) | Self::Ending => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Authority(_)
            | Self::File(_)
            | Self::Document { .. }
            | Self::Store(_)
            | Self::Program { .. }
            | Self::Run { .. }
            | Self::NoInstaller(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Fault for JoinError {
    fn code(&self) -> &'static str {
        match self {
            Self::Token => "JOIN_TOKEN",
            Self::Role => "JOIN_ROLE",
            Self::Busy => "JOIN_BUSY",
            Self::Request(_) => "JOIN_REQUEST",
            Self::Unknown(_) => "JOIN_UNKNOWN",
            Self::NameTaken(_) => "JOIN_NAME_TAKEN",
            Self::MachineTaken(_) => "JOIN_MACHINE_TAKEN",
            Self::License(error) => error.code(),
            Self::NotYet(_) => "JOIN_NOT_YET",
            Self::TurnLost => "JOIN_TURN_LOST",
            Self::Kubernetes(error) => error.code(),
            Self::Etcd(error) => error.code(),
            Self::Authority(error) => error.code(),
            Self::File(error) => error.code(),
            Self::Document { .. } => "JOIN_DOCUMENT",
            Self::Store(error) => error.code(),
            Self::Program { .. } | Self::Run { .. } => "JOIN_PROGRAM",
            Self::NoInstaller(_) => "JOIN_NO_INSTALLER",
            Self::Ending => "JOIN_ENDING",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Token | Self::Role | Self::NameTaken(_) | Self::MachineTaken(_) => Blame::Policy,
            Self::Busy | Self::NotYet(_) | Self::TurnLost | Self::Ending => Blame::Network,
            Self::Request(_) => Blame::Usage,
            Self::Unknown(_) | Self::NoInstaller(_) => Blame::Input,
            Self::License(error) => error.blame(),
            Self::Kubernetes(error) => error.blame(),
            Self::Etcd(error) => error.blame(),
            Self::Authority(error) => error.blame(),
            Self::File(error) => error.blame(),
            Self::Store(error) => error.blame(),
            Self::Document { .. } | Self::Program { .. } | Self::Run { .. } => Blame::Machine,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::License(error) => {
                let mut facts = vec![Fact::new("license", error)];
                facts.extend(error.facts());
                facts
            }
            Self::Document { why, .. } => vec![Fact::new("reason", why)],
            Self::Kubernetes(error) => error.facts(),
            Self::Etcd(error) => error.facts(),
            Self::Authority(error) => error.facts(),
            Self::File(error) => error.facts(),
            Self::Store(error) => error.facts(),
            Self::Token
            | Self::Role
            | Self::Busy
            | Self::Request(_)
            | Self::Unknown(_)
            | Self::NameTaken(_)
            | Self::MachineTaken(_)
            | Self::NotYet(_)
            | Self::TurnLost
            | Self::Program { .. }
            | Self::Run { .. }
            | Self::NoInstaller(_)
            | Self::Ending => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Token => Some(
                "print a new script on a master:  installer join-script --master|--worker"
                    .to_owned(),
            ),
            Self::NameTaken(_) => {
                Some("give this machine another name, or stop the other one".to_owned())
            }
            Self::MachineTaken(_) => Some(
                "this machine was copied from the other one; make its own id: \
                 rm /etc/machine-id && systemd-machine-id-setup"
                    .to_owned(),
            ),
            Self::NoInstaller(_) => {
                Some("the vendor lists it under `files:` with the role `installer`".to_owned())
            }
            Self::License(error) => error.hint(),
            Self::Kubernetes(error) => error.hint(),
            Self::Etcd(error) => error.hint(),
            Self::Authority(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Role
            | Self::Busy
            | Self::Request(_)
            | Self::Unknown(_)
            | Self::NotYet(_)
            | Self::TurnLost
            | Self::Document { .. }
            | Self::Program { .. }
            | Self::Run { .. }
            | Self::Ending => None,
        }
    }
}
