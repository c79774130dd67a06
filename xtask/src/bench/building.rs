//! From a registry on loopback to one file: `bundler build`, skopeo and tar, curl.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use tests::real_parts::Part;
use tests::vendor::Release;
use tests::vendor::Source;

use super::Bench;
use super::measure;
use super::measure::Took;
use crate::say;

/// Fetches what a file of curl's configuration lists, then makes it durable.
const CURL: &str =
    "curl --silent --fail --parallel --parallel-max 8 --config \"$1\"; sync -f \"$2\"";

impl Bench {
    pub(super) fn building(&mut self) -> Result<()> {
        let (mut ours, mut skopeo, mut curl) = (Vec::new(), Vec::new(), Vec::new());
        let mut skopeo_durable = Vec::new();
        let mut peak_kib = 0;
        for round in 1..=self.rounds {
            let built = self.build()?;
            peak_kib = built.peak_kib.max(peak_kib);
            ours.push(built.wall);
            let (fetched, durable) = self.skopeo_and_tar()?;
            skopeo.push(fetched);
            skopeo_durable.push(durable);
            curl.push(self.curl_to_disk()?);
            say!(
                "build, round {round}: ours {:.2} s",
                built.wall.as_secs_f64()
            );
        }
        self.table.compare(
            "build against skopeo, image by image, then tar",
            &ours,
            &skopeo,
            4.0,
        );
        self.table.compare(
            "the same, until what tar wrote is on the disk as ours is",
            &ours,
            &skopeo_durable,
            4.0,
        );
        self.table.compare(
            "build against curl, 8 at once, to disk, then sync",
            &ours,
            &curl,
            1.0,
        );
        self.table.memory("bundler", peak_kib, 256);
        Ok(())
    }

    pub(super) fn build(&self) -> Result<Took> {
        // Cold: nothing in the cache.
        let cache = self.vendor.path("cache");
        if cache.exists() {
            fs::remove_dir_all(&cache)?;
        }
        let release = Release::of(&self.corpus, Source::Registry(self.registry.address()));
        let file = self.vendor.write_release(&release)?;
        let arguments = [
            "build",
            "-f",
            &file,
            "-o",
            "bench.airgap",
            "--key",
            "keys/shop.key",
        ];
        let took = measure::run(&mut self.vendor.bundler(&arguments)?)?;
        fs::remove_dir_all(&cache)?;
        fs::rename(self.vendor.path("bench.airgap"), self.path("bench.airgap"))?;
        Ok(took)
    }

    /// Time until the archive is there, and until it would survive the power.
    fn skopeo_and_tar(&self) -> Result<(Duration, Duration)> {
        let (layout, tar) = (self.path("skopeo"), self.path("skopeo.tar"));
        let skopeo = Part::Skopeo.find().context("skopeo is not installed")?;
        let mut wall = Duration::ZERO;
        for image in &self.corpus.images {
            let mut command = Command::new(&skopeo);
            command.args(["--insecure-policy", "copy", "--src-tls-verify=false"]);
            command.arg(format!(
                "docker://{}/{}",
                self.registry.address(),
                image.reference()
            ));
            command.arg(format!("oci:{}:{}", layout.display(), image.reference()));
            wall += measure::run(&mut command)?.wall;
        }
        wall += measure::shell("tar -C \"$1\" -cf \"$2\" .", &[&layout, &tar])?.wall;
        // Only the archive: the layout is in the way as soon as that is there.
        fs::remove_dir_all(layout)?;
        let durable = wall + measure::shell("sync \"$1\"", &[&tar])?.wall;
        fs::remove_file(tar)?;
        Ok((wall, durable))
    }

    fn curl_to_disk(&self) -> Result<Duration> {
        let into = self.path("curl");
        fs::create_dir_all(&into)?;
        let config = self.path("curl.config");
        fs::write(&config, self.curl_config(&into)?)?;
        let took = measure::shell(CURL, &[&config, &into])?;
        fs::remove_dir_all(into)?;
        Ok(took.wall)
    }
}
