//! What may change in a pod once it exists.
//!
//! Never judges the new pod by itself; `pod_validation` does.

use super::pod_validation::{self, MAX_SECONDS, MIRROR};
use super::rules::{differ, unchanged};
use super::{names, resources};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Text, Value};
use crate::{meta, value};

/// What upstream lists in the refusal of a change.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
    to 1 if it was previously negative)";

/// A change through the pod itself.
#[must_use]
pub fn validate(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let none = Value::Null;
    let (new, old) = (new.get("spec").unwrap_or(&none), old.get("spec").unwrap_or(&none));
    for list in ["containers", "initContainers"] {
        if value::items(new, list).len() != value::items(old, list).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&field.child(list), detail));
            return errors;
        }
    }
    let at = field.child("activeDeadlineSeconds");
    let deadline = |spec| value::int(spec, "activeDeadlineSeconds");
    match (deadline(new), deadline(old)) {
        (Some(seconds), _) if !(0..=MAX_SECONDS).contains(&seconds) => {
            errors.push(FieldError::invalid(&at, seconds, names::range(0, MAX_SECONDS)));
            return errors;
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.push(FieldError::invalid(&at, seconds, "must be less than or equal to previous value"));
            return errors;
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&at, Value::Null, detail));
        }
        _ => {}
    }
    let kept = |toleration: &Value| {
        value::items(new, "tolerations").iter().any(|other| without_seconds(other) == without_seconds(toleration))
    };
    if !value::items(old, "tolerations").iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&field.child("tolerations"), detail));
    }
    let gates = value::items(old, "schedulingGates");
    for (i, gate) in value::items(new, "schedulingGates").iter().enumerate() {
        let name = value::text(gate, "name");
        if !gates.iter().any(|other| value::text(other, "name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&field.child("schedulingGates").index(i).child("name"), detail));
        }
    }

    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        for (container, before) in value::items_mut(&mut munged, list).iter_mut().zip(value::items(old, list)) {
            super::parts::copy(container, before, "image");
        }
    }
    for name in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        super::parts::copy(&mut munged, old, name);
    }
    let grace = |spec| value::int(spec, "terminationGracePeriodSeconds");
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(new) == Some(1) {
        super::parts::copy(&mut munged, old, "terminationGracePeriodSeconds");
    }
    if !gates.is_empty() {
        gated(&mut errors, &mut munged, old, &field);
    }
    let changed = differences(&munged, old);
    if !changed.is_empty() {
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{}", changed.join("\n"));
        errors.push(FieldError::forbidden(&field, detail));
    }
    errors
}

fn without_seconds(toleration: &Value) -> Value {
    let mut toleration = toleration.clone();
    value::remove(&mut toleration, "tolerationSeconds");
    toleration
}

/// While gates hold a pod, its node selector may grow and its node affinity may narrow.
fn gated(errors: &mut Errors, munged: &mut Value, old: &Value, field: &Path) {
    let selector = |spec: &Value| spec.get("nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
    let wanted = selector(munged);
    if selector(old).iter().any(|(key, value)| wanted.get(key) != Some(value)) {
        let at = field.child("nodeSelector");
        let shown = munged.get("nodeSelector").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&at, shown, "only additions are allowed"));
    }
    super::parts::copy(munged, old, "nodeSelector");
    super::parts::copy(munged, old, "affinity.nodeAffinity");
    if munged.get("affinity").is_some_and(super::rules::is_zero) && old.get("affinity").is_none() {
        value::remove(munged, "affinity");
    }
}

/// Fields of the spec that differ, as lines; null and empty are as good as absent.
fn differences(new: &Value, old: &Value) -> Vec<String> {
    let (Value::Object(new), Value::Object(old)) = (new, old) else { return Vec::new() };
    let mut keys: Vec<&Text> = new.keys().chain(old.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| differ(new.get(key), old.get(key)))
        .map(|key| {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nil".to_owned(), ToString::to_string);
            format!("  {key}:\n-   {}\n+   {}", shown(old.get(key)), shown(new.get(key)))
        })
        .collect()
}

/// A change through `status`, `ephemeralcontainers` or `resize`.
#[must_use]
pub fn validate_part(part: &str, new: &Value, old: &Value) -> Errors {
    let whole = Path::new("");
    match part {
        "status" => status(new, old),
        "ephemeralcontainers" if meta::annotation(old, MIRROR).is_some() => {
            vec![FieldError::forbidden(&whole, "static pods do not support ephemeral containers")]
        }
        "ephemeralcontainers" => {
            let mut errors = pod_validation::pod(new);
            let field = Path::new("spec.ephemeralContainers");
            let wanted = value::items(new, "spec.ephemeralContainers");
            for before in value::items(old, "spec.ephemeralContainers") {
                let name = value::text(before, "name");
                match wanted.iter().find(|container| value::text(container, "name") == name) {
                    None => {
                        let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                        errors.push(FieldError::forbidden(&field, detail));
                    }
                    Some(after) if after != before => {
                        let changed = differences(after, before).join("\n");
                        let detail = format!("existing ephemeral containers {name:?} may not be changed\n{changed}");
                        errors.push(FieldError::forbidden(&field, detail));
                    }
                    Some(_) => {}
                }
            }
            errors
        }
        "resize" if meta::annotation(old, MIRROR).is_some() => {
            vec![FieldError::forbidden(&whole, "static pods cannot be resized")]
        }
        "resize" => resize(new, old),
        _ => Errors::new(),
    }
}

