//! What can be wrong with a configuration.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

use super::DEFAULT_FILE;

/// A configuration that can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration {} can't be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of another type.
    #[error("the configuration {} can't be understood", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line and column, where the parser knows them.
        place: Option<(usize, usize)>,
        /// The parser's sentence.
        message: String,
    },
    /// Values are missing or contradict each other.
    #[error("the configuration has {}", count(problems.len()))]
    Values {
        /// One sentence each, beginning with the key.
        problems: Vec<String>,
    },
}

impl ConfigError {
    /// Takes over what the TOML parser says, with the place as people count it.
    pub(super) fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let place = error.span().and_then(|span| {
            let before = text.get(..span.start)?;
            let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
            let column = before.get(line_start..)?.chars().count().saturating_add(1);
            Some((before.matches('\n').count().saturating_add(1), column))
        });
        Self::Syntax {
            file: file.to_owned(),
            place,
            message: error.message().to_owned(),
        }
    }
}

impl Fault for ConfigError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "CONFIG_UNREADABLE",
            Self::Syntax { .. } => "CONFIG_SYNTAX",
            Self::Values { .. } => "CONFIG_VALUE",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Usage
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Unreadable { .. } => Vec::new(),
            Self::Syntax { place, message, .. } => {
                let place = place
                    .map(|(line, column)| Fact::new("at", format!("line {line}, column {column}")));
                place
                    .into_iter()
                    .chain([Fact::new("problem", message)])
                    .collect()
            }
            Self::Values { problems } => problems
                .iter()
                .map(|problem| Fact::new("problem", problem))
                .collect(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => {
                format!("name the file with --config; without it {DEFAULT_FILE} is used")
            }
            Self::Syntax { .. } => {
                "syncd run --help lists every key: a flag --full-pass is the key full-pass"
                    .to_owned()
            }
            Self::Values { .. } => {
                "set it in the file, as a flag, or as SEALIFT_<KEY> in the environment".to_owned()
            }
        })
    }
}

fn count(problems: usize) -> String {
    match problems {
        1 => "a problem".to_owned(),
        many => format!("{many} problems"),
    }
}
