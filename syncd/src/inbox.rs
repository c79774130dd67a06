//! The drop zone: an `.airgap` or `.lic` that is put into the store's `inbox/` is imported, and then gone from there.
//!
//! 1. An event of the directory, or the poll, asks for a look; events are hints, the look is the truth.
//! 2. A file whose size has not changed since the look before is taken in; one that still grows waits.
//! 3. What came in is removed; what is refused goes into the quarantine, with the reason in a file beside it.
//! 4. A full disk or any other trouble of the machine leaves the file where it is, for a later look.
//!
//! A file that was cut off while it was copied looks like one that still comes; it has a minute to grow.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use api::report::Effect;
use api::report::Report;
use bundle::fault::Blame;
use bundle::fault::Fault;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use store::RealFs;
use store::Store;
use store::import::ImportOptions;
use store::intake::IntakeError;
use store::intake::Taken;
use store::intake::Told;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock;
use crate::config::Config;
use crate::handle::Handle;

/// Time between an event and the look, so that one copied file is one look.
const SETTLE: Duration = Duration::from_secs(1);

/// How long a file that ends too early may stay as it is before it counts as cut off.
const GROW: Duration = Duration::from_mins(1);

/// Names that are imported; a copy in progress has another one, where the operator is careful.
const ENDINGS: [&str; 2] = [".airgap", ".lic"];

/// The watched drop zone of a node.
#[derive(Debug)]
pub(crate) struct Inbox {
    store: Store<RealFs>,
    directory: PathBuf,
    node: String,
    poll: Duration,
    handle: Handle,
    seen: BTreeMap<String, Seen>,
}

/// A file as it was at the last look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    size: u64,
    since: Instant,
}

/// What becomes of a file after a try.
#[derive(Debug)]
enum Verdict {
    /// It is in the store.
    Taken(Taken),
    /// It will be refused again.
    Refused(IntakeError),
    /// Another look may find it complete, or more room.
    Later(Box<dyn Fault>),
}

impl Inbox {
    pub(crate) fn new(store: Store<RealFs>, config: &Config, handle: Handle) -> Self {
        Self {
            store,
            directory: config.store.join("inbox"),
            node: config.node.to_string(),
            poll: config.inbox_poll,
            handle,
            seen: BTreeMap::new(),
        }
    }

    /// Looks after the inbox until `ended`; an import that has begun is finished first.
    pub(crate) async fn run(mut self, ended: impl Future<Output = ()>) {
        let (hint, mut hints) = mpsc::channel(1);
        let _watcher = watch(&self.directory, hint.clone());
        tokio::pin!(ended);
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = &mut ended => return,
                _ = hints.recv() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(wait) => {}
            }
            let look = tokio::task::spawn_blocking(move || {
                let (is_unsettled, taken) = self.look();
                (self, is_unsettled, taken)
            });
            let Ok((inbox, is_unsettled, taken)) = look.await else {
                tracing::error!(
                    "a look into the inbox broke off; files there stay until syncd is started again"
                );
                return ended.await;
            };
            self = inbox;
            wait = if is_unsettled { SETTLE } else { self.poll };
            if taken && self.handle.rescan().await.is_err() {
                return;
            }
        }
    }

    /// One look: whether a file is still unsettled, and whether something came in.
    fn look(&mut self) -> (bool, bool) {
        let files = match self.store.inbox() {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "the inbox can't be read");
                return (false, false);
            }
        };
        let wanted = files
            .into_iter()
            .filter(|file| ENDINGS.iter().any(|ending| file.name.ends_with(ending)));
        let before = std::mem::take(&mut self.seen);
        let (mut is_unsettled, mut any_taken) = (false, false);
        for file in wanted {
            let now = Seen {
                size: file.size,
                since: Instant::now(),
            };
            let same = before.get(&file.name).filter(|seen| seen.size == file.size);
            let Some(seen) = same else {
                self.seen.insert(file.name, now);
                is_unsettled = true;
                continue;
            };
            match self.judge(&file.name, *seen) {
                Verdict::Taken(taken) => {
                    any_taken = true;
                    self.remove(&file.name, &taken);
                }
                Verdict::Refused(failure) => self.reject(&file.name, &failure),
                Verdict::Later(failure) => {
                    tracing::warn!(
                        file = file.name,
                        code = failure.code(),
                        "{}; it is tried again",
                        failure
                    );
                    self.seen.insert(file.name, *seen);
                }
            }
        }
        (is_unsettled, any_taken)
    }

    fn judge(&self, name: &str, seen: Seen) -> Verdict {
        tracing::info!(file = name, bytes = seen.size, "importing from the inbox");
        let reader = match self.store.open_inbox(name) {
            Ok(reader) => reader,
            Err(error) => return Verdict::Later(Box::new(error)),
        };
        let told = &mut |told: Told<'_>| {
            if let Told::Head(head) = told {
                tracing::info!(file = name, id = %head.id(), "the bundle is verified");
            }
        };
        let options = ImportOptions {
            origin: self.node.clone(),
        };
        match self.store.take_in(reader, clock::now(), &options, told) {
            Ok(taken) => Verdict::Taken(taken),
            Err(error) => weigh(error, seen.since.elapsed()),
        }
    }

    fn remove(&self, name: &str, taken: &Taken) {
        tracing::info!(file = name, id = %taken.id(), "{} is imported", taken.title());
        if let Err(error) = self.store.remove_inbox(name) {
            tracing::warn!(file = name, %error, "an imported file can't be removed from the inbox");
        }
    }

    fn reject(&self, name: &str, error: &IntakeError) {
        let report = Report::of(error, Effect::None);
        tracing::warn!(file = name, code = report.code(), "refused: {error}");
        if let Err(error) = self.store.reject_inbox(name, &report.to_string()) {
            tracing::warn!(file = name, %error, "a refused file can't be moved to the quarantine");
        }
    }
}

