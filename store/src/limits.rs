//! Every limit and fixed size of the store, with its reason.

use std::time::Duration;

/// Bytes after which a partial is due for a checkpoint: what a crash may cost.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Time after which a partial is due for a checkpoint, when anything is new.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);

/// Room that an import or a receive leaves free beside the blobs: journals, records and directories fit many times.
pub const RESERVE_BYTES: u64 = 16 << 20;

/// Blobs up to this size are kept in memory and stored in batches behind one sync (a sync costs about 8 ms).
pub const SMALL_BLOB_BYTES_MAX: u64 = 1 << 20;

/// Files of one batch.
pub const BATCH_FILES_MAX: usize = 256;

/// A partial's journal is rewritten when it grows above this: slow links make a record every two seconds for days.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 20;

/// One record with everything in it; the head of a bundle is the largest: a 16 MiB index, roots, revocations.
pub const RECORD_BYTES_MAX: usize = 48 << 20;

/// Records of a store. A site has dozens; ten thousand are read in a second.
pub const RECORDS_MAX: usize = 10_000;

/// The text of `STORE_ID`.
pub(crate) const STORE_ID_BYTES_MAX: u64 = 1 << 10;

/// One read or write of a large blob: large enough that system calls don't count.
pub(crate) const IO_BYTES: usize = 1 << 20;

/// Pieces of one blob: the largest blob has a quarter of it with standard pieces.
pub const PIECES_MAX: u64 = 1 << 20;

/// A journal that is read at all: two rewrites' worth with the worst pattern of pieces.
pub(crate) const JOURNAL_READ_BYTES_MAX: u64 = 32 << 20;
