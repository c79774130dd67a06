//! What a record means for replication, and who decides it.

use std::fmt;

use api::sync::ContentKind;
use bundle::Digest;
use bundle::fault::Fault;
use bundle::index::BundleIndex;
use bundle::pieces::Cut;
use store::Fs;
use store::Record;
use store::Store;
use store::record::Kind;
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

/// The real judge: signatures against what this site trusts, as its store keeps it.
///
/// Order and entitlement are not its business: a master holds older releases, expired licenses and what was revoked after
/// it was accepted, or a lost master could not be replaced. Which release runs is decided elsewhere.
#[derive(Debug)]
pub struct TrustJudge<F: Fs> {
    store: Store<F>,
}

impl<F: Fs> TrustJudge<F> {
    /// Judges by the trust that `store` keeps.
    pub const fn new(store: Store<F>) -> Self {
        Self { store }
    }

    fn bundle(&self, record: &Record) -> Result<Content, Refusal> {
        let files = record.head_files().map_err(|error| refusal(&error))?;
        let verified = self.store.judge_bundle_record(&files);
        let verified = verified.map_err(|error| refusal(&error))?;
        let index = verified.index();
        let order = Order {
            epoch: index.epoch,
            sequence: index.sequence,
        };
        if record.id != verified.id().to_hex() || record.order != order {
            let (id, sequence) = (verified.id(), index.sequence);
            return Err(Refusal {
                code: "RECORD_ENVELOPE",
                text: format!(
                    "it says {} and {}, its payload {id} and {sequence}",
                    record.id, record.order.sequence
                ),
            });
        }
        Ok(Content {
            id: verified.id(),
            kind: ContentKind::Bundle,
            title: format!("{}/{} {}", index.vendor, index.product, index.version),
            order,
            blobs: blobs_of(index),
        })
    }

    fn license(&self, record: &Record) -> Result<Content, Refusal> {
        let verified = self.store.judge_license_record(&record.payload);
        let verified = verified.map_err(|error| refusal(&error))?;
        let license = verified.license();
        let counter = record.counter;
        let expected = Record::of_license(&verified, record.incarnation, &record.origin, counter);
        if *record != expected {
            return Err(Refusal {
                code: "RECORD_ENVELOPE",
                text: format!("it says {}, its payload {}", record.id, expected.id),
            });
        }
        Ok(Content {
            id: Digest::of(&record.payload),
            kind: ContentKind::License,
            title: format!(
                "{}/{} license {} for {}",
                license.vendor, license.product, license.license_id, license.customer.name
            ),
            order: record.order,
            blobs: Vec::new(),
        })
    }
}

impl<F: Fs> Judge for TrustJudge<F> {
    fn judge(&self, record: &Record) -> Result<Content, Refusal> {
        match record.kind {
            Kind::Bundle => self.bundle(record),
            Kind::License => self.license(record),
            Kind::Root
            | Kind::Revocations
            | Kind::Membership
            | Kind::Retention
            | Kind::Tombstone
            | Kind::Permit => Err(Refusal {
                code: "RECORD_KIND",
                text: format!("this version does not replicate {:?} records", record.kind),
            }),
        }
    }
}

/// The blobs of a bundle, piece lists before what they describe.
fn blobs_of(index: &BundleIndex) -> Vec<ContentBlob> {
    let mut blobs = Vec::new();
    for entry in &index.blobs {
        let cut = Cut::standard(entry.size);
        blobs.extend(entry.pieces.map(|list| ContentBlob {
            digest: list,
            cut: Cut::standard(cut.list_bytes()),
            list: None,
        }));
        blobs.push(ContentBlob {
            digest: entry.digest,
            cut,
            list: entry.pieces,
        });
    }
    blobs
}

fn refusal(error: &dyn Fault) -> Refusal {
    Refusal {
        code: error.code(),
        text: error.to_string(),
    }
}
