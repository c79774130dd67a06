//! Connections from loopback, each carried to the best target there is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::board::Board;
use super::board::Open;

/// How long sent bytes may go without an answer, and a silent peer without a sign of life, before it counts as gone.
const GONE: Duration = Duration::from_secs(10);

/// Silence after which a sign of life is asked for, and the time between such questions.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));

/// Room for so many connections.
pub(super) fn slots(connections_max: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(connections_max))
}

/// Takes connections for ever.
pub(super) async fn accept(listener: TcpListener, board: Arc<Board>, slots: Arc<Semaphore>) {
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((client, _from)) => {
                let board = board.clone();
                tokio::spawn(async move {
                    if let Err(error) = carry(client, &board).await {
                        tracing::debug!(%error, "an API connection has ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of descriptors: let some connections end before the next try.
                tracing::warn!(%error, "can't accept an API connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Copies until an end closes or the target falls.
async fn carry(mut client: TcpStream, board: &Board) -> io::Result<()> {
    prepare(&client)?;
    let (mut server, mut open) = connect(board).await?;
    prepare(&server)?;
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut client, &mut server) => copied.map(drop),
        _cut = open.cut.changed() => Err(io::Error::other("its target has fallen")),
    }
}

/// Connects to the first target that takes it, those that are ready first.
async fn connect(board: &Board) -> io::Result<(TcpStream, Open)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no API server yet");
    for open in board.ways() {
        let address = (open.way.host.as_str(), open.way.port);
        match timeout(board.time_out(), TcpStream::connect(address)).await {
            Ok(Ok(server)) => return Ok((server, open)),
            Ok(Err(error)) => last = error,
            Err(_late) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Nothing waits for more bytes, and an end that is gone without a word is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE.0)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE.1)?;
    let gone_ms = u32::try_from(GONE.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, gone_ms)?;
    Ok(())
}
