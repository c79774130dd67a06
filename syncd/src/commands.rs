//! What each command does, from what was typed to what is shown.

mod endpoint;
mod export;
mod import;
mod init;
mod inventory;
mod log;
mod pace;
mod place;
mod run;
mod status;
mod verify;

use program::Outcome;
use program::Output;

use crate::ca;
use crate::cli::CaCommand;
use crate::cli::Cli;
use crate::cli::Command;

/// Runs a command.
pub fn run(cli: Cli, output: &Output) -> Outcome {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Ca(CaCommand::Init { out, cluster }) => {
            ca::init(&out, cluster)?;
            output.result(&serde_json::json!({ "authority": out }), |lines| {
                lines.line(format!(
                    "The authority is in {}. Keep ca.key: it names the nodes of this cluster.",
                    out.display()
                ));
            })
        }
        Command::Ca(CaCommand::Issue {
            node,
            role,
            ca,
            out,
        }) => {
            ca::issue(&ca, &node, role.role(), &out)?;
            output.result(
                &serde_json::json!({ "node": node, "directory": out }),
                |lines| {
                    lines.line(format!("{node} has its certificate in {}.", out.display()));
                },
            )
        }
        Command::Init(place) => init::run(&place::Place::find(config, &place)?, output),
        Command::Run(arguments) => run::run(config, *arguments),
        Command::Endpoint(arguments) => endpoint::run(arguments),
        Command::Import(arguments) => import::run(config, &arguments, output),
        Command::Status(place) => status::run(&place::Place::find(config, &place)?, output),
        Command::Verify(arguments) => verify::run(config, &arguments, output),
        Command::Export(arguments) => export::run(config, &arguments, output),
        Command::Inventory(place) => inventory::run(&place::Place::find(config, &place)?, output),
    }
}

/// Tells systemd, where there is one.
fn tell_manager(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
