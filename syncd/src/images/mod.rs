//! A read-only OCI distribution endpoint: what containerd pulls from, straight out of the store.
//!
//! It answers `GET` and `HEAD` of distribution-spec 1.1, categories Pull and Content Discovery (tags), and nothing
//! that writes. `?ns=<registry>` says for which registry containerd asks (containerd `docs/hosts.md`), so one endpoint
//! mirrors every registry name of a bundle: original names, tags and digests.
//!
//! What it must never do: turn text from a request into a path. Names are compared, digests are parsed, and only an
//! [`ImageSource`] opens anything.

mod access;
mod asked;
mod content;
mod embedded;
mod endpoint;
mod layout;
mod name;
mod range;
mod refusal;
mod relay;
mod serve;
mod stored;
#[cfg(test)]
mod tests;
mod workers;

pub use access::Access;
pub use content::BlobReader;
pub use content::Content;
pub use embedded::Conditions;
pub use embedded::Embedded;
pub use endpoint::Endpoint;
pub use layout::LayoutSource;
pub use name::Repository;
pub(crate) use relay::OwnFirst;
pub(crate) use relay::Relay;
pub use serve::serve;
pub(crate) use serve::serve_any;
pub use stored::StoredImages;
pub(crate) use workers::routes;
pub(crate) use workers::serve_workers;

use std::io;

use bundle::Digest;

/// Where the endpoint finds images; asked on blocking threads.
pub trait ImageSource: Send + Sync + 'static {
    /// The digest of the manifest that a tag stands for; `None` when repository or tag are not here.
    fn resolve(&self, repository: &Repository, tag: &str) -> io::Result<Option<Digest>>;

    /// All tags of a repository in order; `None` when it is not here.
    fn tags(&self, repository: &Repository) -> io::Result<Option<Vec<String>>>;

    /// Opens a manifest, configuration or layer of a repository; `None` when it is not here.
    fn open(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Content>>;
}
