//! The one error type of commands: any [`Fault`], kept whole for the report at the edge.

use std::fmt;

use api::report::Effect;
use bundle::fault::Fault;

/// Why a command failed, and whether it left something behind.
pub struct Failure {
    fault: Box<dyn Fault + Send + Sync>,
    effect: Effect,
}

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Takes an error of work that may have done a part already, which a rerun finishes.
    pub fn partial(fault: impl Fault + Send + Sync + 'static) -> Self {
        Self {
            fault: Box::new(fault),
            effect: Effect::Some,
        }
    }

    /// The same failure, of work that may have done a part already.
    #[must_use]
    pub fn into_partial(self) -> Self {
        Self {
            effect: Effect::Some,
            ..self
        }
    }

    /// The error itself.
    pub fn fault(&self) -> &dyn Fault {
        &*self.fault
    }

    /// Whether it may have had an effect.
    pub const fn effect(&self) -> Effect {
        self.effect
    }
}

/// Takes an error that left everything as it was.
impl<F: Fault + Send + Sync + 'static> From<F> for Failure {
    fn from(fault: F) -> Self {
        Self {
            fault: Box::new(fault),
            effect: Effect::None,
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.fault.code(), self.fault)
    }
}
