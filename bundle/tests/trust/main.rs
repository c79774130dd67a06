//! The hostile corpus of signatures, roots, revocations, licenses and site state: each attack with its code.
//!
//! Every test begins with documents that are accepted (`fixtures.rs`), changes one thing, and looks at the refusal; so a
//! check that is taken out makes a test fail.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod fixtures;
mod golden;
mod licenses;
mod revocations;
mod roots;
mod signatures;
mod state;
