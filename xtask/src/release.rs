//! The programs as they ship: optimised, static files that run on any distribution.
//!
//! `demo` and `bench` run the very files that `dist` hands out.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use clap::Args;
use tests::programs;
use tests::programs::Program;

use crate::command;
use crate::repo;
use crate::say;

/// The program header of an ELF file that names its loader.
const PT_INTERP: usize = 3;

/// Programs that ship; the harness's registry does not.
pub(crate) const SHIPPED: [Program; 3] = [Program::Bundler, Program::Installer, Program::Syncd];

/// Which programs `demo` and `bench` run.
#[derive(Debug, Args)]
pub(crate) struct ProgramsArguments {
    /// Run the programs of this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

impl ProgramsArguments {
    /// Tells the harness which programs to run, after building them where none are given.
    pub(crate) fn settle(&self) -> Result<()> {
        match &self.programs {
            Some(folder) => programs::are_in(&folder.canonicalize().context("no such folder")?),
            None => programs::are_in(&build()?),
        }
        Ok(())
    }
}

/// Builds all programs and gives their folder.
pub(crate) fn build() -> Result<PathBuf> {
    let started = Instant::now();
    let triple = host_triple()?;
    let mut cargo = command::cargo();
    // Static only with --target: without it, the flag would also hit procedural macros, which can't be static.
    cargo.args(["build", "--release", "--target", &triple]);
    for program in Program::ALL {
        let (package, file) = program.package_and_file();
        cargo.args(["--package", package, "--bin", file]);
    }
    // The clone's path stays out of the files, so that two clones give the same.
    let remap = format!("--remap-path-prefix={}=sealift", repo::root().display());
    cargo.env(
        "CARGO_ENCODED_RUSTFLAGS",
        format!("-Ctarget-feature=+crt-static\x1f{remap}"),
    );
    cargo.env_remove("RUSTFLAGS");
    cargo.env_remove("CARGO_TERM_COLOR");
    let status = cargo.status().context("start cargo")?;
    ensure!(status.success(), "the release build failed");
    let folder = repo::target().join(triple).join("release");
    say!(
        "built the programs in {:.0} s: {}",
        started.elapsed().as_secs_f64(),
        folder.display()
    );
    Ok(folder)
}

fn host_triple() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = command::output(rustc, &["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

/// Whether a program needs no loader and no library of the machine: an ELF file without `PT_INTERP`.
pub(crate) fn is_static(program: &Path) -> Result<bool> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    let field = |at: usize, size: usize| -> Result<usize> {
        let bytes = bytes
            .get(at..at + size)
            .context("the file is too short for ELF")?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 8) | usize::from(*byte)))
    };
    ensure!(
        bytes.starts_with(b"\x7fELF\x02\x01"),
        "{} is no 64-bit ELF file",
        program.display()
    );
    // Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56; Elf64_Phdr: p_type at 0.
    let (table, size, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
    let kinds = (0..count).map(|index| field(table + index * size, 4));
    let kinds: Vec<usize> = kinds.collect::<Result<_>>()?;
    Ok(!kinds.contains(&PT_INTERP))
}
