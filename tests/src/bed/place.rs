//! Where a bed keeps itself on this machine, whose it is, and how it is removed, by its owner or after him.
//!
//! | what | where |
//! |---|---|
//! | its folder | `<cache>/beds/<id>/` |
//! | its owner | whoever holds the lock on `owner` in it; the kernel lets go when he dies |
//! | `kept` | the bed outlives its maker: only [`super::Bed::open`] and a removal touch it |
//! | its groups | `sealift-<id>` in every hierarchy, listed in `groups` |
//! | its networks | `/run/netns/sealift-<id>-…` |
//!
//! All beds are on networks of their own, so the same addresses in two beds never meet.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::base;
use super::groups::Groups;
use crate::process;
use crate::real_parts;

/// Where network namespaces have names.
const NAMESPACES: &str = "/run/netns";

/// The first process of every node.
const INIT: &str = include_str!("init.sh");

/// One bed on this machine.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) folder: PathBuf,
    pub(super) base: PathBuf,
    pub(super) groups: Groups,
    /// Locked as long as the owner lives; none for a bed that is kept.
    _owner: Option<File>,
}

impl Place {
    /// Makes a bed's place under a name of its own, after removing those of dead owners.
    pub(super) fn create() -> Result<Self> {
        let base = base::folder()?;
        let beds = beds()?;
        let _all = lock_all(&beds)?;
        remove_dead(&beds)?;
        let folder = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(8)
            .disable_cleanup(true)
            .tempdir_in(&beds)?
            .keep();
        let owner = File::create(folder.join("owner"))?;
        owner.lock()?;
        Self::fill(folder, base, Some(owner))
    }

    /// Makes the place of a bed that outlives this process; one of the same name must not be there.
    pub(super) fn create_kept(name: &str) -> Result<Self> {
        let base = base::folder()?;
        let beds = beds()?;
        let _all = lock_all(&beds)?;
        remove_dead(&beds)?;
        let folder = beds.join(name);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        fs::write(folder.join("kept"), "")?;
        Self::fill(folder, base, None)
    }

    fn fill(folder: PathBuf, base: PathBuf, owner: Option<File>) -> Result<Self> {
        raise_limits()?;
        let id = id_of(&folder)?;
        let groups = Groups::plan(&format!("sealift-{id}"))?;
        fs::create_dir(folder.join("nodes"))?;
        fs::write(folder.join("init.sh"), INIT)?;
        fs::write(folder.join("groups"), groups.to_text())?;
        fs::write(folder.join("base"), base.display().to_string())?;
        Ok(Self {
            id,
            folder,
            base,
            groups,
            _owner: owner,
        })
    }

    /// The place of a kept bed; `None` when there is none of this name.
    pub(super) fn open_kept(name: &str) -> Result<Option<Self>> {
        let folder = beds()?.join(name);
        if !folder.join("kept").exists() {
            return Ok(None);
        }
        Self::read(&folder).map(Some)
    }

    /// What is on disk of a bed, as far as it has come.
    fn read(folder: &Path) -> Result<Self> {
        let groups = fs::read_to_string(folder.join("groups")).unwrap_or_default();
        let base = fs::read_to_string(folder.join("base")).unwrap_or_default();
        Ok(Self {
            id: id_of(folder)?,
            folder: folder.to_owned(),
            base: PathBuf::from(base),
            groups: Groups::from_text(&groups),
            _owner: None,
        })
    }

    /// Name of the network namespace that is the bed's switch.
    pub(super) fn lan(&self) -> String {
        format!("sealift-{}-lan", self.id)
    }

    /// Name of a node's network namespace.
    pub(super) fn network_of(&self, node: &str) -> String {
        format!("sealift-{}-node-{node}", self.id)
    }

    /// Ends every process, removes networks, groups and files; what is not there is no error.
    pub(super) fn remove(&self) -> Result<()> {
        self.groups.remove()?;
        let prefix = format!("sealift-{}-", self.id);
        for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(&prefix) {
                process::run(process::command("ip", ["netns", "del"]).arg(name))?.succeeded()?;
            }
        }
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("remove {}", self.folder.display()))
    }
}

/// Limits that a kernel has once for all that root runs, and what a few clusters need: 128 instances are soon used up.
const SHARED_LIMITS: [(&str, u64); 2] = [
    ("/proc/sys/fs/inotify/max_user_instances", 4096),
    ("/proc/sys/fs/inotify/max_user_watches", 524_288),
];

/// Raises the shared limits where they are lower.
fn raise_limits() -> Result<()> {
    for (path, wanted) in SHARED_LIMITS {
        let now: u64 = fs::read_to_string(path)?.trim().parse()?;
        if now < wanted {
            fs::write(path, wanted.to_string()).with_context(|| path.to_owned())?;
        }
    }
    Ok(())
}

/// The folder of all beds.
pub fn beds() -> Result<PathBuf> {
    let cache = real_parts::cache_folder().context("no home directory for a cache")?;
    let beds = cache.join("beds");
    fs::create_dir_all(&beds)?;
    Ok(beds)
}

/// Held while beds come and go.
fn lock_all(beds: &Path) -> Result<File> {
    let lock = File::create(beds.with_extension("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Removes the beds whose owners have died without doing it; never one that is kept or whose owner lives.
fn remove_dead(beds: &Path) -> Result<()> {
    for entry in fs::read_dir(beds)? {
        let folder = entry?.path();
        if folder.join("kept").exists() {
            continue;
        }
        // Opened without making it: without one, the maker died before he could lock it, for we hold the lock over all.
        let owner = File::open(folder.join("owner"));
        if owner.is_ok_and(|owner| owner.try_lock().is_err()) {
            continue;
        }
        Place::read(&folder)?
            .remove()
            .context("remove the bed of a process that has died")?;
    }
    Ok(())
}

fn id_of(folder: &Path) -> Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str());
    match name {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => bail!("{} is no bed's folder", folder.display()),
    }
}
