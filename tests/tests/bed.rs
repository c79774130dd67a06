//! The bed itself: nodes boot, see each other, lose power, are cut off, and nothing of them is left afterwards.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use tests::bed;
use tests::bed::Bed;
use tests::bed::Node;
use tests::bed::NodePlan;
use tests::process;
use tests::process::wait_for;
use tests::skip;

/// Where a process that is about to be killed writes the name of its bed.
const TO_BE_KILLED: &str = "SEALIFT_TEST_BED_OF_THE_KILLED";

fn pings(from: &Node, to: &Node) -> Result<bool> {
    let address = to.address.to_string();
    Ok(from.exec(["ping", "-c1", "-W1", &address])?.code == Some(0))
}

fn boot_id(node: &Node) -> Result<String> {
    node.output("cat /proc/sys/kernel/random/boot_id")
}

/// What is left of a bed on this machine, looked for from outside.
fn remains(id: &str) -> Result<Vec<String>> {
    let mark = format!("sealift-{id}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/run/netns").into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&mark) {
            found.push(format!("network {name}"));
        }
    }
    groups(Path::new("/sys/fs/cgroup"), &mark, &mut found);
    let folder = bed::beds()?.join(id).display().to_string();
    if Path::new(&folder).exists() {
        found.push(folder.clone());
    }
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let read = |file: &str| fs::read(process.join(file)).unwrap_or_default();
        let has = |file: &str, what: &str| String::from_utf8_lossy(&read(file)).contains(what);
        // What has ended and was not yet asked for by its parent holds nothing any more.
        let has_ended = has("status", "State:\tZ");
        if has_ended {
            continue;
        }
        if has("mountinfo", &folder) || has("cgroup", &mark) || has("cmdline", &folder) {
            found.push(format!("process {}", process.display()));
        }
    }
    Ok(found)
}

fn groups(folder: &Path, mark: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && entry.file_name().to_string_lossy() == mark {
            found.push(format!("group {}", entry.path().display()));
        } else if is_folder {
            groups(&entry.path(), mark, found);
        }
    }
}

#[test]
fn nodes_boot_and_see_each_other_unless_they_are_cut_off() -> Result<()> {
    if let Some(why) = bed::obstacle() {
        skip!("{why}");
    }
    let bed = Bed::new()?;
    let plan = NodePlan::default();
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| bed.create(name, &plan));
    let (n1, n2, n3) = (n1?, n2?, n3?);
    std::thread::scope(|scope| {
        let starting = [&n1, &n2, &n3].map(|node| scope.spawn(|| node.start()));
        starting
            .into_iter()
            .try_for_each(|start| start.join().expect("no panic"))
    })?;
    assert_eq!(n1.output("hostname")?.trim(), "n1");
    assert_eq!(n1.output("cat /proc/1/comm")?.trim(), "systemd");
    assert!(pings(&n1, &n2)?);
    n2.cut()?;
    assert!(!pings(&n1, &n2)?, "a pulled cable carries nothing");
    n2.heal()?;
    wait_for("the cable to carry again", || {
        pings(&n1, &n2)
            .ok()
            .filter(|it| *it)
            .ok_or_else(|| "no answer".to_owned())
    })?;
    n2.part()?;
    assert!(!pings(&n1, &n2)?, "a port off the bridge carries nothing");
    assert_eq!(n2.output("cat /sys/class/net/eth0/carrier")?.trim(), "1");
    n2.unpart()?;
    wait_for("the port to carry again", || {
        pings(&n1, &n2)
            .ok()
            .filter(|it| *it)
            .ok_or_else(|| "no answer".to_owned())
    })?;
    bed.split(&n1, &n3)?;
    assert!(
        !pings(&n1, &n3)?,
        "two that are split do not see each other"
    );
    assert!(
        pings(&n1, &n2)? && pings(&n3, &n2)?,
        "everybody else sees both"
    );
    bed.clear()?;
    assert!(pings(&n1, &n3)?);
    n3.lose(100)?;
    assert!(!pings(&n1, &n3)?, "all packets are lost");
    bed.clear()?;
    assert!(pings(&n1, &n3)?);
    Ok(())
}

