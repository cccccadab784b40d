//! What is wrong with the fields that say where a pod may run: affinity, tolerations, spreading; taints of nodes.
//!
//! Never places a pod.

use super::labels::{invalid, validate_selector};
use super::names;
use super::rules::given_one_of;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// What taints do.
pub const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `spec.affinity`.
#[must_use]
pub fn affinity(affinity: Option<&Value>, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let Some(affinity) = affinity else { return errors };
    if let Some(node) = affinity.get("nodeAffinity") {
        let at = field.child("nodeAffinity");
        if let Some(selector) = node.get(REQUIRED).filter(|selector| selector.is_object()) {
            node_selector(&mut errors, selector, &at.child(REQUIRED));
        }
        for (i, term) in value::items(node, PREFERRED).iter().enumerate() {
            let at = at.child(PREFERRED).index(i);
            weight(&mut errors, term, &at);
            let preference = term.get("preference").unwrap_or(&Value::Null);
            node_term(&mut errors, preference, Labels::Warned, &at.child("preference"));
        }
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.get(side) else { continue };
        let at = field.child(side);
        for (i, term) in value::items(pods, REQUIRED).iter().enumerate() {
            pod_term(&mut errors, term, &at.child(REQUIRED).index(i));
        }
        for (i, term) in value::items(pods, PREFERRED).iter().enumerate() {
            let at = at.child(PREFERRED).index(i);
            weight(&mut errors, term, &at);
            let term = term.get("podAffinityTerm").unwrap_or(&Value::Null);
            pod_term(&mut errors, term, &at.child("podAffinityTerm"));
        }
    }
    errors
}

