//! Control groups of a bed: one folder in every hierarchy of the machine, one below it for each node.
//!
//! They lie below the groups that the maker of the bed is in, so that the machine's accounting stays what it was. Whoever
//! is in them belongs to the bed: they are how processes of a bed are found, frozen and ended, never by name or by pid.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use rustix::process::Pid;
use rustix::process::Signal;

const MOUNTED_AT: &str = "/sys/fs/cgroup";

/// Hierarchies of version 1 that a node gets, and the version 2 tree of a hybrid machine.
const VERSION_1: [&str; 10] = [
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd",
    "unified",
];

/// Where commands run that come into a node from outside: on pure version 2 a group with subgroups holds no process.
const COMMANDS: &str = "bed-commands";

/// How long processes may take to die after SIGKILL, on a busy machine.
const DYING: Duration = Duration::from_mins(1);

/// The groups of one bed, one folder a hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    folders: Vec<PathBuf>,
}

impl Groups {
    /// The groups that a bed of this name gets; nothing is made yet.
    pub(super) fn plan(name: &str) -> Result<Self> {
        if is_version_2() {
            // At the top: a group with processes in it can't hand controllers down.
            return Ok(Self {
                folders: vec![Path::new(MOUNTED_AT).join(name)],
            });
        }
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let hierarchies = VERSION_1.iter().filter(|hierarchy| {
            Path::new(MOUNTED_AT)
                .join(hierarchy)
                .join("cgroup.procs")
                .exists()
        });
        let folders = hierarchies.map(|hierarchy| {
            let below = own_path(&own, hierarchy);
            Path::new(&format!("{MOUNTED_AT}/{hierarchy}{below}")).join(name)
        });
        Ok(Self {
            folders: folders.collect(),
        })
    }

    /// Reads what [`Groups::to_text`] wrote.
    pub(super) fn from_text(text: &str) -> Self {
        Self {
            folders: text.lines().map(PathBuf::from).collect(),
        }
    }

    /// One folder a line.
    pub(super) fn to_text(&self) -> String {
        let lines = self
            .folders
            .iter()
            .map(|folder| folder.display().to_string());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Hierarchies of version 1 with a group, space-separated; empty on pure version 2.
    pub(super) fn version_1(&self) -> String {
        if is_version_2() {
            return String::new();
        }
        let named = VERSION_1.iter().filter(|hierarchy| {
            let start = Path::new(MOUNTED_AT).join(hierarchy);
            self.folders.iter().any(|folder| folder.starts_with(&start))
        });
        named.copied().collect::<Vec<_>>().join(" ")
    }

    /// Makes the groups of a node.
    pub(super) fn create(&self, node: &str) -> Result<()> {
        for folder in &self.folders {
            let group = folder.join(node);
            fs::create_dir_all(&group).with_context(|| group.display().to_string())?;
            if folder.starts_with(Path::new(MOUNTED_AT).join("cpuset")) {
                inherit_cpuset(folder)?;
                inherit_cpuset(&group)?;
            }
            if is_version_2() {
                hand_controllers_down(folder);
                fs::create_dir_all(folder.join("bed-launchers"))?;
                fs::create_dir_all(group.join(COMMANDS))?;
            }
        }
        Ok(())
    }

    /// `cgroup.procs` files that a process joins to be the node's first one.
    pub(super) fn of_node(&self, node: &str) -> Vec<PathBuf> {
        let groups = self.folders.iter().map(|folder| folder.join(node));
        groups.map(|group| group.join("cgroup.procs")).collect()
    }

    /// `cgroup.procs` files that a command joins to be part of a running node: else pause and limits would miss it.
    pub(super) fn of_commands(&self, node: &str) -> Vec<PathBuf> {
        if !is_version_2() {
            return self.of_node(node);
        }
        let groups = self
            .folders
            .iter()
            .map(|folder| folder.join(node).join(COMMANDS));
        groups.map(|group| group.join("cgroup.procs")).collect()
    }

    /// On pure version 2: takes the waiting parent out of the node's group, which systemd needs for itself alone.
    pub(super) fn step_aside(&self, launcher: u32) -> Result<()> {
        if is_version_2() {
            for folder in &self.folders {
                fs::write(
                    folder.join("bed-launchers/cgroup.procs"),
                    launcher.to_string(),
                )?;
            }
        }
        Ok(())
    }

    /// Stops a node's processes where they are, or lets them go on.
    pub(super) fn freeze(&self, node: &str, is_frozen: bool) -> Result<()> {
        for folder in &self.folders {
            let group = folder.join(node);
            let (version_1, version_2) = (group.join("freezer.state"), group.join("cgroup.freeze"));
            if version_1.exists() {
                fs::write(&version_1, if is_frozen { "FROZEN" } else { "THAWED" })?;
            } else if is_version_2() && version_2.exists() {
                fs::write(&version_2, if is_frozen { "1" } else { "0" })?;
            }
        }
        Ok(())
    }

    /// A file of a node's group in one hierarchy, as `memory/memory.stat`.
    pub(super) fn read(&self, node: &str, hierarchy: &str, file: &str) -> Result<String> {
        let start = Path::new(MOUNTED_AT).join(hierarchy);
        let folder = self
            .folders
            .iter()
            .find(|folder| is_version_2() || folder.starts_with(&start));
        let path = folder.context("no such hierarchy")?.join(node).join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Ends whatever is in a node's groups, and removes the groups.
    pub(super) fn remove_node(&self, node: &str) -> Result<()> {
        let groups: Vec<PathBuf> = self
            .folders
            .iter()
            .map(|folder| folder.join(node))
            .collect();
        end_all(&groups)?;
        groups.iter().try_for_each(|group| remove_tree(group))
    }

    /// Ends whatever is in the bed's groups, and removes them.
    pub(super) fn remove(&self) -> Result<()> {
        for folder in &self.folders {
            for node in subfolders(folder) {
                if let Some(name) = node.file_name().and_then(|name| name.to_str()) {
                    self.freeze(name, false)?;
                }
            }
        }
        end_all(&self.folders)?;
        self.folders
            .iter()
            .try_for_each(|folder| remove_tree(folder))
    }
}

/// Whether the machine has version 2 alone.
fn is_version_2() -> bool {
    Path::new(MOUNTED_AT).join("cgroup.controllers").exists()
}

/// Path of this process in a hierarchy, empty at its root; lines are `id:controllers:path`.
fn own_path(own: &str, hierarchy: &str) -> String {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let named = controllers
            .split(',')
            .any(|one| one.strip_prefix("name=").unwrap_or(one) == hierarchy);
        (named || (hierarchy == "unified" && id == "0")).then(|| path.to_owned())
    });
    path.filter(|path| path != "/").unwrap_or_default()
}

