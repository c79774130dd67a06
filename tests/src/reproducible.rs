//! Two builds of one release, as different as two machines, must give the same bytes.

use std::fs;
use std::path::Path;

use anyhow::Result;
use anyhow::ensure;
use bundle::Digest;

use crate::corpus::Corpus;
use crate::corpus::CorpusPlan;
use crate::process;
use crate::vendor::Release;
use crate::vendor::Source;
use crate::vendor::Vendor;

/// How one of the builds is made.
struct Circumstances {
    folder: &'static str,
    umask: &'static str,
    time_zone: &'static str,
    locale: &'static str,
    concurrency: &'static str,
}

const ONE: Circumstances = Circumstances {
    folder: "here",
    umask: "022",
    time_zone: "UTC",
    locale: "C",
    concurrency: "1",
};

const OTHER: Circumstances = Circumstances {
    folder: "somewhere/else entirely",
    umask: "077",
    time_zone: "Pacific/Chatham",
    locale: "tr_TR.UTF-8",
    concurrency: "8",
};

/// Builds twice and compares; gives the digest of both.
pub fn check() -> Result<Digest> {
    let scratch = tempfile::tempdir()?;
    let corpus = Corpus::make(
        &CorpusPlan::of_bytes(71, 12 << 20),
        &scratch.path().join("images"),
    )?;
    let vendor = Vendor::create(&scratch.path().join("vendor"))?;
    let one = build(&vendor, &corpus, scratch.path(), &ONE)?;
    let other = build(&vendor, &corpus, scratch.path(), &OTHER)?;
    ensure!(
        one == other,
        "two builds of one release differ: {one} and {other}"
    );
    Ok(one)
}

fn build(vendor: &Vendor, corpus: &Corpus, scratch: &Path, how: &Circumstances) -> Result<Digest> {
    let folder = scratch.join(how.folder);
    fs::create_dir_all(&folder)?;
    let release = Release::of(corpus, Source::Layout(corpus.layout.clone()));
    let file = vendor.write_release(&release)?;
    fs::copy(vendor.path(&file), folder.join("sealift.yaml"))?;
    let key = vendor.path("keys/shop.key").display().to_string();
    let root = vendor.root().display().to_string();
    let cache = folder.join("cache").display().to_string();
    let bundler = vendor.bundler(&[
        "build",
        "--output",
        "out.airgap",
        "--key",
        &key,
        "--root",
        &root,
        "--cache-dir",
        &cache,
        "--concurrency",
        how.concurrency,
    ])?;
    // The umask is set by the shell that then becomes the bundler.
    let script = format!("umask {} && exec \"$@\"", how.umask);
    let mut shell = process::command("sh", ["-c", &script, "sh"]);
    shell.arg(bundler.get_program()).args(bundler.get_args());
    for (name, value) in bundler.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
        .current_dir(&folder)
        .env("TZ", how.time_zone)
        .env("LC_ALL", how.locale);
    process::run(&mut shell)?.succeeded()?;
    Ok(Digest::of(&fs::read(folder.join("out.airgap"))?))
}
