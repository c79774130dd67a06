//! Connections of clients, each answered until it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Endpoint;

/// Connections at once: containerd opens a handful for each image; the rest waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts connections and answers them until it is dropped.
pub async fn serve(listener: TcpListener, endpoint: Endpoint) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _client)) => {
                let endpoint = endpoint.clone();
                tokio::spawn(async move {
                    serve_connection(stream, endpoint).await;
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

async fn serve_connection(stream: TcpStream, endpoint: Endpoint) {
    // Answers are written whole; waiting for more only delays small ones. Failing to set it costs speed alone.
    let _slower = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let endpoint = endpoint.clone();
        async move { Ok::<_, Infallible>(endpoint.answer::<hyper::body::Incoming>(&request).await) }
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
