//! Which blobs of a fetch are there: told by those who pull them, waited for by whoever writes the bundle meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bundle::Digest;

/// The blobs that are still to come.
#[derive(Debug)]
pub struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    awaited: BTreeSet<Digest>,
    is_over: bool,
}

/// Ends the waiting when the pulling ends, however it does.
#[derive(Debug)]
pub(super) struct End<'a>(pub(super) &'a Arrivals);

impl Arrivals {
    pub(super) fn of(awaited: impl Iterator<Item = Digest>) -> Self {
        let state = State {
            awaited: awaited.collect(),
            is_over: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Whether a blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        !self.state().awaited.contains(digest)
    }

    /// Waits until a blob is there; an error when it will not come.
    pub fn wait_for(&self, digest: &Digest) -> io::Result<()> {
        let is_to_come = |state: &mut State| state.awaited.contains(digest) && !state.is_over;
        let waited = self.changed.wait_while(self.state(), is_to_come);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.awaited.contains(digest) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "it could not be fetched",
            ));
        }
        Ok(())
    }

    pub(super) fn arrived(&self, digest: &Digest) {
        self.state().awaited.remove(digest);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a whole set behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn whoever_waits_hears_of_the_blob_and_of_the_end() {
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let arrivals = Arrivals::of([first, second].into_iter());
        thread::scope(|scope| {
            let waits = scope.spawn(|| arrivals.wait_for(&first));
            let waits_in_vain = scope.spawn(|| arrivals.wait_for(&second));
            let end = End(&arrivals);
            arrivals.arrived(&first);
            waits.join().unwrap().unwrap();
            drop(end);
            assert!(waits_in_vain.join().unwrap().is_err());
        });
        assert!(arrivals.has(&first) && !arrivals.has(&second));
        assert!(arrivals.wait_for(&Digest::of(b"never awaited")).is_ok());
    }
}
