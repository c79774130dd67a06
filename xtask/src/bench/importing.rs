//! From one file to verified blobs in a store: `installer import` against checking, copying and syncing the file.

use std::fs;

use anyhow::Result;
use tests::site::Site;

use super::Bench;
use super::measure;
use crate::say;

const PLAIN: &str = "sha256sum \"$1\" > /dev/null; cp \"$1\" \"$2\"; sync -f \"$2\"";

impl Bench {
    pub(super) fn importing(&mut self) -> Result<()> {
        let bundle = self.path("bench.airgap");
        let file = bundle.display().to_string();
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        let mut peak_kib = 0;
        for round in 1..=self.rounds {
            let store = self.path("store");
            let site = Site::trusting(&self.vendor, &store)?;
            let imported = measure::run(&mut site.installer(&["import", &file])?)?;
            peak_kib = imported.peak_kib.max(peak_kib);
            ours.push(imported.wall);
            fs::remove_dir_all(store)?;
            let copy = self.path("copy.airgap");
            plain.push(measure::shell(PLAIN, &[&bundle, &copy])?.wall);
            fs::remove_file(copy)?;
            say!(
                "import, round {round}: ours {:.2} s",
                imported.wall.as_secs_f64()
            );
        }
        self.table.compare(
            "verify and import against sha256sum, cp, sync",
            &ours,
            &plain,
            1.0,
        );
        self.table.memory("installer", peak_kib, 128);
        Ok(())
    }
}
