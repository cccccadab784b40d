//! Amounts of resources: parsing quantities, and what a pod asks of its node.
//!
//! CPU counts in thousandths, everything else in whole units, both rounded up as upstream. Sums saturate; nothing here fails.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Millicores assumed for a container without a CPU request, when nodes are scored.
const DEFAULT_CPU: i64 = 100;
/// Bytes assumed for a container without a memory request, when nodes are scored.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of `ephemeral-storage`.
    pub ephemeral: i64,
    /// Pods; counts in a node's allocatable only.
    pub pods: i64,
    /// Everything else: huge pages, extended resources.
    pub other: BTreeMap<String, i64>,
}

impl Resources {
    /// Amounts out of a resource list; what cannot be parsed counts nothing.
    #[must_use]
    pub fn parse(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut all = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let scale = if name == "cpu" { 3 } else { 0 };
            *all.slot(name) = amount(&quantity.0, scale).unwrap_or_default();
        }
        all
    }

    fn slot(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral,
            "pods" => &mut self.pods,
            other => self.other.entry(other.to_owned()).or_default(),
        }
    }

    /// The amount of an `other` resource.
    #[must_use]
    pub fn other(&self, name: &str) -> i64 {
        self.other.get(name).copied().unwrap_or_default()
    }

    fn combine(&mut self, with: &Self, how: impl Fn(i64, i64) -> i64) {
        self.cpu = how(self.cpu, with.cpu);
        self.memory = how(self.memory, with.memory);
        self.ephemeral = how(self.ephemeral, with.ephemeral);
        for (name, amount) in &with.other {
            let own = self.other.entry(name.clone()).or_default();
            *own = how(*own, *amount);
        }
    }

    /// Adds amounts.
    pub fn add(&mut self, more: &Self) {
        self.combine(more, i64::saturating_add);
    }

    /// Takes amounts away.
    pub fn subtract(&mut self, less: &Self) {
        self.combine(less, i64::saturating_sub);
    }

    fn raise_to(&mut self, floor: &Self) {
        self.combine(floor, i64::max);
    }
}

/// A quantity times ten to the power of `scale`, rounded up, saturating. `None` if it is none.
#[must_use]
pub fn amount(text: &str, scale: i32) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || !whole.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit()) {
        return None;
    }
    let (binary, decimal): (u32, i32) = match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => (0, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    // More than eighteen digits after the point change nothing but the rounding, which is upwards anyway.
    let kept: String = fraction.chars().take(18).collect();
    let mantissa: i128 = format!("0{whole}{kept}").parse().unwrap_or(i128::MAX >> 64);
    let exponent = decimal.saturating_add(scale).saturating_sub(i32::try_from(kept.len()).unwrap_or_default());
    let scaled = mantissa.saturating_mul(1_i128 << binary);
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    let value = match (exponent < 0, power) {
        _ if scaled == 0 => 0,
        (false, Some(power)) => scaled.saturating_mul(power),
        (false, None) => i128::MAX,
        (true, Some(power)) => scaled / power + i128::from(scaled % power != 0 && !negative),
        (true, None) => i128::from(!negative),
    };
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// What a pod asks of its node: the larger of what its containers ask together and what any moment of initialization asks
/// (with the sidecars started so far), plus overhead; pod-level requests take the place of the containers' where given. While
/// a pod is resized, a container counts the largest of what it asks for, was granted and has (KEP-1287). With `defaults`,
/// containers without a CPU or memory request count as small ones.
#[must_use]
pub fn pod_requests(spec: &PodSpec, status: Option<&PodStatus>, defaults: bool) -> Resources {
    let requests = |container: &Container| {
        let list = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let mut all = in_force(container, status);
        if defaults {
            for (name, slot, default) in
                [("cpu", &mut all.cpu, DEFAULT_CPU), ("memory", &mut all.memory, DEFAULT_MEMORY)]
            {
                if list.is_none_or(|list| !list.contains_key(name)) {
                    *slot = default;
                }
            }
        }
        all
    };
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&requests(container));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = requests(container);
        if is_sidecar(container) {
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(&own);
            peak.raise_to(&moment);
        }
    }
    total.add(&sidecars);
    total.raise_to(&peak);
    if let Some(ResourceRequirements { requests: Some(list), .. }) = &spec.resources {
        let level = Resources::parse(Some(list));
        for name in list.keys().filter(|name| *name == "cpu" || *name == "memory" || name.starts_with("hugepages-")) {
            let mut wanted = level.clone();
            *total.slot(name) = *wanted.slot(name);
        }
    }
    total.add(&Resources::parse(spec.overhead.as_ref()));
    total
}

