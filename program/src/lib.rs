//! What the three programs share at their edge: one place that prints, one way to fail, files that are whole or absent,
//! other programs run within a limit.
//!
//! Nothing here knows a store or a peer; it shows and keeps what it is given.

pub mod child;
pub mod durable;
pub mod failure;
pub mod inspect;
pub mod output;
pub mod verify;

pub use durable::FileError;
pub use failure::Failure;
pub use failure::Outcome;
pub use output::Lines;
pub use output::Output;
