//! A registry on loopback: the endpoint that syncd serves images with, over an OCI layout directory.
//!
//! It prints its address, and ends when its standard input does: it can't outlive whoever started it.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use clap::Parser;
use clap::ValueEnum;
use syncd::images::Access;
use syncd::images::Conditions;
use syncd::images::Embedded;
use syncd::images::LayoutSource;

/// Serve an OCI layout directory as a registry on 127.0.0.1 until standard input ends.
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory that holds `oci-layout`.
    layout: PathBuf,
    /// What passes before each answer begins, in milliseconds.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// What all answers together get.
    #[arg(long)]
    bytes_per_second: Option<NonZeroU64>,
    /// How whoever pulls has to show who he is.
    #[arg(long, value_enum, default_value = "open")]
    access: Door,
    /// The name that opens the door.
    #[arg(long, default_value = "puller")]
    user: String,
    /// And its password.
    #[arg(long, default_value = "open sesame")]
    password: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Door {
    Open,
    Basic,
    Bearer,
}

fn main() -> Result<()> {
    let Arguments {
        layout,
        latency_ms,
        bytes_per_second,
        access,
        user,
        password,
    } = Arguments::parse();
    let source = LayoutSource::open(&layout).with_context(|| layout.display().to_string())?;
    let access = match access {
        Door::Open => Access::Open,
        Door::Basic => Access::Basic { user, password },
        Door::Bearer => Access::Bearer { user, password },
    };
    let latency = Duration::from_millis(latency_ms);
    let registry = Embedded::start(
        source,
        Conditions {
            latency,
            bytes_per_second,
            access,
        },
    )?;
    writeln!(io::stdout().lock(), "{}", registry.address())?;
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}
