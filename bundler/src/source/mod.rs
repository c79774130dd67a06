//! Where images come from. A source gives raw documents and blobs; nothing that it says is believed.
//!
//! What every source is held to, whatever it is:
//!
//! | attack | answer |
//! |---|---|
//! | other bytes than asked for | SHA-256 and size of the descriptor, always |
//! | endless or huge documents | 4 MiB a document, 512 layers, two levels of indexes |
//! | a document that is both a manifest and an index | refused (CVE-2021-41190) |
//! | `urls` and `data` of descriptors | never followed, never read |
//! | a digest that is a path | only `sha256:` and 64 hexadecimal digits are digests |

use std::path::PathBuf;

use bundle::Digest;
use bundle::index::Stage;
use bundle::name::ImageName;
use bundle::name::Platform;

pub(crate) mod document;
mod error;
pub(crate) mod layout;
pub mod registry;

pub use self::error::SourceError;

/// One image that a release wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// The name that it has at the site.
    pub name: ImageName,
    /// The digest that it must have; the tag is not asked for then.
    pub digest: Option<Digest>,
    /// Where its bytes come from.
    pub from: Origin,
    /// The platforms that must be there; of an index nothing else is fetched.
    pub platforms: Vec<Platform>,
    /// The stage of its layers. Manifests, indexes and configs are always [`Stage::Metadata`].
    pub stage: Stage,
}

/// Where the bytes of an image come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The registry of its name, or a mirror of it.
    Registry,
    /// An OCI image layout directory, maybe holding several images.
    Layout(PathBuf),
}
