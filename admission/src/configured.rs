//! What a plugin is told at the start: its part of the file of `--admission-control-config-file`, and how to reach who it names.
//!
//! Never reads a file and never opens a connection: the API server does.

use crate::plugin::Plugin;
use api::json::Value;
use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A server that a kubeconfig file names.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Posts JSON; status and body of the answer, or one sentence why there is none.
    async fn post(&self, body: Vec<u8>, timeout: Duration) -> Result<(u16, Vec<u8>), String>;
}

/// Finds servers.
pub trait Opener {
    /// The server of this kubeconfig file; an error is one sentence.
    ///
    /// # Errors
    /// The file cannot be read or used.
    fn open(&self, kubeconfig: &Path) -> Result<Arc<dyn Remote>, String>;
}

/// For plugins that name nobody.
pub struct Nobody;

impl Opener for Nobody {
    fn open(&self, kubeconfig: &Path) -> Result<Arc<dyn Remote>, String> {
        Err(format!("{}: nobody can be reached from here", kubeconfig.display()))
    }
}

/// What one plugin is told.
pub struct Settings<'a> {
    /// Its `configuration`, or the content of its `path`; `Null` where there is none.
    pub configuration: &'a Value,
    /// How to reach who it names.
    pub opener: &'a dyn Opener,
}

/// A plugin with its settings, or `None` where the one in the table does as it is.
pub type Setup = Result<Option<Box<dyn Plugin>>, String>;

/// Why the flags or the file cannot be honoured.
#[derive(Debug, PartialEq, Eq)]
pub enum SetupError {
    /// A name that no plugin has.
    Unknown(String),
    /// On and off at once.
    Both(String),
    /// A plugin does not take its configuration.
    Plugin(&'static str, String),
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SetupError::Unknown(name) => write!(f, "unknown admission plugin {name:?}"),
            SetupError::Both(name) => {
                write!(f, "[{name}] in enable-admission-plugins and disable-admission-plugins overlapped")
            }
            SetupError::Plugin(name, why) => write!(f, "couldn't init admission plugin {name:?}: {why}"),
        }
    }
}

impl std::error::Error for SetupError {}
