//! Who watches what, counted: how many a write wakes.
//!
//! Counts the watches of this server alone. Source: KEP-1040, "Support for WATCH requests".

use crate::road::received::RequestInfo;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// See the file. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Watches(Arc<Mutex<HashMap<String, u32>>>);

/// One watch, until it is dropped.
pub(crate) struct Watching {
    all: Watches,
    place: String,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(count) = all.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.place);
            }
        }
    }
}

/// None of the words has a line break.
fn place(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    [group, resource, namespace, name].join("\n")
}

impl Watches {
    /// Counts a watch. One that names its node gets events of that node's pods alone, and is left out.
    pub(crate) fn begin(&self, info: &RequestInfo) -> Option<Watching> {
        if info.resource == "pods" && node_of(info).is_some_and(|node| !node.is_empty()) {
            return None;
        }
        let place = place(&info.group, &info.resource, &info.namespace, &info.name);
        *self.0.lock().entry(place.clone()).or_default() += 1;
        Some(Watching { all: self.clone(), place })
    }

    /// How many may see what this write does: those of the whole resource, of its namespace and of its name.
    pub(crate) fn interested(&self, info: &RequestInfo) -> u32 {
        let all = self.0.lock();
        let mut key = place(&info.group, &info.resource, "", "");
        let mut sum = all.get(&key).copied().unwrap_or(0);
        if !info.namespace.is_empty() {
            key = place(&info.group, &info.resource, &info.namespace, "");
            sum += all.get(&key).copied().unwrap_or(0);
        }
        if !info.name.is_empty() {
            key = place(&info.group, &info.resource, &info.namespace, &info.name);
            sum += all.get(&key).copied().unwrap_or(0);
        }
        sum
    }
}

/// The node whose pods are watched.
fn node_of(info: &RequestInfo) -> Option<String> {
    let selector = api::selector::FieldSelector::parse(info.field_selector.as_deref()?).ok()?;
    selector.required("spec.nodeName").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::road::received::Query;

    #[test]
    fn a_write_wakes_those_who_watch_its_place() {
        let info = |method: &str, target: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            RequestInfo::parse(method, path, &Query::parse(query))
        };
        let watches = Watches::default();
        let watch = |target: &str| watches.begin(&info("GET", target));
        let kept = [
            "/api/v1/pods?watch=1",
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D",
            "/api/v1/namespaces/a/pods?watch=1",
            "/api/v1/namespaces/a/pods?watch=1&fieldSelector=metadata.name%3Dx",
            "/api/v1/nodes?watch=1",
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1",
        ]
        .map(watch);
        let interested = |target: &str| watches.interested(&info("PUT", target));
        assert_eq!(interested("/api/v1/namespaces/a/pods/x"), 4);
        assert_eq!(interested("/api/v1/namespaces/a/pods/y"), 3);
        assert_eq!(interested("/api/v1/namespaces/b/pods/x"), 2);
        assert_eq!(interested("/api/v1/nodes/x"), 1);
        assert_eq!(interested("/api/v1/secrets/x"), 0);
        drop(kept);
        assert_eq!((interested("/api/v1/namespaces/a/pods/x"), watches.0.lock().len()), (0, 0));
    }
}
