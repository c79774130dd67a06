//! Limits of bytes per second: one bucket for the node, one for each peer, in each direction.
//!
//! A bucket hands out places in a queue of time: whoever takes bytes waits until the bytes before have had their time.
//! It is fair among many small takers and exact over any longer span, whatever the grain of the timer.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use api::sync::NodeName;
use tokio::time::Instant;

use crate::settings::Bandwidth;

/// How far a bucket may run ahead of its rate, so that a late timer costs nothing.
const BURST: Duration = Duration::from_millis(50);

/// Smaller blocks cost more than they smooth.
const BLOCK_BYTES_MIN: usize = 4 << 10;

/// All buckets of a node.
#[derive(Debug)]
pub(crate) struct Limits {
    bandwidth: Bandwidth,
    send: Bucket,
    receive: Bucket,
    /// Made when a peer first takes bytes; a peer that is gone leaves some words behind.
    peers: Mutex<BTreeMap<NodeName, Arc<Pair>>>,
}

/// One peer's buckets.
#[derive(Debug)]
struct Pair {
    send: Bucket,
    receive: Bucket,
}

impl Limits {
    pub(crate) fn new(bandwidth: &Bandwidth) -> Self {
        Self {
            bandwidth: *bandwidth,
            send: Bucket::new(bandwidth.send),
            receive: Bucket::new(bandwidth.receive),
            peers: Mutex::default(),
        }
    }

    /// The size of one block to send: at most `bytes`, at the limit no more than a quarter of a second.
    pub(crate) fn block(&self, bytes: usize) -> usize {
        let limits = [self.bandwidth.send, self.bandwidth.send_per_peer];
        let slowest = limits.into_iter().flatten().min();
        slowest.map_or(bytes, |rate| {
            let quarter = usize::try_from(rate.get() / 4).unwrap_or(usize::MAX);
            quarter.clamp(BLOCK_BYTES_MIN, bytes)
        })
    }

    /// Waits until `bytes` may be sent to `peer`.
    pub(crate) async fn send(&self, peer: &NodeName, bytes: usize) {
        self.pair(peer).send.take(bytes).await;
        self.send.take(bytes).await;
    }

    /// Waits as long as `bytes` that came from `peer` take at the limit.
    pub(crate) async fn receive(&self, peer: &NodeName, bytes: usize) {
        self.pair(peer).receive.take(bytes).await;
        self.receive.take(bytes).await;
    }

    fn pair(&self, peer: &NodeName) -> Arc<Pair> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = peers.get(peer) {
            return pair.clone();
        }
        let pair = Arc::new(Pair {
            send: Bucket::new(self.bandwidth.send_per_peer),
            receive: Bucket::new(self.bandwidth.receive_per_peer),
        });
        peers.insert(peer.clone(), pair.clone());
        pair
    }
}

/// One limit.
#[derive(Debug)]
struct Bucket {
    rate: Option<NonZeroU64>,
    /// When the bytes that were taken so far have had their time.
    free_at: Mutex<Option<Instant>>,
}

impl Bucket {
    const fn new(rate: Option<NonZeroU64>) -> Self {
        Self {
            rate,
            free_at: Mutex::new(None),
        }
    }

    async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else {
            return;
        };
        let until = self.reserve(rate, bytes);
        if until > Instant::now() {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Puts `bytes` at the end of the queue and says when they may go.
    fn reserve(&self, rate: NonZeroU64, bytes: usize) -> Instant {
        let now = Instant::now();
        let nanos =
            u128::try_from(bytes).unwrap_or(u128::MAX) * 1_000_000_000 / u128::from(rate.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = free_at.unwrap_or(earliest).max(earliest);
        let end = start + cost;
        *free_at = Some(end);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_takers_together_get_the_rate_and_no_more() {
        let peers: Vec<NodeName> = ["m2", "m3"].map(|name| name.parse().unwrap()).into();
        let bandwidth = Bandwidth {
            send: NonZeroU64::new(1_000_000),
            ..Bandwidth::default()
        };
        let limits = std::sync::Arc::new(Limits::new(&bandwidth));
        let start = Instant::now();
        let mut takers = Vec::new();
        for peer in peers {
            let limits = limits.clone();
            takers.push(tokio::spawn(async move {
                for _chunk in 0..50 {
                    limits.send(&peer, 50_000).await;
                }
            }));
        }
        for taker in takers {
            taker.await.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!(
            (4.9..=5.0).contains(&seconds),
            "5 MB at 1 MB/s took {seconds} s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_peer_does_not_slow_the_other() {
        let peers: Vec<NodeName> = ["m2", "m3"].map(|name| name.parse().unwrap()).into();
        let bandwidth = Bandwidth {
            receive_per_peer: NonZeroU64::new(1000),
            ..Bandwidth::default()
        };
        let limits = Limits::new(&bandwidth);
        let start = Instant::now();
        tokio::join!(
            limits.receive(&peers[0], 1000),
            limits.receive(&peers[1], 1000)
        );
        assert!(start.elapsed() < Duration::from_millis(1001));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let limits = Limits::new(&Bandwidth::default());
        let start = Instant::now();
        limits.send(&"m9".parse().unwrap(), usize::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
