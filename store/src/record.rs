//! A record: one signed control fact, and how two of them merge.

use bundle::Digest;
use bundle::head::HeadFiles;

use crate::error::Result;
use crate::id::Incarnation;

/// A signed control fact. Whoever puts one into a store has verified it: the store looks at its order only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// What it is about, unique within its kind. For a bundle the digest of `bundle.json` in hex.
    pub id: String,
    /// The life of the cluster that it belongs to.
    pub incarnation: Incarnation,
    /// The node that brought it in.
    pub origin: String,
    /// Counts the records of its origin.
    pub counter: u64,
    /// The signed order of its statement: (epoch, sequence); the higher wins. Equal to what `payload` says.
    pub order: Order,
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// What proves them: a signature, or the files of a head around `bundle.json`.
    pub proof: Vec<u8>,
}

/// The place of a statement among others about the same thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// Counts up rarely, outranks every sequence.
    pub epoch: u64,
    /// Counts up with every statement.
    pub sequence: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The head of a bundle; vendor-signed.
    Bundle,
    /// A customer's license; vendor-signed.
    License,
    /// A trust root; vendor-signed.
    Root,
    /// A vendor's list of revocations; vendor-signed.
    Revocations,
    /// Who is a master; node-signed.
    Membership,
    /// What is kept; node-signed.
    Retention,
    /// What may go; node-signed.
    Tombstone,
    /// A downgrade that the vendor allows.
    Permit,
}

impl Record {
    /// Makes the record of a verified bundle.
    pub fn of_bundle(
        head: &HeadFiles,
        order: Order,
        incarnation: Incarnation,
        origin: &str,
        counter: u64,
    ) -> Self {
        let _ = (head, order, incarnation, origin, counter);
        todo!()
    }

    /// The files of a bundle's head.
    pub fn head_files(&self) -> Result<HeadFiles> {
        todo!()
    }

    /// Parses the one encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let _ = bytes;
        todo!()
    }

    /// Writes the one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }

    /// SHA-256 of the encoding: the record's name between peers.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
