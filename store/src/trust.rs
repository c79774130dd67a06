//! The store's `trust/`: pinned roots, and the state that never goes down.

use crate::error::Result;
use crate::fs::Fs;
use crate::store::Store;

impl<F: Fs> Store<F> {
    /// The pinned root of a vendor, byte for byte.
    pub fn pinned_root(&self, vendor: &bundle::name::Name) -> Result<Option<Vec<u8>>> {
        let _ = vendor;
        todo!()
    }

    /// Pins a root of a vendor durably; the caller has judged it.
    pub fn pin_root(&self, vendor: &bundle::name::Name, root: &[u8]) -> Result<()> {
        let _ = (vendor, root);
        todo!()
    }
}
