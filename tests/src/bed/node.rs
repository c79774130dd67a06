//! One node: made, started, entered, cut off, switched off.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::process::Pid;
use rustix::process::Signal;

use super::lan;
use super::place::Place;
use crate::process;
use crate::process::Finished;

/// What a node is to be like.
#[derive(Clone, Debug, Default)]
pub struct NodePlan {
    /// More read-only layers over the base, top first: media and programs that need no copy.
    pub layers: Vec<PathBuf>,
    /// More lines of `/etc/hosts`.
    pub hosts: Vec<String>,
    /// Size of the file system of `/var`; without one it is the machine's own.
    pub var_bytes: Option<u64>,
    /// `/etc/machine-id`; without one it is drawn.
    pub machine_id: Option<String>,
    /// The host name, where it is not the node's name on the bed.
    pub hostname: Option<String>,
}

/// Joins groups, given as one space-separated word, then becomes the rest of the words.
const JOIN_GROUPS: &str =
    r#"groups=$1; shift; for group in $groups; do echo $$ > "$group"; done; exec "$@""#;

/// Runs systemd's first process; the settings are `init.sh`'s.
const NAMESPACES: [&str; 9] = [
    "--mount",
    "--propagation=private",
    "--pid",
    "--uts",
    "--ipc",
    "--cgroup",
    "--fork",
    "--kill-child=KILL",
    "sh",
];

/// What commands in a node find; nothing of the caller's environment goes in.
const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TERM=dumb",
    "NO_COLOR=1",
];

/// Tells systemd to power off (SIGRTMIN+4).
const POWER_OFF: &str = "RTMIN+4";

/// A node; cheap to clone, and several threads may use one at once. The bed removes it.
#[derive(Clone, Debug)]
pub struct Node {
    place: Arc<Place>,
    /// Its name on the bed.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Node {
    /// Makes the node's files; it does not run yet.
    pub(super) fn create(
        place: &Arc<Place>,
        name: &str,
        last: u8,
        plan: &NodePlan,
    ) -> Result<Self> {
        // An interface has at most 15 characters, two of which are ours.
        let is_short = (1..=13).contains(&name.len());
        ensure!(
            is_short
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{name:?} can't be a node's name"
        );
        let node = Self {
            place: Arc::clone(place),
            name: name.to_owned(),
            address: lan::address(last),
        };
        let folder = node.folder();
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        for part in ["upper/etc", "work", "root", "var"] {
            fs::create_dir_all(folder.join(part))?;
        }
        node.fill_etc(plan)?;
        node.fill_var(plan.var_bytes)?;
        fs::write(folder.join("address"), node.address.to_string())?;
        let mut layers: Vec<String> = plan
            .layers
            .iter()
            .map(|layer| layer.display().to_string())
            .collect();
        layers.push(place.base.display().to_string());
        fs::write(folder.join("layers"), layers.join(":"))?;
        Ok(node)
    }

    /// A node that was made before.
    pub(super) fn open(place: &Arc<Place>, name: &str) -> Result<Self> {
        let folder = place.folder.join("nodes").join(name);
        let address = fs::read_to_string(folder.join("address"))
            .with_context(|| format!("there is no node {name}"))?;
        Ok(Self {
            place: Arc::clone(place),
            name: name.to_owned(),
            address: address.parse()?,
        })
    }

    fn folder(&self) -> PathBuf {
        self.place.folder.join("nodes").join(&self.name)
    }

    /// Its `/var` as this machine sees it, whether it runs or not; none of its files when the node has a small disk.
    pub fn var(&self) -> PathBuf {
        self.folder().join("var")
    }

    fn fill_etc(&self, plan: &NodePlan) -> Result<()> {
        let etc = self.folder().join("upper/etc");
        let hostname = plan.hostname.as_deref().unwrap_or(&self.name);
        let machine_id = match &plan.machine_id {
            Some(id) => id.clone(),
            None => fs::read_to_string("/proc/sys/kernel/random/uuid")?
                .trim()
                .replace('-', ""),
        };
        fs::write(etc.join("machine-id"), format!("{machine_id}\n"))?;
        fs::write(etc.join("hostname"), format!("{hostname}\n"))?;
        let mut hosts = format!("127.0.0.1 localhost\n{} {hostname}\n", self.address);
        for line in &plan.hosts {
            hosts.push_str(line);
            hosts.push('\n');
        }
        fs::write(etc.join("hosts"), hosts)?;
        Ok(())
    }

