//! What a bundle *is*: names, digests, index, frames, tar, signatures, trust root, license.
//!
//! Pure: no clock, no network, no terminal; it writes only through the writers and sinks it is given.

pub mod clock;
pub mod digest;
pub mod fault;
pub mod frame;
pub mod head;
pub mod index;
pub mod json;
pub mod key;
pub mod license;
pub mod limits;
pub mod minisig;
pub mod name;
pub mod oci;
pub mod packing;
pub mod pieces;
pub mod read;
pub mod revocations;
pub mod root;
pub mod signers;
pub mod state;
pub mod tar;
#[cfg(test)]
mod testing;
pub mod timestamp;
pub mod verify;
pub mod write;

pub use digest::Digest;
pub use digest::Hasher;
