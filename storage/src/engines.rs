//! The table of engines: one line each. `--storage=NAME:REST` picks one.

use std::sync::Arc;

use crate::embedded::Embedded;
use crate::kv::{Kv, KvError};
use crate::sim::{Faults, Sim};

/// Opens an engine: what stands after the colon, and options by name.
pub type Open = fn(argument: &str, options: &[(&str, &str)]) -> Result<Arc<dyn Kv>, KvError>;

/// An engine as flags name it.
#[derive(Debug)]
pub struct Engine {
    /// What stands before the colon.
    pub name: &'static str,
    /// What stands after it, for help texts.
    pub argument: &'static str,
    /// One sentence for help texts.
    pub about: &'static str,
    /// Its options with their meanings, for help texts.
    pub options: &'static [(&'static str, &'static str)],
    /// Opens it.
    pub open: Open,
}

/// Every engine of this build.
#[rustfmt::skip]
pub static ENGINES: &[Engine] = &[
    Engine { name: "embedded", argument: "PATH", about: "files in a local directory", options: &[], open: |path, _| Ok(Arc::new(Embedded::open(path, &Default::default())?)) },
    #[cfg(feature = "foundationdb")]
    Engine { name: "foundationdb", argument: "CLUSTER-FILE", about: "a FoundationDB cluster", options: crate::foundationdb::OPTIONS, open: |file, options| Ok(Arc::new(crate::foundationdb::FoundationDb::open(file, &crate::foundationdb::Options::parse(options)?)?)) },
    Engine { name: "sim", argument: "SEED", about: "in memory, for tests; nothing is kept", options: &[], open: |seed, _| Ok(Arc::new(Sim::new(seed.parse().map_err(|_| KvError::Misuse("sim takes a number"))?, Faults::NONE))) },
];

/// Opens the engine that `spec` names, like `embedded:/var/lib/ironkeel`.
///
/// # Errors
/// `Unavailable` when no engine has the name or the argument is missing, and what the engine's own open says.
pub fn open(spec: &str) -> Result<Arc<dyn Kv>, KvError> {
    open_with(spec, &[])
}

/// Opens the engine that `spec` names with options, each a name and a value, in order.
///
/// # Errors
/// Those of [`open`], and `Unavailable` when the engine has no such option.
pub fn open_with(spec: &str, options: &[(&str, &str)]) -> Result<Arc<dyn Kv>, KvError> {
    let known = || ENGINES.iter().map(|e| format!("{}:{}", e.name, e.argument)).collect::<Vec<_>>().join(", ");
    let refuse = || KvError::Unavailable(format!("{spec:?} names no storage; known are {}", known()));
    let (name, argument) = spec.split_once(':').ok_or_else(refuse)?;
    let engine = match ENGINES.iter().find(|e| e.name == name) {
        Some(engine) => engine,
        None if name == "foundationdb" => {
            let text = "this ironkeel was built without FoundationDB; build it with --features foundationdb";
            return Err(KvError::Unavailable(text.to_owned()));
        }
        None => return Err(refuse()),
    };
    if argument.is_empty() {
        return Err(refuse());
    }
    if let (true, Some((option, _))) = (engine.options.is_empty(), options.first()) {
        return Err(KvError::Unavailable(format!("storage {name} has no options, and {option} was given")));
    }
    (engine.open)(argument, options)
}
