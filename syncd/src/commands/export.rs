//! `syncd export`: a bundle file again, from the store; its signed head is the one that came in.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use api::event::Amount;
use api::event::Event;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use bundle::index::BundleIndex;
use bundle::write::Effort;
use bundle::write::WriteEvent;
use bundle::write::WriteOptions;
use bundle::write::Written;
use program::Failure;
use program::FileError;
use program::Outcome;
use program::Output;
use program::durable;
use program::output::bytes;
use program::output::count;
use store::Record;
use store::Store;
use store::record::Kind;

use super::pace::Pace;
use super::place::Place;
use crate::cli::ExportArgs;

/// Why there is nothing to export.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("no bundle in this store has an id that begins with {0}")]
    Unknown(String),
    #[error("more than one bundle has an id that begins with {id}")]
    Ambiguous { id: String, matching: Vec<String> },
    #[error("this store lacks {} of the bundle", count(*missing, "blob"))]
    Incomplete { missing: usize },
    #[error("the bundle's record can't be read")]
    Record(#[source] bundle::index::IndexError),
}

pub(super) fn run(config: Option<&Path>, arguments: &ExportArgs, output: &Output) -> Outcome {
    let store = Place::find(config, &arguments.place)?.open_store()?;
    let record = find(&store, &arguments.id)?;
    let index = BundleIndex::parse(&record.payload).map_err(ExportError::Record)?;
    require_complete(&store, &index)?;
    let path = &arguments.output;
    if path.symlink_metadata().is_ok() {
        let error = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(FileError::new("write", path, error).into());
    }
    let begun = Instant::now();
    let written = write(&store, &record, path, output)?;
    output.event(&Event::Done {
        step: "export".to_owned(),
        summary: format!("{}, {}", path.display(), bytes(written.size)),
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    let title = format!("{}/{} {}", index.vendor, index.product, index.version);
    let result =
        serde_json::json!({ "id": written.id, "title": title, "path": path, "size": written.size });
    output.result(&result, |lines| {
        lines.line(format!("{title} is in {}.", path.display()));
        lines.line(format!(
            "Check it anywhere:  bundler verify {}",
            path.display()
        ));
    })
}

/// Finds the one bundle whose id begins like this.
fn find(store: &Store, id: &str) -> Outcome<Arc<Record>> {
    let wanted = id
        .strip_prefix("sha256:")
        .unwrap_or(id)
        .to_ascii_lowercase();
    let records = store.records()?.into_iter();
    let mut matching: Vec<_> = records
        .filter(|record| record.kind == Kind::Bundle && record.id.starts_with(&wanted))
        .collect();
    match (matching.pop(), matching.is_empty()) {
        (Some(record), true) if !wanted.is_empty() => Ok(record),
        (None, _) => Err(ExportError::Unknown(id.to_owned()).into()),
        (Some(last), _) => {
            let ids = matching
                .iter()
                .chain([&last])
                .map(|record| record.id.clone());
            Err(ExportError::Ambiguous {
                id: id.to_owned(),
                matching: ids.collect(),
            }
            .into())
        }
    }
}

fn require_complete(store: &Store, index: &BundleIndex) -> Outcome {
    let mut missing = 0_usize;
    for member in index.members() {
        if !store.has(&member.digest)? {
            missing = missing.saturating_add(1);
        }
    }
    match missing {
        0 => Ok(()),
        missing => Err(ExportError::Incomplete { missing }.into()),
    }
}

/// Writes beside the wanted name, syncs, and gives the name last.
fn write(store: &Store, record: &Record, path: &Path, output: &Output) -> Outcome<Written> {
    let failed = |error| FileError::new("write", path, error);
    let mut temporary = tempfile::NamedTempFile::new_in(durable::parent(path)).map_err(failed)?;
    output.event(&Event::Started {
        step: "export".to_owned(),
        total: None,
    });
    let pace = Pace::default();
    let events = |event| {
        let WriteEvent::Progress {
            plain_bytes,
            plain_bytes_total,
        } = event;
        if !pace.is_due() {
            return;
        }
        let amount = |bytes| Amount { items: 0, bytes };
        output.event(&Event::Started {
            step: "export".to_owned(),
            total: Some(amount(plain_bytes_total)),
        });
        output.event(&Event::Progress {
            step: "export".to_owned(),
            done: amount(plain_bytes),
        });
    };
    let options = WriteOptions {
        // A layer is compressed already; the rest is not worth the minutes.
        effort: Effort::Fast,
        ..WriteOptions::default()
    };
    let written = store::export::export(store, record, temporary.as_file_mut(), &options, &events)?;
    temporary.as_file().sync_all().map_err(failed)?;
    readable(temporary.as_file()).map_err(failed)?;
    temporary
        .persist_noclobber(path)
        .map_err(|error| Failure::from(failed(error.error)))?;
    durable::sync_parent(path)?;
    Ok(written)
}

/// A bundle holds no secret: its mode is what any new file gets.
fn readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

impl Fault for ExportError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "EXPORT_UNKNOWN",
            Self::Ambiguous { .. } => "EXPORT_AMBIGUOUS",
            Self::Incomplete { .. } => "EXPORT_INCOMPLETE",
            Self::Record(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Unknown(_) | Self::Ambiguous { .. } => Blame::Usage,
            Self::Incomplete { .. } => Blame::Machine,
            Self::Record(error) => error.blame(),
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Ambiguous { matching, .. } => {
                matching.iter().map(|id| Fact::new("bundle", id)).collect()
            }
            Self::Unknown(_) | Self::Incomplete { .. } => Vec::new(),
            Self::Record(error) => error.facts(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) | Self::Ambiguous { .. } => {
                Some("`syncd status --json` shows the ids of all bundles".to_owned())
            }
            Self::Incomplete { .. } => Some(
                "wait until it has arrived (`syncd status`), or export it at another master"
                    .to_owned(),
            ),
            Self::Record(error) => error.hint(),
        }
    }
}
