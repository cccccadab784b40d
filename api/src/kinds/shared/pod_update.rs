//! What may change in a pod once it exists.
//!
//! Never judges the new pod by itself; `pod_validation` does.

use super::pod_profiles::APPARMOR;
use super::pod_validation::{self, MAX_SECONDS, MIRROR};
use super::rules::differ;
use super::{difference, labels, names, pod_resize, pod_scheduling, pod_status};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::schema::native;
use crate::{meta, value};

/// What upstream lists in the refusal of a change.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
    to 1 if it was previously negative)";

/// A change through the pod itself.
#[must_use]
pub fn validate(new: &Value, old: &Value) -> Errors {
    let mut errors = annotations(new, old);
    let field = Path::new("spec");
    let none = Value::Null;
    let (new, old) = (new.get("spec").unwrap_or(&none), old.get("spec").unwrap_or(&none));
    for list in ["containers", "initContainers"] {
        if value::items(new, list).len() != value::items(old, list).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&field.child(list), detail));
            return errors;
        }
        for (i, container) in value::items(new, list).iter().enumerate() {
            let image = value::text(container, "image");
            let at = field.child(list).index(i).child("image");
            if image.is_empty() {
                errors.push(FieldError::required(&at, ""));
            }
            if image.trim() != image {
                errors.push(FieldError::invalid(&at, image, "must not have leading or trailing whitespace"));
            }
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
    } else {
        errors.extend(pod_scheduling::tolerations(new, &field.child("tolerations")));
    }
    let gates = value::items(old, "schedulingGates");
    let wanted = value::items(new, "schedulingGates");
    for (i, gate) in wanted.iter().enumerate() {
        let name = value::text(gate, "name");
        // Of several with one name the last is told.
        let again = wanted.iter().skip(i + 1).any(|other| value::text(other, "name") == name);
        if !again && !gates.iter().any(|other| value::text(other, "name") == name) {
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
    if spec_differs(&munged, old) {
        let changed = difference::internal("PodSpec", old, &munged);
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{changed}");
        errors.push(FieldError::forbidden(&field, detail));
    }
    errors
}

fn without_seconds(toleration: &Value) -> Value {
    let mut toleration = toleration.clone();
    value::remove(&mut toleration, "tolerationSeconds");
    toleration
}

/// Annotations that say what a pod is stay as they are.
#[must_use]
pub fn annotations(new: &Value, old: &Value) -> Errors {
    let field = Path::new("metadata.annotations");
    let of = |pod| labels::map(pod, "metadata.annotations").cloned().unwrap_or_default();
    let (after, before) = (of(new), of(old));
    let mut errors = Errors::new();
    let mut forbid = |key: &str, done: &str, done_to_armor: &str| {
        if key.starts_with(APPARMOR) {
            errors
                .push(FieldError::forbidden(&field.key(key), format!("may not {done_to_armor} AppArmor annotations")));
        } else if key == MIRROR {
            errors.push(FieldError::forbidden(&field.key(key), format!("may not {done} mirror pod annotation")));
        }
    };
    for (key, value) in &before {
        if after.get(key) != Some(value) {
            forbid(key, "remove or update", "remove or update");
        }
    }
    for (key, _) in after.iter().filter(|(key, _)| !before.contains_key(key.as_str())) {
        forbid(key, "add", "add");
    }
    errors.extend(pod_validation::annotations(new, &field));
    errors
}

/// While gates hold a pod, its node selector may grow and its node affinity may narrow.
fn gated(errors: &mut Errors, munged: &mut Value, old: &Value, field: &Path) {
    const REQUIRED: &str = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let selector = |spec: &Value| labels::map(spec, "nodeSelector").cloned().unwrap_or_default();
    let wanted = selector(munged);
    if selector(old).iter().any(|(key, value)| wanted.get(key) != Some(value)) {
        let at = field.child("nodeSelector");
        let shown = if wanted.is_empty() { Value::Null } else { wanted.into() };
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(&at, shown, detail));
    }
    let (after, before) = (value::items(munged, REQUIRED), value::items(old, REQUIRED));
    let at = field.child(REQUIRED);
    if !before.is_empty() && before.len() != after.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let terms = value::get(munged, REQUIRED).unwrap_or(&Value::Null);
        errors.push(FieldError::invalid_whole(&at, detail).showing("[]NodeSelectorTerm", terms));
    } else {
        for (i, (after, _)) in
            after.iter().zip(before).enumerate().filter(|(_, (after, before))| !narrows(after, before))
        {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid_whole(&at.index(i), detail).showing("NodeSelectorTerm", after));
        }
    }
    super::parts::copy(munged, old, "nodeSelector");
    super::parts::copy(munged, old, "affinity.nodeAffinity");
    if munged.get("affinity").is_some_and(super::rules::is_zero) && old.get("affinity").is_none() {
        value::remove(munged, "affinity");
    }
}

const REQUIREMENTS: [&str; 2] = ["matchExpressions", "matchFields"];

/// A term selects no node that it did not select before: its requirements are there still, in their order. One without any selects
/// nothing, and what is added to it would.
fn narrows(after: &Value, before: &Value) -> bool {
    let of = |term| REQUIREMENTS.map(|list| value::items(term, list));
    let (after, before) = (of(after), of(before));
    let empty = |lists: &[&[Value]; 2]| lists.iter().all(|list| list.is_empty());
    if empty(&before) {
        return empty(&after);
    }
    after.iter().zip(&before).all(|(after, before)| after.starts_with(before))
}

