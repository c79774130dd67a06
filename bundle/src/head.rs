//! The head of a bundle: the signed index, its signatures, trust roots and revocations, and the packing.
//!
//! An [`UntrustedHead`] is bytes and nothing else; the one way to a [`VerifiedHead`] leads through the signatures
//! (`verify.rs`), and what is parsed is the buffer that was verified.
//!
//! Members, in this order (`<KEYID>` sorted, `<N>` from 2 without a gap):
//! `bundle.json`, `bundle.json.minisig`, `sig/bundle.json.<KEYID>.minisig`…,
//! `trust/<N>.root.json`, `trust/<N>.root.json.<KEYID>.minisig`…,
//! `trust/revocations.json`, `trust/revocations.json.<KEYID>.minisig`…, `packing.json`.
//! There is one encoding of a head: a reader encodes what it has read and requires the same bytes.

use std::collections::BTreeMap;
use std::io::Read;

use crate::digest::Digest;
use crate::index::BundleIndex;
use crate::index::IndexError;
use crate::key::KeyId;
use crate::packing::Packing;
use crate::read::ReadError;
use crate::verify::VerifiedIndex;

mod members;
#[cfg(test)]
mod tests;

pub use members::HeadError;
pub(crate) use members::encode;

/// A signed document with its signatures, none of them checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedFile {
    /// The document, byte for byte.
    pub json: Vec<u8>,
    /// Minisign signature files by the key that they name.
    pub signatures: BTreeMap<KeyId, Vec<u8>>,
}

/// All of a head but the packing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadFiles {
    /// The index, byte for byte; its SHA-256 is the bundle's id.
    pub bundle_json: Vec<u8>,
    /// `bundle.json.minisig`; absent in a bundle that is still to be signed.
    pub signature: Option<Vec<u8>>,
    /// Further signatures of the index, `sig/bundle.json.<KEYID>.minisig`.
    pub more_signatures: BTreeMap<KeyId, Vec<u8>>,
    /// Trust roots by version, from 2 without a gap.
    pub roots: BTreeMap<u32, SignedFile>,
    /// The list of revocations.
    pub revocations: Option<SignedFile>,
}

/// A head as it was read: raw bytes in the places where the format wants them, nothing believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntrustedHead {
    files: HeadFiles,
    packing_json: Vec<u8>,
    frame_bytes: u64,
}

/// A head whose index is signed by those who may, parsed and consistent.
#[derive(Clone, Debug)]
pub struct VerifiedHead {
    files: HeadFiles,
    verified: VerifiedIndex,
    packing: Packing,
    frame_bytes: u64,
}

impl HeadFiles {
    /// The bundle's id: the SHA-256 of `bundle.json`.
    pub fn id(&self) -> Digest {
        Digest::of(&self.bundle_json)
    }

    /// Encodes what proves the index: all files but `bundle.json`. It is kept beside the index where there is no bundle.
    pub fn proof(&self) -> Result<Vec<u8>, HeadError> {
        let files = Self {
            bundle_json: Vec::new(),
            ..self.clone()
        };
        members::encode(&files, &[])
    }

    /// Puts an index and its proof together again; nothing is verified yet.
    pub fn from_proof(bundle_json: Vec<u8>, proof: &[u8]) -> Result<Self, HeadError> {
        let (files, packing_json) = members::decode(proof)?;
        if !files.bundle_json.is_empty() || !packing_json.is_empty() {
            return Err(HeadError::NotCanonical { at: 0 });
        }
        Ok(Self {
            bundle_json,
            ..files
        })
    }

    /// All signatures of the index, the first one first.
    pub fn signatures(&self) -> impl Iterator<Item = &[u8]> {
        self.signature
            .iter()
            .chain(self.more_signatures.values())
            .map(Vec::as_slice)
    }
}

impl UntrustedHead {
    /// Reads the head frame and not a byte more; the reader stands at the payload afterwards.
    ///
    /// Allocates no more than has been read.
    pub fn read(reader: &mut impl Read) -> Result<Self, ReadError> {
        let (plain, frame_bytes) = crate::frame::read_head_frame(reader)?;
        let (files, packing_json) = members::decode(&plain)?;
        Ok(Self {
            files,
            packing_json,
            frame_bytes,
        })
    }

    /// The bytes of `bundle.json`.
    pub fn bundle_json(&self) -> &[u8] {
        &self.files.bundle_json
    }

    /// All signatures of `bundle.json`, the first one first.
    pub fn signatures(&self) -> impl Iterator<Item = &[u8]> {
        self.files.signatures()
    }

    /// Trust roots by version.
    pub const fn roots(&self) -> &BTreeMap<u32, SignedFile> {
        &self.files.roots
    }

    /// The list of revocations.
    pub const fn revocations(&self) -> Option<&SignedFile> {
        self.files.revocations.as_ref()
    }

    /// All files but the packing.
    pub const fn head_files(&self) -> &HeadFiles {
        &self.files
    }

    /// The bytes of `packing.json`.
    pub fn packing_json(&self) -> &[u8] {
        &self.packing_json
    }

    /// Bytes of the head frame; the payload begins there.
    pub const fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }

    /// Parses the index although nobody has vouched for it: to show it, never to act on it.
    pub fn index_unverified(&self) -> Result<BundleIndex, IndexError> {
        BundleIndex::parse(&self.files.bundle_json)
    }

    /// Takes the head as verified. Only for `verify.rs`, which has verified these very files.
    pub(crate) fn into_verified(self, verified: VerifiedIndex) -> Result<VerifiedHead, ReadError> {
        let packing = Packing::parse(&self.packing_json, &verified.id(), verified.index())?;
        Ok(VerifiedHead {
            files: self.files,
            verified,
            packing,
            frame_bytes: self.frame_bytes,
        })
    }
}

impl VerifiedHead {
    /// The verified index, with what the site should trust from now on.
    pub const fn verified(&self) -> &VerifiedIndex {
        &self.verified
    }

    /// What the bundle carries.
    pub const fn index(&self) -> &BundleIndex {
        self.verified.index()
    }

    /// The bundle's id: the SHA-256 of `bundle.json`.
    pub const fn id(&self) -> Digest {
        self.verified.id()
    }

    /// How this file lays it out.
    pub const fn packing(&self) -> &Packing {
        &self.packing
    }

    /// The files of the head, byte for byte.
    pub const fn head_files(&self) -> &HeadFiles {
        &self.files
    }

    /// The keys whose signatures counted.
    pub fn signers(&self) -> &[KeyId] {
        self.verified.signers()
    }

    /// Bytes of the whole file, as the packing says.
    pub const fn file_bytes(&self) -> u64 {
        self.frame_bytes.saturating_add(self.packing.total_size)
    }

    /// Bytes of the head frame; the payload begins there.
    pub const fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }
}
