//! Every path of a store, made from checked names only. Nothing that a peer says reaches the filesystem by another way.

use bundle::Digest;

pub(crate) const STORE_ID: &str = "STORE_ID";
pub(crate) const BLOBS: &str = "blobs/sha256";
pub(crate) const INCOMING: &str = "incoming";
pub(crate) const RECORDS: &str = "records";
pub(crate) const TRUST: &str = "trust";
pub(crate) const INBOX: &str = "inbox";
pub(crate) const QUARANTINE: &str = "quarantine";

/// Every directory of a store, parents first.
pub(crate) const DIRECTORIES: [&str; 8] = [
    "blobs", BLOBS, INCOMING, RECORDS, TRUST, INBOX, QUARANTINE, "trash",
];

/// Names at the root that are not the store's own and don't make it foreign.
pub(crate) const TOLERATED: [&str; 1] = ["lost+found"];

/// What a running write's directory in `incoming/` is called, with a number behind it.
pub(crate) const STAGE_PREFIX: &str = "stage.";

pub(crate) fn blob(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.to_hex())
}

pub(crate) fn stage(number: u32) -> String {
    format!("{INCOMING}/{STAGE_PREFIX}{number}")
}

pub(crate) fn partial(digest: &Digest) -> String {
    format!("{INCOMING}/{}", digest.to_hex())
}

pub(crate) fn partial_data(digest: &Digest) -> String {
    format!("{INCOMING}/{}/data", digest.to_hex())
}

pub(crate) fn partial_journal(digest: &Digest) -> String {
    format!("{INCOMING}/{}/journal", digest.to_hex())
}

pub(crate) fn partial_journal_new(digest: &Digest) -> String {
    format!("{INCOMING}/{}/journal.new", digest.to_hex())
}
