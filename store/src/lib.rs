//! Where blobs and records *live* on a master: durable, content-addressed, resumable.
//!
//! One directory on one filesystem; the directory is the index, there is no database:
//!
//! | path | holds |
//! |---|---|
//! | `blobs/sha256/<hex>` | complete, verified, synced blobs, read-only |
//! | `incoming/<hex>/{data,journal}` | partials: blobs on their way, with what is certainly there |
//! | `incoming/stage.<n>/` | files of one running write, before they get their names |
//! | `records/` | signed control facts, one file each |
//! | `trust/` | pinned roots and the state of trust |
//! | `inbox/` | drop zone of the operator |
//! | `quarantine/`, `trash/` | kept evidence; delayed delete |
//! | `oci-layout`, `index.json` | make it an OCI image layout for anybody's tools; nothing of ours reads them |
//! | `STORE_ID` | which cluster and which filesystem this is |
//!
//! The crate trusts nothing: a name in `blobs/` appears only when its bytes hash to it, and whatever is told as done is
//! durable (file synced, renamed, directory synced). Several processes may work on one store at once; a name appears by
//! a rename that replaces nothing, and each partial has one owner at a time, by a lock.
//!
//! Everything blocks. [`fs::RealFs`] is the disk; `fs::SimFs` (feature `sim`) is a disk in memory that forgets at a crash.

pub mod admit;
pub mod bitmap;
pub mod blob;
pub mod error;
pub mod export;
pub mod fs;
pub mod id;
pub mod import;
pub mod inbox;
pub mod intake;
mod journal;
mod layout;
pub mod limits;
mod oci;
mod opening;
pub mod partial;
pub mod record;
pub mod records;
mod staging;
mod store;
#[cfg(test)]
mod tests;
pub mod trust;

pub use bitmap::Bitmap;
pub use blob::Blob;
pub use error::StoreError;
pub use fs::Fs;
pub use fs::RealFs;
#[cfg(any(test, feature = "sim"))]
pub use fs::SimFs;
pub use id::Incarnation;
pub use id::StoreId;
pub use partial::Partial;
pub use record::Record;
pub use store::BatchOutcome;
pub use store::BlobStat;
pub use store::Have;
pub use store::Store;
