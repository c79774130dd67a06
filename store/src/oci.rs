//! `index.json` of the store: with `oci-layout` and `blobs/` beside it, any OCI tool reads the store as an image layout.
//!
//! It follows from the records of bundles and from what is there, and nothing of ours reads it: it may be missing or old
//! after a crash, and the next call mends it.

use std::cmp::Reverse;
use std::io;

use bundle::index::BundleIndex;

use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile as _;
use crate::fs::Target;
use crate::fs::read_exact_at;
use crate::record::Kind;
use crate::staging;
use crate::store::Store;

/// The file's name, beside `oci-layout`.
pub(crate) const INDEX: &str = "index.json";

impl<F: Fs> Store<F> {
    /// Names every image that is here; whether the file had to be written. Of two releases with one name the newer has it.
    pub fn write_oci_index(&self) -> Result<bool> {
        let mut newest = self.records()?;
        newest.retain(|record| record.kind == Kind::Bundle);
        newest.sort_by_key(|record| Reverse((record.order, record.id.clone())));
        let parsed = newest
            .iter()
            .map(|record| BundleIndex::parse(&record.payload));
        let indexes = parsed.collect::<std::result::Result<Vec<_>, _>>();
        let indexes = indexes.map_err(|error| unfit(&error))?;
        let here = self.inventory()?;
        let has = |digest: &_| here.iter().any(|blob| blob.digest == *digest);
        let bytes =
            bundle::oci::oci_index_of_several(&indexes, has).map_err(|error| unfit(&error))?;
        if read(self.fs(), bytes.len())?.as_ref() == Some(&bytes) {
            return Ok(false);
        }
        staging::write_durably(self.fs(), "", INDEX, &bytes, Target::Replace)?;
        Ok(true)
    }
}

/// What the file holds, when it is of this length.
fn read<F: Fs>(fs: &F, length: usize) -> Result<Option<Vec<u8>>> {
    let about = About::new(fs, INDEX);
    let file = match fs.open(INDEX, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(about.judge("open", error)),
    };
    let size = file.metadata().map_err(about.failed("look at"))?.size;
    if usize::try_from(size) != Ok(length) {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    read_exact_at(&file, &mut bytes, 0).map_err(about.failed("read"))?;
    Ok(Some(bytes))
}

fn unfit(error: &dyn std::error::Error) -> StoreError {
    StoreError::Record {
        why: error.to_string(),
    }
}
