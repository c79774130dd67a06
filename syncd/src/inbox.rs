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
