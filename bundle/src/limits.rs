//! Every limit on what comes from outside, with its reason. Nothing is allocated or read before it is held against one.

/// `bundle.json`: 65 536 members at about 200 bytes each fit; also the most that is kept in memory of a head.
pub const INDEX_BYTES_MAX: usize = 16 << 20;

/// `packing.json`: one line of about 200 bytes a frame, for the frames of a bundle of some terabytes.
pub const PACKING_BYTES_MAX: usize = 16 << 20;

/// A whole head frame, plain: index, packing, roots and signatures.
pub const HEAD_BYTES_MAX: usize = 48 << 20;

/// One trust root; TUF suggests tens of KiB (tuf-spec 5.3).
pub const ROOT_BYTES_MAX: usize = 64 << 10;

/// Roots to walk in one update; TUF suggests 2^10 (tuf-spec 5.3).
pub const ROOTS_MAX: usize = 1024;

/// The list of revocations: about 20 000 entries.
pub const REVOCATIONS_BYTES_MAX: usize = 4 << 20;

/// A customer's license, signature included.
pub const LICENSE_BYTES_MAX: usize = 256 << 10;

/// A minisign signature file: two comments of at most 1 KiB and 8 KiB and two base64 lines (minisign.h).
pub const SIGNATURE_BYTES_MAX: usize = 12 << 10;

/// Signatures beside one document.
pub const SIGNATURES_MAX: usize = 16;

/// An OCI manifest, index or config (distribution-spec asks registries to take 4 MiB).
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// What one frame decodes to.
pub const FRAME_PLAIN_BYTES_MAX: u64 = 64 << 20;

/// The window a frame may ask for.
pub const WINDOW_LOG_MAX: u32 = 26;

/// Members of a bundle, head included.
pub const MEMBERS_MAX: usize = 65_536;

/// A path inside a bundle; ustar's name field holds 100 and no prefix is used for blobs.
pub const PATH_BYTES_MAX: usize = 255;

/// One string in a document.
pub const STRING_BYTES_MAX: usize = 64 << 10;

/// Nesting of a JSON document.
pub const JSON_DEPTH_MAX: usize = 16;

/// Layers of one image.
pub const LAYERS_MAX: usize = 512;

/// Indexes inside indexes.
pub const INDEX_NESTING_MAX: usize = 2;

/// Blobs larger than this carry a piece list.
pub const PIECED_BLOB_BYTES_MIN: u64 = 8 << 20;

/// log2 of a piece, 4 MiB: 20 GiB need 5 120 hashes, 160 KiB.
pub const PIECE_SIZE_LOG2: u8 = 22;

/// The largest blob: 2^40, far above any layer, far below an overflow.
pub const BLOB_BYTES_MAX: u64 = 1 << 40;
