//! From one master to others: one receiver against curl, two receivers on limited links against one copy's ideal.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use tests::cluster::Cluster;
use tests::cluster::ClusterPlan;

use super::Bench;
use super::measure;
use crate::say;

/// 200 Mbit a second.
const LIMITED: u64 = 25_000_000;

const CURL: &str = "curl --silent --fail --parallel --parallel-max 8 --config \"$1\"; \
    find \"$2\" -type f -print0 | xargs -0 sha256sum > /dev/null; sync -f \"$2\"";

impl Bench {
    pub(super) fn receiving(&mut self) -> Result<()> {
        let (mut ours, mut curl) = (Vec::new(), Vec::new());
        let mut peak_kib = 0;
        for round in 1..=self.rounds {
            let plan = ClusterPlan {
                nodes: 2,
                is_direct: true,
                ..ClusterPlan::default()
            };
            let (wall, peak) = self.receive(&plan)?;
            peak_kib = peak.max(peak_kib);
            ours.push(wall);
            curl.push(self.curl_and_sums()?);
            say!("receive, round {round}: ours {:.2} s", wall.as_secs_f64());
        }
        self.table.compare(
            "one receiver over mTLS against curl, sha256sum, sync",
            &ours,
            &curl,
            0.9,
        );

        let mut limited = Vec::new();
        for round in 1..=self.rounds.div_ceil(2) {
            let plan = ClusterPlan {
                nodes: 3,
                bytes_per_second: Some(LIMITED),
                ..ClusterPlan::default()
            };
            let (wall, peak) = self.receive(&plan)?;
            peak_kib = peak.max(peak_kib);
            limited.push(wall);
            say!(
                "two receivers, limited, round {round}: {:.2} s",
                wall.as_secs_f64()
            );
        }
        let ideal =
            Duration::from_micros(self.corpus.amd64_bytes() * 1_000_000 / LIMITED).as_secs_f64();
        let what = "1 → 2 receivers, 200 Mbit each, against one copy";
        self.table.against_ideal(what, &limited, ideal, 1.15);
        self.table.memory("syncd", peak_kib, 128);
        Ok(())
    }

    /// Time from the start of all receivers until each has published everything; peak memory of all daemons.
    fn receive(&self, plan: &ClusterPlan) -> Result<(Duration, u64)> {
        let site = self.path("site");
        let mut cluster = Cluster::create(&site, plan)?;
        for node in cluster.nodes() {
            node.trust(&self.vendor)?;
        }
        let file = self.path("bench.airgap").display().to_string();
        cluster.node("m1")?.start()?;
        cluster
            .node("m1")?
            .syncd_does(&["import", &file, "--wait", "local"])?;
        let all = cluster.node("m1")?.blobs()?;
        let started = Instant::now();
        cluster.spawn()?;
        for node in cluster.nodes() {
            node.wait_for_blobs(&all)?;
        }
        let wall = started.elapsed();
        for node in cluster.nodes() {
            node.wait_for_bundle()?;
        }
        let mut peak_kib = 0;
        for node in cluster.nodes() {
            peak_kib = measure::peak_kib(node.process()?.pid())
                .unwrap_or(0)
                .max(peak_kib);
        }
        drop(cluster);
        fs::remove_dir_all(site)?;
        Ok((wall, peak_kib))
    }

    fn curl_and_sums(&self) -> Result<Duration> {
        let into = self.path("curl");
        fs::create_dir_all(&into)?;
        let config = self.path("curl.config");
        fs::write(&config, self.curl_config(&into)?)?;
        let took = measure::shell(CURL, &[&config, &into])?;
        fs::remove_dir_all(into)?;
        Ok(took.wall)
    }
}
