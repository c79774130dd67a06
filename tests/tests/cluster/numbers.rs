//! What the site costs a node.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use tests::bed::Node;
use tests::scenarios::note;

use crate::story::NODES;
use crate::story::Story;

/// What syncd and the forwarder may take of a node's memory together.
const KIB_MAX: u64 = 60 << 10;

/// The memory of both units' processes, as the kernel counts it.
pub(crate) fn memory(story: &mut Story) -> Result<()> {
    story.four_nodes()?;
    for name in NODES {
        let node = story.node(name)?;
        let (syncd, endpoint) = (
            resident_kib(&node, "syncd")?,
            resident_kib(&node, "syncd-endpoint")?,
        );
        note(&format!(
            "{name}: syncd {} MiB, forwarder {} MiB",
            syncd >> 10,
            endpoint >> 10
        ));
        ensure!(
            syncd + endpoint <= KIB_MAX,
            "{name}: {syncd} and {endpoint} KiB"
        );
    }
    Ok(())
}

fn resident_kib(node: &Node, unit: &str) -> Result<u64> {
    let status = node.output(&format!(
        "cat /proc/$(systemctl show -p MainPID --value {unit})/status"
    ))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no memory is counted")?.parse()?)
}
