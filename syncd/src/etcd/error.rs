//! Why etcd gave no answer, or said no.

use std::io;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

use crate::https::HttpsError;

/// A call that did not work.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A certificate is not there yet, or can't be read.
    #[error("etcd's certificate {} can't be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificates are of no use.
    #[error("etcd's certificates are of no use")]
    Https(#[from] HttpsError),
    /// No answer: no connection, not in time, or no quorum.
    #[error("etcd gives no answer at {endpoint}")]
    Silent {
        /// Whom was asked.
        endpoint: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It says no.
    #[error("etcd refuses {call}")]
    Refused {
        /// The path.
        call: String,
        /// What it says.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("etcd's answer to {call} can't be understood")]
    Answer {
        /// The path.
        call: String,
        /// Why.
        why: String,
    },
}

impl Fault for EtcdError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Https(_) => "ETCD_CONFIG",
            Self::Silent { .. } => "ETCD_SILENT",
            Self::Refused { .. } => "ETCD_REFUSED",
            Self::Answer { .. } => "ETCD_ANSWER",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Unreadable { .. } | Self::Https(_) => Blame::Machine,
            Self::Silent { .. } | Self::Answer { .. } => Blame::Network,
            Self::Refused { .. } => Blame::Policy,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Refused { message, .. } => vec![Fact::new("answer", message)],
            Self::Answer { why, .. } => vec![Fact::new("reason", why)],
            Self::Unreadable { .. } | Self::Https(_) | Self::Silent { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Silent { .. } => {
                Some("more than half of the masters must be up: installer status".to_owned())
            }
            Self::Unreadable { .. }
            | Self::Https(_)
            | Self::Refused { .. }
            | Self::Answer { .. } => None,
        }
    }
}
