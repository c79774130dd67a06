//! The command line as typed: one struct a command. What the words mean is decided in `commands/`.

use std::net::IpAddr;
use std::path::PathBuf;

use bundle::Digest;
use clap::ArgAction;
use clap::ArgGroup;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use program::inspect::Part;

use crate::commands::parse_span_s;

/// Bring a bundle to a site without internet: trust, verify, import, install.
#[derive(Debug, Parser)]
#[command(
    name = "installer",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
pub struct Cli {
    /// Print one JSON object on standard output, errors included; progress stays on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// The store of this machine.
    #[arg(
        long,
        global = true,
        default_value = "/var/lib/sealift",
        env = "SEALIFT_STORE"
    )]
    pub store: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// All commands, in the order in which an operator meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decide whose bundles this site accepts.
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Verify signatures and every byte of a bundle, reading it once; nothing is changed.
    Verify(VerifyArgs),
    /// Show what a bundle carries, from its head alone; nothing is decompressed.
    Inspect(InspectArgs),
    /// Bring a bundle or a license into the store of this machine: one pass, no temporary copy.
    ///
    /// Killed anywhere, the same command goes on: blobs that are in the store are not written again. With syncd running,
    /// the other masters have it within seconds; `syncd import --wait majority` waits for them.
    Import(ImportArgs),
    /// Make this machine a master that runs what the bundle brings.
    ///
    /// Killed anywhere, the same command goes on; run again when all is done, it changes nothing. With `ha` a single
    /// master becomes the first of a highly available cluster. The words `ha`, `load-balancer-address=HOST:PORT`,
    /// `taint-control-plane` and `license=FILE` may be written with or without dashes; `-` and `_` are equal.
    Install(InstallArgs),
    /// Check whether this machine can become a node, and change nothing.
    Preflight(PreflightArgs),
    /// Tell whether the site is well, what is missing, and what to do next.
    Status(StatusArgs),
    /// Take a machine back to what it was before a join that failed; a node of a running cluster is refused.
    ///
    /// Bundles in the store stay; everything that makes the machine a node goes.
    Reset(ResetArgs),
    /// Join the cluster that a join script names; the script runs this.
    ///
    /// Killed anywhere, the same script goes on. A machine that has joined already is left as it is.
    Join(JoinArgs),
    /// Print the script that makes another machine a node: paste it there, as root.
    ///
    /// Run it on any master. The script needs nothing but curl on the new machine; it carries a join token, which ends
    /// when it says and can be taken back before. Masters may be joined at the same time: they take turns by themselves.
    JoinScript(JoinScriptArgs),
}

/// `installer trust …`.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Trust a vendor's root.json from now on.
    ///
    /// The fingerprint must have reached you by another way than the file: paper, telephone, a contract. Without it the
    /// command prints the one that the file has, and stops.
    Add(TrustAddArgs),
    /// Show whom this site trusts for what, and the newest releases that it has accepted.
    Show,
}

/// `installer trust add`.
#[derive(Debug, Args)]
pub struct TrustAddArgs {
    /// The vendor's root.json.
    pub root: PathBuf,
    /// The SHA-256 of root.json, 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = Digest::from_hex)]
    pub fingerprint: Option<Digest>,
}

/// `installer verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The bundle.
    pub file: PathBuf,
    /// Print `sha256sum` lines of all blobs instead of a summary.
    #[arg(long)]
    pub print_sums: bool,
}

/// `installer inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The bundle.
    pub file: PathBuf,
    /// What to show.
    #[arg(value_enum, default_value_t = Part::Summary)]
    pub part: Part,
}

/// `installer import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A bundle (`.airgap`) or a license (`.lic`); `-` reads a bundle from standard input.
    pub file: PathBuf,
}

/// `installer install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The bundle.
    pub file: PathBuf,
    /// Become highly available: three masters or more. Once given, it is remembered.
    #[arg(long)]
    pub ha: bool,
    /// The load balancer in front of all masters; without one the first master takes all API traffic until it is lost.
    #[arg(long, value_name = "HOST:PORT")]
    pub load_balancer_address: Option<String>,
    /// Keep application pods off the masters; `=0` takes it back.
    #[arg(long, value_name = "0|1", num_args = 0..=1, require_equals = true, default_missing_value = "1",
        action = ArgAction::Set, value_parser = ["0", "1"])]
    pub taint_control_plane: Option<String>,
    /// The customer's license; without it the one in the store or in the bundle counts.
    #[arg(long, value_name = "FILE")]
    pub license: Option<PathBuf>,
    /// Address of this machine that other nodes reach it by; the one that leads to the default route when absent.
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Go on although this check fails; may be given again.
    #[arg(long, value_name = "ID")]
    pub ignore: Vec<String>,
    /// Ask nothing; what would be asked takes its default.
    #[arg(long)]
    pub yes: bool,
    /// A TOML file with the answers to what would be asked: `load-balancer-address`, `ha`, `taint-control-plane`, `license`.
    #[arg(long, value_name = "FILE")]
    pub answers: Option<PathBuf>,
    /// Print the plan and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `installer preflight`.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// The bundle: with it the disk is measured by what the bundle needs.
    pub file: Option<PathBuf>,
    /// What the machine is to become.
    #[arg(long, value_enum, default_value_t = RoleArg::Master)]
    pub role: RoleArg,
    /// Take this check as passed; may be given again.
    #[arg(long, value_name = "ID")]
    pub ignore: Vec<String>,
}

/// `installer join-script`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false))]
pub struct JoinScriptArgs {
    /// A script that makes masters.
    #[arg(long, group = "what")]
    pub master: bool,
    /// A script that makes workers.
    #[arg(long, group = "what")]
    pub worker: bool,
    /// Show every script's token that has not ended; not the tokens themselves.
    #[arg(long, group = "what")]
    pub list: bool,
    /// Take back the token of a script.
    #[arg(long, value_name = "TOKEN-ID", group = "what")]
    pub revoke: Option<String>,
    /// How long the script works, from 1m to 31d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_span_s)]
    pub ttl: u64,
    /// Socket of the daemon.
    #[arg(
        long,
        value_name = "SOCKET",
        env = "SEALIFT_CONTROL",
        default_value = "/run/sealift/syncd.sock"
    )]
    pub control: PathBuf,
}

/// `installer reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The id of the cluster that this node is of, to be sure that the right machine is meant.
    #[arg(long, value_name = "ID")]
    pub cluster: Option<String>,
}

/// `installer status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Socket of the daemon on this master.
    #[arg(long, value_name = "SOCKET", default_value = "/run/sealift/syncd.sock")]
    pub control: PathBuf,
}

/// `installer join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What the join script has written: the masters, their authority and the token.
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// Address of this machine that other nodes reach it by; the one that leads to the default route when absent.
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Go on although this check fails; may be given again.
    #[arg(long, value_name = "ID")]
    pub ignore: Vec<String>,
}

/// What a machine is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// A master.
    Master,
    /// A worker.
    Worker,
}
