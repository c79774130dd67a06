//! Asks one target whether it is ready, over one connection for as long as that lasts.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::Weak;

use bytes::Bytes;
use http::Request;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsConnector;

use super::Timing;
use super::board::Board;
use super::board::Way;

/// `ok`, or the names of what is not; anything longer is no API server.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Which API servers are believed: those with a certificate for this name, of this authority.
#[derive(Clone)]
pub(super) struct Trust {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Trust").field(&self.name).finish()
    }
}

impl Trust {
    /// Takes the authority's certificates, PEM.
    pub(super) fn new(ca_pem: &[u8], name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(root?)?;
        }
        if roots.is_empty() {
            return Err("it holds no certificate".into());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: ServerName::try_from(name.to_owned())?,
        })
    }
}

/// A connection on which is asked.
struct Line {
    requests: http1::SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Asks at every interval, for ever.
pub(super) async fn run(
    way: Arc<Way>,
    board: Weak<Board>,
    mut trust: watch::Receiver<Option<Trust>>,
    timing: Timing,
) {
    let mut ticks = tokio::time::interval(timing.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut line = None;
    loop {
        ticks.tick().await;
        if trust.has_changed().unwrap_or(false) {
            line = None;
        }
        let Some(believed) = trust.borrow_and_update().clone() else {
            way.forget();
            // No authority, nobody to believe: waits for one, and then asks at once.
            if trust.changed().await.is_err() {
                return;
            }
            ticks.reset_immediately();
            continue;
        };
        let asked = ask(&way, &believed, line.take());
        let answer = tokio::time::timeout(timing.time_out, asked);
        let answer = answer.await.unwrap_or_else(|_late| Err(late()));
        let told = match answer {
            Ok(open) => {
                line = open;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        way.note(told, &timing, &board);
    }
}

/// One question; gives the connection back while it can be used again.
async fn ask(way: &Way, trust: &Trust, line: Option<Line>) -> io::Result<Option<Line>> {
    let mut line = match line {
        Some(line) if !line.requests.is_closed() => line,
        Some(_) | None => connect(way, trust).await?,
    };
    let request = Request::get("/readyz")
        .header(header::HOST, trust.name.to_str().as_ref())
        .body(Empty::new())
        .map_err(io::Error::other)?;
    line.requests.ready().await.map_err(io::Error::other)?;
    let answer = line.requests.send_request(request);
    let answer = answer.await.map_err(io::Error::other)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    body.collect().await.map_err(io::Error::other)?;
    if status != StatusCode::OK {
        return Err(io::Error::other(format!(
            "/readyz was answered with {status}"
        )));
    }
    Ok((!line.requests.is_closed()).then_some(line))
}

async fn connect(way: &Way, trust: &Trust) -> io::Result<Line> {
    let stream = TcpStream::connect((way.host.as_str(), way.port)).await?;
    stream.set_nodelay(true)?;
    let stream = trust.connector.connect(trust.name.clone(), stream).await?;
    let (requests, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::spawn(async move {
        // Whatever ends it is told to the question under way, or seen before the next.
        let _ended = connection.await;
    });
    Ok(Line { requests, driver })
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}