fn weight(errors: &mut Errors, term: &Value, field: &Path) {
    let weight = value::int(term, "weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&field.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// A `NodeSelector`: what `requiredDuringScheduling…` of a pod and `required` of a volume hold.
pub fn node_selector(errors: &mut Errors, selector: &Value, field: &Path) {
    let field = field.child("nodeSelectorTerms");
    let terms = value::items(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(&field, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(errors, term, Labels::Checked, &field.index(i));
    }
}

/// What happens to values that no label can have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Labels {
    /// They are wrong.
    Checked,
    /// A warning says so.
    Warned,
}

fn node_term(errors: &mut Errors, term: &Value, labels: Labels, field: &Path) {
    for (i, requirement) in value::items(term, "matchExpressions").iter().enumerate() {
        let field = field.child("matchExpressions").index(i);
        let values: Vec<&str> = value::items(requirement, "values").iter().filter_map(Value::as_str).collect();
        let at = field.child("values");
        match value::text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors
                .push(FieldError::forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")),
            "Gt" | "Lt" if values.len() != 1 => {
                errors
                    .push(FieldError::required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                errors.push(FieldError::invalid(&field.child("operator"), other, "not a valid selector operator"));
            }
        }
        let key = value::text(requirement, "key");
        invalid(errors, &field.child("key"), key, names::qualified_name(key));
        for (j, value) in values.iter().enumerate().filter(|_| labels == Labels::Checked) {
            invalid(errors, &at.index(j), value, names::label_value(value));
        }
    }
    for (i, requirement) in value::items(term, "matchFields").iter().enumerate() {
        let field = field.child("matchFields").index(i);
        let values: Vec<&str> = value::items(requirement, "values").iter().filter_map(Value::as_str).collect();
        match value::text(requirement, "operator") {
            "In" | "NotIn" if values.len() == 1 => {}
            "In" | "NotIn" => errors.push(FieldError::required(
                &field.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )),
            other => {
                errors.push(FieldError::invalid(&field.child("operator"), other, "not a valid selector operator"));
            }
        }
        match value::text(requirement, "key") {
            "metadata.name" => {
                for (j, name) in values.iter().enumerate() {
                    invalid(errors, &field.child("values").index(j), name, names::dns_subdomain(name));
                }
            }
            key => errors.push(FieldError::invalid(&field.child("key"), key, "not a valid field selector key")),
        }
    }
}

fn pod_term(errors: &mut Errors, term: &Value, field: &Path) {
    for name in ["labelSelector", "namespaceSelector"] {
        errors.extend(validate_selector(term.get(name), &field.child(name)));
    }
    for namespace in value::items(term, "namespaces").iter().filter_map(Value::as_str) {
        invalid(errors, &field.child("namespace"), namespace, names::dns_label(namespace));
    }
    label_keys(errors, term, field);
    let key = value::text(term, "topologyKey");
    let at = field.child("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&at, "can not be empty"));
    }
    invalid(errors, &at, key, names::qualified_name(key));
}

fn label_keys(errors: &mut Errors, term: &Value, field: &Path) {
    let unmatched: Vec<&str> = value::items(term, "mismatchLabelKeys").iter().filter_map(Value::as_str).collect();
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = value::items(term, list);
        let at = field.child(list);
        if !keys.is_empty() && term.get("labelSelector").is_none_or(Value::is_null) {
            errors.push(FieldError::forbidden(&at, "must not be specified when labelSelector is not set"));
        }
        for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
            invalid(errors, &at.index(i), key, names::qualified_name(key));
            if list == "matchLabelKeys" && unmatched.contains(&key) {
                let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
                errors.push(FieldError::invalid(&at.index(i), key, detail));
            }
        }
    }
}

/// What is odd about an affinity, and allowed.
#[must_use]
pub fn affinity_warnings(affinity: &Value, field: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let at = field.child("nodeAffinity").child(PREFERRED);
    for (i, term) in value::items(affinity, &format!("nodeAffinity.{PREFERRED}")).iter().enumerate() {
        for (j, requirement) in value::items(term, "preference.matchExpressions").iter().enumerate() {
            for (k, text) in value::items(requirement, "values").iter().filter_map(Value::as_str).enumerate() {
                let at = || at.index(i).child("preference.matchExpressions").index(j).child("values").index(k);
                out.extend(
                    names::label_value(text).into_iter().map(|why| format!("{}: {text} is invalid, {why}", at())),
                );
            }
        }
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        for (list, term) in [(REQUIRED, ""), (PREFERRED, "podAffinityTerm")] {
            for (i, item) in value::items(affinity, &format!("{side}.{list}")).iter().enumerate() {
                let named = if term.is_empty() { Some(item) } else { item.get(term) };
                if named.is_none_or(|term| term.get("labelSelector").is_none_or(Value::is_null)) {
                    let at = field.child(side).child(list).index(i);
                    let at = if term.is_empty() { at } else { at.child(term) }.child("labelSelector");
                    out.push(format!("{at}: a null labelSelector results in matching no pod"));
                }
            }
        }
    }
    out
}

/// `spec.topologySpreadConstraints`.
#[must_use]
pub fn spread(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let constraints = value::items(spec, "topologySpreadConstraints");
    for (i, constraint) in constraints.iter().enumerate() {
        let field = field.index(i);
        let skew = value::int(constraint, "maxSkew").unwrap_or_default();
        if skew <= 0 {
            errors.push(FieldError::invalid(&field.child("maxSkew"), skew, "must be greater than zero"));
        }
        let key = value::text(constraint, "topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(&field.child("topologyKey"), "can not be empty"));
        }
        let action = value::text(constraint, "whenUnsatisfiable");
        let actions = &["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.push(FieldError::not_supported(&field.child("whenUnsatisfiable"), action, actions));
        }
        let same = |other: &Value| {
            value::text(other, "topologyKey") == key && value::text(other, "whenUnsatisfiable") == action
        };
        if constraints.iter().skip(i + 1).any(same) {
            let at = field.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&at, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = value::int(constraint, "minDomains") {
            let at = field.child("minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(&at, domains, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(&at, domains, detail));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            given_one_of(&mut errors, constraint, policy, &field, &["Honor", "Ignore"]);
        }
        label_keys(&mut errors, constraint, &field);
        errors.extend(validate_selector(constraint.get("labelSelector"), &field.child("labelSelector")));
    }
    errors
}

/// `spec.tolerations`.
#[must_use]
pub fn tolerations(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    for (i, toleration) in value::items(spec, "tolerations").iter().enumerate() {
        let field = field.index(i);
        let get = |name: &str| value::text(toleration, name);
        let (key, operator, effect, text) = (get("key"), get("operator"), get("effect"), get("value"));
        let at = field.child("operator");
        if key.is_empty() {
            if operator != "Exists" {
                let detail =
                    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
                errors.push(FieldError::invalid(&at, operator, detail));
            }
        } else {
            invalid(&mut errors, &field.child("key"), key, names::qualified_name(key));
        }
        if toleration.get("tolerationSeconds").is_some_and(|s| !s.is_null()) && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&field.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let messages = names::label_value(text);
                if !messages.is_empty() {
                    errors.push(FieldError::invalid(&at, text, messages.join(";")));
                }
            }
            "Exists" => {
                if !text.is_empty() {
                    errors.push(FieldError::invalid(&at, text, "value must be empty when `operator` is 'Exists'"));
                }
            }
            other => errors.push(FieldError::not_supported(&at, other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported_as_listed(&field.child("effect"), effect, EFFECTS));
        }
    }
    errors
}

/// The taints of a node.
#[must_use]
pub fn taints(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let taints = value::items(spec, "taints");
    for (i, taint) in taints.iter().enumerate() {
        let field = field.index(i);
        let (key, text) = (value::text(taint, "key"), value::text(taint, "value"));
        invalid(&mut errors, &field.child("key"), key, names::qualified_name(key));
        let messages = names::label_value(text);
        if !messages.is_empty() {
            errors.push(FieldError::invalid(&field.child("value"), text, messages.join(";")));
        }
        super::rules::required_one_of_listed(&mut errors, taint, "effect", &field, EFFECTS);
        let same = |other: &Value| other.get("key") == taint.get("key") && other.get("effect") == taint.get("effect");
        if taints.iter().take(i).any(same) {
            let detail = "taints must be unique by key and effect pair".to_owned();
            let error = FieldError { detail, ..FieldError::duplicate(&field, Value::Null) };
            errors.push(error.showing("Taint", taint));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn tolerations_and_taints() {
        let spec = json!({"tolerations": [{"operator": "Exists"}, {"key": "a", "operator": "Exists", "value": "x"},
            {"key": "a", "tolerationSeconds": 1}, {"operator": "Equal"}, {"key": "a", "effect": "Odd"}]});
        assert_eq!(
            shown(&tolerations(&spec, &Path::new("t"))),
            [
                "t[1].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
                "t[2].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
                "t[3].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all \
                 values and all keys\"",
                "t[4].effect: Unsupported value: \"Odd\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ]
        );
        let spec = json!({"taints": [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]});
        assert_eq!(
            shown(&taints(&spec, &Path::new("t"))),
            [
                "t[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"\",\"Effect\":\"NoExecute\",\"TimeAdded\":null}: taints must be unique by key and effect pair"
            ]
        );
    }

    #[test]
    fn affinities_and_spreading() {
        let object = json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "a", "operator": "In"}, {"key": "b", "operator": "Gt", "values": ["1", "2"]}]}]}},
            "podAntiAffinity": {PREFERRED: [{"weight": 0, "podAffinityTerm": {"topologyKey": "z"}}]}});
        assert_eq!(
            shown(&affinity(Some(&object), &Path::new("a"))),
            [
                format!(
                    "a.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                ),
                format!(
                    "a.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
                ),
                format!("a.podAntiAffinity.{PREFERRED}[0].weight: Invalid value: 0: must be in the range 1-100"),
            ]
        );
        let constraint = json!({"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"});
        let spec = json!({ "topologySpreadConstraints": [constraint, constraint] });
        assert_eq!(
            shown(&spread(&spec, &Path::new("t"))),
            [
                "t[0].maxSkew: Invalid value: 0: must be greater than zero",
                "t[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{z, DoNotSchedule}\"",
                "t[1].maxSkew: Invalid value: 0: must be greater than zero",
            ]
        );
    }
}
