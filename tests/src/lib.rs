//! The harness of the end-to-end tests: images from a seed, real programs, clusters on loopback.
//!
//! Suites are in `tests/`. They look at files, sockets, processes and other people's tools, never at our own log.

pub mod corpus;
