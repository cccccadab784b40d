//! `devicetaintrules` of resource.k8s.io: devices that are to be avoided or left.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-5055.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Deprecated, Hooks, Kind, Occasion, describe};
use crate::kinds::shared::labels::invalid;
use crate::kinds::shared::volume_sources::csi_driver_name;
use crate::kinds::shared::{cells, conditions, devices, names, parts};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    version: "v1alpha3",
    kind: "DeviceTaintRule",
    plural: "devicetaintrules",
    singular: "devicetaintrule",
    namespaced: false,
    generation: true,
    returns_deleted: true,
    subresources: &[parts::status_only("resource.k8s.io", "v1alpha3", "DeviceTaintRule")],
    resets: parts::STATUS_ONLY,
    deprecated: Some(Deprecated::until("1.36", "1.39")),
    columns: &[
        Column::NAME,
        Column::text("Key").of("spec.taint.key"),
        Column::text("Value").of("spec.taint.value"),
        Column::text("Effect").of("spec.taint.effect"),
        Column::text("TimeAdded").of("spec.taint.timeAdded"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::resource::v1alpha3::DeviceTaintRule>,
    hooks: &DeviceTaintRule,
    ..Kind::BASE
};

struct DeviceTaintRule;

/// The most conditions of a status.
const CONDITIONS: usize = 8;
/// When the taint came.
const ADDED: &str = "spec.taint.timeAdded";
/// What it does.
const EFFECT: &str = "spec.taint.effect";

impl Hooks for DeviceTaintRule {
    fn stamp(&self, part: &str, new: &mut Value, old: Option<&Value>, occasion: &Occasion<'_>) {
        if !part.is_empty() {
            return;
        }
        let same = |path| old.is_some_and(|old| value::text(new, path) == value::text(old, path));
        if value::text(new, ADDED).is_empty() || old.is_some() && !same(EFFECT) && same(ADDED) {
            value::set(new, ADDED, occasion.now);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        rules(object)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = rules(new);
        // An effect that stays is not looked at again.
        if value::text(new, EFFECT) == value::text(old, EFFECT) {
            errors.retain(|error| error.field != Path::new(EFFECT));
        }
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        let (list, field) = (value::items(new, "status.conditions"), Path::new("status.conditions"));
        let mut errors = conditions::validate(list, &field);
        if list.len() > CONDITIONS {
            errors.push(FieldError::too_many(&field, list.len(), CONDITIONS));
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let added = match value::text(object, ADDED) {
            "" => String::new(),
            time => meta::since(time, now),
        };
        vec![
            cells::name(object),
            cells::text(object, "spec.taint.key"),
            cells::text(object, "spec.taint.value"),
            cells::text(object, EFFECT),
            added.into(),
            cells::age(object, now),
        ]
    }
}

fn rules(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec.deviceSelector");
    if let Some(selector) = value::get(object, "spec.deviceSelector").filter(|given| !given.is_null()) {
        let text = |name: &str| selector.get(name).and_then(Value::as_str);
        if let Some(driver) = text("driver") {
            csi_driver_name(&mut errors, driver, &field.child("driver"));
        }
        if let Some(pool) = text("pool") {
            devices::pool(&mut errors, pool, &field.child("pool"));
        }
        if let Some(device) = text("device") {
            invalid(&mut errors, &field.child("device"), device, names::dns_label(device));
        }
    }
    let taint = value::get(object, "spec.taint").unwrap_or(&Value::Null);
    devices::taint(&mut errors, taint, &Path::new("spec.taint"));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn of(effect: &str, added: Option<&str>) -> Value {
        let mut object = json!({"metadata": {"name": "r"}, "spec": {"taint": {"key": "a.b/c", "effect": effect}}});
        if let Some(added) = added {
            value::set(&mut object, ADDED, added);
        }
        object
    }

    #[test]
    fn selectors_and_taints() {
        testing::invalid(&KIND, &of("NoSchedule", None), &[]);
        testing::invalid(
            &KIND,
            &json!({"spec": {"deviceSelector": {"driver": "", "pool": "", "device": "a"}, "taint": {"key": "k", "effect": "x"}}}),
            &[
                "spec.deviceSelector.driver: Required value",
                "spec.deviceSelector.pool: Required value",
                "spec.taint.effect: Unsupported value: \"x\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            ],
        );
        testing::invalid(&KIND, &of("", None), &["spec.taint.effect: Required value"]);
        assert!(KIND.hooks.revalidate(&of("x", None), &of("x", None)).is_empty());
    }

    #[test]
    fn the_time_is_that_of_the_effect() {
        const THEN: &str = "2026-01-01T00:00:00Z";
        const NOW: &str = "2026-01-02T00:00:00Z";
        let check = |mut new: Value, old: Option<Value>, wanted: &str| {
            KIND.hooks.stamp("", &mut new, old.as_ref(), &testing::occasion(NOW));
            assert_eq!(value::text(&new, ADDED), wanted, "{new} {old:?}");
        };
        check(of("None", None), None, NOW);
        check(of("None", Some(THEN)), None, THEN);
        check(of("None", Some(THEN)), Some(of("None", Some(THEN))), THEN);
        check(of("NoSchedule", Some(THEN)), Some(of("None", Some(THEN))), NOW);
        check(of("NoSchedule", Some(THEN)), Some(of("None", Some(NOW))), THEN);
        check(of("None", None), Some(of("None", Some(THEN))), NOW);
    }

    #[test]
    fn status_and_row() {
        let condition = |i: usize| json!({"type": format!("T{i}"), "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let with = |n: usize| json!({"status": {"conditions": (0..n).map(condition).collect::<Vec<_>>()}});
        let shown = |n| testing::shown(&KIND.hooks.validate_part("status", &with(n), &json!({})));
        assert_eq!(shown(8), [""; 0]);
        assert_eq!(shown(9), ["status.conditions: Too many: 9: must have at most 8 items"]);
        let row = json!(["r", "a.b/c", "", "None", "30m", "<unknown>"]);
        testing::row(&KIND, &of("None", Some("2026-01-01T00:00:00Z")), &row);
    }
}
