//! One error, told to a person or to a program.
//!
//! ```text
//! error[BUNDLE_ROLLBACK]: this bundle is older than what the site has accepted
//!   bundle   acme/shop 1.3.0, sequence 40
//!   site     acme/shop 1.4.0, sequence 42 (accepted on m1)
//! Nothing was changed.
//! help: a downgrade needs a permit signed by the vendor:  installer import permit.json
//! ```
//!
//! Every text that an error carries may come from an attacker, so whatever could move the cursor, change the order of
//! what is read, or hide a word is written as `\u{…}`.

use std::fmt;
use std::fmt::Write as _;

use bundle::fault::Fault;
use serde::Serialize;

use crate::exit;

/// Whether the operation that failed had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It left everything as it was; the report says so.
    None,
    /// It may have done a part, which a rerun finishes.
    Some,
}

/// One error, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    code: &'static str,
    blame: &'static str,
    exit_code: u8,
    message: String,
    facts: Vec<ReportFact>,
    causes: Vec<String>,
    nothing_changed: bool,
    help: Option<String>,
}

/// A label and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ReportFact {
    label: &'static str,
    value: String,
}

/// How deep a chain of causes is told.
const CAUSES_MAX: usize = 8;

impl Report {
    /// Takes down an error and what it left behind.
    pub fn of(fault: &dyn Fault, effect: Effect) -> Self {
        let facts = fault.facts().into_iter().map(|fact| ReportFact {
            label: fact.label,
            value: fact.value,
        });
        Self {
            code: fault.code(),
            blame: exit::word(fault.blame()),
            exit_code: exit::code(fault.blame()),
            message: fault.to_string(),
            facts: facts.collect(),
            causes: causes(fault),
            nothing_changed: effect == Effect::None,
            help: fault.hint(),
        }
    }

    /// The exit code of a program that ends with this error.
    pub const fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// One line of JSON without the line feed: what `--json` writes.
    pub fn to_json(&self) -> String {
        // No map with foreign keys and no float is inside, so there is nothing that could fail to be written.
        let line = serde_json::to_string(self).unwrap_or_default();
        format!(r#"{{"error":{line}}}"#)
    }
}

/// The human text: several lines, the last one ended.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "error[{}]: {}", self.code, escape(&self.message))?;
        let causes = self.causes.iter().map(|cause| ("cause", cause.as_str()));
        let facts: Vec<_> = self
            .facts
            .iter()
            .map(|fact| (fact.label, fact.value.as_str()))
            .chain(causes)
            .collect();
        let width = facts
            .iter()
            .map(|(label, _)| label.len())
            .max()
            .unwrap_or(0);
        for (label, value) in facts {
            for (number, line) in value.lines().enumerate() {
                let label = if number == 0 { label } else { "" };
                writeln!(out, "  {label:width$}   {}", escape(line))?;
            }
        }
        if self.nothing_changed {
            writeln!(out, "Nothing was changed.")?;
        }
        if let Some(help) = &self.help {
            writeln!(out, "help: {}", escape(help))?;
        }
        Ok(())
    }
}

fn causes(fault: &dyn Fault) -> Vec<String> {
    let mut told = fault.to_string();
    let mut causes = Vec::new();
    let mut next = fault.source();
    while let Some(cause) = next.filter(|_| causes.len() < CAUSES_MAX) {
        let text = cause.to_string();
        // An error that already quotes its cause does not tell it twice.
        if !told.contains(&text) {
            causes.push(text.clone());
        }
        told = text;
        next = cause.source();
    }
    causes
}

/// Makes foreign text safe to print on one line: control, bidi, invisible and line-breaking characters are written out.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_unsafe(letter) {
            // Writing to a String can't fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(letter));
        } else {
            safe.push(letter);
        }
    }
    safe
}

fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' // soft hyphen
            | '\u{61c}' // Arabic letter mark
            | '\u{180e}' // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}' // zero width, direction marks
            | '\u{2028}'..='\u{202e}' // line and paragraph separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}' // invisible operators, isolates
            | '\u{feff}' // byte order mark
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e007f}' // tags
        )
}

