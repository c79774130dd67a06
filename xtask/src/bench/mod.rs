//! `cargo xtask bench`: our times against other people's tools on the same bytes, side by side in one run, as ratios.
//!
//! Ours and theirs take turns, so that whatever else the machine does hits both. Nothing here is a test: a figure that
//! misses its aim is said, and the command still ends well.

mod building;
mod by_hand;
mod cluster;
mod importing;
mod machine;
mod measure;
mod receiving;
mod table;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use anyhow::ensure;
use clap::Args;
use clap::ValueEnum;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::real_parts;
use tests::registry::EmbeddedRegistry;
use tests::vendor::Vendor;

use self::table::Table;
use crate::release::ProgramsArguments;
use crate::repo;
use crate::say;

/// What `cargo xtask bench` was asked for.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// A quarter of the bytes and fewer rounds: minutes instead of a quarter of an hour.
    #[arg(long)]
    quick: bool,
    /// Only these measurements.
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    #[command(flatten)]
    programs: ProgramsArguments,
}

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From a registry to one file.
    Build,
    /// From one file to a store.
    Import,
    /// From one store to others.
    Receive,
    /// From one signed file to three masters and a worker; needs root, and is measured only when asked for.
    Cluster,
}

/// What every measurement needs.
struct Bench {
    folder: tempfile::TempDir,
    corpus: Corpus,
    registry: EmbeddedRegistry,
    vendor: Vendor,
    rounds: usize,
    table: Table,
}

/// Builds the programs, measures, and prints the table.
pub(crate) fn run(arguments: &BenchArguments) -> Result<bool> {
    arguments.programs.settle()?;
    if arguments.parts == [Part::Cluster] {
        let mut table = Table::default();
        cluster::run(if arguments.quick { 1 } else { 3 }, &mut table)?;
        say!("\n{}\n\n{table}", machine::description()?);
        return Ok(true);
    }
    say!("other people's programs: {}", real_parts::install()?);
    let (bytes, rounds) = if arguments.quick {
        (256 << 20, 3)
    } else {
        (1 << 30, 5)
    };
    let mut bench = Bench::set(bytes, rounds)?;
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if wanted(Part::Build) {
        bench.building()?;
    } else {
        bench.build()?;
    }
    if wanted(Part::Import) {
        bench.importing()?;
    }
    if wanted(Part::Receive) {
        bench.receiving()?;
    }
    if arguments.parts.contains(&Part::Cluster) {
        cluster::run(rounds, &mut bench.table)?;
    }
    say!("\n{}", machine::description()?);
    say!(
        "corpus: {} images, {} blobs, {} MB; {rounds} rounds, medians, (least to most)\n",
        bench.corpus.images.len(),
        bench.corpus.amd64_blobs().len(),
        bench.corpus.amd64_bytes() / 1_000_000
    );
    say!("{}", bench.table);
    Ok(true)
}

impl Bench {
    fn set(bytes: u64, rounds: usize) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(repo::target())?;
        let corpus = Corpus::make(
            &CorpusPlan::of_bytes(1, bytes),
            &folder.path().join("images"),
        )?;
        let registry = EmbeddedRegistry::start(&corpus.layout, &[])?;
        let vendor = Vendor::create(&folder.path().join("vendor"))?;
        Ok(Self {
            folder,
            corpus,
            registry,
            vendor,
            rounds,
            table: Table::default(),
        })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// `url` and `output` lines that make curl fetch every blob from the registry into a folder.
    fn curl_config(&self, into: &Path) -> Result<String> {
        let mut config = String::new();
        let mut seen = std::collections::BTreeSet::new();
        for image in &self.corpus.images {
            for digest in image.amd64.iter().filter(|digest| **digest != image.digest) {
                if seen.insert(*digest) {
                    let address = self.registry.address();
                    let (repository, hex) = (&image.repository, digest.to_hex());
                    writeln!(
                        config,
                        "url = \"http://{address}/v2/{repository}/blobs/{digest}\"\noutput = \"{}/{hex}\"",
                        into.display()
                    )?;
                }
            }
        }
        ensure!(!config.is_empty(), "no blobs to fetch");
        Ok(config)
    }
}
