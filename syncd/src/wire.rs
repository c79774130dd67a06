//! HTTP/1.1 between members, over streams that have proved who is at their other end.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/summary` | digest of everything held |
//! | `GET /v1/inventory` | everything held |
//! | `GET /v1/have/{hex}` | what can be served of one blob |
//! | `GET /v1/have?boot=B&after=N&wait_ms=W` | what changed since, as soon as anything did |
//! | `GET /v1/blob/{hex}` | the blob, or one `Range` of it, also from verified pieces of a partial |
//! | `POST /v1/records` | wanted records, one behind the other |
//! | `POST /v1/nudge` | come and look at the caller now |
//! | `GET /v1/members`, `POST /v1/members` | the members of the site, and those of the caller merged into them |
//! | `GET /v2/…` | images from the store (distribution-spec 1.1), for a master whose own store lacks them still |
//! | `GET /v1/status`, `GET /metrics` | what this node knows of the cluster |
//!
//! Attacks known: names that are paths (only 64 hex digits are a name) · bodies without end (a length is required and
//! held against a limit before a byte is read) · silence (every read has an idle limit) · a peer that answers as another
//! (each answer names its node, and the stream has proved it) · ranges of overflow (checked, inside the blob or refused).

pub(crate) mod client;
pub(crate) mod range;
pub(crate) mod server;

/// An inventory: 65 536 blobs and as many records at 74 bytes, and partials.
pub(crate) const INVENTORY_BYTES_MAX: u64 = 32 << 20;

/// Any other answer in JSON; 4096 changes are about 400 KiB.
pub(crate) const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What a peer may send as the body of a request.
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Records asked for in one request.
pub(crate) const WANT_RECORDS_MAX: usize = 1024;

/// One answer of records ends at the first record beyond this many bytes.
pub(crate) const RECORDS_BYTES_SOFT: usize = 4 << 20;

/// One answer of records: the soft limit and the largest record.
pub(crate) const RECORDS_BYTES_MAX: u64 = 4 + (4 << 20) + RECORD_BYTES_MAX;

/// The largest record: the head of a bundle.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// The longest that a peer may ask to be kept waiting for a change.
pub(crate) const WAIT_MS_MAX: u64 = 60_000;

/// Largest buffer of one HTTP connection; the default of 400 KiB costs a tenth of the speed.
pub(crate) const BUFFER_BYTES: usize = 512 << 10;
