//! `syncd run`: the daemon, from its configuration to its last word.
//!
//! 1. Everything that can be wrong is looked at first: configuration, certificate, store, sockets.
//! 2. Replication, images, commands and inbox run side by side; each ends when the daemon is told to end.
//! 3. SIGTERM or SIGINT: what is received is made durable, then the process ends with 0. A second one ends it at once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use api::sync::Boot;
use bundle::fault::Blame;
use bundle::fault::Fault;
use program::Outcome;
use sd_notify::NotifyState;
use store::RealFs;
use store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

use super::log;
use super::place::Place;
use super::tell_manager;
use crate::Syncd;
use crate::cli::RunArgs;
use crate::config;
use crate::config::Config;
use crate::contents::TrustJudge;
use crate::control;
use crate::control::ControlSocket;
use crate::env::Offload;
use crate::images;
use crate::images::Endpoint;
use crate::images::StoredImages;
use crate::inbox::Inbox;
use crate::join::Public;
use crate::net::Identity;
use crate::net::TlsNet;

/// Threads for disk work: one for each image that is pulled at once, and some for replication.
const BLOCKING_THREADS_MAX: usize = 192;

/// The machine does not give what a daemon needs.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// Threads, signals or timers.
    #[error("the daemon can't start")]
    Start(#[source] std::io::Error),
    /// The image endpoint's address.
    #[error("can't listen for image pulls on {address}")]
    Images {
        address: SocketAddr,
        source: std::io::Error,
    },
}

pub(super) fn run(file: Option<&Path>, arguments: RunArgs) -> Outcome {
    log::start(&arguments.log)?;
    let written = config::load_written(file, arguments.written)?;
    let place = Place::of(&written);
    let config = Config::settle(written)?;
    let identity = Identity::load(&config)?;
    let store = place.open_store()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(RunError::Start)?;
    let done = runtime.block_on(serve(&config, &identity, store));
    // Reads of a client that hangs end with the process.
    runtime.shutdown_background();
    done
}

/// Runs everything until the daemon is told to end.
async fn serve(config: &Config, identity: &Identity, store: Store<RealFs>) -> Outcome {
    let (end, ended) = watch::channel(false);
    let end = Arc::new(end);
    let socket = ControlSocket::bind(&config.control)?;
    let net = TlsNet::bind(config.listen, &config.peers, identity).await?;
    let images = listen_for_images(config.images).await?;
    let public = Public::bind(config, identity, store.clone()).await?;
    let endpoint = Endpoint::new(Arc::new(StoredImages::new(store.clone())));
    let judge = Arc::new(TrustJudge::new(store.clone()));
    let settings = config.settings(Boot::new(rand::random()), rand::random());
    tracing::info!(node = %config.node, peers = config.peers.len(), listen = %net.local_addr(), "syncd is running");
    let engine = Syncd::new(
        settings,
        store.clone(),
        Arc::new(net),
        judge,
        Offload::Threads,
    );
    let handle = engine.handle();
    let inbox = Inbox::new(store, config, handle.clone());

    tokio::spawn(end_at_signal(end.clone())?);
    let commands =
        control::router(handle).merge(public.as_ref().map(Public::control).unwrap_or_default());
    let control = tokio::spawn(socket.serve(commands, until(ended.clone())));
    let public = public.map(Public::spawn);
    let images = images.map(|listener| tokio::spawn(images::serve(listener, endpoint)));
    let inbox = tokio::spawn(inbox.run(until(ended.clone())));
    tell_manager(&[NotifyState::Ready]);
    let replicated = engine.run(until(ended)).await;
    // Also when replication itself has failed: the rest must not go on without it.
    end.send_replace(true);
    tell_manager(&[NotifyState::Stopping]);
    for task in images.into_iter().chain(public) {
        task.abort();
    }
    // An import that is under way is finished or given up at its next read; commands get their last answers.
    let _ended = inbox.await;
    let _ended = control.await;
    replicated?;
    tracing::info!("syncd has ended; everything received is durable");
    Ok(())
}

async fn listen_for_images(address: Option<SocketAddr>) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Images { address, source })?;
    Ok(Some(listener))
}

/// Raises the flag at the first signal, and ends the process at the second.
fn end_at_signal(end: Arc<watch::Sender<bool>>) -> Result<impl Future<Output = ()>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Start)?;
    Ok(async move {
        for is_last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if is_last {
                tracing::warn!("told twice to end: not waiting for what is under way");
                std::process::exit(1);
            }
            end.send_replace(true);
        }
    })
}

/// Over when the daemon is told to end.
async fn until(mut ended: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ended = ended.wait_for(|is_ended| *is_ended).await;
}

impl Fault for RunError {
    fn code(&self) -> &'static str {
        match self {
            Self::Start(_) => "RUN_START",
            Self::Images { .. } => "IMAGES_LISTEN",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Start(_) | Self::Images { .. } => Blame::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Start(_) => None,
            Self::Images { .. } => {
                Some("choose another address with `images`, or `off`".to_owned())
            }
        }
    }
}
