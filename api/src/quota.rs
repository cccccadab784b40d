//! What objects cost their namespace's quotas, which quotas count them, and when a quota is exceeded.
//!
//! Never adds up what is there: whoever has the objects does. Source: upstream's quota evaluators.

use crate::json::Value;
use crate::kinds::shared::{quantities, resource_names, resources};
use crate::quantity::{Format, Quantity};
use crate::{meta, value};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Amounts by the names that quotas use.
pub type Amounts = BTreeMap<String, Quantity>;

/// Adds amounts up.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let held = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *held = *held + *amount;
    }
}

/// The list of resources at a path.
#[must_use]
pub fn amounts(object: &Value, path: &str) -> Amounts {
    let list = value::get(object, path).and_then(Value::as_object);
    list.into_iter().flatten().filter_map(|(name, amount)| Some((name.into(), quantities::read(amount)?))).collect()
}

/// The name under which objects of a resource are counted: `count/deployments.apps`.
#[must_use]
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

fn whole(number: usize) -> Quantity {
    Quantity::of(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// What an object of this resource costs; `now` in seconds since 1970.
#[must_use]
pub fn usage(group: &str, plural: &str, object: &Value, now: i64) -> Amounts {
    let mut used = Amounts::from([(count_name(group, plural), whole(1))]);
    match (group, plural) {
        ("", "pods") if lives(object, now) => used.extend(of_pod(object)),
        ("", "services") => used.extend(of_service(object)),
        ("", "persistentvolumeclaims") => used.extend(of_claim(object)),
        ("", "replicationcontrollers" | "resourcequotas" | "secrets" | "configmaps") => {
            used.insert(plural.to_owned(), whole(1));
        }
        _ => {}
    }
    used
}

/// Pods that are over, or that should long be gone, use nothing.
fn lives(pod: &Value, now: i64) -> bool {
    let grace = value::int(pod, "metadata.deletionGracePeriodSeconds").unwrap_or_default();
    let ended = value::text(pod, "metadata.deletionTimestamp")
        .parse::<Timestamp>()
        .is_ok_and(|at| at.as_second().saturating_add(grace) < now);
    !matches!(value::text(pod, "status.phase"), "Succeeded" | "Failed") && !ended
}

fn of_service(service: &Value) -> Amounts {
    let ports = value::items(service, "spec.ports");
    let named = ports.iter().filter(|port| value::int(port, "nodePort").is_some_and(|port| port != 0)).count();
    let allocated = value::get(service, "spec.allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
    let (node_ports, balancers) = match value::text(service, "spec.type") {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" => (if allocated { ports.len() } else { named }, 1),
        _ => (0, 0),
    };
    [("services", 1), ("services.nodeports", node_ports), ("services.loadbalancers", balancers)]
        .into_iter()
        .map(|(name, number)| (name.to_owned(), whole(number)))
        .collect()
}

fn of_claim(claim: &Value) -> Amounts {
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), whole(1))]);
    let storage = quantities::of(claim, "spec.resources.requests", "storage");
    used.extend(storage.map(|storage| ("requests.storage".to_owned(), storage)));
    let annotations = value::get(claim, "metadata.annotations");
    let older = annotations.and_then(|all| all.get("volume.beta.kubernetes.io/storage-class")).and_then(Value::as_str);
    let class = older.unwrap_or_else(|| value::text(claim, "spec.storageClassName"));
    if !class.is_empty() {
        let of_class: Vec<_> = used
            .iter()
            .map(|(name, amount)| (format!("{class}.storageclass.storage.k8s.io/{name}"), *amount))
            .collect();
        used.extend(of_class);
    }
    used
}

/// What a pod's containers name on one side (`requests`, `limits`), together: the running ones and sidecars summed, or the largest
/// step of the initialisation where that is more; what the pod says for itself goes before them.
#[must_use]
pub fn sums(spec: &Value, side: &str) -> Amounts {
    let own = |container: &Value| amounts(container, &format!("resources.{side}"));
    let mut running = Amounts::new();
    for container in value::items(spec, "containers") {
        add(&mut running, &own(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in value::items(spec, "initContainers") {
        let mut step = sidecars.clone();
        add(&mut step, &own(container));
        if value::text(container, "restartPolicy") == "Always" {
            sidecars = step.clone();
        }
        raise(&mut peak, &step);
    }
    add(&mut running, &sidecars);
    raise(&mut running, &peak);
    let of_the_pod = amounts(spec, &format!("resources.{side}"));
    running.extend(of_the_pod.into_iter().filter(|(name, _)| resources::is_pod_level(name)));
    // A limit of nothing is no limit, and overhead does not make it one.
    for (name, more) in amounts(spec, "overhead") {
        let held = running.get(&name).copied();
        if side == "requests" || held.is_some_and(|held| !held.is_zero()) {
            running.insert(name, held.unwrap_or(Quantity::ZERO) + more);
        }
    }
    running
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let held = to.entry(name.clone()).or_insert(*amount);
        *held = (*held).max(*amount);
    }
}

/// The names that requests and limits have in a quota.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            used.insert(name.clone(), *amount);
            used.insert(format!("requests.{name}"), *amount);
        } else if resource_names::is_extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        used.extend(limits.get(name).map(|amount| (format!("limits.{name}"), *amount)));
    }
    used
}

