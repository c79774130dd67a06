//! Documents that agree with the code and with each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;

use super::verdict;
use crate::command;
use crate::repo;
use crate::tally::Outcome;

/// The table of all error codes.
const CODES: &str = "docs/errors.md";

/// `cargo doc` has nothing to complain about.
pub(super) fn rustdoc() -> Result<Outcome> {
    let mut cargo = command::cargo();
    cargo.args([
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    command::run(cargo)?;
    Ok(Outcome::Passed)
}

/// Every relative link in a Markdown file leads to a file.
pub(super) fn links() -> Result<Outcome> {
    let mut problems = Vec::new();
    for file in repo::files(".md")? {
        let text = read(&file)?;
        let folder = repo::root().join(&file);
        let folder = folder.parent().context("a file has a folder")?;
        for target in relative_links(&text) {
            if !folder.join(target).exists() {
                problems.push(format!("{}: no such file: {target}", file.display()));
            }
        }
    }
    Ok(verdict(&problems))
}

/// Targets of `](…)` that are paths, without their anchors.
fn relative_links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let paths = targets.filter_map(|target| target.split('#').next());
    paths
        .filter(|path| !path.is_empty() && !path.contains("://") && !path.contains(' '))
        .collect()
}

/// `docs/errors.md` has a row for each code that the programs can give, and no other.
pub(super) fn codes() -> Result<Outcome> {
    let documented = documented_codes(&read(Path::new(CODES))?);
    let mut in_code = BTreeSet::new();
    for file in repo::files(".rs")? {
        let ours = [
            "bundle",
            "api",
            "store",
            "program",
            "bundler",
            "installer",
            "syncd",
        ];
        if ours
            .iter()
            .any(|folder| file.starts_with(Path::new(folder).join("src")))
        {
            in_code.extend(codes_in(&read(&file)?));
        }
    }
    let mut problems = Vec::new();
    for code in in_code.difference(&documented) {
        problems.push(format!("{CODES} has no row for {code}"));
    }
    for code in documented.difference(&in_code) {
        problems.push(format!("{CODES} has {code}, which no program gives"));
    }
    Ok(verdict(&problems))
}

/// Codes in the first column of the tables.
fn documented_codes(text: &str) -> BTreeSet<String> {
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells
        .filter(|cell| is_code(cell))
        .map(str::to_owned)
        .collect()
}

/// Codes in a source file: string literals of their form in the bodies of `fn code`.
fn codes_in(text: &str) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for body in text.split("fn code(").skip(1) {
        let body = body.split("\n    }\n").next().unwrap_or_default();
        let literals = body.split('"').skip(1).step_by(2);
        codes.extend(
            literals
                .filter(|literal| is_code(literal))
                .map(str::to_owned),
        );
    }
    codes
}

/// `AREA_WHAT`.
fn is_code(text: &str) -> bool {
    let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    text.contains('_') && text.bytes().all(capital)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(repo::root().join(file)).with_context(|| format!("read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found_and_others_left_alone() {
        let text = "[a](docs/a.md#part) [b](https://b.example/x) [c](#here) [d](../d.md)";
        assert_eq!(relative_links(text), ["docs/a.md", "../d.md"]);
    }

    #[test]
    fn codes_are_read_from_code_and_from_the_table() {
        let code = "    fn code(&self) -> &'static str {\n        match self {\n            A => \"DISK_FULL\",\n        }\n    }\n\nconst X: &str = \"NOT_ONE\";";
        assert_eq!(
            codes_in(code).into_iter().collect::<Vec<_>>(),
            ["DISK_FULL"]
        );
        let table = "| code | means |\n|---|---|\n| `DISK_FULL` | no room for `THAT_ONE` |\n";
        assert_eq!(
            documented_codes(table).into_iter().collect::<Vec<_>>(),
            ["DISK_FULL"]
        );
    }
}
