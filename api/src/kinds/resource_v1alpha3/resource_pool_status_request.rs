//! `resourcepoolstatusrequests` of resource.k8s.io: somebody asks how full the pools of a driver are.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-5677.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::labels::invalid;
use crate::kinds::shared::{cells, conditions, names, parts, pod_groups, rules};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    version: "v1alpha3",
    kind: "ResourcePoolStatusRequest",
    plural: "resourcepoolstatusrequests",
    singular: "resourcepoolstatusrequest",
    namespaced: false,
    unconditional_update: false,
    returns_deleted: true,
    subresources: &[parts::status_only("resource.k8s.io", "v1alpha3", "ResourcePoolStatusRequest")],
    resets: parts::STATUS_ONLY,
    columns: &[
        Column::NAME,
        Column::text("Driver").says("The driver to query pools for."),
        Column::text("Total").says("Total number of devices across all pools."),
        Column::text("Available").says("Number of available devices across all pools."),
        Column::text("Allocated").says("Number of allocated devices across all pools."),
        Column::text("Unavailable").says("Number of unavailable devices across all pools."),
        Column::text("Errors").says("Number of pools with validation errors."),
        Column::integer("Pools").says("Total number of matching pools."),
        Column::text("Status").says("Processing status."),
        Column::text("Completed").says("Time since the observation completed."),
    ],
    describe: describe::<k8s_openapi::api::resource::v1alpha3::ResourcePoolStatusRequest>,
    hooks: &ResourcePoolStatusRequest,
    ..Kind::BASE
};

struct ResourcePoolStatusRequest;

/// The longest name of a pool.
const POOL: usize = 253;
/// The most pools of a status.
const POOLS: usize = 1000;
/// The most conditions of a status.
const CONDITIONS: usize = 10;
/// The longest sentence about what is wrong with a pool.
const WRONG: usize = 256;

impl Hooks for ResourcePoolStatusRequest {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) {
            value::set_default(spec, "limit", 100);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        pod_groups::required_name(&mut errors, spec, "driver", &field, names::long_name_caseless);
        if let Some(pool) = spec.get("poolName").and_then(Value::as_str) {
            errors.extend(pool_name(pool, &field.child("poolName")));
        }
        let field = field.child("limit");
        match value::int(spec, "limit") {
            None => errors.push(FieldError::required(&field, "")),
            Some(limit) if limit > 1000 => {
                errors.push(FieldError::invalid(&field, limit, "must be less than or equal to 1000"));
            }
            Some(limit) => at_least(&mut errors, limit, 1, &field),
        }
        errors
    }

    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        // Nothing may change.
        Errors::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        pod_groups::immutable(&mut errors, new, old, "spec");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        // A status that says nothing is one.
        let there = |object: &Value| object.get("status").is_some_and(Value::is_object);
        let changed = new.get("status") != old.get("status");
        if there(old) {
            rules::unchanged(&mut errors, new, old, "status");
        } else {
            let list = value::items(new, "status.conditions");
            errors.extend(conditions::validate(list, &Path::new("status.conditions")));
        }
        if changed && there(new) {
            errors.extend(status(new.get("status").unwrap_or(&Value::Null)));
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let pools = value::items(object, "status.pools");
        let all = value::items(object, "status.conditions");
        let over = all.iter().find(|condition| {
            matches!(value::text(condition, "type"), "Complete" | "Failed")
                && value::text(condition, "status") == "True"
        });
        let kind = over.map_or("Pending", |condition| value::text(condition, "type"));
        let count = value::int(object, "status.poolCount").unwrap_or_default();
        let answered = i64::try_from(pools.len()).unwrap_or(i64::MAX);
        let status = if kind == "Complete" && count > answered {
            format!("Complete ({answered}/{count} pools)")
        } else {
            kind.to_owned()
        };
        let known = object.get("status").is_some_and(|status| !rules::is_zero(status)) && kind != "Failed";
        let cell = |number: i64| if known { number.to_string() } else { "-".to_owned() };
        let sum = |name: &str| cell(pools.iter().filter_map(|pool| value::int(pool, name)).sum());
        let wrong = pools.iter().filter(|pool| pool.get("validationError").is_some_and(Value::is_string)).count();
        let completed = over.filter(|_| kind == "Complete");
        let completed = completed.map(|condition| meta::since(value::text(condition, "lastTransitionTime"), now));
        vec![
            cells::name(object),
            cells::text(object, "spec.driver"),
            sum("totalDevices").into(),
            sum("availableDevices").into(),
            sum("allocatedDevices").into(),
            sum("unavailableDevices").into(),
            cell(i64::try_from(wrong).unwrap_or(i64::MAX)).into(),
            count.into(),
            status.into(),
            completed.unwrap_or_else(|| "<none>".to_owned()).into(),
        ]
    }
}

fn at_least(errors: &mut Errors, number: i64, least: i64, field: &Path) {
    if number < least {
        errors.push(FieldError::invalid(field, number, format!("must be greater than or equal to {least}")));
    }
}

fn status(status: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("status");
    match value::int(status, "poolCount") {
        None => errors.push(FieldError::required(&field.child("poolCount"), "")),
        Some(count) => at_least(&mut errors, count, 0, &field.child("poolCount")),
    }
    let pools = value::items(status, "pools");
    if pools.len() > POOLS {
        errors.push(FieldError::too_many(&field.child("pools"), pools.len(), POOLS));
    } else {
        for (i, of) in pools.iter().enumerate() {
            pool(&mut errors, of, &field.child("pools").index(i));
        }
    }
    let conditions = value::items(status, "conditions");
    if conditions.len() > CONDITIONS {
        errors.push(FieldError::too_many(&field.child("conditions"), conditions.len(), CONDITIONS));
    }
    errors
}

