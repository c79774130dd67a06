//! A record: one signed control fact, and how two of them merge.
//!
//! There is one encoding, so a record has one digest, by which peers know it:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic `SLREC01\n` |
//! | 8 | kind |
//! | 9..25 | incarnation of the cluster |
//! | 25..49 | counter, epoch, sequence, 8 bytes each, little-endian |
//! | then | id and origin, each behind 2 bytes of length |
//! | then | payload and proof, each behind 4 bytes of length; nothing follows |
//!
//! It comes from peers: every length is held against what is there, nothing is allocated before.

use std::cmp::Ordering;

use bundle::Digest;
use bundle::head::HeadError;
use bundle::head::HeadFiles;

use crate::error::Result;
use crate::error::StoreError;
use crate::id::Incarnation;
use crate::limits;

/// A signed control fact. Whoever puts one into a store has verified it: the store looks at its order only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// What it is about, unique within its kind; for a bundle its id in hex. 1 to 255 visible ASCII characters.
    pub id: String,
    /// The life of the cluster that it belongs to.
    pub incarnation: Incarnation,
    /// The node that brought it in; like `id`, or empty.
    pub origin: String,
    /// Counts the records of its origin.
    pub counter: u64,
    /// The signed order of its statement; equal to what `payload` says.
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

const MAGIC: &[u8; 8] = b"SLREC01\n";
const NAME_BYTES_MAX: usize = 255;

const KINDS: [(Kind, u8, &str); 8] = [
    (Kind::Bundle, 1, "bundle"),
    (Kind::License, 2, "license"),
    (Kind::Root, 3, "root"),
    (Kind::Revocations, 4, "revocations"),
    (Kind::Membership, 5, "membership"),
    (Kind::Retention, 6, "retention"),
    (Kind::Tombstone, 7, "tombstone"),
    (Kind::Permit, 8, "permit"),
];

impl Kind {
    fn entry(self) -> (u8, &'static str) {
        let entry = KINDS.iter().find(|(kind, _, _)| *kind == self);
        entry.map_or((0, "unknown"), |(_, code, name)| (*code, name))
    }

    /// Its name in file names and messages.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    fn from_code(code: u8) -> Option<Self> {
        let entry = KINDS.iter().find(|(_, known, _)| *known == code);
        entry.map(|(kind, _, _)| *kind)
    }
}

/// How two records about the same thing relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// They are about different things, or say different things in the same place: both stay.
    Apart,
    /// The first one stays.
    First,
    /// The second one stays.
    Second,
}

impl Record {
    /// Makes the record of a verified bundle.
    pub fn of_bundle(
        head: &HeadFiles,
        order: Order,
        incarnation: Incarnation,
        origin: &str,
        counter: u64,
    ) -> std::result::Result<Self, HeadError> {
        Ok(Self {
            kind: Kind::Bundle,
            id: head.id().to_hex(),
            incarnation,
            origin: origin.to_owned(),
            counter,
            order,
            payload: head.bundle_json.clone(),
            proof: head.proof()?,
        })
    }

    /// The files of a bundle's head; nothing is verified.
    pub fn head_files(&self) -> Result<HeadFiles> {
        if self.kind != Kind::Bundle {
            return Err(refused("it is not of a bundle"));
        }
        if self.id != Digest::of(&self.payload).to_hex() {
            return Err(refused("its id is not that of its bundle"));
        }
        HeadFiles::from_proof(self.payload.clone(), &self.proof)
            .map_err(|error| refused(&error.to_string()))
    }

    /// Parses the one encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > limits::RECORD_BYTES_MAX {
            return Err(refused("it is too large"));
        }
        let record = decode(bytes).ok_or_else(|| refused("it is not a record"))?;
        record.check()?;
        Ok(record)
    }

    /// Writes the one encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let names = self.id.len() + self.origin.len();
        let length = 61 + names + self.payload.len() + self.proof.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.push(self.kind.entry().0);
        bytes.extend_from_slice(self.incarnation.as_bytes());
        for number in [self.counter, self.order.epoch, self.order.sequence] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for name in [&self.id, &self.origin] {
            let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        for body in [&self.payload, &self.proof] {
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }

    /// SHA-256 of the encoding: the record's name between peers.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Fails for a record that no peer would take.
    pub(crate) fn check(&self) -> Result<()> {
        let visible = |text: &str| {
            text.len() <= NAME_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if self.id.is_empty() || !visible(&self.id) {
            return Err(refused("its id is not 1 to 255 visible characters"));
        }
        if !visible(&self.origin) {
            return Err(refused("its origin is not up to 255 visible characters"));
        }
        if self.payload.len().saturating_add(self.proof.len()) > limits::RECORD_BYTES_MAX - 1024 {
            return Err(refused("it is too large"));
        }
        Ok(())
    }

    /// Which of two records stays. Looks at nothing but the two, so that every node decides the same.
    ///
    /// The higher order wins. In the same place the same statement is kept once, with the smallest encoding; two
    /// statements are both kept: somebody has signed two things, and that must be seen.
    pub(crate) fn relation(&self, other: &Self) -> Relation {
        if !self.is_about_the_same(other) {
            return Relation::Apart;
        }
        match self.order.cmp(&other.order) {
            Ordering::Greater => Relation::First,
            Ordering::Equal if self.payload != other.payload => Relation::Apart,
            Ordering::Equal if self.to_bytes() <= other.to_bytes() => Relation::First,
            Ordering::Equal | Ordering::Less => Relation::Second,
        }
    }

    /// Whether the two are an alarm: one place, two statements.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.is_about_the_same(other) && self.order == other.order && self.payload != other.payload
    }

    fn is_about_the_same(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation && self.kind == other.kind && self.id == other.id
    }
}

fn refused(why: &str) -> StoreError {
    StoreError::Record {
        why: why.to_owned(),
    }
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let mut rest = Rest(bytes.strip_prefix(MAGIC)?);
    let [kind] = rest.array()?;
    let record = Record {
        kind: Kind::from_code(kind)?,
        incarnation: Incarnation::from_bytes(rest.array()?),
        counter: u64::from_le_bytes(rest.array()?),
        order: Order {
            epoch: u64::from_le_bytes(rest.array()?),
            sequence: u64::from_le_bytes(rest.array()?),
        },
        id: rest.name()?,
        origin: rest.name()?,
        payload: rest.body()?,
        proof: rest.body()?,
    };
    rest.0.is_empty().then_some(record)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn name(&mut self) -> Option<String> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }

    fn body(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(u32::from_le_bytes(self.array()?)).ok()?;
        self.bytes(length).map(<[u8]>::to_vec)
    }
}
