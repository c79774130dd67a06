//! What the programs say to each other and to people: reports of errors, exit codes, progress events.
//!
//! Wire shapes and wording only: no behaviour, and never the inner state of a program.

pub mod endpoint;
pub mod event;
pub mod exit;
pub mod join;
pub mod members;
pub mod report;
pub mod site;
pub mod sync;

pub use event::Event;
pub use report::Effect;
pub use report::Report;
