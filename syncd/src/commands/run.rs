//! `syncd run`: the daemon, from its configuration to its last word.
//!
//! 1. Everything that can be wrong is looked at first: configuration, certificate, store, sockets.
//! 2. Replication, images, commands, inbox and the list of members run side by side; each ends when the daemon is told
//!    to end. A worker relays images and follows the list, and has nothing else. SIGHUP: the files are read again.
//! 3. SIGTERM or SIGINT: what is received is made durable, then the process ends with 0. A second one ends it at once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use api::join::Role;
use api::sync::Boot;
use api::sync::NodeName;
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
use tokio::task::JoinSet;

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
use crate::handle::Handle;
use crate::images;
use crate::images::Endpoint;
use crate::images::OwnFirst;
use crate::images::Relay;
use crate::images::StoredImages;
use crate::inbox::Inbox;
use crate::join::Public;
use crate::masters::Masters;
use crate::membership;
use crate::membership::Membership;
use crate::net::Caller;
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
    let membership = Membership::load(&config)?;
    let store = match config.role {
        Role::Master => Some(place.open_store()?),
        Role::Worker => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(RunError::Start)?;
    let done = runtime.block_on(async {
        match store {
            Some(store) => serve_master(&config, &identity, membership, store).await,
            None => serve_worker(&config, &identity, membership).await,
        }
    });
    // Reads of a client that hangs end with the process.
    runtime.shutdown_background();
    done
}

/// Runs a master until it is told to end.
async fn serve_master(
    config: &Config,
    identity: &Identity,
    membership: Arc<Membership>,
    store: Store<RealFs>,
) -> Outcome {
    let (end, ended) = watch::channel(false);
    let end = Arc::new(end);
    let socket = ControlSocket::bind(&config.control)?;
    let net = Arc::new(TlsNet::bind(config.listen, membership.follow(), identity).await?);
    let images = listen_for_images(config.images).await?;
    let public = Public::bind(config, identity, store.clone(), membership.clone()).await?;
    let endpoint = Endpoint::new(Arc::new(StoredImages::new(store.clone())));
    let judge = Arc::new(TrustJudge::new(store.clone()));
    let peers: Vec<NodeName> = membership.roster().peers().cloned().collect();
    tracing::info!(node = %config.node, peers = peers.len(), listen = %net.local_addr(), "syncd is running");
    let settings = config.settings(peers, Boot::new(rand::random()), rand::random());
    let engine = Syncd::new(
        settings,
        store.clone(),
        net.clone(),
        judge,
        Offload::Threads,
    )
    .with_routes(membership::routes(membership.clone()).merge(images::routes(endpoint.clone())));
    let handle = engine.handle();
    let inbox = Inbox::new(store, config, handle.clone());

    let mut beside = keep_membership(config, &membership)?;
    beside.spawn(follow_members(membership.clone(), handle.clone()));
    beside.spawn(membership::gossip(
        membership.clone(),
        net.clone(),
        config.timing.summary,
        config.timing.idle,
    ));
    if let Some(workers) = net.workers() {
        beside.spawn(images::serve_workers(workers, endpoint.clone(), membership));
    }
    if let Some(listener) = images {
        let others = Relay::new(Arc::new(Masters::new(net.caller(), &config.node)));
        beside.spawn(images::serve_any(listener, OwnFirst::new(endpoint, others)));
    }
    tokio::spawn(end_at_signal(end.clone())?);
    let commands =
        control::router(handle).merge(public.as_ref().map(Public::control).unwrap_or_default());
    let control = tokio::spawn(socket.serve(commands, until(ended.clone())));
    let public = public.map(Public::spawn);
    let inbox = tokio::spawn(inbox.run(until(ended.clone())));
    tell_manager(&[NotifyState::Ready]);
    let replicated = engine.run(until(ended)).await;
    // Also when replication itself has failed: the rest must not go on without it.
    end.send_replace(true);
    tell_manager(&[NotifyState::Stopping]);
    drop(beside);
    if let Some(public) = public {
        public.abort();
    }
    // An import that is under way is finished or given up at its next read; commands get their last answers.
    let _ended = inbox.await;
    let _ended = control.await;
    replicated?;
    tracing::info!("syncd has ended; everything received is durable");
    Ok(())
}

/// Runs a worker until it is told to end: it relays images, and knows the masters.
async fn serve_worker(
    config: &Config,
    identity: &Identity,
    membership: Arc<Membership>,
) -> Outcome {
    let (end, ended) = watch::channel(false);
    let images = listen_for_images(config.images).await?;
    let caller = Caller::new(membership.follow(), identity);
    let masters = Arc::new(Masters::new(caller, &config.node));
    let mut beside = keep_membership(config, &membership)?;
    beside.spawn(membership::learn(
        membership,
        masters.clone(),
        config.timing.summary,
    ));
    if let Some(listener) = images {
        beside.spawn(images::serve_any(listener, Relay::new(masters)));
    }
    tracing::info!(node = %config.node, "syncd is running for a worker");
    tell_manager(&[NotifyState::Ready]);
    tokio::spawn(end_at_signal(Arc::new(end))?);
    until(ended).await;
    tell_manager(&[NotifyState::Stopping]);
    Ok(())
}

/// Keeps what is known of the members and what follows from it, on every node.
fn keep_membership(config: &Config, membership: &Arc<Membership>) -> Result<JoinSet<()>, RunError> {
    let (tell, told) = watch::channel(0_u64);
    let mut hang_up = signal(SignalKind::hangup()).map_err(RunError::Start)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while hang_up.recv().await.is_some() {
            tracing::info!("told to read the members and the site again");
            tell.send_modify(|times| *times = times.wrapping_add(1));
        }
    });
    tasks.spawn(membership.clone().watch_file(told.clone()));
    tasks.spawn(membership::keep_endpoint(
        membership.clone(),
        config.site.clone(),
        config.targets.clone(),
        told,
    ));
    Ok(tasks)
}

/// Lets replication follow the list of members.
async fn follow_members(membership: Arc<Membership>, handle: Handle) {
    let mut roster = membership.follow();
    loop {
        let now = roster.borrow_and_update().clone();
        let (peers, guests) = (now.peers().cloned(), now.guests().cloned());
        let told = handle.replicate_with(peers.collect(), guests.collect());
        if told.await.is_err() || roster.changed().await.is_err() {
            return;
        }
    }
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