#[test]
fn a_power_cut_loses_the_node_and_a_start_brings_it_back_with_its_files() -> Result<()> {
    if let Some(why) = bed::obstacle() {
        skip!("{why}");
    }
    let bed = Bed::new()?;
    let [n1, n2] = ["n1", "n2"].map(|name| bed.start(name, &NodePlan::default()));
    let (n1, n2) = (n1?, n2?);
    n2.put("/etc/site/file", "640", b"in the root file system")?;
    n2.put("/var/lib/file", "600", b"below /var")?;
    n2.put("/run/file", "600", b"in memory")?;
    n2.output("ip link add bridge9 type bridge; sysctl -qw vm.overcommit_memory=1")?;
    let before = boot_id(&n2)?;
    n2.kill()?;
    assert!(!n2.is_running() && !pings(&n1, &n2)?, "it is off");
    assert!(n2.sh("true").is_err(), "nothing runs on a node that is off");
    n2.start()?;
    assert_ne!(boot_id(&n2)?, before, "a start is a boot");
    assert!(pings(&n1, &n2)?);
    assert_eq!(n2.get("/etc/site/file")?, b"in the root file system");
    assert_eq!(n2.output("stat -c %a /etc/site/file")?.trim(), "640");
    assert_eq!(n2.get("/var/lib/file")?, b"below /var");
    assert!(n2.get("/run/file").is_err(), "memory is lost");
    assert!(
        n2.sh("ip link show bridge9")?.refused().is_ok(),
        "its network is new"
    );
    let own = fs::read_to_string("/proc/sys/vm/overcommit_memory")?;
    assert_ne!(
        own.trim(),
        "1",
        "what a node sets is not set on this machine"
    );
    n2.stop()?;
    n2.start()?;
    assert_eq!(n2.get("/var/lib/file")?, b"below /var");
    Ok(())
}

