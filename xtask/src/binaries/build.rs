//! Builds one group of programs into the cache: whole under its final name, or not there at all.
//!
//! The name holds the digest of everything that decides the bytes: module files, recipe, compilers. A build that is
//! killed leaves a folder `.making-…`, which the next one takes away; what Go compiled until then is in Go's own cache.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use ::tests::cluster_parts;
use ::tests::cluster_parts::Hasher;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::recipe::Go;
use super::recipe::Group;
use super::recipe::How;
use super::recipe::Program;
use crate::command;
use crate::say;

/// No debug information; paths of this machine stay out; sums and versions are those of the module files.
const GO_FLAGS: &str = "-trimpath -buildvcs=false -mod=readonly";

/// Older versions of a group that stay: other clones may still use them.
const OLD_VERSIONS_KEPT: usize = 2;

/// Gives the folder with the programs of a group; builds them when they are not there yet.
pub(super) fn group(group: &Group) -> Result<PathBuf> {
    let sources = cluster_parts::sources().join(group.name);
    let folder = cluster_parts::folder()?.join("programs");
    fs::create_dir_all(&folder)?;
    let done = folder.join(format!("{}-{}", group.name, key(group, &sources)?));
    if done.is_dir() {
        say!("{}: unchanged, {}", group.name, done.display());
        return Ok(done);
    }
    say!("{}: building", group.name);
    let started = Instant::now();
    let scratch = Scratch::new(&folder, group.name)?;
    for program in group.programs {
        let file = scratch.path().join(program.name);
        build(group, program, &sources, &file)?;
    }
    scratch.finish(&done)?;
    let seconds = started.elapsed().as_secs_f64();
    say!("{}: {seconds:.0} s, {}", group.name, done.display());
    remove_old(&folder, group.name, &done)?;
    Ok(done)
}

fn build(group: &Group, program: &Program, sources: &Path, file: &Path) -> Result<()> {
    let started = Instant::now();
    let command = match &group.how {
        How::Go(go) => go_build(go, program, sources, file)?,
        How::C => c_build(program, sources, file),
    };
    command::run(command)?;
    ensure!(
        crate::release::is_static(file)?,
        "{} is not static",
        program.name
    );
    let bytes = fs::metadata(file)?.len();
    let seconds = started.elapsed().as_secs_f64();
    say!("{seconds:>6.1} s {bytes:>12} bytes  {}", program.name);
    Ok(())
}

fn go_build(go: &Go, program: &Program, sources: &Path, file: &Path) -> Result<Command> {
    let mut link = "-s -w".to_owned();
    let version = version(go, sources)?;
    let minor = version.split('.').nth(1).unwrap_or_default();
    for stamp in go.stamps {
        let stamp = stamp
            .replace("{version}", &version)
            .replace("{minor}", minor);
        link.push_str(" -X ");
        link.push_str(&stamp);
    }
    if go.calls_c {
        link.push_str(" -extldflags=-static");
    }
    let mut command = Command::new("go");
    command.current_dir(sources).arg("build");
    if !go.tags.is_empty() {
        command.args(["-tags", &go.tags.join(" ")]);
    }
    command.args(["-ldflags", &link]).arg("-o").arg(file);
    command.arg(program.source);
    for variable in ["GOOS", "GOARCH", "GOEXPERIMENT", "GOWORK"] {
        command.env_remove(variable);
    }
    command.env("GOFLAGS", GO_FLAGS);
    command.env("CGO_ENABLED", if go.calls_c { "1" } else { "0" });
    Ok(command)
}

fn c_build(program: &Program, sources: &Path, file: &Path) -> Command {
    let mut command = Command::new("gcc");
    command.current_dir(sources);
    command.args(["-Os", "-static", "-s", "-o"]).arg(file);
    command.arg(program.source);
    command
}

/// The version of a group's module, as its module file requires it.
pub(super) fn version_of(group: &Group) -> Result<String> {
    match &group.how {
        How::Go(go) => version(go, &cluster_parts::sources().join(group.name)),
        How::C => bail!("{} is no Go module", group.name),
    }
}