    /// A directory of its own, or a small disk with a file system.
    fn fill_var(&self, bytes: Option<u64>) -> Result<()> {
        let (from, to) = (self.place.base.join("var"), self.folder().join("var"));
        let Some(bytes) = bytes else {
            let mut copy = process::command("cp", ["--archive", "--no-target-directory"]);
            process::run(copy.arg(from).arg(to))?.succeeded()?;
            return Ok(());
        };
        let image = self.folder().join("var.img");
        File::create(&image)?.set_len(bytes)?;
        let mut make = process::command("mkfs.ext4", ["-q", "-F", "-m", "0", "-d"]);
        process::run(make.arg(from).arg(image))?.succeeded()?;
        Ok(())
    }

    /// Switches it on, and waits until systemd has booted.
    pub fn start(&self) -> Result<()> {
        ensure!(self.first_process().is_none(), "{} runs already", self.name);
        lan::plug_in(&self.place, &self.name, self.address)?;
        self.place.groups.create(&self.name)?;
        let folder = self.folder();
        for left in ["pid", "go"] {
            remove_file(&folder.join(left))?;
        }
        let launcher = self.launch()?;
        let is_over = || !Path::new(&format!("/proc/{launcher}")).exists();
        process::wait_for(&format!("{} to have a first process", self.name), || {
            if folder.join("pid").exists() || is_over() {
                Ok(())
            } else {
                Err("none".to_owned())
            }
        })?;
        self.place.groups.step_aside(launcher)?;
        fs::write(folder.join("go"), "")?;
        process::wait_for(&format!("{} to boot", self.name), || {
            if is_over() {
                return Ok(Err(self.console()));
            }
            match self.sh("systemctl is-system-running") {
                Ok(state) if ["running", "degraded"].contains(&state.stdout.trim()) => Ok(Ok(())),
                Ok(state) => Err(format!("{} {}", state.stdout.trim(), state.stderr.trim())),
                Err(error) => Err(format!("{error:#}")),
            }
        })?
        .map_err(|console| anyhow::anyhow!("{} ended while it booted:\n{console}", self.name))
    }

    /// Starts the process that waits for the node's first one; gives its pid.
    fn launch(&self) -> Result<u32> {
        let folder = self.folder();
        let hostname = fs::read_to_string(folder.join("upper/etc/hostname"))?;
        let network = format!("--net=/run/netns/{}", self.place.network_of(&self.name));
        let groups = words(&self.place.groups.of_node(&self.name));
        let mut command = process::command("sh", ["-c", JOIN_GROUPS, "sh", &groups]);
        command
            .args(["setsid", "nsenter", &network, "unshare"])
            .args(NAMESPACES);
        command.arg(self.place.folder.join("init.sh"));
        command
            .env("FOLDER", &folder)
            .env("NAME", hostname.trim())
            .env("LOWER", fs::read_to_string(folder.join("layers"))?)
            .env("V1", self.place.groups.version_1());
        let console = File::create(folder.join("console.log"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .context("start a node")?;
        let pid = child.id();
        // Whoever waits for it takes its pid out of the machine's table when it ends.
        thread::spawn(move || child.wait());
        Ok(pid)
    }

    /// What its first process has said.
    fn console(&self) -> String {
        fs::read_to_string(self.folder().join("console.log")).unwrap_or_default()
    }

    /// The pid of its systemd, as this machine knows it, while it runs.
    fn first_process(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.folder().join("pid")).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        let is_ours = fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| {
            groups.contains(&format!("/sealift-{}/{}", self.place.id, self.name))
        });
        is_ours.then(|| Pid::from_raw(pid)).flatten()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.first_process().is_some()
    }

