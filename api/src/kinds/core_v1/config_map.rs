//! `configmaps`: configuration in keys and values.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, config_data};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    columns: &[Column::NAME, Column::text("Data").of("data"), Column::AGE],
    describe: describe::<k8s_openapi::api::core::v1::ConfigMap>,
    judgement: Judgement::CHANGE_FIRST,
    hooks: &ConfigMap,
    ..Kind::BASE
};

struct ConfigMap;

impl Hooks for ConfigMap {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let mut size = 0;
        for bag in ["data", "binaryData"] {
            for (key, value) in config_data::entries(object, bag) {
                config_data::validate_key(&mut errors, bag, key);
                if bag == "data" && config_data::entries(object, "binaryData").any(|(other, _)| other == key) {
                    let field = Path::new(bag).key(key);
                    errors.push(FieldError::invalid(&field, key.as_str(), "duplicate of key present in binaryData"));
                }
                size += if bag == "data" { value.len() } else { config_data::decoded_len(value) };
            }
        }
        if size > config_data::MAX_SIZE {
            errors.push(FieldError::too_long(&Path::new(""), config_data::MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        config_data::validate_sealed(new, old, &["data", "binaryData"])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let count = config_data::entries(object, "data").count() + config_data::entries(object, "binaryData").count();
        vec![cells::name(object), count.into(), cells::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn keys_must_be_file_names_and_sealed_data_stays() {
        testing::invalid(&KIND, &json!({"data": {"a": "x"}, "binaryData": {"b": "eA=="}}), &[]);
        testing::invalid(
            &KIND,
            &json!({"data": {"..": "x", "b": ""}, "binaryData": {"b": "eA=="}}),
            &[
                "data[..]: Invalid value: \"..\": must not be '..'",
                "data[b]: Invalid value: \"b\": duplicate of key present in binaryData",
            ],
        );
        testing::invalid_update(
            &KIND,
            &json!({"data": {"a": "2"}}),
            &json!({"immutable": true, "data": {"a": "1"}}),
            &[
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        );
    }

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "data": {"a": "x", "c": "x"}, "binaryData": {"b": "eA=="}});
        testing::row(&KIND, &object, &json!(["a", 3, "30m"]));
    }
}
