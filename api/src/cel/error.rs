//! Why an expression has no value.
//!
//! `Display` says what cel-go says. Never says whose rule it was: that is the caller's sentence.

use std::cell::Cell;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What cel-go says about the values at hand.
    #[error("{0}")]
    Said(Box<str>),
    /// No code for arguments of these types.
    #[error("no such overload")]
    NoSuchOverload,
    /// The expression alone costs more than one may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CallLimit,
    /// The expressions of this round together cost more than they may.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    Budget,
    /// Somebody asked to stop.
    #[error("operation interrupted")]
    Interrupted,
}

/// A value, or why there is none.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub(crate) fn said(message: impl Into<String>) -> Fault {
        Fault::Said(message.into().into())
    }

    /// The evaluation is over, whatever the rest of the expression is.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Fault::CallLimit | Fault::Budget | Fault::Interrupted)
    }
}

/// Steps inside of single operations that cost does not count; when it is used up, the expression is stopped.
#[derive(Debug)]
pub struct Fuel(Cell<u64>);

impl Default for Fuel {
    fn default() -> Fuel {
        Fuel(Cell::new(MOST_STEPS))
    }
}

/// Some tenths of a second.
const MOST_STEPS: u64 = 10_000_000;

impl Fuel {
    /// Takes steps.
    ///
    /// # Errors
    /// When there are not as many left.
    pub fn burn(&self, steps: u64) -> Outcome<()> {
        let left = self.0.get().checked_sub(steps).ok_or(Fault::CallLimit)?;
        self.0.set(left);
        Ok(())
    }
}
