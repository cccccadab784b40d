//! What a pod as a whole may ask for (KEP-2837): its own requests and limits, and how they fit those of its containers.
//!
//! Never sums for quotas or scheduling; see `quota.rs`.

use super::pod_containers;
use super::{resource_names, resources};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use crate::quantity::Quantity;
use crate::{quota, value};

/// What is wrong with `resources` of a pod's spec; `field` is that of the spec.
#[must_use]
pub fn validate(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let Some(own) = spec.get("resources").filter(|own| own.is_object()) else { return errors };
    let at = field.child("resources");
    if value::text(spec, "os.name") == "windows" {
        errors.push(FieldError::forbidden(&at, "may not be set for a windows pod"));
        return errors;
    }
    let claims = at.child("claims");
    if !value::items(own, "claims").is_empty() {
        errors.push(FieldError::forbidden(&claims, "claims may not be set for Resources at pod-level"));
    }
    errors.extend(resources::validate_named(Some(own), &at, resource_names::of_pod));
    pod_containers::resource_claims(&mut errors, spec, spec, &claims);
    consistent(&mut errors, spec, own, &at);
    errors
}

/// The containers together ask for no more than the pod, and none may use more than it.
fn consistent(errors: &mut Errors, spec: &Value, own: &Value, field: &Path) {
    let empty = Map::new();
    // What the pod says for itself is no part of the sum.
    let mut containers = spec.clone();
    value::remove(&mut containers, "resources");
    let of = |holder: &Value, side: &str| value::get(holder, side).and_then(Value::as_object).cloned();
    for (side, what) in [("requests", "requests"), ("limits", "limits")] {
        let wanted = of(own, side).unwrap_or_else(|| empty.clone());
        for (name, sum) in quota::sums(&containers, side) {
            if side == "limits" && !name.starts_with("hugepages-") {
                continue;
            }
            let Some((text, amount)) = wanted.get(&name).and_then(quantity) else { continue };
            if sum > amount {
                let detail = format!("must be greater than or equal to aggregate container {what} of {sum}");
                errors.push(FieldError::invalid(&field.child(side).key(&name), text, detail));
            }
        }
    }
    let limits = of(own, "limits").unwrap_or(empty);
    for (i, container) in value::items(spec, "containers").iter().enumerate() {
        for (name, limit) in &of(container, "resources.limits").unwrap_or_default() {
            let (Some((most_text, most)), Some((text, amount))) =
                (limits.get(name).and_then(quantity), quantity(limit))
            else {
                continue;
            };
            if amount > most {
                let at = field.child("containers").index(i).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most_text}");
                errors.push(FieldError::invalid(&at, text, detail));
            }
        }
    }
}

fn quantity(value: &Value) -> Option<(&str, Quantity)> {
    let text = value.as_str()?;
    Some((text, text.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn a_pod_asks_for_what_its_containers_need() {
        let containers = json!([
            {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}},
            {"name": "b", "resources": {"requests": {"cpu": "200m"}}}]);
        for (own, sentences) in [
            (json!({"requests": {"cpu": "300m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}), &[][..]),
            (
                json!({"requests": {"cpu": "250m"}}),
                &["spec.resources.requests[cpu]: Invalid value: \"250m\": must be greater than or equal to aggregate \
                   container requests of 300m"],
            ),
            (
                json!({"limits": {"memory": "128Mi"}}),
                &["spec.resources.containers[0][memory].limits: Invalid value: \"256Mi\": must be less than or equal \
                   to pod limits of 128Mi"],
            ),
            (
                json!({"limits": {"ephemeral-storage": "1Gi"}}),
                &["spec.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported \
                   values: \"cpu\", \"hugepages-\", \"memory\""],
            ),
            (
                json!({"claims": [{"name": "x"}]}),
                &[
                    "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
                    "spec.resources.claims[0]: Not found: \"x\": must be one of the names in \
                     pod.spec.resourceClaims which is empty",
                ],
            ),
        ] {
            let spec = json!({"containers": containers, "resources": own});
            assert_eq!(shown(&validate(&spec, &Path::new("spec"))), sentences, "{own}");
        }
        let windows = json!({"os": {"name": "windows"}, "resources": {"limits": {"cpu": "1"}}});
        let found = shown(&validate(&windows, &Path::new("spec")));
        assert_eq!(found, ["spec.resources: Forbidden: may not be set for a windows pod"]);
    }
}
