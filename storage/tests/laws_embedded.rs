//! The embedded engine keeps the laws.

use std::sync::Arc;

use storage::embedded::{Embedded, Options};
use storage::kv::{Kv, Transaction};
use tempfile::TempDir;

/// The engine in a directory that goes with it. Fields drop in order: first the engine closes.
#[derive(Debug)]
struct Temporary(Embedded, #[expect(dead_code, reason = "removes the directory when dropped")] TempDir);

impl Kv for Temporary {
    fn begin(&self) -> Box<dyn Transaction> {
        self.0.begin()
    }
}

fn open(_seed: u64) -> Arc<dyn Kv> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let options = Options { reserve: 0, ..Options::default() };
    Arc::new(Temporary(Embedded::open(dir.path(), &options).expect("an empty directory opens"), dir))
}

storage::laws!(open, 1);
