//! The socket itself: one daemon a path, and what a killed one left behind is taken over.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use axum::Router;
use bundle::fault::Blame;
use bundle::fault::Fault;
use tokio::net::UnixListener;

/// A bound socket; it is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// Held for as long as the socket is ours; the file stays, an unlocked one means nothing.
    _lock: File,
}

/// Why the daemon can't be reached by commands, and so does not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlListenError {
    /// Another daemon has it.
    #[error("another syncd uses the socket {}", .0.display())]
    Taken(PathBuf),
    /// The system refuses it.
    #[error("the socket {} can't be made", path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ControlSocket {
    /// Binds the socket with mode 0600; call inside a runtime.
    pub fn bind(path: &Path) -> Result<Self, ControlListenError> {
        let failed = |source| ControlListenError::Failed {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let lock = File::create(path.with_added_extension("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => ControlListenError::Taken(path.to_owned()),
            fs::TryLockError::Error(source) => failed(source),
        })?;
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = bind_private(path).map_err(failed)?;
        Ok(Self {
            listener: Some(listener),
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Answers until `ended`, then finishes what is under way.
    pub async fn serve(
        mut self,
        router: Router,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self.listener.take() {
            Some(listener) => {
                axum::serve(listener, router)
                    .with_graceful_shutdown(ended)
                    .await
            }
            None => Ok(()),
        }
    }
}

/// Binds under a name that nobody knows, so that there is no moment in which others can open it.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    // Shorter than any socket's own name: a path of a socket has 107 bytes at most.
    let hidden = path.with_file_name(format!(".{}", std::process::id()));
    let listener = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
    fs::rename(&hidden, path)?;
    Ok(listener)
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A socket without a daemon says "connection refused"; without a file it says the same more plainly.
        let _left_behind = fs::remove_file(&self.path);
    }
}

impl Fault for ControlListenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Taken(_) => "CONTROL_TAKEN",
            Self::Failed { .. } => "CONTROL_SOCKET",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Taken(_) => "one daemon runs on a node; stop the other one first".to_owned(),
            Self::Failed { .. } => "choose a path that can be written with `control`".to_owned(),
        })
    }
}
