//! The daemon on this machine, asked over its control socket: one request a connection, JSON in and out.
//!
//! HTTP/1.0, so that an answer is whole when the connection ends.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use api::join::Refusal;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long the daemon may take: it asks the Kubernetes API some questions.
const PATIENCE: Duration = Duration::from_secs(40);

/// Largest answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Nobody listens there.
    #[error("no syncd is running here")]
    Absent { socket: PathBuf, source: io::Error },
    /// The connection broke, or took too long.
    #[error("syncd broke off its answer")]
    Broken(#[source] io::Error),
    /// It says no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// It has another version, or is no master's.
    #[error("syncd does not know {call}")]
    Unknown { call: String },
    /// The answer is not what it should be.
    #[error("syncd's answer to {call} can't be understood")]
    Answer { call: String, why: String },
}

/// Asks something that has a JSON answer.
pub(crate) fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<T, ControlError> {
    let answer = call(socket, method, path, body)?;
    serde_json::from_slice(&answer).map_err(|error| ControlError::Answer {
        call: format!("{method} {path}"),
        why: error.to_string(),
    })
}

/// Orders something that has no answer.
pub(crate) fn order(socket: &Path, method: &str, path: &str) -> Result<(), ControlError> {
    call(socket, method, path, None::<&()>).map(drop)
}

fn call(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Vec<u8>, ControlError> {
    let stream = UnixStream::connect(socket).map_err(|source| ControlError::Absent {
        socket: socket.to_owned(),
        source,
    })?;
    let body = match body {
        Some(body) => serde_json::to_vec(body)
            .map_err(|error| ControlError::Broken(io::Error::other(error)))?,
        None => Vec::new(),
    };
    let answer = exchange(stream, method, path, &body).map_err(ControlError::Broken)?;
    let (status, body) = split(&answer).ok_or_else(|| ControlError::Answer {
        call: format!("{method} {path}"),
        why: "it is no HTTP".to_owned(),
    })?;
    match status {
        200..=299 => Ok(body.to_vec()),
        status => Err(match serde_json::from_slice(body) {
            Ok(refusal) => ControlError::Refused(refusal),
            Err(_no_refusal) if status == 404 => ControlError::Unknown {
                call: format!("{method} {path}"),
            },
            Err(_no_refusal) => ControlError::Answer {
                call: format!("{method} {path}"),
                why: format!("its status is {status}"),
            },
        }),
    }
}

fn exchange(mut stream: UnixStream, method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: syncd\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an answer.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.get(end.saturating_add(4)..)?))
}

impl Fault for ControlError {
    fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "CONTROL_ABSENT",
            Self::Broken(_) | Self::Answer { .. } => "CONTROL_BROKEN",
            Self::Refused(_) | Self::Unknown { .. } => "CONTROL_REFUSED",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Absent { socket, .. } => vec![Fact::new("socket", socket.display())],
            Self::Refused(refusal) => vec![Fact::new("reason", &refusal.code)],
            Self::Answer { why, .. } => vec![Fact::new("reason", why)],
            Self::Broken(_) | Self::Unknown { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Absent { .. } => {
                    "this works on a master whose syncd runs: systemctl status syncd"
                }
                Self::Unknown { .. } => {
                    "run this on a master, once `installer install` has finished there"
                }
                Self::Broken(_) | Self::Answer { .. } => "look at its log: journalctl -u syncd",
                Self::Refused(refusal) if refusal.again => "try again in a moment",
                Self::Refused(_) => return None,
            }
            .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A daemon that gives one answer.
    fn asked(answer: &'static str) -> Result<Vec<u32>, ControlError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("syncd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(length > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let answer = ask(&socket, "GET", "/v1/numbers", None::<&()>);
        daemon.join().unwrap();
        answer
    }

    #[test]
    fn an_answer_is_read_and_a_refusal_is_told() {
        assert_eq!(
            asked("HTTP/1.0 200 OK\r\na: b\r\n\r\n[1,2]").unwrap(),
            [1, 2]
        );
        let refused = asked(
            "HTTP/1.0 503 No\r\n\r\n{\"code\":\"ETCD_SILENT\",\"message\":\"etcd gives no answer\",\"again\":true}",
        );
        let refused = refused.unwrap_err();
        assert_eq!(refused.to_string(), "etcd gives no answer");
        assert_eq!(refused.hint().unwrap(), "try again in a moment");
        assert_eq!(
            asked("HTTP/1.0 404 No\r\n\r\n").unwrap_err().code(),
            "CONTROL_REFUSED"
        );
        assert_eq!(asked("nonsense").unwrap_err().code(), "CONTROL_BROKEN");
    }

    #[test]
    fn nobody_there_is_its_own_error() {
        let folder = tempfile::tempdir().unwrap();
        let order = order(&folder.path().join("none"), "DELETE", "/v1/x");
        assert_eq!(order.unwrap_err().code(), "CONTROL_ABSENT");
    }
}
