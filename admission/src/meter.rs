//! How long plugins take, told to whoever wants to know. Never keeps a figure.

use crate::plugin::{Operation, Refusal};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The two passes of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Plugins may change the object.
    Admit,
    /// They may refuse it.
    Validate,
}

/// What ran, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The plugin's place among those that are on; none for a pass as a whole.
    pub plugin: Option<usize>,
    /// In which pass.
    pub step: Step,
    /// For which operation.
    pub operation: Operation,
    /// It refused.
    pub rejected: bool,
}

/// Is told of each plugin that was asked, and of each pass.
pub trait Meter: Send + Sync {
    /// This took so long.
    fn took(&self, ran: Ran, time: Duration);
}

/// Waits for it, and tells the meter how long it took.
pub(crate) async fn metered<T>(
    meter: Option<&Arc<dyn Meter>>,
    (plugin, step, operation): (Option<usize>, Step, Operation),
    what: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let Some(meter) = meter else { return what.await };
    let begin = Instant::now();
    let done = what.await;
    meter.took(Ran { plugin, step, operation, rejected: done.is_err() }, begin.elapsed());
    done
}
