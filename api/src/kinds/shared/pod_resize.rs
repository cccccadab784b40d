//! `pods/resize`: what of a body is taken, and which changes of a running pod's resources are allowed.
//!
//! Never resizes; the kubelet does.

use super::pod_validation::{self, MIRROR};
use super::rules::differ;
use super::{labels, parts, resources};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::{meta, value};

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The old pod with the resources and the resize policies of the new one. Containers that came, went or have another name stay as the
/// body says, for the rules to find.
#[must_use]
pub fn merge(new: Value, old: &Value) -> Value {
    let of = |pod: &Value, list: &str| value::items(pod, &format!("spec.{list}")).to_vec();
    if LISTS.iter().any(|list| of(&new, list).len() != of(old, list).len()) {
        return new;
    }
    let mut pod = old.clone();
    parts::copy(&mut pod, &new, "metadata.resourceVersion");
    parts::copy(&mut pod, &new, "spec.resources");
    for list in LISTS {
        let wanted = of(&new, list);
        let mut containers = of(old, list);
        if !same_names(&wanted, &containers) {
            containers = wanted;
        } else {
            for (container, wanted) in containers.iter_mut().zip(&wanted) {
                parts::copy(container, wanted, "resources");
                parts::copy(container, wanted, "resizePolicy");
            }
        }
        if !containers.is_empty() {
            value::set(&mut pod, &format!("spec.{list}"), containers);
        }
    }
    pod
}

fn same_names(a: &[Value], b: &[Value]) -> bool {
    a.iter().zip(b).all(|(a, b)| value::text(a, "name") == value::text(b, "name"))
}

/// What is wrong with a resize.
#[must_use]
pub fn validate(new: &Value, old: &Value) -> Errors {
    // Upstream's name of an object whole where it has a path without a name.
    let whole = Path::new("[]");
    if meta::annotation(old, MIRROR).is_some() {
        return vec![FieldError::forbidden(&whole, "static pods cannot be resized")];
    }
    if value::text(old, "spec.os.name") == "windows" {
        return vec![FieldError::forbidden(&whole, "windows pods cannot be resized")];
    }
    let mut errors = pod_validation::pod(new);
    let field = Path::new("spec");
    let class = match value::text(old, "status.qosClass") {
        "" => resources::qos_class(old),
        class => class,
    };
    if resources::qos_class(new) != class {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&field, value::text(new, "status.qosClass"), detail));
    }
    if !supported(old) {
        errors.push(FieldError::forbidden(&field, "Pod running on node without support for resize"));
    }
    whole_pod(&mut errors, new, old, &field);
    let before = errors.len();
    for list in LISTS {
        ordering(&mut errors, new, old, list, &field);
    }
    if errors.len() > before {
        return errors;
    }
    let pairs = |list: &'static str| {
        let path = format!("spec.{list}");
        value::items(new, &path).iter().zip(value::items(old, &path)).enumerate()
    };
    for list in ["initContainers", "containers"] {
        for (i, (new, old)) in pairs(list) {
            let at = field.child(list).index(i).child("resources");
            removed(&mut errors, new.get("resources"), old.get("resources"), &at, "resource");
        }
    }
    for _ in pairs("containers").filter(|(_, (new, old))| !others_stay(new, old)) {
        errors.push(FieldError::forbidden(&field, "only cpu and memory resources are mutable"));
    }
    for (i, (new, old)) in pairs("initContainers") {
        init(&mut errors, new, old, &field.child("initContainers").index(i));
    }
    let given = |pod| value::get(pod, "spec.resources").is_some_and(Value::is_object);
    if errors.is_empty() && given(new) != given(old) && !says(new) && !says(old) {
        errors.push(FieldError::forbidden(&field, "only cpu and memory resources are mutable"));
    }
    errors
}

/// The first container that runs tells whether its node knows of resizing; nobody else does.
fn supported(pod: &Value) -> bool {
    let running = |status: &&Value| value::get(status, "state.running").is_some_and(Value::is_object);
    let first = value::items(pod, "status.containerStatuses").iter().find(running);
    first.is_none_or(|status| status.get("resources").is_some_and(Value::is_object))
}

