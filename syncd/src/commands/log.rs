//! The log of the long-running commands, on standard error.

use bundle::fault::Blame;
use bundle::fault::Fault;

use crate::cli::LogArgs;
use crate::cli::LogFormat;

/// Text that is no log filter.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no log filter")]
pub(super) struct LogError(String);

pub(super) fn start(arguments: &LogArgs) -> Result<(), LogError> {
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log)
        .map_err(|_unparsable| LogError(arguments.log.clone()))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A log that another part has set up in this process (a test) stays as it is.
    let _already = match arguments.log_format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

impl Fault for LogError {
    fn code(&self) -> &'static str {
        "RUN_LOG"
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("write a level, such as info, or targets, such as syncd::net=debug".to_owned())
    }
}