/// Null, empty and absent are the same.
fn spec_differs(new: &Value, old: &Value) -> bool {
    let names =
        |spec: &Value| spec.as_object().map(|spec| spec.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    // Behind a pointer of Go's nothing and something empty differ.
    let pointer = |name: &str| {
        let schema = native().schema("io.k8s.api.core.v1.PodSpec");
        schema.and_then(|schema| schema.def().field(name)).is_some_and(|field| field.pointer)
    };
    let there = |spec: &Value, name: &str| spec.get(name).is_some_and(|value| !value.is_null());
    names(new)
        .iter()
        .chain(&names(old))
        .any(|name| differ(new.get(name), old.get(name)) || pointer(name) && there(new, name) != there(old, name))
}

/// A change through `status`, `ephemeralcontainers` or `resize`.
#[must_use]
pub fn validate_part(part: &str, new: &Value, old: &Value) -> Errors {
    // Upstream's name of an object whole where it has a path without a name.
    let whole = Path::new("[]");
    match part {
        "status" => pod_status::validate(new, old),
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
                        let changed = difference::internal("EphemeralContainer", before, after);
                        let detail = format!("existing ephemeral containers {name:?} may not be changed\n{changed}");
                        errors.push(FieldError::forbidden(&field, detail));
                    }
                    Some(_) => {}
                }
            }
            errors
        }
        "resize" => pod_resize::validate(new, old),
        _ => Errors::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    fn check(path: &str, to: Value, sentences: &[&str]) {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "i"}], "activeDeadlineSeconds": 5,
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute"}]}});
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
            json!([{"key": "b"}, {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]),
            &[],
        );
        check(
            "spec.tolerations",
            json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}, {"key": "b", "effect": "x"}]),
            &["spec.tolerations[1].effect: Unsupported value: \"x\""],
        );
        check("spec.containers", json!([{"name": "a"}]), &["spec.containers[0].image: Required value"]);
        check(
            "spec.containers",
            json!([{"name": "a", "image": "i "}]),
            &["spec.containers[0].image: Invalid value: \"i \": must not have leading or trailing whitespace"],
        );
        check("spec.resources", json!({}), &["spec: Forbidden: pod updates may not change fields other than"]);
        check(
            "spec.schedulingGates",
            json!([{"name": "x"}, {"name": "x"}]),
            &["spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x'"],
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
    fn gated_pods_may_ask_for_less() {
        let term = |values: &[&str]| json!({"key": "a", "operator": "In", "values": values});
        let pod = |terms: Value| {
            json!({"spec": {"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}, "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms }}}}})
        };
        let old = pod(json!([{"matchExpressions": [term(&["b"])]}, {}]));
        let wrong = |new: &Value| shown(&validate(new, &old));
        assert!(
            wrong(&pod(json!([{"matchExpressions": [term(&["b"]), term(&["c"])], "matchFields": [term(&[])]}, {}])))
                .is_empty()
        );
        const AT: &str = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        const ADDITIONS: &str = "only additions are allowed (no mutations or deletions)";
        assert_eq!(
            wrong(&pod(json!([{"matchExpressions": [term(&["c"])]}, {"matchFields": [term(&[])]}]))),
            [
                format!(
                    "{AT}[0]: Invalid value: {{\"MatchExpressions\":[{{\"Key\":\"a\",\"Operator\":\"In\",\"Values\":[\"c\"]}}],\
                     \"MatchFields\":null}}: {ADDITIONS}"
                ),
                format!(
                    "{AT}[1]: Invalid value: {{\"MatchExpressions\":null,\"MatchFields\":[{{\"Key\":\"a\",\"Operator\":\"In\",\
                     \"Values\":[]}}]}}: {ADDITIONS}"
                ),
            ]
        );
        let mut new = old.clone();
        value::remove(&mut new, "spec.affinity");
        value::set(&mut new, "spec.nodeSelector", json!({"a": "c"}));
        assert_eq!(
            wrong(&new),
            [
                "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or \
                 deletions)"
                    .to_owned(),
                format!("{AT}: Invalid value: null: no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
            ]
        );
    }

    #[test]
    fn annotations_that_say_what_a_pod_is_stay() {
        let pod = |annotations: Value| json!({"metadata": {"annotations": annotations}, "spec": {"nodeName": "n", "containers": [{"name": "a"}]}});
        let armor = format!("{APPARMOR}a");
        let [bare, told] = [json!({"x": "1"}), json!({MIRROR: "1", armor.as_str(): "unconfined"})].map(pod);
        for (old, new, sentences) in [
            (&told, &told, &[][..]),
            (&bare, &told, &["may not add AppArmor annotations", "may not add mirror pod annotation"]),
            (
                &told,
                &bare,
                &["may not remove or update AppArmor annotations", "may not remove or update mirror pod annotation"],
            ),
        ] {
            let details: Vec<String> = annotations(new, old).into_iter().map(|error| error.detail).collect();
            assert_eq!(details, sentences);
        }
    }
}
