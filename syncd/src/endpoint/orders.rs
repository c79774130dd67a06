//! Reads the list of targets and Kubernetes' authority, and looks again and again whether they have changed.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::endpoint::BYTES_MAX;
use api::endpoint::Endpoint;
use program::durable;

use super::board::Board;
use super::probe::Trust;

/// Largest authority: some certificates at 2 KiB each.
const CA_BYTES_MAX: usize = 256 << 10;

/// What was read last; only a difference counts.
#[derive(Debug, Default)]
struct Seen {
    list: Option<Vec<u8>>,
    ca: Option<Vec<u8>>,
    endpoint: Option<Endpoint>,
}

/// Follows the files for ever. A list that can't be read leaves the last good one in force.
pub(super) async fn follow(file: PathBuf, poll: Duration, board: Arc<Board>) {
    let mut seen = Seen::default();
    loop {
        let looked = {
            let (file, board) = (file.clone(), board.clone());
            tokio::task::spawn_blocking(move || (seen.read(&file), seen, board))
        };
        let Ok((changed, next, board)) = looked.await else {
            return;
        };
        seen = next;
        if changed {
            seen.apply(&board);
        }
        tokio::time::sleep(poll).await;
    }
}

impl Seen {
    /// Looks at both files; says whether anything is new.
    fn read(&mut self, file: &Path) -> bool {
        let list = read(file, BYTES_MAX);
        let is_new_list = list.is_some() && list != self.list;
        if is_new_list {
            match Endpoint::parse(list.as_deref().unwrap_or_default()) {
                Ok(endpoint) => self.endpoint = Some(endpoint),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "the last good list stays in force");
                }
            }
            self.list = list;
        }
        let ca = self.endpoint.as_ref();
        let ca = ca.and_then(|endpoint| read(Path::new(&endpoint.ca), CA_BYTES_MAX));
        let is_new_ca = ca != self.ca;
        self.ca = ca;
        is_new_list || is_new_ca
    }

    fn apply(&self, board: &Arc<Board>) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        let trust = self
            .ca
            .as_ref()
            .map(|pem| Trust::new(pem, &endpoint.name))
            .transpose();
        match trust {
            Ok(trust) => board.believe(trust),
            // Written half, perhaps: what was believed before stays.
            Err(error) => tracing::warn!(file = endpoint.ca, %error, "no usable authority"),
        }
        board.follow(endpoint.targets.clone());
    }
}

/// A file that is not there yet is awaited; any other trouble is told.
fn read(file: &Path, bytes_max: usize) -> Option<Vec<u8>> {
    match durable::read_capped(file, bytes_max) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "can't be read");
            None
        }
    }
}
