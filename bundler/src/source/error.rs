//! Why a source did not give what was asked of it: one error for all kinds of sources, each with its stable code.
//!
//! Text that a registry sent is kept as it came; whoever prints it escapes it.

use std::io;
use std::path::PathBuf;

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

use crate::cache::CacheError;

/// Why a source did not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source says that it has no such thing.
    #[error("{what} is not at {place}")]
    NotFound {
        /// The image or blob.
        what: String,
        /// The registry or directory.
        place: String,
    },
    /// The source wants credentials, or others than it got.
    #[error("{place} refuses access to {what}: {reason}")]
    Access {
        /// The image or blob.
        what: String,
        /// The registry.
        place: String,
        /// Its words, or ours.
        reason: String,
    },
    /// The credentials of a registry can't be read.
    #[error("credentials for {place} can't be read from {from}: {reason}")]
    Credentials {
        /// The registry.
        place: String,
        /// The file or the helper program.
        from: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry sends us where we do not go.
    #[error("{place} sends us to {target}, which is refused: {reason}")]
    Target {
        /// The registry.
        place: String,
        /// The address that it named.
        target: String,
        /// The rule.
        reason: &'static str,
    },
    /// The bytes are not those that were asked for.
    #[error("{what} from {place} has digest {actual}, expected {expected}")]
    Digest {
        /// The image or blob.
        what: String,
        /// The registry or directory.
        place: String,
        /// The digest that it should have.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The bytes are more or fewer than the manifest says.
    #[error("{what} from {place} is {actual} bytes, its descriptor says {expected}")]
    Size {
        /// The image or blob.
        what: String,
        /// The registry or directory.
        place: String,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has, at least.
        actual: u64,
    },
    /// Larger than anything that is taken.
    #[error("{what} from {place} is over the limit of {limit}")]
    TooLarge {
        /// The document or blob.
        what: String,
        /// The registry or directory.
        place: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// An image is not there for a platform.
    #[error("{what} is not for {wanted}")]
    Platform {
        /// The image.
        what: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        present: Vec<String>,
    },
    /// A manifest, index or config that is not what it should be, or that can be read in two ways.
    #[error("{what} from {place} is refused: {reason}")]
    Document {
        /// The document.
        what: String,
        /// The registry or directory.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An answer that the protocol does not have.
    #[error("{place} answered {status} for {what}")]
    Answer {
        /// The image or blob.
        what: String,
        /// The registry.
        place: String,
        /// The status, or what is wrong with the answer.
        status: String,
        /// The registry's own words, if it said any.
        message: String,
    },
    /// The network, after all tries.
    #[error("{what} can't be fetched from {place}: {reason}")]
    Network {
        /// The image or blob.
        what: String,
        /// The registry.
        place: String,
        /// The last failure.
        reason: String,
        /// How many times it was tried.
        tries: u32,
    },
    /// A directory that is no OCI image layout, or not a whole one.
    #[error("{} is no usable OCI image layout: {reason}", path.display())]
    Layout {
        /// The directory or the file in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The failure of the system below, if there was one.
        #[source]
        source: Option<io::Error>,
    },
    /// The cache on this machine.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl SourceError {
    /// Whether trying the same again, here or at another mirror, may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.blame(), Blame::Network)
    }
}

impl Fault for SourceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "SOURCE_NOT_FOUND",
            Self::Access { .. } => "SOURCE_AUTH",
            Self::Credentials { .. } => "SOURCE_CREDENTIALS",
            Self::Target { .. } => "SOURCE_TARGET",
            Self::Digest { .. } => "SOURCE_DIGEST",
            Self::Size { .. } => "SOURCE_SIZE",
            Self::TooLarge { .. } => "SOURCE_TOO_LARGE",
            Self::Platform { .. } => "SOURCE_PLATFORM",
            Self::Document { .. } => "SOURCE_DOCUMENT",
            Self::Answer { .. } => "SOURCE_ANSWER",
            Self::Network { .. } => "SOURCE_NETWORK",
            Self::Layout { .. } => "SOURCE_LAYOUT",
            Self::Cache(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NotFound { .. }
            | Self::Target { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Platform { .. }
            | Self::Document { .. }
            | Self::Layout { .. } => Blame::Input,
            Self::Access { .. } | Self::Credentials { .. } => Blame::Usage,
            Self::Answer { .. } | Self::Network { .. } => Blame::Network,
            Self::Cache(error) => error.blame(),
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Platform { present, .. } => vec![Fact::new("present", present.join(", "))],
            Self::Answer { message, .. } if !message.is_empty() => {
                vec![Fact::new("message", message)]
            }
            Self::Network { tries, .. } => vec![Fact::new("tries", tries)],
            Self::Digest {
                expected, actual, ..
            } => {
                vec![Fact::new("expected", expected), Fact::new("actual", actual)]
            }
            Self::Size {
                expected, actual, ..
            } => {
                vec![Fact::new("expected", expected), Fact::new("actual", actual)]
            }
            Self::Cache(error) => error.facts(),
            Self::NotFound { .. }
            | Self::Access { .. }
            | Self::Credentials { .. }
            | Self::Target { .. }
            | Self::TooLarge { .. }
            | Self::Document { .. }
            | Self::Answer { .. }
            | Self::Layout { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { .. } => "check the name, and that it was pushed; a private image may also need a login".to_owned(),
            Self::Access { place, .. } => format!("log in, as with: docker login {place}"),
            Self::Credentials { .. } => "repair the entry, or log in again".to_owned(),
            Self::Target { .. } => "ask whoever runs that registry; a host that you trust can be listed under `registries`".to_owned(),
            Self::Digest { .. } | Self::Size { .. } => {
                "nothing of it was used; ask whoever runs that registry, or push the image again".to_owned()
            }
            Self::Platform { .. } => "push the image for that platform, or change `platforms`".to_owned(),
            Self::Answer { .. } | Self::Network { .. } => {
                "run the same command again: it goes on where it stopped".to_owned()
            }
            Self::Layout { .. } => "write it again, as with: skopeo copy docker://IMAGE oci:DIRECTORY:TAG".to_owned(),
            Self::Cache(error) => return error.hint(),
            Self::TooLarge { .. } | Self::Document { .. } => return None,
        };
        Some(hint)
    }
}