    /// A command in the node, in all its namespaces and groups; it ends when the program that started it is killed.
    pub fn command<I, A>(&self, arguments: I) -> Result<Command>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<std::ffi::OsStr>,
    {
        let pid = self
            .first_process()
            .with_context(|| format!("{} does not run", self.name))?;
        let groups = words(&self.place.groups.of_commands(&self.name));
        let target = pid.as_raw_nonzero().to_string();
        let mut command = process::command("sh", ["-c", JOIN_GROUPS, "sh", &groups]);
        command.args([
            "nsenter", "-t", &target, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w",
        ]);
        command.args(["setpriv", "--pdeathsig", "KILL", "--", "env", "-i"]);
        command.args(ENVIRONMENT).args(arguments);
        Ok(command)
    }

    /// Runs a command in the node to its end.
    pub fn exec<I, A>(&self, arguments: I) -> Result<Finished>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<std::ffi::OsStr>,
    {
        let arguments: Vec<OsString> = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        let line = format!("{}# {}", self.name, words.join(" "));
        process::run_with(
            line,
            &mut self.command(&arguments)?,
            b"",
            process::HANG_GUARD,
        )
    }

    /// Runs a shell in the node with this typed into it, for at most so long.
    pub fn shell(&self, typed: &str, limit: Duration) -> Result<Finished> {
        let line = format!(
            "{}# {}",
            self.name,
            typed.lines().next().unwrap_or_default()
        );
        process::run_with(line, &mut self.command(["sh"])?, typed.as_bytes(), limit)
    }

    /// Runs a line of shell in the node to its end.
    pub fn sh(&self, script: &str) -> Result<Finished> {
        self.exec(["sh", "-c", script])
    }

    /// Runs a line of shell that must succeed; gives what it printed.
    pub fn output(&self, script: &str) -> Result<String> {
        let done = self.sh(script)?.succeeded();
        Ok(done.with_context(|| format!("on {}", self.name))?.stdout)
    }

