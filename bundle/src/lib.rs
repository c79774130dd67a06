//! What a bundle *is*: names, digests, index, frames, tar, signatures, trust root, license.
//!
//! Pure: no clock, no network, no terminal; it writes only through the writers and sinks it is given.

pub mod digest;
pub mod fault;
pub mod key;
pub mod limits;
pub mod minisig;
pub mod pieces;

pub use digest::Digest;
pub use digest::Hasher;