/// Whether an error will be the same at the next try. What is cut off may be a copy that is under way.
fn weigh(error: IntakeError, unchanged: Duration) -> Verdict {
    let is_cut = error.code() == "BUNDLE_TRUNCATED" && unchanged < GROW;
    match error.blame() {
        Blame::Input | Blame::Policy if !is_cut => Verdict::Refused(error),
        Blame::Input
        | Blame::Policy
        | Blame::Machine
        | Blame::Network
        | Blame::Usage
        | Blame::Bug => Verdict::Later(Box::new(error)),
    }
}

/// Sends a hint for every change; without a watcher the poll does all the work.
fn watch(directory: &Path, hint: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let changed = move |event: notify::Result<notify::Event>| {
        // Our own reads are events too. Anything else, an error or an overflow included, is worth a look.
        let is_read = event.is_ok_and(
            |event| matches!(event.kind, notify::EventKind::Access(kind) if !is_written(kind)),
        );
        if !is_read {
            // A hint that is there already is as good as two.
            let _already = hint.try_send(());
        }
    };
    let watched = notify::recommended_watcher(changed).and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watched
        .inspect_err(|error| tracing::warn!(%error, "the inbox can't be watched, it is polled"))
        .ok()
}

fn is_written(kind: notify::event::AccessKind) -> bool {
    use notify::event::AccessKind;
    use notify::event::AccessMode;
    kind == AccessKind::Close(AccessMode::Write)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use store::Incarnation;

    use super::*;

    struct Site {
        directory: tempfile::TempDir,
        inbox: Inbox,
    }

    impl Site {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let disk = RealFs::open(directory.path()).unwrap();
            let store = Store::create(disk, Incarnation::from_bytes([7; 16])).unwrap();
            let config = Config::settle(crate::config::Written {
                node: Some("m1".parse().unwrap()),
                store: Some(directory.path().to_owned()),
                ..crate::config::Written::default()
            })
            .unwrap();
            let (handle, _asks) = Handle::new();
            Self {
                inbox: Inbox::new(store, &config, handle),
                directory,
            }
        }

        fn drop_in(&self, name: &str, bytes: &[u8]) {
            fs::write(self.directory.path().join("inbox").join(name), bytes).unwrap();
        }

        fn names(&self, directory: &str) -> Vec<String> {
            let entries = fs::read_dir(self.directory.path().join(directory)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    #[tokio::test]
    async fn what_is_no_bundle_goes_into_quarantine_with_the_reason() {
        let mut site = Site::new();
        site.drop_in("shop.airgap", b"this is no bundle, whatever its name says");
        site.drop_in("notes.txt", b"not ours to touch");
        assert_eq!(site.inbox.look(), (true, false), "it may still grow");
        assert_eq!(site.inbox.look(), (false, false));
        assert_eq!(site.names("inbox"), ["notes.txt"]);
        assert_eq!(
            site.names("quarantine"),
            ["shop.airgap", "shop.airgap.reason"]
        );
        let reason = site.directory.path().join("quarantine/shop.airgap.reason");
        insta::assert_snapshot!(fs::read_to_string(reason).unwrap(), @r"
        error[BUNDLE_FORMAT]: this is not a Sealift bundle: it does not begin with a frame of stored blocks
        Nothing was changed.
        help: give the .airgap file that the vendor built
        ");
    }

    #[tokio::test]
    async fn a_file_that_grows_is_left_alone() {
        let mut site = Site::new();
        for size in 1..5 {
            site.drop_in("shop.airgap", &vec![b'x'; size]);
            assert_eq!(site.inbox.look(), (true, false));
        }
        assert_eq!(site.names("inbox"), ["shop.airgap"]);
    }

    #[tokio::test]
    async fn a_file_that_ends_too_early_has_time_to_be_copied() {
        let mut site = Site::new();
        // The magic number of a zstd frame, and no more of it.
        site.drop_in("shop.airgap", &[0x28, 0xb5, 0x2f, 0xfd]);
        site.inbox.look();
        site.inbox.look();
        assert_eq!(site.names("inbox"), ["shop.airgap"]);
        assert_eq!(site.names("quarantine"), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_look_follows_an_event_and_ends_with_the_daemon() {
        let site = Site::new();
        let path = site.directory.path().to_owned();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let inbox = tokio::spawn(site.inbox.run(async {
            let _dropped = ended.await;
        }));
        fs::write(path.join("inbox/shop.airgap"), [b'x'; 4096]).unwrap();
        let refused = async {
            while !path.join("quarantine/shop.airgap").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), refused)
            .await
            .unwrap();
        drop(end);
        tokio::time::timeout(Duration::from_secs(20), inbox)
            .await
            .unwrap()
            .unwrap();
    }
}
