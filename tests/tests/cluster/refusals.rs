//! Machines that must not become nodes: each is told why and what to do, and is left as it was.

use std::collections::BTreeMap;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::process::Finished;
use tests::real_site::Becoming;
use tests::real_site::INSTALL_GUARD;
use tests::real_site::RealSite;
use tests::scenarios::step;

use crate::first_master::require_same;
use crate::story::Story;

/// Lets every program of a shell see a clock that is ten minutes ahead, its own timers apart.
const AHEAD: &str = "export LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME=+10m \
                     FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n";

/// What is wrong with a machine: what makes it so, what undoes it, and the check that must notice.
struct Flaw {
    what: &'static str,
    make: &'static str,
    undo: &'static str,
    check: &'static str,
}

const FLAWS: [Flaw; 3] = [
    Flaw {
        what: "port 6443 is taken",
        make: "systemd-run -q --unit=taken socat TCP-LISTEN:6443,fork,reuseaddr PIPE; \
               until ss -ltn | grep -q :6443; do sleep 0.05; done",
        undo: "systemctl stop taken",
        check: "port",
    },
    Flaw {
        what: "swap is on",
        make: "printf 'Filename\\tType\\tSize\\tUsed\\tPriority\\n/swapfile file 1048572 0 -2\\n' > /run/swaps; \
               mount --bind /run/swaps /proc/swaps",
        undo: "umount /proc/swaps",
        check: "swap",
    },
    Flaw {
        what: "somebody else's containerd runs",
        make: "mkdir -p /run/containerd /etc/containerd; echo 'version = 2' > /etc/containerd/config.toml; \
               systemd-run -q --unit=containerd --property=Description=theirs \
               socat UNIX-LISTEN:/run/containerd/containerd.sock,fork PIPE; \
               until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done",
        undo: "systemctl stop containerd; rm -rf /run/containerd /etc/containerd",
        check: "containerd",
    },
];

/// What an install refuses on a machine by itself.
pub(crate) fn unfit_machines(story: &mut Story) -> Result<()> {
    let site = story.site()?;
    let node = site.machine_with_media("unfit", NodePlan::default())?;
    site.trust(&node)?;
    for flaw in &FLAWS {
        step(flaw.what, || {
            node.output(flaw.make)?;
            refused_unchanged(&node, flaw.check, || site.install(&node, "--yes"))?;
            node.output(flaw.undo)?;
            Ok(())
        })?;
    }
    node.remove()?;
    let plan = NodePlan {
        var_bytes: Some(1 << 30),
        ..NodePlan::default()
    };
    let small = site.machine_with_media("small", plan)?;
    site.trust(&small)?;
    step("the disk is too small", || {
        refused_unchanged(&small, "disk", || site.install(&small, "--yes"))
    })?;
    small.remove()
}

/// What the masters know of a machine that it can't know by itself.
pub(crate) fn twins(story: &mut Story) -> Result<()> {
    let m1 = story.four_nodes()?;
    let w1 = story.node("w1")?;
    let machine_id = w1.output("cat /etc/machine-id")?.trim().to_owned();
    let site = story.site()?;
    let script = site.join_script(&m1, Becoming::Worker)?;
    let named = NodePlan {
        hostname: Some("w1".to_owned()),
        ..NodePlan::default()
    };
    let copied = NodePlan {
        machine_id: Some(machine_id),
        ..NodePlan::default()
    };
    for (what, check, plan) in [
        ("a second machine of the same name", "hostname", &named),
        (
            "a second machine with the same machine id",
            "machine-id",
            &copied,
        ),
    ] {
        let twin = site.bed().start("twin", plan)?;
        step(what, || {
            refused_unchanged(&twin, check, || RealSite::paste(&twin, &script))
        })?;
        twin.remove()?;
    }
    let late = site.machine("late")?;
    step("the clock is ten minutes ahead", || {
        refused_unchanged(&late, "clock", || {
            late.shell(&format!("{AHEAD}{script}"), INSTALL_GUARD)
        })
    })?;
    late.remove()
}

/// The command refuses, names the check and the next step, and the machine is what it was.
fn refused_unchanged(
    node: &Node,
    check: &str,
    command: impl FnOnce() -> Result<Finished>,
) -> Result<()> {
    let before = state(node)?;
    let refused = command()?.refused()?;
    let text = format!("{}{}", refused.stdout, refused.stderr);
    ensure!(text.contains(check), "no word of {check}: {refused}");
    ensure!(text.contains("help: "), "no next step: {refused}");
    require_same("the machine's files and units", &before, &state(node)?)
}

/// Files with their times, and the units that there are; a script may have laid the installer down in /run or /tmp.
fn state(node: &Node) -> Result<BTreeMap<String, String>> {
    let listed = node.output(
        "find /etc /usr /opt /root /var/lib -xdev -type f -not -path '/var/lib/sealift*' -not -path '/var/lib/systemd/*' \
         -printf '%p %T@ %s\\n'; systemctl list-units --no-legend --plain --type=service --state=running | \
         awk '{print \"unit:\" $1, $3}' | grep -v run-",
    )?;
    let lines = listed
        .lines()
        .map(|line| line.split_once(' ').context("a line has two words"));
    lines
        .map(|line| line.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}
