//! `priorityclasses` of scheduling.k8s.io: named priorities of pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    columns: &[
        Column::NAME,
        Column::integer("Value").of("value"),
        Column::boolean("Global-Default").of("globalDefault"),
        Column::AGE,
        Column::text("PreemptionPolicy").of("preemptionPolicy"),
    ],
    describe: describe::<k8s_openapi::api::scheduling::v1::PriorityClass>,
    hooks: &PriorityClass,
    ..Kind::BASE
};

struct PriorityClass;

impl Hooks for PriorityClass {
    fn default(&self, object: &mut Value) {
        value::set_default(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let name = crate::meta::name(object);
        let priority = value::int(object, "value").unwrap_or_default();
        if name.starts_with("system-") {
            if let Some(why) = not_a_system_class(name, priority, value::flag(object, "globalDefault")) {
                errors.push(FieldError::forbidden(
                    &Path::new("metadata.name"),
                    format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                    ),
                ));
            }
        } else if priority > HIGHEST_FOR_USERS {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_FOR_USERS}");
            errors.push(FieldError::forbidden(&Path::new("value"), detail));
        }
        let policy = value::text(object, "preemptionPolicy");
        if !matches!(policy, "" | "PreemptLowerPriority" | "Never") {
            let at = Path::new("preemptionPolicy");
            errors.push(FieldError::not_supported_as_listed(&at, policy, &["PreemptLowerPriority", "Never"]));
        }
        errors
    }

    /// Classes count no generations; each has its first.
    fn prepare_create(&self, object: &mut Value) {
        value::set(object, "metadata.generation", 1);
    }

    /// Its rules are those of the creation alone: the system's classes are there.
    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        Errors::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        if value::int(new, "value") != value::int(old, "value") {
            errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        rules::unchanged(&mut errors, new, old, "preemptionPolicy");
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            cells::name(object),
            cells::count(object, "value"),
            value::flag(object, "globalDefault").into(),
            cells::age(object, now),
            cells::text(object, "preemptionPolicy"),
        ]
    }
}

/// What users may ask for; the system's own classes lie above.
const HIGHEST_FOR_USERS: i64 = 1_000_000_000;

/// The classes of the system's own pods.
const SYSTEM: &[(&str, i64)] = &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

fn not_a_system_class(name: &str, priority: i64, global: bool) -> Option<String> {
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, value)) if *value != priority => Some(format!("value of {name} PriorityClass must be {value}")),
        Some(_) if global => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn the_systems_classes_may_be_described() {
        let system =
            json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000, "globalDefault": true});
        assert!(KIND.hooks.revalidate(&system, &system).is_empty());
        let mut made = system;
        KIND.hooks.prepare_create(&mut made);
        assert_eq!((made["metadata"]["generation"].as_i64(), KIND.generation), (Some(1), false));
    }

    #[test]
    fn users_stay_below_the_system() {
        testing::invalid(&KIND, &json!({"metadata": {"name": "a"}, "value": 1_000_000_000}), &[]);
        let system = json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000});
        testing::invalid(&KIND, &system, &[]);
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "a"}, "value": 1_000_000_001}),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        );
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "system-x"}, "value": 1}),
            &[
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
               error: system-x is not a known system priority class",
            ],
        );
        testing::invalid_update(
            &KIND,
            &json!({"value": 2}),
            &json!({"value": 1}),
            &["value: Forbidden: may not be changed in an update."],
        );
    }
}