/// What a container asks for; where its status tells of a resize, the largest of that, what it was granted and what it has.
fn in_force(container: &Container, status: Option<&PodStatus>) -> Resources {
    let asked = Resources::parse(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let Some(status) = status else { return asked };
    let list = |list: &Option<Vec<ContainerStatus>>| {
        list.iter().flatten().find(|own| own.name == container.name && own.resources.is_some()).cloned()
    };
    // An init container that ends is never resized.
    let own = list(&status.container_statuses)
        .or_else(|| list(&status.init_container_statuses).filter(|_| is_sidecar(container)));
    let Some(own) = own else { return asked };
    let infeasible =
        status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
        });
    let mut most = if infeasible { Resources::default() } else { asked };
    most.raise_to(&Resources::parse(own.allocated_resources.as_ref()));
    most.raise_to(&Resources::parse(own.resources.as_ref().and_then(|resources| resources.requests.as_ref())));
    most
}

/// An init container that keeps running.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn quantities() {
        let check = |text: &str, scale: i32, want: Option<i64>| assert_eq!(amount(text, scale), want, "{text}");
        check("1", 3, Some(1000));
        check("100m", 3, Some(100));
        check("0.1", 3, Some(100));
        check("100u", 3, Some(1));
        check("1n", 0, Some(1));
        check("1.5Gi", 0, Some(1_610_612_736));
        check("128974848", 0, Some(128_974_848));
        check("129e6", 0, Some(129_000_000));
        check("1E", 0, Some(1_000_000_000_000_000_000));
        check("100Ei", 0, Some(i64::MAX));
        check("9e99", 0, Some(i64::MAX));
        check("1e-99", 0, Some(1));
        check("0e99", 0, Some(0));
        check("-1500m", 0, Some(-1));
        check(".5", 3, Some(500));
        for bad in ["", "x", "1x", ".", "1.2.3", "--1", "1e", "e5", "1 Gi"] {
            check(bad, 0, None);
        }
    }

    #[test]
    fn a_pods_needs() {
        let check = |spec: Value, want: (i64, i64)| {
            let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            let got = pod_requests(&spec, None, false);
            assert_eq!((got.cpu, got.memory), want, "{spec:?}");
        };
        let container =
            |cpu: &str, memory: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}});
        let sidecar = |cpu: &str, memory: &str| {
            let mut sidecar = container(cpu, memory);
            sidecar["restartPolicy"] = "Always".into();
            sidecar
        };
        check(json!({"containers": [container("1", "10"), container("500m", "5")]}), (1500, 15));
        check(json!({"containers": [container("1", "10")], "initContainers": [container("2", "1")]}), (2000, 10));
        check(json!({"containers": [container("1", "10")], "initContainers": [sidecar("2", "1")]}), (3000, 11));
        check(
            json!({"containers": [container("1", "1")], "initContainers": [sidecar("1", "1"), container("3", "1"), sidecar("1", "1")]}),
            (4000, 3),
        );
        check(json!({"containers": [container("1", "10")], "overhead": {"cpu": "250m"}}), (1250, 10));
        check(
            json!({"containers": [container("1", "10")], "resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "1"}}),
            (4000, 10),
        );
        check(json!({"containers": [{"name": "c"}]}), (0, 0));
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).unwrap();
        assert_eq!(pod_requests(&spec, None, true).cpu, DEFAULT_CPU);
        let spec: PodSpec = serde_json::from_value(json!({"containers": [container("0", "0")]})).unwrap();
        assert_eq!(pod_requests(&spec, None, true).cpu, 0, "zero is a request");
    }

    #[test]
    fn a_pod_that_is_resized_counts_the_most() {
        let check = |asked: &str, granted: &str, has: &str, reason: &str, want: i64| {
            let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": asked}}}]});
            let status = json!({
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                    "allocatedResources": {"cpu": granted}, "resources": {"requests": {"cpu": has}}}]});
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            let status: PodStatus = serde_json::from_value(status).unwrap();
            assert_eq!(pod_requests(&spec, Some(&status), false).cpu, want, "{asked} {granted} {has} {reason}");
        };
        check("3", "1", "1", "Deferred", 3000);
        check("1", "2", "3", "Deferred", 3000);
        check("1", "2", "1", "Deferred", 2000);
        check("9", "2", "1", "Infeasible", 2000);
    }
}