fn status(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let nominated = value::text(new, "status.nominatedNodeName");
    let at = Path::new("status.nominatedNodeName");
    if !nominated.is_empty() && nominated != value::text(old, "status.nominatedNodeName") {
        super::labels::invalid(&mut errors, &at, nominated, names::dns_subdomain(nominated));
        if !value::text(old, "spec.nodeName").is_empty() {
            errors.push(FieldError::forbidden(&at, "may not be set on pods that are already bound to a node"));
        }
    }
    if let Some(seen) = value::int(new, "status.observedGeneration").filter(|seen| *seen < 0) {
        let detail = "must be a non-negative integer";
        errors.push(FieldError::invalid(&Path::new("status.observedGeneration"), seen, detail));
    }
    unchanged(&mut errors, new, old, "status.qosClass");
    if matches!(value::text(old, "spec.restartPolicy"), "Never" | "OnFailure") {
        ended_stay_ended(&mut errors, new, old);
    }
    let addresses: Vec<&str> = value::items(new, "status.podIPs").iter().map(|ip| value::text(ip, "ip")).collect();
    for (i, address) in addresses.iter().enumerate() {
        let at = Path::new("status.podIPs").index(i);
        if names::ip(address).is_none() {
            errors.push(FieldError::invalid(&at, *address, names::NOT_AN_IP));
        }
        if addresses.iter().take(i).any(|other| other == address) {
            errors.push(FieldError::duplicate(&at, *address));
        }
    }
    errors
}

/// A container that ended for good does not run again.
fn ended_stay_ended(errors: &mut Errors, new: &Value, old: &Value) {
    let list = "status.containerStatuses";
    let always = value::text(old, "spec.restartPolicy") == "OnFailure";
    for before in value::items(old, list) {
        let Some(terminated) = value::get(before, "state.terminated").filter(|state| state.is_object()) else {
            continue;
        };
        let failed = value::int(terminated, "exitCode").unwrap_or_default() != 0;
        if failed && always {
            continue;
        }
        let name = value::text(before, "name");
        let after = value::items(new, list).iter().enumerate().find(|(_, status)| value::text(status, "name") == name);
        if let Some((i, after)) = after
            && value::get(after, "state.terminated").is_none_or(Value::is_null)
        {
            let at = Path::new(list).index(i).child("state");
            errors.push(FieldError::forbidden(&at, "may not be transitioned to non-terminated state"));
        }
    }
}

fn resize(new: &Value, old: &Value) -> Errors {
    let mut errors = pod_validation::pod(new);
    let field = Path::new("spec");
    if resources::qos_class(new) != resources::qos_class(old) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&field, value::text(new, "status.qosClass"), detail));
    }
    for list in ["containers", "initContainers"] {
        let path = format!("spec.{list}");
        for (i, (after, before)) in value::items(new, &path).iter().zip(value::items(old, &path)).enumerate() {
            for side in ["limits", "requests"] {
                let get = |container: &Value| {
                    let amounts = value::get(container, &format!("resources.{side}")).and_then(Value::as_object);
                    amounts.cloned().unwrap_or_default()
                };
                let (after, before) = (get(after), get(before));
                let other = after
                    .iter()
                    .chain(before.iter())
                    .any(|(name, _)| !matches!(name.as_str(), "cpu" | "memory") && after.get(name) != before.get(name));
                if other {
                    let at = field.child(list).index(i).child("resources").child(side);
                    errors.push(FieldError::forbidden(&at, "only cpu and memory resources are mutable"));
                }
                for name in ["cpu", "memory"] {
                    if before.contains_key(name) && !after.contains_key(name) {
                        let at = field.child(list).index(i).child("resources").child(side);
                        errors.push(FieldError::forbidden(&at, format!("resource {side} cannot be removed")));
                    }
                }
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    fn check(path: &str, to: Value, sentences: &[&str]) {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "i"}], "activeDeadlineSeconds": 5,
            "tolerations": [{"key": "a", "operator": "Exists"}]}});
        let mut new = old.clone();
        value::set(&mut new, path, to);
        let got = shown(&validate(&new, &old));
        assert_eq!(got.len(), sentences.len(), "{path}: {got:?}");
        for (got, wanted) in got.iter().zip(sentences) {
            assert!(got.starts_with(wanted), "{path}: {got}");
        }
    }

    #[test]
    fn little_may_change() {
        check("spec.containers", json!([{"name": "a", "image": "j"}]), &[]);
        check(
            "spec.tolerations",
            json!([{"key": "b"}, {"key": "a", "operator": "Exists", "tolerationSeconds": 1}]),
            &[],
        );
        check(
            "spec.tolerations",
            json!([]),
            &["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
        );
        check("spec.activeDeadlineSeconds", json!(4), &[]);
        check(
            "spec.activeDeadlineSeconds",
            json!(6),
            &["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"],
        );
        check(
            "spec.containers",
            json!([]),
            &["spec.containers: Forbidden: pod updates may not add or remove containers"],
        );
        check(
            "spec.nodeName",
            json!("n"),
            &["spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
             tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"],
        );
        check(
            "spec.schedulingGates",
            json!([{"name": "x"}]),
            &["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x'"],
        );
    }

    #[test]
    fn status_keeps_what_is_final() {
        let old = json!({"spec": {"restartPolicy": "Never", "nodeName": "n"}, "status": {"qosClass": "Burstable",
            "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 1}}}]}});
        let new = json!({"spec": old["spec"], "status": {"qosClass": "BestEffort", "nominatedNodeName": "m",
            "containerStatuses": [{"name": "a", "state": {"running": {}}}]}});
        assert_eq!(
            shown(&validate_part("status", &new, &old)),
            [
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
                "status.qosClass: Invalid value: \"BestEffort\": field is immutable",
                "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
            ]
        );
    }
}
