//! `volumeattributesclasses` of storage.k8s.io: properties of volumes that can be changed while they exist.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-3751.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, parameters, rules};

/// The description.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    namespaced: false,
    returns_deleted: true,
    columns: &[Column::NAME, Column::text("DriverName").of("driverName"), Column::AGE],
    describe: describe::<k8s_openapi::api::storage::v1::VolumeAttributesClass>,
    judgement: Judgement::CHANGE_FIRST,
    hooks: &VolumeAttributesClass,
    ..Kind::BASE
};

struct VolumeAttributesClass;

impl Hooks for VolumeAttributesClass {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("parameters");
        parameters::driver(&mut errors, object, "driverName");
        parameters::validate(&mut errors, object.get("parameters"), &field);
        if object.get("parameters").is_none_or(rules::is_zero) {
            errors.push(FieldError::required(&field, "must contain at least one key/value pair"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        for field in ["driverName", "parameters"] {
            if rules::differ(new.get(field), old.get(field)) {
                errors.push(FieldError::forbidden(&Path::new(field), format!("updates to {field} are forbidden.")));
            }
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![cells::name(object), cells::text(object, "driverName"), cells::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "a"}, "driverName": "disk.example.com", "parameters": {"iops": "1"}});
        testing::invalid(&KIND, &sound, &[]);
        testing::invalid(
            &KIND,
            &json!({"parameters": {}}),
            &["driverName: Required value", "parameters: Required value: must contain at least one key/value pair"],
        );
        testing::invalid_update(
            &KIND,
            &json!({"driverName": "x", "parameters": {"iops": "2"}}),
            &sound,
            &[
                "driverName: Forbidden: updates to driverName are forbidden.",
                "parameters: Forbidden: updates to parameters are forbidden.",
            ],
        );
        testing::row(&KIND, &sound, &json!(["a", "disk.example.com", "<unknown>"]));
    }
}
