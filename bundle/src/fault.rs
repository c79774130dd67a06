//! What every error of the project can tell about itself, so that people and programs get the same answer everywhere.

/// Something to tell beside an error's one sentence: a label and the value it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What the value is of, one or two lower-case words: `bundle`, `site`, `need`, `have`.
    pub label: &'static str,
    /// The value, untrusted text not yet escaped.
    pub value: String,
}

impl Fact {
    /// Pairs a label with a value.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers write the value that they have at hand"
    )]
    pub fn new(label: &'static str, value: impl ToString) -> Self {
        Self {
            label,
            value: value.to_string(),
        }
    }
}

/// Whose fault an error is; decides the exit code and whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What was given is wrong or not trusted: the same input will be refused again.
    Input,
    /// A rule of the site or the license says no.
    Policy,
    /// The machine: disk, memory, permission, a program that is missing.
    Machine,
    /// The network or a peer: trying again may help.
    Network,
    /// A command line or a configuration file that can't be followed.
    Usage,
    /// A defect in Sealift.
    Bug,
}

/// An error with a stable code, its values, and the next step.
///
/// `Display` is one sentence in lower case without a full stop that names the object; the cause is in `source()`.
pub trait Fault: std::error::Error {
    /// The stable code, `AREA_WHAT` in capitals. It never changes its meaning.
    fn code(&self) -> &'static str;

    /// Whose fault it is.
    fn blame(&self) -> Blame;

    /// The values to compare, most telling first.
    fn facts(&self) -> Vec<Fact> {
        Vec::new()
    }

    /// What to do next, as an imperative sentence or a command.
    fn hint(&self) -> Option<String> {
        None
    }
}