    /// Writes a file in the node, with its folders.
    pub fn put(&self, path: &str, mode: &str, bytes: &[u8]) -> Result<()> {
        let script = r#"mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1""#;
        let mut command = self.command(["sh", "-c", script, "sh", path, mode])?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("its input is a pipe")?;
        let written = input.write_all(bytes);
        drop(input);
        let output = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "write {path} on {}: {stderr}",
            self.name
        );
        written.with_context(|| format!("write {path} on {}", self.name))
    }

    /// Copies a file of this machine into the node, with its mode.
    pub fn put_file(&self, from: &Path, path: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(from)?.permissions().mode() & 0o7777;
        self.put(path, &format!("{mode:o}"), &fs::read(from)?)
    }

    /// Reads a file of the node.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.command(["cat", path])?.stdin(Stdio::null()).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "read {path} on {}: {stderr}",
            self.name
        );
        Ok(output.stdout)
    }

    /// Power cut: everything in it ends at once, and its link goes down.
    pub fn kill(&self) -> Result<()> {
        self.cut()?;
        self.place.groups.freeze(&self.name, false)?;
        self.signal("KILL")?;
        self.gone()
    }

    /// Orderly power-off.
    pub fn stop(&self) -> Result<()> {
        self.signal(POWER_OFF)?;
        self.gone()?;
        self.cut()
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = self
            .first_process()
            .with_context(|| format!("{} does not run", self.name))?;
        if signal == "KILL" {
            rustix::process::kill_process(pid, Signal::KILL)?;
            return Ok(());
        }
        let pid = pid.as_raw_nonzero().to_string();
        process::run(&mut process::command(
            "sh",
            ["-c", "kill -s \"$1\" \"$2\"", "sh", signal, &pid],
        ))?
        .succeeded()?;
        Ok(())
    }

    /// Waits until its systemd has ended, then ends what is left and takes its groups away.
    fn gone(&self) -> Result<()> {
        process::wait_for(&format!("{} to end", self.name), || {
            if self.is_running() {
                Err("its first process is there".to_owned())
            } else {
                Ok(())
            }
        })?;
        remove_file(&self.folder().join("pid"))?;
        self.place.groups.remove_node(&self.name)
    }

    /// Stops all its processes where they are; its kernel still answers pings and takes connections.
    pub fn pause(&self) -> Result<()> {
        self.place.groups.freeze(&self.name, true)
    }

    /// Lets a paused node go on.
    pub fn resume(&self) -> Result<()> {
        self.place.groups.freeze(&self.name, false)
    }

    /// Pulls the cable: the node sees that it has no carrier.
    pub fn cut(&self) -> Result<()> {
        self.on_port("link set", "down")
    }

    /// Puts the cable back.
    pub fn heal(&self) -> Result<()> {
        self.on_port("link set", "up")
    }

    /// Takes its port off the bridge: the link stays up, and every packet vanishes.
    pub fn part(&self) -> Result<()> {
        self.on_port("link set", "nomaster")
    }

    /// Puts its port back on the bridge.
    pub fn unpart(&self) -> Result<()> {
        self.on_port("link set", "master br0")
    }

    fn on_port(&self, verb: &str, how: &str) -> Result<()> {
        let (lan, port) = (self.place.lan(), lan::port(&self.name));
        lan::does("ip", &format!("-n {lan} {verb} {port} {how}"))?;
        Ok(())
    }

    /// Limits what reaches the node, as `20mbit`; `None` takes the limit off.
    pub fn rate(&self, rate: Option<&str>) -> Result<()> {
        let (lan, port) = (self.place.lan(), lan::port(&self.name));
        match rate {
            Some(rate) => lan::does(
                "tc",
                &format!(
                    "-n {lan} qdisc replace dev {port} root tbf rate {rate} burst 64kb latency 100ms"
                ),
            )?,
            None => lan::does("tc", &format!("-n {lan} qdisc del dev {port} root"))?,
        };
        Ok(())
    }

    /// Drops so many percent of what is sent to it, until [`super::Bed::clear`].
    pub fn lose(&self, percent: u8) -> Result<()> {
        if percent > 100 {
            bail!("{percent} % can't be lost");
        }
        // nft takes no bound that every number is below.
        let chance = match percent {
            100 => String::new(),
            some => format!("numgen random mod 100 < {some} "),
        };
        let rule = format!("ip daddr {} {chance}drop", self.address);
        lan::filter(&self.place, &super::weather(&[rule]))
    }

    /// Puts a small file system over a folder of the running node, gone at its next start.
    pub fn small_disk(&self, path: &str, bytes: u64) -> Result<()> {
        let options = format!("size={bytes},mode=755");
        self.exec(["mkdir", "-p", path])?.succeeded()?;
        self.exec(["mount", "-t", "tmpfs", "-o", &options, "bed", path])?
            .succeeded()?;
        Ok(())
    }

    /// Fills the file system of a folder up to a rest of so many bytes; gives the file that does it.
    pub fn fill(&self, folder: &str, rest: u64) -> Result<String> {
        let free = self.output(&format!("df --output=avail -B1 {folder} | tail -n 1"))?;
        let free: u64 = free.trim().parse()?;
        let file = format!("{}/bed-fill", folder.trim_end_matches('/'));
        self.output(&format!(
            "fallocate -l {} {file}",
            free.saturating_sub(rest).max(1)
        ))?;
        Ok(file)
    }

    /// Bytes of memory that its processes have for themselves, page cache apart.
    pub fn memory_bytes(&self) -> Result<u64> {
        let stat = self
            .place
            .groups
            .read(&self.name, "memory", "memory.stat")?;
        let values = stat.lines().filter_map(|line| line.split_once(' '));
        let mut found = values
            .filter(|(name, _)| ["total_rss", "anon"].contains(name))
            .map(|(_, value)| value.parse());
        Ok(found.next_back().context("no count of memory")??)
    }

    /// Removes it and everything of it.
    pub fn remove(self) -> Result<()> {
        if self.is_running() {
            self.kill()?;
        }
        lan::unplug(&self.place, &self.name)?;
        self.place.groups.remove_node(&self.name)?;
        fs::remove_dir_all(self.folder())?;
        Ok(())
    }
}

fn words(paths: &[PathBuf]) -> String {
    let words: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    words.join(" ")
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