fn pool(errors: &mut Errors, pool: &Value, field: &Path) {
    pod_groups::required_name(errors, pool, "driver", field, names::long_name_caseless);
    let name = rules::required(errors, pool, "poolName", field);
    if !name.is_empty() {
        errors.extend(pool_name(name, &field.child("poolName")));
    }
    match value::int(pool, "generation").unwrap_or_default() {
        0 => errors.push(FieldError::required(&field.child("generation"), "")),
        generation => at_least(errors, generation, 0, &field.child("generation")),
    }
    for (name, least) in [
        ("resourceSliceCount", 1),
        ("totalDevices", 0),
        ("allocatedDevices", 0),
        ("availableDevices", 0),
        ("unavailableDevices", 0),
    ] {
        if let Some(number) = value::int(pool, name) {
            at_least(errors, number, least, &field.child(name));
        }
    }
    if let Some(node) = pool.get("nodeName").and_then(Value::as_str) {
        invalid(errors, &field.child("nodeName"), node, names::long_name(node));
    }
    if value::text(pool, "validationError").len() > WRONG {
        errors.push(FieldError::too_long(&field.child("validationError"), WRONG));
    }
}

/// The name of a pool: subdomains between slashes.
fn pool_name(text: &str, field: &Path) -> Errors {
    let mut errors = Errors::new();
    if text.len() > POOL {
        errors.push(FieldError::too_long(field, POOL));
    }
    for (i, part) in text.split('/').enumerate() {
        if part.is_empty() {
            errors.push(FieldError::invalid(field, text, format!("segment {i}: must not be empty")));
            continue;
        }
        for message in names::long_name(part) {
            errors.push(FieldError::invalid(field, part, format!("segment {i}: {message}")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn requests() {
        let of = |spec: Value| json!({ "spec": spec });
        testing::defaults(&KIND, of(json!({"driver": "d"})), &of(json!({"driver": "d", "limit": 100})));
        testing::invalid(&KIND, &of(json!({"driver": "D.example", "poolName": "a/b", "limit": 1})), &[]);
        testing::invalid(
            &KIND,
            &of(json!({"poolName": "", "limit": 1001})),
            &[
                "spec.driver: Required value",
                "spec.poolName: Invalid value: \"\": segment 0: must not be empty",
                "spec.limit: Invalid value: 1001: must be less than or equal to 1000",
            ],
        );
        testing::invalid(
            &KIND,
            &of(json!({"driver": "a_b", "limit": 0})),
            &[
                "spec.driver: Invalid value: \"a_b\": an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', \
                 and must start and end with an alphanumeric character (e.g. 'Example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.limit: Invalid value: 0: must be greater than or equal to 1",
            ],
        );
        testing::invalid_update(
            &KIND,
            &of(json!({"driver": "a"})),
            &of(json!({"driver": "b"})),
            &["spec: Invalid value: null: field is immutable"],
        );
    }

    #[test]
    fn an_answer_stays() {
        let check = |new: Value, old: Value, sentences: &[&str]| {
            let part = KIND.hooks.validate_part("status", &json!({ "status": new }), &json!({ "status": old }));
            assert_eq!(testing::shown(&part), sentences);
        };
        let fine = json!({"poolCount": 1, "pools": [{"driver": "d", "poolName": "p", "generation": 1}]});
        check(fine.clone(), json!(null), &[]);
        check(fine.clone(), fine.clone(), &[]);
        check(
            json!({"poolCount": 2}),
            json!({"poolCount": 1}),
            &["status: Invalid value: {\"poolCount\":2}: field is immutable"],
        );
        check(
            json!({"pools": [{"totalDevices": -1, "resourceSliceCount": 0, "validationError": "x".repeat(257)}]}),
            json!(null),
            &[
                "status.poolCount: Required value",
                "status.pools[0].driver: Required value",
                "status.pools[0].poolName: Required value",
                "status.pools[0].generation: Required value",
                "status.pools[0].resourceSliceCount: Invalid value: 0: must be greater than or equal to 1",
                "status.pools[0].totalDevices: Invalid value: -1: must be greater than or equal to 0",
                "status.pools[0].validationError: Too long: may not be more than 256 bytes",
            ],
        );
    }

    #[test]
    fn row() {
        let mut object = json!({"metadata": {"name": "r"}, "spec": {"driver": "d"}});
        testing::row(&KIND, &object, &json!(["r", "d", "-", "-", "-", "-", "-", 0, "Pending", "<none>"]));
        let condition =
            |kind: &str| json!([{"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        value::set(
            &mut object,
            "status",
            json!({"poolCount": 3, "conditions": condition("Complete"),
            "pools": [{"totalDevices": 4, "availableDevices": 1}, {"totalDevices": 2, "validationError": "x"}]}),
        );
        let wanted = json!(["r", "d", "6", "1", "0", "0", "1", 3, "Complete (2/3 pools)", "30m"]);
        testing::row(&KIND, &object, &wanted);
        value::set(&mut object, "status.conditions", condition("Failed"));
        testing::row(&KIND, &object, &json!(["r", "d", "-", "-", "-", "-", "-", 3, "Failed", "<none>"]));
    }
}
