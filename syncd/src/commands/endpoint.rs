//! `syncd endpoint`: the API forwarder as a process and unit of its own, so that restarting the daemon cuts nothing.

use bundle::fault::Blame;
use bundle::fault::Fault;
use program::Outcome;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use sd_notify::NotifyState;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use super::log;
use super::tell_manager;
use crate::cli::EndpointArgs;
use crate::control::ControlSocket;
use crate::endpoint::EndpointListenError;
use crate::endpoint::Forwarder;
use crate::endpoint::Settings;
use crate::endpoint::Timing;

/// Connections at once: a node's own components hold some dozens.
const CONNECTIONS_MAX: usize = 1024;

/// Descriptors for them: two each, and what else a process has open.
const FILES: u64 = 4096;

/// Threads that read the files and look names up; a look-up may hang for many seconds.
const BLOCKING_THREADS_MAX: usize = 32;

/// The machine does not give what a forwarder needs.
#[derive(Debug, thiserror::Error)]
#[error("the forwarder can't start")]
struct StartError(#[source] std::io::Error);

pub(super) fn run(arguments: EndpointArgs) -> Outcome {
    log::start(&arguments.log)?;
    allow_files();
    // One thread copies more than a node's API traffic ever is, and keeps the memory small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(StartError)?;
    let done = runtime.block_on(serve(arguments));
    runtime.shutdown_background();
    done
}

async fn serve(arguments: EndpointArgs) -> Outcome {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError)?;
    // The list is looked at all the time; what asks for it to be read again must not end the process.
    let _hang_up = signal(SignalKind::hangup()).map_err(StartError)?;
    let forwarder = Forwarder::bind(Settings {
        listen: arguments.listen,
        file: arguments.targets,
        timing: Timing::default(),
        connections_max: CONNECTIONS_MAX,
    })
    .await?;
    tracing::info!(listen = ?forwarder.addresses(), "the API endpoint is open");
    // Whoever can't be told how it does: the forwarder works all the same.
    let told = ControlSocket::bind(&arguments.status)
        .inspect_err(|error| tracing::warn!(%error, "how it does can't be asked"));
    let status = told
        .ok()
        .map(|socket| tokio::spawn(socket.serve(forwarder.routes(), std::future::pending())));
    tell_manager(&[NotifyState::Ready]);
    tokio::select! {
        () = forwarder.run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tell_manager(&[NotifyState::Stopping]);
    if let Some(status) = status {
        status.abort();
    }
    Ok(())
}

/// Raises the soft limit of descriptors; with less the forwarder works too, for fewer connections.
fn allow_files() {
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(FILES, |most| most.min(FILES));
    if now.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let limit = Rlimit {
        current: Some(wanted),
        maximum: now.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

impl Fault for StartError {
    fn code(&self) -> &'static str {
        "RUN_START"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }
}

impl Fault for EndpointListenError {
    fn code(&self) -> &'static str {
        "ENDPOINT_LISTEN"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "`ss -ltnp 'sport = :{}'` shows which program has the port",
            self.address.port()
        ))
    }
}