fn of_pod(pod: &Value) -> Amounts {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut used = named(&sums(spec, "requests"), &sums(spec, "limits"));
    used.insert("pods".to_owned(), whole(1));
    used
}

/// A scope with what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `PriorityClass`, `BestEffort` and the like.
    pub name: String,
    /// `Exists`, `In` and the like.
    pub operator: String,
    /// For the operators that compare.
    pub values: Vec<String>,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{} {} [{}]}}", self.name, self.operator, self.values.join(" "))
    }
}

/// Scopes as selectors write them: `scopeName`, `operator`, `values`.
#[must_use]
pub fn selected(terms: &[Value]) -> Vec<Scope> {
    let text = |term: &Value, field: &str| value::text(term, field).to_owned();
    let values =
        |term: &Value| value::items(term, "values").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let scope = |term| Scope { name: text(term, "scopeName"), operator: text(term, "operator"), values: values(term) };
    terms.iter().map(scope).collect()
}

/// The scopes of a quota.
#[must_use]
pub fn scopes(quota: &Value) -> Vec<Scope> {
    let plain = value::items(quota, "spec.scopes").iter().filter_map(Value::as_str);
    let exists = |name: &str| Scope { name: name.to_owned(), operator: "Exists".to_owned(), values: Vec::new() };
    plain.map(exists).chain(selected(value::items(quota, "spec.scopeSelector.matchExpressions"))).collect()
}

/// Whether the quota counts the object: one with scopes counts pods alone, and those in all of its scopes.
#[must_use]
pub fn covers(quota: &Value, group: &str, plural: &str, object: &Value) -> bool {
    scopes(quota).iter().all(|scope| scope.holds(group, plural, object))
}

impl Scope {
    /// Whether the object is in it; none but pods are in any.
    #[must_use]
    pub fn holds(&self, group: &str, plural: &str, object: &Value) -> bool {
        group.is_empty() && plural == "pods" && self.holds_pod(object)
    }

