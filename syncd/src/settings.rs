//! What the engine is told at its start. Reading it from files and flags is the process's work, not the engine's.

use std::num::NonZeroU64;
use std::time::Duration;

use api::sync::Boot;
use api::sync::NodeName;

/// Everything that decides how one node replicates.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeName,
    /// The other members.
    pub peers: Vec<NodeName>,
    /// Drawn at random at every start.
    pub boot: Boot,
    /// Decides jitter; drawn at random in production.
    pub seed: u64,
    /// Limits of bytes per second.
    pub bandwidth: Bandwidth,
    /// When things happen.
    pub timing: Timing,
    /// How much happens at once.
    pub budget: Budget,
}

/// Limits in bytes per second; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// All that is sent to all peers.
    pub send: Option<NonZeroU64>,
    /// All that is received from all peers.
    pub receive: Option<NonZeroU64>,
    /// What is sent to any one peer.
    pub send_per_peer: Option<NonZeroU64>,
    /// What is received from any one peer.
    pub receive_per_peer: Option<NonZeroU64>,
}

/// When things happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A peer is asked for its summary at least this often; longer silence (with [`Timing::idle`]) is a lost link.
    pub summary: Duration,
    /// Everything is read again, from disk and from every peer, this often, times 0.75 to 1.25.
    pub full_pass: Duration,
    /// A connection on which nothing arrives for this long is given up; there is no limit on the whole.
    pub idle: Duration,
    /// First and longest wait before a failed peer or blob is tried again.
    pub backoff: (Duration, Duration),
    /// How long pieces that another receiver is expected to bring are waited for before the source is asked again.
    pub patience: Duration,
}

/// How much happens at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Connections for blobs to one peer; each has one request in flight.
    pub streams_per_peer: usize,
    /// Bytes received and not yet written.
    pub in_flight_bytes: usize,
    /// Blobs that have a partial open at once.
    pub open_blobs: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            summary: Duration::from_secs(10),
            full_pass: Duration::from_hours(1),
            idle: Duration::from_secs(15),
            backoff: (Duration::from_secs(1), Duration::from_mins(5)),
            patience: Duration::from_secs(3),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            streams_per_peer: 3,
            in_flight_bytes: 64 << 20,
            open_blobs: 32,
        }
    }
}
