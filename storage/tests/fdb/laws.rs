//! The laws on a cluster that all tests of a module share, one after another, each on an empty database.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use storage::foundationdb::{FoundationDb, Options};
use storage::kv::{Kv, Mutation, Transaction};

use crate::cluster::{Cluster, Programs};

static TAKEN: Mutex<bool> = Mutex::new(false);
static FREED: Condvar = Condvar::new();

/// Whoever holds it has the machine for himself.
#[derive(Debug)]
struct Turn;

impl Turn {
    fn take() -> Turn {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        FREED.notify_one();
    }
}

/// A cluster that is started when the first test needs it.
#[derive(Debug)]
pub(crate) struct Place {
    start: fn(&Programs) -> Cluster,
    cluster: OnceLock<(Cluster, FoundationDb)>,
}

#[derive(Debug)]
struct Shared(FoundationDb, Turn);

impl Kv for Shared {
    fn begin(&self) -> Box<dyn Transaction> {
        self.0.begin()
    }
}

impl Place {
    /// A cluster as `start` makes it.
    pub(crate) const fn new(start: fn(&Programs) -> Cluster) -> Self {
        Self { start, cluster: OnceLock::new() }
    }

    /// An empty database. Without an fdbserver all tests of the process are left out.
    pub(crate) fn open(&self) -> Arc<dyn Kv> {
        let turn = Turn::take();
        let (_, engine) = self.cluster.get_or_init(|| {
            let Some(programs) = Programs::find() else {
                // Past the capture of libtest, whose process ends here.
                let text = b"left out: the laws on FoundationDB: no fdbserver and fdbcli on PATH or in FDB_BIN\n";
                std::io::stderr().write_all(text).expect("standard error takes a line");
                std::process::exit(0);
            };
            let cluster = (self.start)(&programs).kept();
            let engine = FoundationDb::open(cluster.file(), &Options::default()).expect("the cluster file is good");
            (cluster, engine)
        });
        // On a thread of its own: model laws call this inside their runtime.
        let wipe = || {
            storage::laws::runtime().block_on(async {
                let mut tx = engine.begin();
                tx.mutate(Mutation::ClearRange(vec![0].into(), vec![0xff].into()));
                tx.commit().await
            })
        };
        let done = std::thread::scope(|scope| scope.spawn(wipe).join());
        done.expect("no panic").expect("a blind write commits");
        Arc::new(Shared(engine.clone(), turn))
    }
}
