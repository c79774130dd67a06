//! Everything that kept images from being fetched, all of it at once.

use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;

use crate::source::SourceError;

/// One or more problems; code, blame and hint are those of the first.
#[derive(Debug)]
pub struct FetchError {
    first: Box<SourceError>,
    others: Vec<SourceError>,
}

impl FetchError {
    /// Fails when there are problems.
    pub(super) fn check(problems: Vec<SourceError>) -> Result<(), Self> {
        let mut problems = problems.into_iter();
        match problems.next() {
            None => Ok(()),
            Some(first) => Err(Self {
                first: Box::new(first),
                others: problems.collect(),
            }),
        }
    }

    /// Every problem.
    pub fn problems(&self) -> impl Iterator<Item = &SourceError> {
        std::iter::once(&*self.first).chain(&self.others)
    }
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.first, out)
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.first.source()
    }
}

impl<E: Into<SourceError>> From<E> for FetchError {
    fn from(error: E) -> Self {
        Self {
            first: Box::new(error.into()),
            others: Vec::new(),
        }
    }
}

impl Fault for FetchError {
    fn code(&self) -> &'static str {
        self.first.code()
    }

    fn blame(&self) -> Blame {
        self.first.blame()
    }

    fn facts(&self) -> Vec<Fact> {
        let also = self.others.iter().map(|error| Fact::new("also", error));
        self.first.facts().into_iter().chain(also).collect()
    }

    fn hint(&self) -> Option<String> {
        self.first.hint()
    }
}