/// Whether the pod as a whole asks for something.
fn says(pod: &Value) -> bool {
    ["spec.resources.requests", "spec.resources.limits"]
        .iter()
        .any(|path| value::get(pod, path).and_then(Value::as_object).is_some_and(|amounts| !amounts.is_empty()))
}

fn whole_pod(errors: &mut Errors, new: &Value, old: &Value, field: &Path) {
    if !says(new) && !says(old) {
        return;
    }
    let of = |pod| value::get(pod, "spec.resources").filter(|own: &&Value| own.is_object());
    let at = field.child("resources");
    let (after, before) = (of(new), of(old));
    if before.is_some() && after.is_none() {
        errors.push(FieldError::forbidden(&at, "pod-level resources cannot be removed"));
        return;
    }
    removed(errors, after, before, &at, "pod-level resource");
    let claims = |of: Option<&Value>| of.is_some_and(|own| !value::items(own, "claims").is_empty());
    if claims(after) != claims(before) || SIDES.iter().any(|side| !same_others(after, before, side)) {
        errors.push(FieldError::forbidden(field, "only cpu and memory resources are mutable at pod-level"));
    }
}

fn ordering(errors: &mut Errors, new: &Value, old: &Value, list: &str, field: &Path) {
    let path = format!("spec.{list}");
    let (after, before) = (value::items(new, &path), value::items(old, &path));
    let at = field.child(list);
    if after.len() != before.len() {
        errors.push(FieldError::forbidden(&at, format!("{list} may not be added or removed on resize")));
        return;
    }
    for (i, (after, before)) in after.iter().zip(before).enumerate() {
        if value::text(after, "name") != value::text(before, "name") {
            let detail = format!("{list} may not be renamed or reordered on resize");
            errors.push(FieldError::forbidden(&at.index(i).child("name"), detail));
        }
    }
}

const SIDES: [&str; 2] = ["requests", "limits"];

fn removed(errors: &mut Errors, new: Option<&Value>, old: Option<&Value>, field: &Path, whose: &str) {
    let names = |of: Option<&Value>, side: &str| -> Vec<String> {
        let amounts = of.and_then(|of| labels::map(of, side));
        amounts.map(|amounts| amounts.keys().map(ToString::to_string).collect()).unwrap_or_default()
    };
    for side in SIDES {
        let after = names(new, side);
        if names(old, side).iter().any(|name| !after.contains(name)) {
            errors.push(FieldError::forbidden(&field.child(side), format!("{whose} {side} cannot be removed")));
        }
    }
}

/// Amounts of anything but processors and memory are what they were.
fn same_others(new: Option<&Value>, old: Option<&Value>, side: &str) -> bool {
    let others = |of: Option<&Value>| -> Vec<(String, Option<i128>)> {
        let amounts = of.and_then(|of| labels::map(of, side));
        let others = amounts.into_iter().flatten().filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"));
        let mut others: Vec<_> = others.map(|(name, amount)| (name.to_string(), resources::nanos(amount))).collect();
        others.sort();
        others
    };
    others(new) == others(old)
}

/// A container that differs in processors and memory alone; one that has claims is never resized.
fn others_stay(new: &Value, old: &Value) -> bool {
    let (after, before) = (new.get("resources"), old.get("resources"));
    !differ(new.get("resizePolicy"), old.get("resizePolicy"))
        && value::items(old, "resources.claims").is_empty()
        && SIDES.iter().all(|side| same_others(after, before, side))
}