    fn holds_pod(&self, pod: &Value) -> bool {
        let terminating = value::int(pod, "spec.activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0);
        let best_effort = resources::qos_class(pod) == "BestEffort";
        let class = value::text(pod, "spec.priorityClassName");
        let named = || self.values.iter().any(|value| value == class);
        match self.name.as_str() {
            "Terminating" => terminating,
            "NotTerminating" => !terminating,
            "BestEffort" => best_effort,
            "NotBestEffort" => !best_effort,
            "PriorityClass" => match self.operator.as_str() {
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                "In" => named(),
                "NotIn" => !named(),
                _ => false,
            },
            "CrossNamespacePodAffinity" => ["podAffinity", "podAntiAffinity"].iter().any(|side| reaches_out(pod, side)),
            _ => false,
        }
    }
}

/// Whether terms of a pod's affinity look into other namespaces.
fn reaches_out(pod: &Value, side: &str) -> bool {
    let path = |list: &str| format!("spec.affinity.{side}.{list}");
    let hard = value::items(pod, &path("requiredDuringSchedulingIgnoredDuringExecution")).iter();
    let soft = value::items(pod, &path("preferredDuringSchedulingIgnoredDuringExecution")).iter();
    hard.chain(soft.filter_map(|term| term.get("podAffinityTerm"))).any(|term| {
        !value::items(term, "namespaces").is_empty() || term.get("namespaceSelector").is_some_and(|one| !one.is_null())
    })
}

/// What a pod has to say where a quota counts it: each container names each of these that the quota limits.
const REQUIRED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What the containers of a pod leave unsaid though the quota counts it, in upstream's words.
#[must_use]
pub fn unsaid(hard: &Amounts, pod: &Value) -> Option<String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    if ["requests", "limits"].iter().any(|side| !amounts(spec, &format!("resources.{side}")).is_empty()) {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in ["containers", "initContainers"].iter().flat_map(|list| value::items(spec, list)) {
        let said = named(&amounts(container, "resources.requests"), &amounts(container, "resources.limits"));
        for name in REQUIRED.into_iter().filter(|name| hard.contains_key(*name) && !said.contains_key(*name)) {
            missing.entry(name).or_default().insert(meta_name(container));
        }
    }
    let words: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    (!words.is_empty()).then(|| format!("must specify {}", words.join("; ")))
}

fn meta_name(container: &Value) -> &str {
    value::text(container, "name")
}

/// Why the quota does not allow `more` on top of `used`, in upstream's words.
#[must_use]
pub fn exceeded(quota: &Value, hard: &Amounts, used: &Amounts, more: &Amounts) -> Option<String> {
    let held = |name: &str| used.get(name).copied().unwrap_or(Quantity::ZERO);
    let over: Vec<(&String, &Quantity, &Quantity)> = more
        .iter()
        .filter(|(_, more)| more.signum() > 0)
        .filter_map(|(name, more)| Some((name, more, hard.get(name)?)))
        .filter(|(name, more, hard)| held(name) + **more > **hard)
        .collect();
    if over.is_empty() {
        return None;
    }
    let list = |amount: &dyn Fn(&str, Quantity, Quantity) -> Quantity| {
        let words: Vec<_> =
            over.iter().map(|(name, more, hard)| format!("{name}={}", amount(name, **more, **hard))).collect();
        words.join(",")
    };
    Some(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        meta::name(quota),
        list(&|_, more, _| more),
        list(&|name, _, _| held(name)),
        list(&|_, _, hard| hard)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    fn now() -> i64 {
        1_767_225_600
    }

    fn check(plural: &str, object: impl Into<Value>, expected: &[(&str, &str)]) {
        let object: Value = object.into();
        let used = usage("", plural, &object, now());
        let shown: Vec<(&str, String)> =
            used.iter().map(|(name, amount)| (name.as_str(), amount.to_string())).collect();
        let expected: Vec<(&str, String)> =
            expected.iter().map(|(name, amount)| (*name, (*amount).to_owned())).collect();
        assert_eq!(shown, expected, "{object}");
    }

    #[test]
    fn objects_cost_what_they_ask_for() {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "500m", "memory": "1Gi", "example.com/gpu": 2}, "limits": {"cpu": "1"}}});
        check(
            "pods",
            json!({"spec": {"containers": [container, container], "overhead": {"cpu": "100m"}}}),
            &[
                ("count/pods", "1"),
                ("cpu", "1100m"),
                ("limits.cpu", "2100m"),
                ("memory", "2Gi"),
                ("pods", "1"),
                ("requests.cpu", "1100m"),
                ("requests.example.com/gpu", "4"),
                ("requests.memory", "2Gi"),
            ],
        );
        let init = json!({"name": "i", "resources": {"requests": {"cpu": "3"}}});
        let one = json!({"name": "c", "resources": {"requests": {"cpu": "2"}}});
        check(
            "pods",
            json!({"spec": {"containers": [one], "initContainers": [init]}}),
            &[("count/pods", "1"), ("cpu", "3"), ("pods", "1"), ("requests.cpu", "3")],
        );
        check("pods", json!({"status": {"phase": "Failed"}}), &[("count/pods", "1")]);
        let stuck =
            json!({"metadata": {"deletionTimestamp": "2025-12-31T23:59:00Z", "deletionGracePeriodSeconds": 30}});
        check("pods", stuck, &[("count/pods", "1")]);
        check("secrets", json!({}), &[("count/secrets", "1"), ("secrets", "1")]);
        check(
            "services",
            json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}),
            &[("count/services", "1"), ("services", "1"), ("services.loadbalancers", "1"), ("services.nodeports", "2")],
        );
        check(
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "5Gi"}}}}),
            &[
                ("count/persistentvolumeclaims", "1"),
                ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1"),
                ("gold.storageclass.storage.k8s.io/requests.storage", "5Gi"),
                ("persistentvolumeclaims", "1"),
                ("requests.storage", "5Gi"),
            ],
        );
        assert_eq!(
            usage("apps", "deployments", &json!({}), now()).into_keys().collect::<Vec<_>>(),
            ["count/deployments.apps"]
        );
    }

    #[test]
    fn scopes_choose_pods() {
        let plain = json!({"spec": {"containers": [{"name": "c"}]}});
        let asking = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            "activeDeadlineSeconds": 5, "priorityClassName": "high"}});
        for (spec, of_plain, of_asking) in [
            (json!({}), true, true),
            (json!({"scopes": ["BestEffort"]}), true, false),
            (json!({"scopes": ["NotBestEffort", "Terminating"]}), false, true),
            (json!({"scopes": ["NotTerminating"]}), true, false),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
                false,
                true,
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}),
                true,
                false,
            ),
            (json!({"scopes": ["CrossNamespacePodAffinity"]}), false, false),
        ] {
            let quota = json!({"spec": spec});
            assert_eq!(covers(&quota, "", "pods", &plain), of_plain, "{quota}");
            assert_eq!(covers(&quota, "", "pods", &asking), of_asking, "{quota}");
        }
        assert!(!covers(&json!({"spec": {"scopes": ["BestEffort"]}}), "", "secrets", &json!({})));
    }

    #[test]
    fn refusals_name_what_is_too_much() {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": 2, "cpu": "1"}}});
        let hard = amounts(&quota, "spec.hard");
        let of = |list: Value| amounts(&json!({"l": list}), "l");
        let used = of(json!({"pods": 1, "cpu": "800m"}));
        assert_eq!(exceeded(&quota, &hard, &used, &of(json!({"pods": 1, "memory": "9Gi"}))), None);
        assert_eq!(
            exceeded(&quota, &hard, &used, &of(json!({"pods": 2, "cpu": "300m"}))).as_deref(),
            Some("exceeded quota: q, requested: cpu=300m,pods=2, used: cpu=800m,pods=1, limited: cpu=1,pods=2")
        );
        let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
        assert_eq!(unsaid(&hard, &pod).as_deref(), Some("must specify cpu for: a,b"));
        assert_eq!(unsaid(&of(json!({"pods": 1})), &pod), None);
    }
}
