//! The command line as typed: one struct a command. What the words mean is decided in `commands`.

use std::net::SocketAddr;
use std::path::PathBuf;

use api::join::Role;
use api::sync::NodeName;
use bundle::Digest;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use serde::Deserialize;
use store::Incarnation;

use crate::config::Written;

/// Replicate the store of a master to the other masters, and look after it.
#[derive(Debug, Parser)]
#[command(
    name = "syncd",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
pub struct Cli {
    /// Print one JSON object on standard output, errors included; progress stays on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Configuration file; /etc/sealift/syncd.toml when absent, which need not exist.
    #[arg(long, global = true, env = "SEALIFT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// All commands, in the order in which an operator meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the cluster's certificate authority, and certificates for its nodes.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Make this node's store, once; a directory with anything else in it is refused.
    Init(PlaceArgs),
    /// Run the daemon until SIGTERM or SIGINT.
    Run(Box<RunArgs>),
    /// Forward this node's API connections to the first API server that is ready, until SIGTERM or SIGINT.
    Endpoint(EndpointArgs),
    /// Import a bundle or a license into this node's store, and wait until enough masters hold it.
    Import(ImportArgs),
    /// Show who has what, and which masters can be lost.
    Status(PlaceArgs),
    /// Read blobs again from the disk and hash them; what is damaged is fetched again from a peer.
    Verify(VerifyArgs),
    /// Write a bundle of the store to a file again, with the signed head that came in.
    Export(ExportArgs),
    /// List every complete blob of this node's store.
    Inventory(PlaceArgs),
}

/// `syncd ca`.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make ca.pem and ca.key; nothing is ever overwritten.
    Init {
        /// Where to write them.
        #[arg(long, value_name = "DIR", default_value = "/etc/sealift")]
        out: PathBuf,
        /// The cluster of a store that is there already, as its `STORE_ID` names it; a new one is drawn when absent.
        #[arg(long, value_name = "HEX")]
        cluster: Option<Incarnation>,
    },
    /// Make node.pem and node.key for one node, and put ca.pem beside them.
    Issue {
        /// The node's name, a host name.
        node: NodeName,
        /// What the node may do: masters replicate, workers may ask them for images.
        #[arg(long, value_enum, default_value = "master")]
        role: RoleArg,
        /// The authority's directory, with ca.pem and ca.key.
        #[arg(long, value_name = "DIR", default_value = "/etc/sealift")]
        ca: PathBuf,
        /// Where to write them.
        #[arg(long, value_name = "DIR", default_value = "/etc/sealift")]
        out: PathBuf,
    },
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleArg {
    /// Runs the control plane and holds a copy of the store.
    Master,
    /// Runs applications.
    Worker,
}

impl RoleArg {
    /// The same as others say it.
    pub const fn role(self) -> Role {
        match self {
            Self::Master => Role::Master,
            Self::Worker => Role::Worker,
        }
    }
}

/// `syncd run`: every key of the configuration.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Every key of the configuration.
    #[command(flatten)]
    pub written: Written,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// `syncd endpoint`.
#[derive(Debug, Args)]
pub struct EndpointArgs {
    /// Addresses on loopback where this node's programs reach the API
    #[arg(
        long,
        env = "SEALIFT_LISTEN",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:6444,[::1]:6444"
    )]
    pub listen: Vec<SocketAddr>,
    /// The list of API servers, best first; read again whenever it changes
    #[arg(
        long,
        env = "SEALIFT_TARGETS",
        value_name = "FILE",
        default_value = api::endpoint::FILE
    )]
    pub targets: PathBuf,
    /// Socket that tells how each API server does: GET /v1/targets, GET /metrics
    #[arg(
        long,
        env = "SEALIFT_STATUS",
        value_name = "SOCKET",
        default_value = api::endpoint::STATUS_SOCKET
    )]
    pub status: PathBuf,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What is logged, and how.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// What is logged to standard error: error, warn, info, debug, trace, or targets such as `syncd::net=debug`
    #[arg(
        long,
        env = "SEALIFT_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
    /// How a line of the log looks
    #[arg(long, env = "SEALIFT_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a command finds the store and the daemon, when the configuration does not say it.
#[derive(Debug, Default, Args)]
pub struct PlaceArgs {
    /// Directory of the store [default: /var/lib/sealift]
    #[arg(long, env = "SEALIFT_STORE", value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Socket of the daemon [default: /run/sealift/syncd.sock]
    #[arg(long, env = "SEALIFT_CONTROL", value_name = "SOCKET")]
    pub control: Option<PathBuf>,
}

/// `syncd import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A bundle (.airgap) or a license (.lic); `-` reads standard input, once and without a temporary copy.
    pub file: PathBuf,
    /// How many masters must hold all of it before this returns: this one, more than half, or every one.
    ///
    /// `local` works without a running daemon.
    #[arg(long, value_enum, default_value = "majority")]
    pub wait: WaitArg,
    /// Where store and daemon are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// How many masters must hold an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitArg {
    /// This one.
    Local,
    /// More than half of the members, this one included.
    Majority,
    /// Every member.
    All,
}

/// `syncd verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The blobs to verify, with or without `sha256:`.
    #[arg(
        value_name = "DIGEST",
        value_parser = blob_name,
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub blobs: Vec<Digest>,
    /// Verify every blob of the store.
    #[arg(long)]
    pub all: bool,
    /// Where store and daemon are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `syncd export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The bundle's id, or its first digits as far as they tell it apart; `syncd status --json` shows them.
    pub id: String,
    /// Where to write the bundle; an existing file is never overwritten.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Where store and daemon are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

impl PlaceArgs {
    /// The same as configuration.
    pub fn written(&self) -> Written {
        Written {
            store: self.store.clone(),
            control: self.control.clone(),
            ..Written::default()
        }
    }
}

/// A digest as people paste it: the OCI form, or the name of the file.
fn blob_name(text: &str) -> Result<Digest, bundle::digest::DigestError> {
    Digest::from_hex(text).or_else(|_no_hex| text.parse())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_is_a_flag_and_a_variable_of_one_name() {
        let command = Cli::command();
        let ours = ["run", "endpoint"].map(|name| command.find_subcommand(name).unwrap());
        for argument in ours
            .iter()
            .flat_map(|command| command.get_arguments())
            .filter(|argument| argument.get_id() != "help")
        {
            let name = argument.get_long().unwrap();
            let variable = format!("SEALIFT_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().unwrap().to_str(),
                Some(variable.as_str())
            );
        }
    }
}