fn version(go: &Go, sources: &Path) -> Result<String> {
    let text = fs::read_to_string(sources.join("go.mod"))?;
    let mut lines = text.lines().map(str::split_whitespace);
    let version = lines.find_map(|mut words| {
        let is_it = words.next() == Some(go.module);
        is_it.then(|| words.next()).flatten()
    });
    Ok(version
        .with_context(|| format!("go.mod does not require {}", go.module))?
        .to_owned())
}

/// Everything that decides the bytes of a group's programs, as 16 hexadecimal digits.
fn key(group: &Group, sources: &Path) -> Result<String> {
    let compilers = match &group.how {
        How::Go(Go { calls_c: false, .. }) => go_version(sources)?,
        How::Go(_) => go_version(sources)? + &c_version()?,
        How::C => c_version()?,
    };
    let mut hasher = Hasher::new();
    hasher.update(format!("{group:?}\n{GO_FLAGS}\n{compilers}\n").as_bytes());
    cluster_parts::hash_folder(&mut hasher, sources)?;
    Ok(cluster_parts::short(hasher.finish()))
}

/// As it is in the group's folder, where the module file may ask for another toolchain.
fn go_version(sources: &Path) -> Result<String> {
    let mut command = Command::new("go");
    command.current_dir(sources);
    command.args(["env", "GOVERSION", "GOHOSTOS", "GOHOSTARCH"]);
    command::run(command)
}

fn c_version() -> Result<String> {
    command::output("gcc", &["-dumpfullversion"])
}

/// A folder that gets its final name when everything is in it.
#[derive(Debug)]
pub(super) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Begins `.making-NAME…` below `folder`, after taking away what killed builds left there.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let prefix = format!(".making-{name}-");
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if file_name(&path).starts_with(&prefix) {
                fs::remove_dir_all(&path)?;
            }
        }
        let scratch = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(folder)?;
        Ok(Self(scratch))
    }

    /// Where it is now.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives it its final name.
    pub(super) fn finish(self, done: &Path) -> Result<()> {
        // A temporary folder is private, which what is in the cache need not be.
        fs::set_permissions(
            self.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        fs::rename(self.path(), done)
            .with_context(|| format!("name the result {}", done.display()))?;
        // There is nothing left under the old name.
        let _gone = self.0.keep();
        Ok(())
    }
}

/// Removes versions of `name` below `folder` but the newest few.
pub(super) fn remove_old(folder: &Path, name: &str, current: &Path) -> Result<()> {
    let mut old = Vec::new();
    for entry in fs::read_dir(folder)? {
        let (path, modified) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?.modified()?)
        };
        let key = file_name(&path).strip_prefix(&format!("{name}-"));
        let is_version = key.is_some_and(cluster_parts::is_short);
        if is_version && path != current {
            old.push((modified, path));
        }
    }
    old.sort();
    old.reverse();
    for (_, path) in old.iter().skip(OLD_VERSIONS_KEPT) {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::recipe::GROUPS;
    use super::*;

    #[test]
    fn the_version_of_a_program_is_the_one_that_its_module_file_requires() -> Result<()> {
        for group in GROUPS {
            let How::Go(go) = &group.how else { continue };
            let version = version(go, &cluster_parts::sources().join(group.name))?;
            assert!(version.starts_with('v'), "{}: {version}", group.name);
        }
        Ok(())
    }

    #[test]
    fn what_a_killed_build_left_is_taken_away_and_old_versions_but_two() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let make = |name: &str| fs::create_dir(folder.path().join(name));
        make(".making-runc-dead")?;
        make(".making-cni-alive")?;
        for digit in ["1", "2", "3", "4"] {
            make(&format!("runc-{}", digit.repeat(16)))?;
        }
        make("runc-notes")?;
        let scratch = Scratch::new(folder.path(), "runc")?;
        let done = folder.path().join(format!("runc-{}", "5".repeat(16)));
        scratch.finish(&done)?;
        remove_old(folder.path(), "runc", &done)?;
        let count = fs::read_dir(folder.path())?.count();
        assert_eq!(
            count, 5,
            "the new one, two old ones, and what is no version of it"
        );
        assert!(done.is_dir() && !folder.path().join(".making-runc-dead").exists());
        Ok(())
    }
}