#[test]
fn a_paused_node_stands_still_and_goes_on() -> Result<()> {
    if let Some(why) = bed::obstacle() {
        skip!("{why}");
    }
    let bed = Bed::new()?;
    let node = bed.start("n1", &NodePlan::default())?;
    let ticks = || node.get("/run/ticks").map(|ticks| ticks.len());
    node.output("systemd-run -q sh -c 'while :; do printf . >> /run/ticks; sleep 0.02; done'")?;
    wait_for("ticks", || match ticks() {
        Ok(count) if count > 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    node.pause()?;
    let mut waiting = node.command(["true"])?.stdin(Stdio::null()).spawn()?;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        ensure!(
            waiting.try_wait()?.is_none(),
            "a command ran on a paused node"
        );
    }
    node.resume()?;
    assert!(waiting.wait()?.success());
    let now = ticks()?;
    wait_for("more ticks", || match ticks() {
        Ok(count) if count > now => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn a_limited_link_takes_its_time_and_a_small_disk_gets_full() -> Result<()> {
    if let Some(why) = bed::obstacle() {
        skip!("{why}");
    }
    let bed = Bed::new()?;
    let plan = NodePlan {
        var_bytes: Some(96 << 20),
        ..NodePlan::default()
    };
    let n1 = bed.start("n1", &plan)?;
    let n2 = bed.start("n2", &NodePlan::default())?;
    n1.rate(Some("20mbit"))?;
    n2.output("head -c 5000000 /dev/urandom > /root/five; systemd-run -q socat TCP-LISTEN:5000,reuseaddr,fork FILE:/root/five")?;
    let fetch = format!(
        "socat -u TCP:{}:5000,retry=50,interval=0.1 - | wc -c",
        n2.address
    );
    let started = Instant::now();
    assert_eq!(n1.output(&fetch)?.trim(), "5000000");
    let took = started.elapsed().as_secs_f64();
    assert!(took > 1.5, "40 Mbit at 20 Mbit/s took {took:.2} s");
    n1.rate(None)?;

    assert_eq!(n1.output("findmnt -n -o FSTYPE /var")?.trim(), "ext4");
    let file = n1.fill("/var", 1 << 20)?;
    let refused = n1
        .sh("head -c 4000000 /dev/zero > /var/tmp/more")?
        .refused()?;
    assert!(refused.stderr.contains("No space left"), "{refused}");
    n1.output(&format!(
        "rm {file} && head -c 4000000 /dev/zero > /var/tmp/more"
    ))?;
    n1.small_disk("/mnt/small", 1 << 20)?;
    n1.sh("head -c 2000000 /dev/zero > /mnt/small/more")?
        .refused()?;
    Ok(())
}

#[test]
fn a_packet_for_another_network_is_counted_with_its_address() -> Result<()> {
    if let Some(why) = bed::obstacle() {
        skip!("{why}");
    }
    let bed = Bed::new()?;
    let [n1, n2] = ["n1", "n2"].map(|name| bed.start(name, &NodePlan::default()));
    let (n1, n2) = (n1?, n2?);
    assert!(pings(&n1, &n2)?);
    assert_eq!(
        bed.outside()?.packets,
        0,
        "what stays inside is not counted"
    );
    n1.exec(["ping", "-c2", "-W1", "-i0.2", "192.0.2.7"])?
        .refused()?;
    let outside = bed.outside()?;
    assert_eq!(
        (outside.packets, outside.addresses),
        (2, vec!["192.0.2.7".to_owned()])
    );
    Ok(())
}

#[test]
fn nothing_is_left_after_a_panic_and_other_beds_go_on() -> Result<()> {
    if let Some(why) = bed::obstacle() {
        skip!("{why}");
    }
    let other = Bed::new()?;
    let survivor = other.start("n1", &NodePlan::default())?;
    let mut id = String::new();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> Result<()> {
        let bed = Bed::new()?;
        bed.id().clone_into(&mut id);
        // The same name and the same address as in the other bed.
        let node = bed.start("n1", &NodePlan::default())?;
        node.pause()?;
        bed.start("n2", &NodePlan::default())?
            .output("systemd-run -q sleep 9999")?;
        ensure!(
            !remains(&id)?.is_empty(),
            "the search finds nothing, not even a bed that is there"
        );
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err(), "{panicked:?}");
    assert_eq!(remains(&id)?, Vec::<String>::new());
    assert_eq!(survivor.output("hostname")?.trim(), "n1");
    Ok(())
}

#[test]
fn the_bed_of_a_killed_process_is_removed_by_the_next_bed() -> Result<()> {
    if let Some(file) = env::var_os(TO_BE_KILLED) {
        return hold_a_bed(&PathBuf::from(file));
    }
    if let Some(why) = bed::obstacle() {
        skip!("{why}");
    }
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("id");
    let this = std::thread::current();
    let name = this.name().context("a test's thread has its name")?;
    let mut command = process::command(env::current_exe()?, ["--exact", name]);
    let mut child = command
        .env(TO_BE_KILLED, &file)
        .stdout(Stdio::null())
        .spawn()?;
    let id = wait_for("the other process's bed", || {
        fs::read_to_string(&file).map_err(|error| error.to_string())
    })?;
    child.kill()?;
    child.wait()?;
    assert!(
        !remains(&id)?.is_empty(),
        "a killed process removes nothing"
    );
    drop(Bed::new()?);
    assert_eq!(remains(&id)?, Vec::<String>::new());
    Ok(())
}

/// The part of the process that is killed.
fn hold_a_bed(file: &Path) -> Result<()> {
    let bed = Bed::new()?;
    bed.start("n1", &NodePlan::default())?;
    let whole = file.with_extension("new");
    fs::write(&whole, bed.id())?;
    fs::rename(whole, file)?;
    loop {
        std::thread::park();
    }
}