#[cfg(test)]
mod tests {
    use bundle::fault::Blame;
    use bundle::fault::Fact;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("this bundle is older than what the site has accepted")]
    struct Rollback {
        channel: &'static str,
        source: Option<std::io::Error>,
    }

    impl Fault for Rollback {
        fn code(&self) -> &'static str {
            "BUNDLE_ROLLBACK"
        }

        fn blame(&self) -> Blame {
            Blame::Policy
        }

        fn facts(&self) -> Vec<Fact> {
            vec![
                Fact::new(
                    "bundle",
                    format!("acme/shop 1.3.0 {}, sequence 40", self.channel),
                ),
                Fact::new(
                    "site",
                    "acme/shop 1.4.0 stable, sequence 42\naccepted on m1",
                ),
            ]
        }

        fn hint(&self) -> Option<String> {
            Some("a downgrade needs a permit signed by the vendor".to_owned())
        }
    }

    fn rollback(channel: &'static str) -> Rollback {
        Rollback {
            channel,
            source: None,
        }
    }

    #[test]
    fn a_refusal_has_the_shape_of_all_refusals() {
        insta::assert_snapshot!(Report::of(&rollback("stable"), Effect::None), @r"
        error[BUNDLE_ROLLBACK]: this bundle is older than what the site has accepted
          bundle   acme/shop 1.3.0 stable, sequence 40
          site     acme/shop 1.4.0 stable, sequence 42
                   accepted on m1
        Nothing was changed.
        help: a downgrade needs a permit signed by the vendor
        ");
    }

    #[test]
    fn a_half_done_step_does_not_say_that_nothing_was_changed() {
        let text = Report::of(&rollback("stable"), Effect::Some).to_string();
        assert!(!text.contains("Nothing was changed"), "{text}");
    }

    #[test]
    fn the_cause_stands_among_the_facts() {
        let fault = Rollback {
            channel: "stable",
            source: Some(std::io::Error::other("state.json is damaged")),
        };
        insta::assert_snapshot!(Report::of(&fault, Effect::Some), @r"
        error[BUNDLE_ROLLBACK]: this bundle is older than what the site has accepted
          bundle   acme/shop 1.3.0 stable, sequence 40
          site     acme/shop 1.4.0 stable, sequence 42
                   accepted on m1
          cause    state.json is damaged
        help: a downgrade needs a permit signed by the vendor
        ");
    }

    #[test]
    fn json_holds_the_same_facts() {
        insta::assert_snapshot!(Report::of(&rollback("stable"), Effect::None).to_json(), @r#"{"error":{"code":"BUNDLE_ROLLBACK","blame":"policy","exit_code":4,"message":"this bundle is older than what the site has accepted","facts":[{"label":"bundle","value":"acme/shop 1.3.0 stable, sequence 40"},{"label":"site","value":"acme/shop 1.4.0 stable, sequence 42\naccepted on m1"}],"causes":[],"nothing_changed":true,"help":"a downgrade needs a permit signed by the vendor"}}"#);
    }

    #[test]
    fn foreign_text_can_not_steer_a_terminal_or_turn_a_line_around() {
        let text = Report::of(
            &rollback("\u{1b}[2J\u{202e}elbats\r\u{9b}1m\u{200b}"),
            Effect::None,
        )
        .to_string();
        assert!(
            text.contains(r"\u{1b}[2J\u{202e}elbats\u{d}\u{9b}1m\u{200b}"),
            "{text}"
        );
        assert!(
            text.chars()
                .all(|letter| letter == '\n' || !is_unsafe(letter))
        );
    }

    #[test]
    fn a_forged_line_can_not_pose_as_one_of_ours() {
        let text = Report::of(&rollback("x\nNothing was changed."), Effect::Some).to_string();
        assert!(
            !text.lines().any(|line| line.starts_with("Nothing")),
            "{text}"
        );
    }
}
