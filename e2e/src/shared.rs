//! One cluster for the tests of a test program that run at the same time: the first one starts it, the last one ends it.
//!
//! Never shared between programs. Where a cluster cannot run, one line says so and the tests have none.

use crate::cluster::{Cluster, Kind};
use crate::machine::{binary, missing_for_node, tool};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

static CONTROL_PLANE: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
static NODE: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// A test's hold on the shared cluster. A test that fails prints the end of the server's log when it lets go.
pub struct Lease(Arc<Cluster>);

impl Deref for Lease {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the server's log\n{}", self.0.log_tail());
        }
    }
}

/// The control plane that API tests share, or a line about why there is none.
///
/// # Panics
/// When it does not start.
pub fn control_plane() -> Option<Lease> {
    possible()?;
    Some(lease(&CONTROL_PLANE, Kind::ControlPlane))
}

/// The cluster with a node that container tests share, or a line about why there is none.
///
/// # Panics
/// When it does not start.
pub fn node() -> Option<Lease> {
    possible()?;
    if let Some(reason) = missing_for_node() {
        eprintln!("left out: tests with containers, because {reason}");
        return None;
    }
    Some(lease(&NODE, Kind::Node))
}

fn possible() -> Option<()> {
    if binary().is_none() {
        eprintln!(
            "left out: tests of the binary, because `ironkeel` is not built (cargo build --package cli; or IRONKEEL_BIN)"
        );
        return None;
    }
    if tool("kubectl").is_none() {
        eprintln!("left out: tests of the binary, because kubectl is not on PATH (hack/setup installs it)");
        return None;
    }
    Some(())
}

fn lease(slot: &Mutex<Weak<Cluster>>, kind: Kind) -> Lease {
    // A start that failed leaves the slot empty, which the next test finds.
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = slot.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(kind, &[]));
        if matches!(kind, Kind::Node) {
            cluster.load_images();
        }
        *slot = Arc::downgrade(&cluster);
        cluster
    });
    Lease(cluster)
}
