//! The harness of the end-to-end tests: images from a seed, real programs, clusters on loopback.
//!
//! Suites are in `tests/`. They look at files, sockets, processes and other people's tools, never at our own log.

pub mod bed;
pub mod cluster;
pub mod cluster_bundle;
pub mod cluster_parts;
pub mod control_plane;
pub mod corpus;
pub mod hostile;
pub mod image_layout;
pub mod link;
pub mod process;
pub mod programs;
pub mod real_parts;
pub mod real_site;
pub mod registry;
pub mod reproducible;
pub mod scenarios;
pub mod site;
pub mod vendor;

/// Ends a test that can't run on this machine, and says why; `cargo xtask test` counts it as skipped.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        println!("skipped: {}", format_args!($($why)*));
        return Ok(());
    }};
}
