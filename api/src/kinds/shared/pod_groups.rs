//! What workloads and pod groups of scheduling.k8s.io have in common: the policy of a group, its claims and constraints.
//!
//! Never knows which gates are on; what is behind one that is off is gone before. Source: KEP-4671.

use super::labels::invalid;
use super::{names, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::gated::Gated;
use crate::json::Value;
use crate::value;

/// A group without more has room for as many claims.
const CLAIMS: usize = 4;

/// The fields of a group that are behind gates, below `prefix`.
macro_rules! gated {
    ($prefix:literal $(, $more:expr)*) => {
        &[
            Gated { path: concat!($prefix, "schedulingConstraints"), gate: "TopologyAwareWorkloadScheduling" },
            Gated { path: concat!($prefix, "resourceClaims"), gate: "DRAWorkloadResourceClaims" },
            Gated { path: concat!($prefix, "disruptionMode"), gate: "WorkloadAwarePreemption" },
            Gated { path: concat!($prefix, "priorityClassName"), gate: "WorkloadAwarePreemption" },
            Gated { path: concat!($prefix, "priority"), gate: "WorkloadAwarePreemption" },
            $($more),*
        ]
    };
}

/// Those of a pod group.
pub const GATED: &[Gated] =
    gated!("spec.", Gated { path: "status.resourceClaimStatuses", gate: "DRAWorkloadResourceClaims" });
/// Those of the templates of a workload.
pub const GATED_OF_TEMPLATES: &[Gated] = gated!("spec.podGroupTemplates[].");

/// A text that must be there and follow a rule.
pub fn required_name(errors: &mut Errors, object: &Value, name: &str, field: &Path, rule: fn(&str) -> names::Messages) {
    let text = rules::required(errors, object, name, field);
    if !text.is_empty() {
        invalid(errors, &field.child(name), text, rule(text));
    }
}

/// Exactly one of the members is there.
pub fn union(errors: &mut Errors, object: &Value, field: &Path, members: &[&str]) {
    let there: Vec<&str> =
        members.iter().copied().filter(|name| object.get(name).is_some_and(|member| !member.is_null())).collect();
    let all: Vec<String> = members.iter().map(|name| format!("`{name}`")).collect();
    let all = all.join(", ");
    match there.as_slice() {
        [_] => {}
        [] => errors.push(FieldError::invalid(field, "", format!("must specify one of: {all}"))),
        many => {
            let shown = format!("{{{}}}", many.join(", "));
            errors.push(FieldError::invalid(field, shown, format!("must specify exactly one of: {all}")));
        }
    }
}

/// At most `max` elements, each with a name of its own. Answers whether the elements are worth a look.
pub fn named(errors: &mut Errors, list: &[Value], field: &Path, max: usize) -> bool {
    if list.len() > max {
        errors.push(FieldError::too_many(field, list.len(), max));
        return false;
    }
    for (i, element) in list.iter().enumerate() {
        let same = |other: &Value| value::text(other, "name") == value::text(element, "name");
        if list.iter().take(i).any(same) {
            errors.push(FieldError::duplicate(&field.index(i), element.clone()));
        }
    }
    true
}

/// A field that may not change, as upstream's declared rules say it: without the value.
pub fn immutable(errors: &mut Errors, new: &Value, old: &Value, path: &str) {
    if rules::differ(value::get(new, path), value::get(old, path)) {
        errors.push(FieldError::invalid(&Path::new(path), Value::Null, rules::IMMUTABLE));
    }
}

/// What a pod group and a template of one say alike.
pub fn validate(errors: &mut Errors, group: &Value, field: &Path) {
    policy(errors, group.get("schedulingPolicy").unwrap_or(&Value::Null), &field.child("schedulingPolicy"));
    if let Some(constraints) = group.get("schedulingConstraints").filter(|given| !given.is_null()) {
        topology(errors, constraints, &field.child("schedulingConstraints.topology"));
    }
    let at = field.child("resourceClaims");
    let claims = value::items(group, "resourceClaims");
    if named(errors, claims, &at, CLAIMS) {
        for (i, of) in claims.iter().enumerate() {
            claim(errors, of, &at.index(i));
        }
    }
    if let Some(mode) = group.get("disruptionMode").and_then(Value::as_str) {
        let known = &["Pod", "PodGroup"];
        if !known.contains(&mode) {
            errors.push(FieldError::not_supported(&field.child("disruptionMode"), mode, known));
        }
    }
    let class = value::text(group, "priorityClassName");
    if !class.is_empty() {
        invalid(errors, &field.child("priorityClassName"), class, names::long_name(class));
    }
    if let Some(priority) = value::int(group, "priority").filter(|priority| *priority > HIGHEST_FOR_USERS) {
        let detail = format!("must be less than or equal to {HIGHEST_FOR_USERS}");
        errors.push(FieldError::invalid(&field.child("priority"), priority, detail));
    }
}

/// The highest priority that is not the system's.
const HIGHEST_FOR_USERS: i64 = 1_000_000_000;

fn policy(errors: &mut Errors, policy: &Value, field: &Path) {
    union(errors, policy, field, &["basic", "gang"]);
    let Some(gang) = policy.get("gang").filter(|gang| !gang.is_null()) else { return };
    let field = field.child("gang.minCount");
    match value::int(gang, "minCount").unwrap_or_default() {
        0 => errors.push(FieldError::required(&field, "")),
        count if count < 1 => errors.push(FieldError::invalid(&field, count, "must be greater than or equal to 1")),
        _ => {}
    }
}

fn topology(errors: &mut Errors, constraints: &Value, field: &Path) {
    let list = value::items(constraints, "topology");
    if list.len() > 1 {
        errors.push(FieldError::too_many(field, list.len(), 1));
        return;
    }
    for (i, constraint) in list.iter().enumerate() {
        required_name(errors, constraint, "key", &field.index(i), names::qualified_name);
    }
}

fn claim(errors: &mut Errors, claim: &Value, field: &Path) {
    const SOURCES: &[&str] = &["resourceClaimName", "resourceClaimTemplateName"];
    union(errors, claim, field, SOURCES);
    required_name(errors, claim, "name", field, names::short_name);
    for name in SOURCES {
        rules::text(errors, claim, name, field, names::long_name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn groups() {
        let check = |group: Value, sentences: &[&str]| {
            let mut errors = Errors::new();
            validate(&mut errors, &group, &Path::new("g"));
            assert_eq!(shown(&errors), sentences, "{group}");
        };
        let with = |name: &str, part: Value| json!({"schedulingPolicy": {"basic": {}}, name: part});
        check(with("priority", json!(1_000_000_000)), &[]);
        check(json!({"schedulingPolicy": {"gang": {"minCount": 1}}}), &[]);
        check(json!({}), &["g.schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`"]);
        check(
            json!({"schedulingPolicy": {"basic": {}, "gang": {"minCount": -1}}}),
            &[
                "g.schedulingPolicy: Invalid value: \"{basic, gang}\": must specify exactly one of: `basic`, `gang`",
                "g.schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1",
            ],
        );
        check(
            json!({"schedulingPolicy": {"gang": {"minCount": 0}}}),
            &["g.schedulingPolicy.gang.minCount: Required value"],
        );
        check(
            with("priority", json!(1_000_000_001)),
            &["g.priority: Invalid value: 1000000001: must be less than or equal to 1000000000"],
        );
        check(
            with("disruptionMode", json!("All")),
            &["g.disruptionMode: Unsupported value: \"All\": supported values: \"Pod\", \"PodGroup\""],
        );
        check(
            with("schedulingConstraints", json!({"topology": [{"key": "/x"}]})),
            &["g.schedulingConstraints.topology[0].key: Invalid value: \"/x\": prefix part must be non-empty"],
        );
        check(
            with("schedulingConstraints", json!({"topology": [{}, {}]})),
            &["g.schedulingConstraints.topology: Too many: 2: must have at most 1 item"],
        );
        let fine = json!({"name": "a", "resourceClaimName": "b"});
        check(with("resourceClaims", json!([fine])), &[]);
        check(
            with("resourceClaims", json!([fine, fine])),
            &["g.resourceClaims[1]: Duplicate value: {\"name\":\"a\",\"resourceClaimName\":\"b\"}"],
        );
        check(
            with("resourceClaims", vec![fine; 5].into()),
            &["g.resourceClaims: Too many: 5: must have at most 4 items"],
        );
        check(
            with("resourceClaims", json!([{}])),
            &[
                "g.resourceClaims[0]: Invalid value: \"\": must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
                "g.resourceClaims[0].name: Required value",
            ],
        );
    }
}
