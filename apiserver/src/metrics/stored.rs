//! How much is stored, by upstream's names. Never counts anything itself: caches know how many objects there are, the engine how large it is.

use crate::cache::Caches;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};
use storage::store::Store;

struct Stored {
    caches: Caches,
    store: Store,
    objects: IntGaugeVec,
    /// The same by a name that upstream has given up.
    by_resource: IntGaugeVec,
    size: IntGaugeVec,
}

/// Shows what is stored.
///
/// # Panics
/// When two metrics share a name: a mistake in this file.
pub(crate) fn show(caches: Caches, store: Store, registry: &Registry) {
    let gauge = |name: &str, help: &str, labels: &[&str]| {
        IntGaugeVec::new(Opts::new(name, help), labels).expect("a constant name is valid")
    };
    let stored = Stored {
        caches,
        store,
        objects: gauge("apiserver_resource_objects", "Objects that are stored.", &["group", "resource"]),
        by_resource: gauge("apiserver_storage_objects", "Objects that are stored; deprecated.", &["resource"]),
        size: gauge("apiserver_storage_size_bytes", "Bytes that the store takes on the disk.", &["storage_cluster_id"]),
    };
    registry.register(Box::new(stored)).expect("names are distinct");
}

impl Collector for Stored {
    fn desc(&self) -> Vec<&Desc> {
        [self.objects.desc(), self.by_resource.desc(), self.size.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.objects.reset();
        self.by_resource.reset();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for kind in self.caches.kinds() {
            let Some(cache) = self.caches.of(kind) else { continue };
            let count = number(cache.size().objects);
            self.objects.with_label_values(&[kind.group, kind.plural]).set(count);
            self.by_resource.with_label_values(&[&kind.group_resource()]).set(count);
        }
        if let Some(bytes) = self.store.disk() {
            self.size.with_label_values(&["store-0"]).set(number(bytes));
        }
        [self.objects.collect(), self.by_resource.collect(), self.size.collect()].concat()
    }
}
