//! Making and opening a store: only what is its own, and never something empty or foreign in its place.

use std::io;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::Target;
use crate::fs::read_exact_at;
use crate::id::Incarnation;
use crate::id::StoreId;
use crate::layout;
use crate::limits;
use crate::staging;
use crate::store::Store;

impl<F: Fs> Store<F> {
    /// Makes a store in an empty directory, or opens the one of this cluster that is there.
    pub fn create(fs: F, incarnation: Incarnation) -> Result<Self> {
        if read_id(&fs)?.is_some() {
            return Self::open(fs, Some(incarnation));
        }
        refuse_foreign_names(&fs)?;
        let about = About::new(&fs, "the new store");
        for path in layout::DIRECTORIES {
            staging::ensure_dir(&fs, path)?;
        }
        fs.sync_dir("blobs").map_err(about.not_durable())?;
        fs.sync_dir("").map_err(about.not_durable())?;
        staging::write_durably(
            &fs,
            "",
            "oci-layout",
            bundle::oci::oci_layout_bytes(),
            Target::Replace,
        )?;
        let filesystem = fs.filesystem_id().map_err(about.failed("identify"))?;
        let id = StoreId {
            incarnation,
            filesystem: Some(filesystem),
        };
        write_id(&fs, &id)?;
        Self::open(fs, Some(incarnation))
    }

    /// Opens a store; refuses a directory that is none, another cluster's (when `expected` is given), or was copied here.
    ///
    /// Removes what interrupted writes left behind, nothing else.
    pub fn open(fs: F, expected: Option<Incarnation>) -> Result<Self> {
        let foreign = |why: String| StoreError::Foreign {
            place: fs.place(),
            why,
        };
        let id = read_id(&fs)?.ok_or_else(|| foreign("it has no STORE_ID".to_owned()))?;
        if let Some(expected) = expected.filter(|expected| *expected != id.incarnation) {
            let found = id.incarnation;
            return Err(foreign(format!(
                "its incarnation is {found}, the cluster's is {expected}"
            )));
        }
        let about = About::new(&fs, layout::STORE_ID);
        let here = fs.filesystem_id().map_err(about.failed("identify"))?;
        match id.filesystem {
            Some(made) if made == here => {}
            Some(made) => {
                return Err(foreign(format!(
                    "it was made on filesystem {made:016x}, this is {here:016x}"
                )));
            }
            None => write_id(
                &fs,
                &StoreId {
                    filesystem: Some(here),
                    ..id
                },
            )?,
        }
        for path in layout::DIRECTORIES {
            staging::ensure_dir(&fs, path)?;
        }
        staging::sweep(&fs)?;
        Ok(Self::over(fs, id))
    }
}

fn read_id<F: Fs>(fs: &F) -> Result<Option<StoreId>> {
    let about = About::new(fs, layout::STORE_ID);
    let file = match fs.open(layout::STORE_ID, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(about.judge("open", error)),
    };
    let size = file.metadata().map_err(about.failed("look at"))?.size;
    let mut bytes = vec![0; usize::try_from(size.min(limits::STORE_ID_BYTES_MAX)).unwrap_or(0)];
    read_exact_at(&file, &mut bytes, 0).map_err(about.failed("read"))?;
    let id = String::from_utf8(bytes)
        .ok()
        .and_then(|text| StoreId::parse(&text));
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(StoreError::Foreign {
            place: fs.place(),
            why: "its STORE_ID can't be read".to_owned(),
        }),
    }
}

fn write_id<F: Fs>(fs: &F, id: &StoreId) -> Result<()> {
    let text = id.to_text();
    staging::write_durably(fs, "", layout::STORE_ID, text.as_bytes(), Target::Replace)
}

/// A directory with names that a half-made store does not have belongs to somebody else.
fn refuse_foreign_names<F: Fs>(fs: &F) -> Result<()> {
    let about = About::new(fs, "the directory of the store");
    let foreign = |name: &str| StoreError::Foreign {
        place: fs.place(),
        why: format!("it has no STORE_ID, but {name:?} is there"),
    };
    let own = |name: &str| {
        name == "oci-layout"
            || layout::DIRECTORIES.contains(&name)
            || layout::TOLERATED.contains(&name)
    };
    let names = fs.list("").map_err(about.failed("list"))?;
    if let Some(name) = names.iter().find(|name| !own(name)) {
        return Err(foreign(name));
    }
    for directory in [layout::BLOBS, layout::RECORDS, layout::TRUST] {
        match fs.list(directory) {
            Ok(names) if names.is_empty() => {}
            Ok(_full) => return Err(foreign(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(about.judge("list", error)),
        }
    }
    Ok(())
}
