//! What a record means for replication, and who decides it.

use std::fmt;

use api::sync::ContentKind;
use bundle::Digest;
use bundle::pieces::Cut;
use store::Record;
use store::record::Order;

/// Decides what a record means. Nothing that a peer sends is acted on before its record has passed here.
pub trait Judge: fmt::Debug + Send + Sync + 'static {
    /// Verifies a record for this node itself, and tells what it carries.
    ///
    /// What the node has to remember of it (newer roots, higher sequences) is durable when this returns.
    fn judge(&self, record: &Record) -> Result<Content, Refusal>;
}

/// What a verified record carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bundle id for a bundle, else the digest of the payload.
    pub id: Digest,
    /// What it is.
    pub kind: ContentKind,
    /// For people: `vendor/product 1.2.3`.
    pub title: String,
    /// Its place among others of the same line; newer contents are fetched first.
    pub order: Order,
    /// Every blob that it references, in the order in which they should come; a piece list before its blob.
    pub blobs: Vec<ContentBlob>,
}

/// One referenced blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentBlob {
    /// The blob.
    pub digest: Digest,
    /// How it is cut; the one piece of a blob without a list is the whole.
    pub cut: Cut,
    /// The digest of its piece list; without one the blob is small.
    pub list: Option<Digest>,
}

/// A record that this node does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record refused ({code}): {text}")]
pub struct Refusal {
    /// Stable code of the reason.
    pub code: &'static str,
    /// The reason.
    pub text: String,
}

impl Content {
    /// Bytes of all referenced blobs.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.cut.length).sum()
    }
}

impl ContentBlob {
    /// How many pieces it comes in: one for a blob without a list, also for an empty one.
    pub fn pieces(&self) -> u64 {
        match self.list {
            None => 1,
            Some(_) => self.cut.count(),
        }
    }
}
