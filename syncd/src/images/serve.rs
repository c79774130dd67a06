//! Connections of clients, each answered until it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Endpoint;
use super::refusal::Body;

/// Connections at once: containerd opens a handful for each image; the rest waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Who answers requests of the protocol.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

impl Answers for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        Self::answer(self, &request).await
    }
}

/// Accepts connections and answers them until it is dropped.
pub async fn serve(listener: TcpListener, endpoint: Endpoint) {
    serve_any(listener, endpoint).await;
}

/// The same, whoever answers.
pub(crate) async fn serve_any(listener: TcpListener, answers: impl Answers) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _client)) => {
                // Answers are written whole; waiting for more only delays small ones. Failing to set it costs speed alone.
                let _slower = stream.set_nodelay(true);
                let answers = answers.clone();
                tokio::spawn(async move {
                    serve_connection(stream, answers).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of descriptors: let some connections end before the next try.
                tracing::warn!(%error, "can't accept a connection for images");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers one connection until it ends.
pub(super) async fn serve_connection<S>(stream: S, answers: impl Answers)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for images ended early");
    }
}
