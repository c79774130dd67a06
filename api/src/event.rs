//! What a program tells while it works. One stream of events feeds terminal, `--json` and console.
//!
//! Rendering lives in the programs. An event carries figures, never prepared lines, so that each place shows them its
//! own way; foreign text in it is escaped where it is shown.

use serde::Deserialize;
use serde::Serialize;

/// One thing that happened. As JSON: one line, told apart by `event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step began.
    Started {
        /// Its name: `fetch`, `write`, `sign`, `verify`, `import`.
        step: String,
        /// How much it has to do, where that is known.
        total: Option<Amount>,
    },
    /// A step went on. Comes often; only the newest matters.
    Progress {
        /// The step.
        step: String,
        /// What is done of it.
        done: Amount,
    },
    /// A step is done.
    Done {
        /// The step.
        step: String,
        /// What came of it, one line.
        summary: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// Something to know that stops nothing.
    Warning {
        /// A stable code.
        code: String,
        /// One sentence.
        message: String,
    },
}

/// How much: bytes, and the things that they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Images, blobs or pieces.
    pub items: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Event {
    /// One line of JSON without the line feed.
    pub fn to_json(&self) -> String {
        // Only strings and integers are inside: writing them can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_names_itself() {
        let event = Event::Progress {
            step: "fetch\n".to_owned(),
            done: Amount { items: 3, bytes: 9 },
        };
        assert_eq!(
            event.to_json(),
            r#"{"event":"progress","step":"fetch\n","done":{"items":3,"bytes":9}}"#
        );
    }
}
