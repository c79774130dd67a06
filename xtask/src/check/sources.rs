//! What every source file has to keep: a header, a size, no switched-off test.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;

use super::verdict;
use crate::repo;
use crate::tally::Outcome;

/// A file longer than this holds more than one thing.
const LINES_MAX: usize = 600;

/// Every source file opens with `//!`, is of a size that one can read, and switches no test off.
pub(super) fn check() -> Result<Outcome> {
    let mut problems = Vec::new();
    for file in repo::files(".rs")? {
        let text = fs::read_to_string(repo::root().join(&file))
            .with_context(|| format!("read {}", file.display()))?;
        problems.extend(problems_of(&file, &text));
    }
    Ok(verdict(&problems))
}

fn problems_of(file: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = file.display();
    // Fuzz targets begin with an attribute that rustc wants first.
    let first = text.lines().find(|line| !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        problems.push(format!(
            "{name}: does not open with //! and what the file owns"
        ));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems.push(format!("{name}: {lines} lines, at most {LINES_MAX}"));
    }
    let switched_off = |line: &str| {
        let line = line.trim_start();
        line.starts_with("#[ignore") || line.starts_with("todo!") || line.starts_with("#[allow(")
    };
    for (number, line) in (1..)
        .zip(text.lines())
        .filter(|(_, line)| switched_off(line))
    {
        problems.push(format!("{name}:{number}: {}", line.trim()));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_header_a_long_file_and_an_ignored_test_are_found() {
        let problems = |text: &str| problems_of(Path::new("a.rs"), text).len();
        assert_eq!(problems("//! Owns a.\nfn a() {}\n"), 0);
        assert_eq!(problems("fn a() {}\n"), 1);
        assert_eq!(
            problems(&format!("//! Owns a.\n{}", "\n".repeat(LINES_MAX))),
            1
        );
        assert_eq!(problems("//! Owns a.\n    #[ignore = \"slow\"]\n"), 1);
    }
}