/// A new cpuset is empty, and nobody can join it.
fn inherit_cpuset(group: &Path) -> Result<()> {
    let parent = group.parent().context("a group has a parent")?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fs::write(group.join(file), fs::read(parent.join(file))?)?;
    }
    fs::write(group.join("cgroup.clone_children"), "1")?;
    Ok(())
}

/// Every controller that can be had; the kernel refuses some, which a node can do without.
fn hand_controllers_down(folder: &Path) {
    let known = fs::read_to_string(Path::new(MOUNTED_AT).join("cgroup.controllers"));
    for controller in known.unwrap_or_default().split_whitespace() {
        let enable = format!("+{controller}");
        let _refused = fs::write(
            Path::new(MOUNTED_AT).join("cgroup.subtree_control"),
            &enable,
        );
        let _refused = fs::write(folder.join("cgroup.subtree_control"), &enable);
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Pids in a group and all below it.
fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for below in subfolders(group) {
        pids.extend(processes(&below));
    }
    pids
}

fn end_all(groups: &[PathBuf]) -> Result<()> {
    let started = Instant::now();
    loop {
        let pids: Vec<i32> = groups.iter().flat_map(|group| processes(group)).collect();
        if pids.is_empty() {
            return Ok(());
        }
        // Pid 0 stands for a process that this namespace can't see.
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
        }
        if started.elapsed() > DYING {
            bail!("processes {pids:?} in {groups:?} do not die");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn remove_tree(group: &Path) -> Result<()> {
    for below in subfolders(group) {
        remove_tree(&below)?;
    }
    let started = Instant::now();
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The last process has ended, and the kernel is still counting.
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && started.elapsed() < DYING =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).with_context(|| group.display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "9:name=systemd:/a\n5:cpu,cpuacct:/b/c\n4:memory:/\n0::/d\n";

    #[test]
    fn the_own_group_is_found_in_every_kind_of_hierarchy() {
        let paths =
            ["systemd", "cpuacct", "memory", "unified", "pids"].map(|name| own_path(OWN, name));
        assert_eq!(paths, ["/a", "/b/c", "", "/d", ""]);
    }
}
