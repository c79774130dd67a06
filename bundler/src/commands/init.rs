//! `bundler init`: a release file to start from, and a .gitignore that keeps secret keys out of git.

use std::path::Path;

use bundle::name::Name;

use crate::cli::InitArgs;
use crate::durable;
use crate::failure::Outcome;
use crate::output::Output;

const RELEASE: &str = include_str!("init/sealift.yaml");
const GITIGNORE: &str = include_str!("init/gitignore");

/// Writes the two files; neither may exist.
pub(super) fn run(arguments: &InitArgs, output: &Output) -> Outcome {
    let release = render(&arguments.vendor, &arguments.product);
    let folder = &arguments.folder;
    write(&folder.join("sealift.yaml"), &release, output)?;
    let ignore = folder.join(".gitignore");
    if ignore.exists() {
        output.note(".gitignore is there already: make sure that it has *.key");
    } else {
        write(&ignore, GITIGNORE, output)?;
    }
    output.result(
        &serde_json::json!({"release": folder.join("sealift.yaml")}),
        |out| out.line("next: edit sealift.yaml, then  bundler key new --help  and  bundler root init --help"),
    )
}

fn render(vendor: &Name, product: &Name) -> String {
    RELEASE
        .replace("@VENDOR@", vendor.as_str())
        .replace("@PRODUCT@", product.as_str())
}

fn write(path: &Path, text: &str, output: &Output) -> Outcome {
    durable::write_new(path, text.as_bytes(), 0o644)?;
    output.note(format!("wrote {}", path.display()));
    Ok(())
}
