//! `syncd verify`: reads blobs again from the medium. What is damaged goes into quarantine, and the daemon fetches it anew.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use api::event::Amount;
use api::event::Event;
use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::Failure;
use program::Outcome;
use program::Output;
use program::output::bytes;
use program::output::count;
use store::Store;
use store::StoreError;

use super::pace::Pace;
use super::place::Place;
use crate::cli::VerifyArgs;

/// Readers at once: SHA-256 takes a core for each 1.3 GB/s, and disks are not faster than a few of them.
const READERS_MAX: usize = 4;

/// Damaged blobs that an error names; the rest is counted.
const NAMED_MAX: usize = 10;

/// Blobs that were not what their names say.
#[derive(Debug, thiserror::Error)]
#[error("{} damaged; quarantined as evidence", are(.damaged.len()))]
struct Damaged {
    damaged: Vec<Digest>,
    is_daemon_told: bool,
}

pub(super) fn run(config: Option<&Path>, arguments: &VerifyArgs, output: &Output) -> Outcome {
    let place = Place::find(config, &arguments.place)?;
    let store = place.open_store()?;
    let blobs = chosen(&store, arguments)?;
    let total = blobs.iter().map(|(_, size)| *size).sum();
    let begun = Instant::now();
    output.event(&Event::Started {
        step: "verify".to_owned(),
        total: Some(Amount {
            items: u64::try_from(blobs.len()).unwrap_or(u64::MAX),
            bytes: total,
        }),
    });
    let damaged = read_all(&store, &blobs, output)?;
    output.event(&Event::Done {
        step: "verify".to_owned(),
        summary: format!("{}, {}", count(blobs.len(), "blob"), bytes(total)),
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    if damaged.is_empty() {
        let result = serde_json::json!({ "verified_blobs": blobs.len(), "verified_bytes": total });
        return output.result(&result, |lines| {
            lines.line(format!(
                "{} verified, {}; none is damaged.",
                count(blobs.len(), "blob"),
                bytes(total)
            ));
        });
    }
    let is_daemon_told = place.daemon()?.rescan().is_ok();
    Err(Failure::partial(Damaged {
        damaged,
        is_daemon_told,
    }))
}

fn chosen(store: &Store, arguments: &VerifyArgs) -> Outcome<Vec<(Digest, u64)>> {
    if arguments.all {
        let blobs = store.inventory()?;
        return Ok(blobs
            .into_iter()
            .map(|blob| (blob.digest, blob.size))
            .collect());
    }
    let sized = arguments.blobs.iter().map(|digest| {
        let size = store.size(digest)?.ok_or_else(|| StoreError::Missing {
            object: format!("blob {digest}"),
        })?;
        Ok((*digest, size))
    });
    sized.collect()
}

/// Reads every blob on a few threads, and moves the damaged ones away.
fn read_all(store: &Store, blobs: &[(Digest, u64)], output: &Output) -> Outcome<Vec<Digest>> {
    let next = AtomicUsize::new(0);
    let read = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let damaged = Mutex::new(Vec::new());
    let pace = Pace::default();
    let work = || -> Result<(), StoreError> {
        while let Some((digest, _)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut count = |step| {
                let bytes = read.fetch_add(step, Ordering::Relaxed).saturating_add(step);
                if !pace.is_due() {
                    return;
                }
                output.event(&Event::Progress {
                    step: "verify".to_owned(),
                    done: Amount {
                        items: done.load(Ordering::Relaxed),
                        bytes,
                    },
                });
            };
            if store.digest_of(digest, &mut count)? != *digest {
                store.quarantine(digest)?;
                damaged
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(*digest);
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let readers = thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(READERS_MAX);
    thread::scope(|scope| {
        let running: Vec<_> = (0..readers).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .try_for_each(|reader| match reader.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
    .map_err(Failure::partial)?;
    let mut damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    damaged.sort();
    Ok(damaged)
}

fn are(blobs: usize) -> String {
    match blobs {
        1 => "1 blob is".to_owned(),
        more => format!("{more} blobs are"),
    }
}

impl Fault for Damaged {
    fn code(&self) -> &'static str {
        "STORE_DAMAGED"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        let named = self
            .damaged
            .iter()
            .take(NAMED_MAX)
            .map(|digest| Fact::new("blob", digest));
        let more = self.damaged.len().saturating_sub(NAMED_MAX);
        let more = (more > 0).then(|| Fact::new("and", format!("{more} more")));
        named.chain(more).collect()
    }

    fn hint(&self) -> Option<String> {
        Some(if self.is_daemon_told {
            "syncd fetches them from the other masters now; check the disk, and `syncd status`"
                .to_owned()
        } else {
            "start syncd, which fetches them from the other masters; check the disk".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use store::Incarnation;
    use store::RealFs;

    use super::*;

    #[test]
    fn a_damaged_blob_is_moved_away_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealFs::open(directory.path()).unwrap();
        let store = Store::create(disk, Incarnation::from_bytes([7; 16])).unwrap();
        let blobs: Vec<Vec<u8>> = (0..20).map(|fill| vec![fill; 100_000]).collect();
        let named = blobs.iter().map(|bytes| (Digest::of(bytes), bytes.clone()));
        store.put_batch(named).unwrap();
        let victim = Digest::of(&blobs[7]);
        let path = directory.path().join("blobs/sha256").join(victim.to_hex());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut damaged = blobs[7].clone();
        damaged[99_999] ^= 1;
        fs::write(&path, damaged).unwrap();

        let listed: Vec<_> = blobs
            .iter()
            .map(|bytes| (Digest::of(bytes), 100_000))
            .collect();
        let found = read_all(&store, &listed, &Output::for_process(false)).unwrap();
        assert_eq!(found, [victim]);
        assert!(!path.exists() && store.has(&Digest::of(&blobs[8])).unwrap());
    }
}
