//! `limitranges`: bounds and defaults of what pods, containers and claims in a namespace may ask for.
//!
//! Never enforces them. Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use crate::judgement::Judgement;
use crate::kind::{Hooks, Kind, describe};
use crate::kinds::shared::{labels, names, quantities, rbac, resource_names};
use crate::meta;
use crate::quantity::Quantity;
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    create_on_update: true,
    columns: rbac::ROLE_COLUMNS,
    describe: describe::<k8s_openapi::api::core::v1::LimitRange>,
    judgement: Judgement::ONLY_AS_NEW,
    hooks: &LimitRange,
    ..Kind::BASE
};

struct LimitRange;

impl Hooks for LimitRange {
    fn default(&self, object: &mut Value) {
        for limit in value::items_mut(object, "spec.limits").iter_mut().filter(|limit| limit.is_object()) {
            for list in LISTS {
                quantities::round_up(limit, list);
            }
            if value::text(limit, "type") == "Container" {
                fill(limit, "max", "default");
                fill(limit, "default", "defaultRequest");
                fill(limit, "min", "defaultRequest");
            }
        }
    }

    /// One without a name gets one, as nobody looks for it by name.
    fn prepare_create(&self, object: &mut Value) {
        if meta::name(object).is_empty() {
            let uid = meta::uid(object).to_owned();
            value::set(object, "metadata.name", uid);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let limits = value::items(object, "spec.limits");
        for (i, limit) in limits.iter().enumerate() {
            let field = Path::new("spec.limits").index(i);
            validate_limit(&mut errors, limit, &field, limits.get(..i).unwrap_or_default());
        }
        errors
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        rbac::role_row(object)
    }
}

const LISTS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// What one list says and the other does not goes there.
fn fill(limit: &mut Value, from: &str, to: &str) {
    let Some(given) = labels::map(limit, from).filter(|given| !given.is_empty()).cloned() else { return };
    let target = value::map_mut(limit, to);
    for (name, amount) in given {
        target.entry(name).or_insert(amount);
    }
}

fn validate_limit(errors: &mut Errors, limit: &Value, field: &Path, before: &[Value]) {
    let kind = value::text(limit, "type");
    let at = field.child("type");
    let messages = names::qualified_name(kind);
    if messages.is_empty() && !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
        errors.push(FieldError::invalid(&at, kind, "must be a standard limit type or fully qualified"));
    }
    labels::invalid(errors, &at, kind, messages);
    if before.iter().any(|other| value::text(other, "type") == kind) {
        errors.push(FieldError::duplicate(&at, kind));
    }
    let list = |name: &str| labels::map(limit, name).into_iter().flatten();
    let mut checked: Map = Map::new();
    for name in LISTS {
        if kind == "Pod" && name.starts_with("default") {
            if list(name).next().is_some() {
                errors.push(FieldError::forbidden(&field.child(name), "may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        if kind == "PersistentVolumeClaim" && *name == "maxLimitRequestRatio" {
            claim_has_bounds(errors, limit, field);
        }
        for (resource, _) in list(name) {
            let at = field.child(name).key(resource);
            if matches!(kind, "Pod" | "Container") {
                resource_names::of_container(errors, resource, &at);
            } else {
                resource_names::known(errors, resource, &at);
            }
            checked.insert(resource.clone(), Value::Null);
        }
    }
    for resource in checked.keys() {
        validate_resource(errors, limit, field, kind, resource);
    }
}

fn claim_has_bounds(errors: &mut Errors, limit: &Value, field: &Path) {
    let there = |list: &str| labels::map(limit, list).is_some_and(|list| list.contains_key("storage"));
    if !there("min") && !there("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&field.child("limits"), detail));
    }
}

/// The amounts of one resource go together.
fn validate_resource(errors: &mut Errors, limit: &Value, field: &Path, kind: &str, resource: &str) {
    let get =
        |list: &str| quantities::of(limit, list, resource).filter(|_| kind != "Pod" || !list.starts_with("default"));
    let (min, max) = (get("min"), get("max"));
    let (default, request) = (get("default"), get("defaultRequest"));
    // The smaller one, its name, the larger one, its name; where the error is, and which value it shows.
    let pairs = [
        ((min, "min value"), (max, "max value"), "min", min),
        ((min, "min value"), (request, "default request value"), "defaultRequest", request),
        ((request, "default request value"), (max, "max value"), "defaultRequest", request),
        ((request, "default request value"), (default, "default limit value"), "defaultRequest", request),
        ((min, "min value"), (default, "default value"), "default", min),
        ((default, "default value"), (max, "max value"), "default", max),
    ];
    for ((small, small_name), (large, large_name), list, shown) in pairs {
        if let (Some(small), Some(large), Some(shown)) = (small, large, shown)
            && small > large
        {
            let detail = format!("{small_name} {small} is greater than {large_name} {large}");
            errors.push(FieldError::invalid(&field.child(list).key(resource), shown.to_string(), detail));
        }
    }
    if let Some(ratio) = get("maxLimitRequestRatio") {
        let at = field.child("maxLimitRequestRatio").key(resource);
        if ratio < Quantity::of(1, ratio.format()) {
            let detail = format!("ratio {ratio} is less than 1");
            errors.push(FieldError::invalid(&at, ratio.to_string(), detail));
        }
        if let (Some(min), Some(max)) = (min, max) {
            ratio_fits(errors, ratio, min, max, &at);
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !resource_names::overcommits(resource)
        && default != request
    {
        let at = field.child("defaultRequest").key(resource);
        let detail = format!("default value {default} must equal to defaultRequest value {request} in {resource}");
        errors.push(FieldError::invalid(&at, request.to_string(), detail));
    }
}

/// No limit can be further above its request than the largest is above the smallest.
fn ratio_fits(errors: &mut Errors, ratio: Quantity, min: Quantity, max: Quantity, field: &Path) {
    // Thousandths where they fit into 64 bits, as upstream counts.
    const MOST: i64 = i64::MAX / 1000;
    let fine = [ratio, min, max].iter().all(|quantity| quantity.value() < MOST);
    let count = |quantity: Quantity| if fine { quantity.milli_value() } else { quantity.value() };
    #[allow(clippy::cast_precision_loss, reason = "a ratio is shown with six digits")]
    let float = |count: i64| count as f64;
    let allowed = float(count(max)) / float(count(min));
    let wanted = if fine { float(ratio.milli_value()) / 1000.0 } else { float(ratio.value()) };
    if wanted > allowed {
        let detail = format!("ratio {ratio} is greater than max/min = {allowed:.6}");
        errors.push(FieldError::invalid(field, ratio.to_string(), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn of(limit: &Value) -> Value {
        json!({"metadata": {"name": "l"}, "spec": {"limits": [limit]}})
    }

    #[test]
    fn containers_have_defaults() {
        testing::defaults(
            &KIND,
            of(&json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "100u"}})),
            &of(&json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1m"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1m"}})),
        );
        let pod = of(&json!({"type": "Pod", "max": {"cpu": "2"}}));
        testing::defaults(&KIND, pod.clone(), &pod);
    }

    #[test]
    fn limits_go_together() {
        for (limit, sentences) in [
            (
                json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "2"}}),
                vec![],
            ),
            (json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}), vec![]),
            (
                json!({"type": "Odd"}),
                vec!["spec.limits[0].type: Invalid value: \"Odd\": must be a standard limit type or fully qualified"],
            ),
            (
                json!({"type": "Container", "max": {"storage": "1"}}),
                vec![
                    "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"type": "PersistentVolumeClaim"}),
                vec![
                    "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither \
                     was provided",
                ],
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "1"}, "min": {"cpu": "3"}, "max": {"cpu": "2"}}),
                vec![
                    "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                    "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
                ],
            ),
            (
                json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "4"}, "default": {"cpu": "1"},
                    "defaultRequest": {"cpu": "5"}}),
                vec![
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"5\": default request value 5 is greater than max value 4",
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"5\": default request value 5 is greater than default limit \
                     value 1",
                    "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
                ],
            ),
            (
                json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "2500m"}}),
                vec![
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"2500m\": ratio 2500m is greater than max/min = \
                     2.000000",
                ],
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}}),
                vec!["spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1"],
            ),
            (
                json!({"type": "Container", "default": {"example.com/gpu": "2"}, "defaultRequest": {"example.com/gpu": "1"}}),
                vec![
                    "spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": default value 2 must equal to \
                     defaultRequest value 1 in example.com/gpu",
                ],
            ),
        ] {
            testing::invalid(&KIND, &of(&limit), &sentences);
        }
        let twice = json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}});
        testing::invalid(&KIND, &twice, &["spec.limits[1].type: Duplicate value: \"Pod\""]);
    }

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "l", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        testing::row(&KIND, &object, &json!(["l", "2026-01-01T00:00:00Z"]));
    }
}
