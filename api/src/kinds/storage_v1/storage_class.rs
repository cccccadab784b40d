//! `storageclasses` of storage.k8s.io: how volumes are made on demand.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, labels, names, node_labels, parameters, rules};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    returns_deleted: true,
    columns: &[
        Column::NAME,
        Column::text("Provisioner").of("provisioner"),
        Column::text("ReclaimPolicy").of("reclaimPolicy"),
        Column::text("VolumeBindingMode").of("volumeBindingMode"),
        Column::text("AllowVolumeExpansion").of("allowVolumeExpansion"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::storage::v1::StorageClass>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &StorageClass,
    ..Kind::BASE
};

struct StorageClass;

impl Hooks for StorageClass {
    fn default(&self, object: &mut Value) {
        value::set_default(object, "reclaimPolicy", "Delete");
        value::set_default(object, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let whole = Path::new("");
        parameters::driver(&mut errors, object, "provisioner");
        parameters::validate(&mut errors, object.get("parameters"), &Path::new("parameters"));
        rules::one_of(&mut errors, object, "reclaimPolicy", &whole, &["Delete", "Retain"]);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        match object.get("volumeBindingMode").and_then(Value::as_str) {
            None => errors.push(FieldError::required(&Path::new("volumeBindingMode"), "")),
            Some(_) => rules::given_one_of(&mut errors, object, "volumeBindingMode", &whole, &modes),
        }
        topologies(&mut errors, value::items(object, "allowedTopologies"), &Path::new("allowedTopologies"));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged(&mut errors, new, old, "parameters");
        rules::unchanged_text(&mut errors, new, old, "provisioner");
        rules::unchanged(&mut errors, new, old, "reclaimPolicy");
        rules::unchanged(&mut errors, new, old, "volumeBindingMode");
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (i, term) in value::items(new, "allowedTopologies").iter().enumerate() {
            for (j, expression) in value::items(term, "matchLabelExpressions").iter().enumerate() {
                if let Some(why) = node_labels::deprecated(value::text(expression, "key")) {
                    warnings.push(format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key: {why}"));
                }
            }
        }
        warnings
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let name = meta::name(object);
        let default =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
                .iter()
                .any(|key| meta::annotation(object, key) == Some("true"));
        vec![
            if default { format!("{name} (default)").into() } else { name.into() },
            cells::text(object, "provisioner"),
            cells::text_or(object, "reclaimPolicy", "Delete"),
            cells::text_or(object, "volumeBindingMode", "Immediate"),
            value::flag(object, "allowVolumeExpansion").into(),
            cells::age(object, now),
        ]
    }
}

fn topologies(errors: &mut Errors, terms: &[Value], field: &Path) {
    for (i, term) in terms.iter().enumerate() {
        let field = field.index(i).child("matchLabelExpressions");
        let expressions = value::items(term, "matchLabelExpressions");
        for (j, expression) in expressions.iter().enumerate() {
            let field = field.index(j);
            let values = value::items(expression, "values");
            if values.is_empty() {
                errors.push(FieldError::required(&field.child("values"), ""));
            }
            for (k, given) in values.iter().enumerate() {
                if values.iter().take(k).any(|other| other == given) {
                    errors.push(FieldError::duplicate(&field.child("values").index(k), given.clone()));
                }
            }
            let key = value::text(expression, "key");
            labels::invalid(errors, &field.child("key"), key, names::qualified_name(key));
            if expressions.iter().take(j).any(|other| value::text(other, "key") == key) {
                errors.push(FieldError::duplicate(&field.child("key"), key));
            }
        }
        let same = terms.iter().take(i).filter(|other| selection(other) == selection(term)).count();
        // Upstream compares with as many empty terms as there are terms, too.
        let empty = if selection(term).is_empty() { terms.len() } else { 0 };
        errors.extend(std::iter::repeat_n(FieldError::duplicate(&field, ""), same + empty));
    }
}

/// What a term selects, whatever the order of its words.
fn selection(term: &Value) -> Vec<(&str, Vec<&str>)> {
    let sorted = |expression| {
        let mut values: Vec<&str> = value::items(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        values
    };
    let expressions = value::items(term, "matchLabelExpressions").iter();
    let mut all: Vec<_> = expressions.map(|expression| (value::text(expression, "key"), sorted(expression))).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "a"}, "provisioner": "Example.com/Disk", "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate", "parameters": {"a": ""}});
        testing::defaults(
            &KIND,
            json!({"provisioner": "x"}),
            &json!({"provisioner": "x", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        );
        testing::invalid(&KIND, &sound, &[]);
        testing::invalid(
            &KIND,
            &json!({"reclaimPolicy": "Recycle", "parameters": {"": "a"}, "allowedTopologies": [
                {"matchLabelExpressions": [{"key": "a", "values": ["x", "y"]}, {"key": "a", "values": []}]},
                {"matchLabelExpressions": [{"key": "b", "values": ["x", "y"]}]},
                {"matchLabelExpressions": [{"key": "b", "values": ["y", "x"]}]},
            ]}),
            &[
                "provisioner: Required value",
                "parameters: Invalid value: \"\": field can not be empty.",
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                "volumeBindingMode: Required value",
                "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
                "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
                "allowedTopologies[2].matchLabelExpressions: Duplicate value: \"\"",
            ],
        );
        let mut odd = sound.clone();
        value::set(&mut odd, "volumeBindingMode", "");
        value::set(&mut odd, "allowedTopologies", json!([{}]));
        testing::invalid(
            &KIND,
            &odd,
            &[
                "volumeBindingMode: Unsupported value: \"\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                "allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\"",
            ],
        );
        let mut other = sound.clone();
        value::set(&mut other, "reclaimPolicy", "Retain");
        value::set(&mut other, "allowVolumeExpansion", true);
        testing::invalid_update(
            &KIND,
            &other,
            &sound,
            &["reclaimPolicy: Invalid value: \"Retain\": field is immutable"],
        );
    }

    #[test]
    fn the_default_class_is_marked() {
        let object = json!({"metadata": {"name": "a", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "x"});
        testing::row(&KIND, &object, &json!(["a (default)", "x", "Delete", "Immediate", false, "<unknown>"]));
        let term = json!({"matchLabelExpressions": [{"key": "beta.kubernetes.io/os"}]});
        let warnings = KIND.hooks.warnings(&json!({"allowedTopologies": [term]}), None);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("allowedTopologies[0].matchLabelExpressions[0].key: "), "{warnings:?}");
    }
}
