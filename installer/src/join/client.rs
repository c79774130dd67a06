//! Asking the masters (`api::join`): HTTP/1.0 over TLS, one request a connection, so that an answer is whole when its
//! length has come.
//!
//! Attacks it answers: a server that is no master (the pinned authority and the master's own name), an endless answer (a
//! limit for each kind), one that never comes (a time-out for each read). The masters are tried in turn, the one that
//! answered last first.

use std::fmt;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::join;
use api::join::JoinRequest;
use api::join::Master;
use api::join::Refusal;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a connection may take: masters are on this machine's network.
const CONNECT: Duration = Duration::from_secs(4);

/// How long a master may be silent in the middle of an answer; `done` looks for a while before it answers.
const SILENCE: Duration = Duration::from_millis(join::DONE_MS + 15_000);

/// Largest answer that is no blob: a site of some thousand nodes, a head of a bundle.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Largest line of an answer's head, and how many there may be.
const LINE_BYTES_MAX: u64 = 8 << 10;
const LINES_MAX: usize = 64;

/// A way to the masters.
pub(crate) struct Client {
    masters: Vec<Master>,
    tls: Arc<ClientConfig>,
    token: String,
    /// Which master answered last.
    last: AtomicUsize,
}

/// Why the masters gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The script's authority is none.
    #[error("the join script carries no certificate authority")]
    Authority,
    /// Nobody can be reached.
    #[error("no master can be reached")]
    Unreachable {
        /// Each master and why not.
        tried: Vec<(String, io::Error)>,
    },
    /// A master says no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// An answer that is none.
    #[error("the answer to {call} can't be understood")]
    Answer {
        /// What was asked.
        call: String,
        /// Why.
        why: String,
    },
}

/// An answer under way.
struct Answer {
    length: u64,
    body: Box<dyn Read>,
}

