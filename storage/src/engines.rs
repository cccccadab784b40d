//! The table of engines: one line each. `--storage=NAME:REST` picks one.

use std::sync::Arc;

use crate::embedded::Embedded;
use crate::kv::{Kv, KvError};
use crate::sim::{Faults, Sim};

/// An engine as flags name it.
#[derive(Debug)]
pub struct Engine {
    /// What stands before the colon.
    pub name: &'static str,
    /// What stands after it, for help texts.
    pub argument: &'static str,
    /// One sentence for help texts.
    pub about: &'static str,
    /// Opens it.
    pub open: fn(argument: &str) -> Result<Arc<dyn Kv>, KvError>,
}

/// Every engine of this build.
#[rustfmt::skip]
pub static ENGINES: &[Engine] = &[
    Engine { name: "embedded", argument: "PATH", about: "files in a local directory", open: |path| Ok(Arc::new(Embedded::open(path, &Default::default())?)) },
    Engine { name: "sim", argument: "SEED", about: "in memory, for tests; nothing is kept", open: |seed| Ok(Arc::new(Sim::new(seed.parse().map_err(|_| KvError::Misuse("sim takes a number"))?, Faults::NONE))) },
];

/// Opens the engine that `spec` names, like `embedded:/var/lib/ironkeel`.
///
/// # Errors
/// `Unavailable` when no engine has the name or the argument is missing, and what the engine's own open says.
pub fn open(spec: &str) -> Result<Arc<dyn Kv>, KvError> {
    let known = || ENGINES.iter().map(|e| format!("{}:{}", e.name, e.argument)).collect::<Vec<_>>().join(", ");
    let refuse = || KvError::Unavailable(format!("{spec:?} names no storage; known are {}", known()));
    let (name, argument) = spec.split_once(':').ok_or_else(refuse)?;
    let engine = ENGINES.iter().find(|e| e.name == name).ok_or_else(refuse)?;
    if argument.is_empty() {
        return Err(refuse());
    }
    (engine.open)(argument)
}
