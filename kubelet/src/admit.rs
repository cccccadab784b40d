//! Whether a pod that the scheduler or a person put on this node fits it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Config, model, quantity};

/// What a pod asks for of a resource, in thousandths: its containers' sum, or the largest init container's.
fn request(pod: &core::Pod, name: &str) -> i64 {
    let of = |container: &core::Container| {
        let resources = container.resources.as_ref();
        resources.and_then(|resources| quantity::milli(resources.requests.as_ref()?.get(name)?)).unwrap_or(0)
    };
    let (mut beside, mut most) = (0_i64, 0_i64);
    for container in model::init_containers(pod) {
        if model::is_sidecar(container) {
            beside = beside.saturating_add(of(container));
        } else {
            most = most.max(beside.saturating_add(of(container)));
        }
    }
    let apps = model::app_containers(pod).iter().map(of).fold(beside, i64::saturating_add);
    apps.max(most)
}

/// Why a pod cannot run here: upstream's reason and message. `others` are the pods that already do.
pub fn refusal(
    pod: &core::Pod,
    others: &[Arc<core::Pod>],
    allocatable: &BTreeMap<String, Quantity>,
    config: &Config,
) -> Option<(&'static str, String)> {
    let most = usize::try_from(config.max_pods).unwrap_or(usize::MAX);
    if others.len() >= most {
        let text = format!(
            "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {most}",
            others.len()
        );
        return Some(("OutOfpods", text));
    }
    for (name, reason) in
        [("cpu", "OutOfcpu"), ("memory", "OutOfmemory"), ("ephemeral-storage", "OutOfephemeral-storage")]
    {
        let asked = request(pod, name);
        let Some(capacity) = allocatable.get(name).and_then(quantity::milli).filter(|_| asked > 0) else { continue };
        let used = others.iter().map(|other| request(other, name)).fold(0, i64::saturating_add);
        if used.saturating_add(asked) > capacity {
            let unit = if name == "cpu" { 1 } else { 1000 };
            let text = format!(
                "Pod was rejected: Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                asked / unit,
                used / unit,
                capacity / unit
            );
            return Some((reason, text));
        }
    }
    None
}
