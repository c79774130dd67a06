//! The one error type of commands: any [`Fault`], kept whole for the report at the edge.

use std::fmt;

use bundle::fault::Fault;

/// Why a command failed.
pub struct Failure(Box<dyn Fault + Send + Sync>);

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// The error itself.
    pub fn fault(&self) -> &dyn Fault {
        &*self.0
    }
}

impl<F: Fault + Send + Sync + 'static> From<F> for Failure {
    fn from(fault: F) -> Self {
        Self(Box::new(fault))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.0.code(), self.0)
    }
}
