//! `ExtendedResourceToleration`: who asks for a device tolerates the taint that keeps others off nodes with it.

use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;
use std::collections::BTreeSet;

/// See the file.
pub struct ExtendedResourceToleration;

pub(crate) static PLUGIN: ExtendedResourceToleration = ExtendedResourceToleration;

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    fn by_default(&self) -> bool {
        false
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if request.is_open() && request.is("pods", "") {
            tolerate(pod);
        }
        Ok(())
    }
}

/// A resource of nobody's own domain: neither Kubernetes' nor a request for quota.
fn is_extended(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else { return false };
    !(domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") || name.starts_with("requests."))
}

fn tolerate(pod: &mut Value) {
    let mut names = BTreeSet::new();
    for list in ["spec.containers", "spec.initContainers"] {
        for container in value::items(pod, list) {
            let requests = value::get(container, "resources.requests").and_then(Value::as_object);
            names.extend(requests.into_iter().flatten().map(|(name, _)| name.clone()).filter(|name| is_extended(name)));
        }
    }
    let mut tolerations = value::items(pod, "spec.tolerations").to_vec();
    let before = tolerations.len();
    for name in names {
        let wanted = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
        if !tolerations.contains(&wanted) {
            tolerations.push(wanted);
        }
    }
    if tolerations.len() > before {
        value::set(pod, "spec.tolerations", tolerations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_tolerated_once() {
        let mut pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1", "example.com/gpu": "1",
            "kubernetes.io/x": "1", "hugepages-2Mi": "1"}}}], "initContainers": [{"resources": {"requests": {"a.b/c": "1"}}}]}});
        tolerate(&mut pod);
        tolerate(&mut pod);
        let of = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoSchedule"});
        assert_eq!(pod["spec"]["tolerations"], json!([of("a.b/c"), of("example.com/gpu")]));
    }
}
