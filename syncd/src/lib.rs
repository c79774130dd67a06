//! The daemon on every node: replicates the store to its peers and serves it.
//!
//! The engine (`replicate`, `wire`) is the same code in production and in simulation; everything that differs comes in
//! through [`env`](mod@env).

pub mod ca;
pub mod config;
pub mod contents;
pub mod control;
pub mod env;
pub mod handle;
pub mod images;
pub mod metrics;
pub mod net;
pub mod settings;
pub mod view;

mod backoff;
mod bandwidth;
mod counters;
mod engine;
mod holdings;
mod node;
mod pieces;
mod replicate;
mod wire;

pub use engine::Syncd;