fn init(errors: &mut Errors, new: &Value, old: &Value, field: &Path) {
    if !others_stay(new, old) {
        let detail = "only cpu and memory resources for init or sidecar containers are mutable";
        errors.push(FieldError::forbidden(field, detail));
    }
    let modified = ["resources", "resizePolicy"].iter().any(|name| differ(new.get(*name), old.get(*name)));
    if modified && value::text(new, "restartPolicy") != "Always" {
        let restarts = |policy: &&Value| value::text(policy, "restartPolicy") == "RestartContainer";
        for _ in value::items(new, "resizePolicy").iter().filter(restarts) {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(FieldError::forbidden(field, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::pod_defaults;
    use crate::kinds::shared::testing::shown;

    fn pod() -> Value {
        let resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}});
        let container = |name: &str| json!({"name": name, "image": "i", "resources": resources.clone()});
        let mut pod = json!({"metadata": {"name": "p", "resourceVersion": "1"}, "status": {"qosClass": "Burstable"},
            "spec": {"containers": [container("a")], "initContainers": [container("i"), container("s")]}});
        value::set(&mut pod["spec"]["initContainers"][1], "restartPolicy", "Always");
        pod_defaults::pod(&mut pod);
        pod
    }

    fn check(old: &Value, change: fn(&mut Value), sentences: &[&str]) {
        let mut new = old.clone();
        change(&mut new);
        let merged = merge(new, old);
        assert_eq!(shown(&validate(&merged, old)), sentences);
    }

    #[test]
    fn processors_and_memory_alone() {
        let old = pod();
        check(&old, |new| new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1500m"), &[]);
        check(&old, |new| new["spec"]["initContainers"][0]["resources"]["limits"]["cpu"] = json!("3"), &[]);
        check(&old, |new| new["spec"]["containers"][0]["image"] = json!("other"), &[]);
        check(
            &old,
            |new| value::set(new, "spec.containers", json!([])),
            &[
                "spec.containers: Required value",
                "spec.containers: Forbidden: containers may not be added or removed on resize",
            ],
        );
        check(
            &old,
            |new| new["spec"]["initContainers"][1]["name"] = json!("z"),
            &["spec.initContainers[1].name: Forbidden: initContainers may not be renamed or reordered on resize"],
        );
        check(
            &old,
            |new| {
                value::set(
                    &mut new["spec"]["containers"][0],
                    "resources.requests",
                    json!({"memory": "1Gi", "ephemeral-storage": "1"}),
                );
            },
            &[
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                "spec: Forbidden: only cpu and memory resources are mutable",
            ],
        );
        check(
            &old,
            |new| {
                value::set(
                    &mut new["spec"]["initContainers"][1],
                    "resizePolicy",
                    json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
                );
            },
            &[
                "spec.initContainers[1]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable",
            ],
        );
        check(
            &old,
            |new| value::set(new, "spec.resources", json!({})),
            &["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"],
        );
    }

    #[test]
    fn the_pod_as_a_whole() {
        let mut old = pod();
        let whole = json!({"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "4", "memory": "4Gi"}});
        value::set(&mut old, "spec.resources", whole);
        check(&old, |new| new["spec"]["resources"]["limits"]["cpu"] = json!("3"), &[]);
        check(
            &old,
            |new| {
                value::remove(new, "spec.resources");
            },
            &["spec.resources: Forbidden: pod-level resources cannot be removed"],
        );
        check(
            &old,
            |new| value::set(new, "spec.resources.limits", json!({"memory": "4Gi", "hugepages-2Mi": "2Mi"})),
            &[
                "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed",
                "spec: Forbidden: only cpu and memory resources are mutable at pod-level",
            ],
        );
    }

    #[test]
    fn who_is_not_resized() {
        let change: fn(&mut Value) =
            |new| new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1500m");
        for (path, to, sentence) in [
            ("spec.os", json!({"name": "windows"}), "[]: Forbidden: windows pods cannot be resized"),
            ("metadata.annotations", json!({MIRROR: "1"}), "[]: Forbidden: static pods cannot be resized"),
            (
                "status.containerStatuses",
                json!([{"name": "a", "state": {"running": {}}}]),
                "spec: Forbidden: Pod running on node without support for resize",
            ),
        ] {
            let mut old = pod();
            value::set(&mut old, path, to);
            check(&old, change, &[sentence]);
        }
    }
}
