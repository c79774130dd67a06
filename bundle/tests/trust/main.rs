//! The hostile corpus of signatures, roots, revocations, licenses and site state: each attack with its code.
//!
//! Every test begins with documents that are accepted (`fixtures.rs`), changes one thing, and looks at the refusal; so a
//! check that is taken out makes a test fail.

mod fixtures;
mod licenses;
mod revocations;
mod roots;
mod signatures;
mod state;