impl Client {
    /// A way to the masters of a join script.
    pub(crate) fn new(request: &JoinRequest) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(request.ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|_no_pem| ClientError::Authority)?;
            roots
                .add(certificate)
                .map_err(|_no_authority| ClientError::Authority)?;
        }
        if roots.is_empty() {
            return Err(ClientError::Authority);
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_never| ClientError::Authority)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            masters: request.masters.clone(),
            tls: Arc::new(tls),
            token: request.token.clone(),
            last: AtomicUsize::new(0),
        })
    }

    /// Masters that accept no connection now, as `name (address:port)`.
    pub(crate) fn unreachable(&self) -> Vec<String> {
        let silent = self
            .masters
            .iter()
            .filter(|master| TcpStream::connect_timeout(&socket(master), CONNECT).is_err());
        silent
            .map(|master| format!("{} ({})", master.name, socket(master)))
            .collect()
    }

    /// Asks something that has a JSON answer.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse("GET", path, &self.get_bytes(path)?)
    }

    /// Asks something whose answer is bytes, few enough to be held.
    pub(crate) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        whole("GET", path, self.ask("GET", path, &[])?)
    }

    /// Says something and gets a JSON answer.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        parse("POST", path, &self.post_bytes(path, body)?)
    }

    /// Says something; what is answered is not looked at.
    pub(crate) fn tell(&self, path: &str, body: &impl Serialize) -> Result<(), ClientError> {
        self.post_bytes(path, body).map(drop)
    }

    /// Opens a blob; its bytes are the caller's to check.
    pub(crate) fn open(&self, path: &str) -> Result<impl Read + use<>, ClientError> {
        let answer = self.ask("GET", path, &[])?;
        Ok(Exact {
            left: answer.length,
            body: answer.body,
        })
    }

    fn post_bytes(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        let bytes = serde_json::to_vec(body).map_err(|error| wrong("POST", path, &error))?;
        whole("POST", path, self.ask("POST", path, &bytes)?)
    }

    /// Asks the masters in turn until one answers; a refusal is an answer.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
        let first = self.last.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        for step in 0..self.masters.len() {
            let place = (first + step) % self.masters.len().max(1);
            let Some(master) = self.masters.get(place) else {
                continue;
            };
            match self.exchange(master, method, path, body) {
                Ok((status, answer)) => {
                    self.last.store(place, Ordering::Relaxed);
                    return judge(method, path, status, answer);
                }
                Err(error) => tried.push((format!("{} ({})", master.name, socket(master)), error)),
            }
        }
        Err(ClientError::Unreachable { tried })
    }

    fn exchange(
        &self,
        master: &Master,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<(u16, Answer)> {
        let stream = TcpStream::connect_timeout(&socket(master), CONNECT)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(master.name.to_string()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.tls.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            master.name,
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        stream.flush()?;
        read_head(BufReader::with_capacity(256 << 10, stream))
    }
}

fn read_head(
    mut reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
) -> io::Result<(u16, Answer)> {
    let line = |reader: &mut BufReader<_>| -> io::Result<String> {
        let mut text = String::new();
        let mut limited = Read::take(Read::by_ref(reader), LINE_BYTES_MAX);
        limited.read_line(&mut text)?;
        if text.ends_with('\n') {
            Ok(text.trim_end().to_owned())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    };
    let first = line(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let mut length = None;
    for _line in 0..LINES_MAX {
        let text = line(&mut reader)?;
        if text.is_empty() {
            let answer = Answer {
                // Without a length the answer ends with the connection, and TLS says when that is its true end.
                length: length.unwrap_or(u64::MAX),
                body: Box::new(reader),
            };
            return Ok((status, answer));
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn judge(method: &str, path: &str, status: u16, answer: Answer) -> Result<Answer, ClientError> {
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let bytes = whole(method, path, answer)?;
    let refusal = serde_json::from_slice(&bytes).map_err(|_no_refusal| ClientError::Answer {
        call: format!("{method} {path}"),
        why: format!("status {status}"),
    })?;
    Err(ClientError::Refused(refusal))
}

fn whole(method: &str, path: &str, answer: Answer) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    let mut body = answer.body.take(ANSWER_BYTES_MAX.min(answer.length));
    body.read_to_end(&mut bytes)
        .map_err(|error| wrong(method, path, &error))?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if answer.length != u64::MAX && length != answer.length {
        return Err(wrong(method, path, &"it broke off, or is too long"));
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(method: &str, path: &str, bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(method, path, &error))
}

fn wrong(method: &str, path: &str, why: &dyn fmt::Display) -> ClientError {
    ClientError::Answer {
        call: format!("{method} {path}"),
        why: why.to_string(),
    }
}

const fn socket(master: &Master) -> SocketAddr {
    SocketAddr::new(master.address, join::PORT)
}

/// A body that is an error when it is shorter than was announced.
struct Exact {
    left: u64,
    body: Box<dyn Read>,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.body.read(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 && self.left != u64::MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self
            .left
            .saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

impl ClientError {
    /// Whether the same request can be granted later.
    pub(crate) const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => refusal.again,
            Self::Authority | Self::Answer { .. } => false,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Client")
    }
}

impl Fault for ClientError {
    fn code(&self) -> &'static str {
        match self {
            Self::Authority => "JOIN_AUTHORITY",
            Self::Unreachable { .. } => "JOIN_UNREACHABLE",
            Self::Refused(_) => "JOIN_REFUSED",
            Self::Answer { .. } => "JOIN_ANSWER",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Authority => Blame::Input,
            Self::Refused(_) => Blame::Policy,
            Self::Unreachable { .. } | Self::Answer { .. } => Blame::Network,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Authority => Vec::new(),
            Self::Unreachable { tried } => tried
                .iter()
                .map(|(master, why)| Fact::new("tried", format!("{master}: {why}")))
                .collect(),
            Self::Refused(refusal) => vec![Fact::new("code", &refusal.code)],
            Self::Answer { why, .. } => vec![Fact::new("reason", why)],
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Authority => "paste the whole script that installer join-script printed",
            Self::Unreachable { .. } => {
                "start the masters, or open port 8800 to them; then run the script again"
            }
            Self::Refused(refusal) if refusal.again => "run the script again in a minute",
            Self::Refused(_) => "print a new script on a master with installer join-script",
            Self::Answer { .. } => "run the script again",
        };
        Some(text.to_owned())
    }
}
