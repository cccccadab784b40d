//! `storageversionmigrations` of storagemigration.k8s.io: a wish that all objects of a resource be written anew.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-4192.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, conditions, names, parts, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "storagemigration.k8s.io",
    version: "v1beta1",
    kind: "StorageVersionMigration",
    plural: "storageversionmigrations",
    singular: "storageversionmigration",
    namespaced: false,
    unconditional_update: false,
    subresources: &[parts::status_only("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration")],
    resets: parts::STATUS_ONLY,
    gate: Some("StorageVersionMigrator"),
    columns: &[
        Column::text("Name").of("metadata.name"),
        Column::text("Resource").says("GroupResource to migrate"),
        Column::text("Status").says("Status of the migration"),
    ],
    describe: describe::<k8s_openapi::api::storagemigration::v1beta1::StorageVersionMigration>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &StorageVersionMigration,
    ..Kind::BASE
};

struct StorageVersionMigration;

impl Hooks for StorageVersionMigration {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let mut joined = |name: &str, rule: fn(&str) -> names::Messages| {
            let field = Path::new("spec.resource").child(name);
            match value::text(object, &format!("spec.resource.{name}")) {
                "" if name == "resource" => errors.push(FieldError::required(&field, "resource is required to be set")),
                "" => {}
                text => {
                    let messages = rule(text);
                    if !messages.is_empty() {
                        errors.push(FieldError::invalid(&field, text, messages.join(",")));
                    }
                }
            }
        };
        joined("resource", names::dns_1035_label);
        joined("group", names::dns_subdomain);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec", "StorageVersionMigrationSpec");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let (version, before) = ("status.resourceVersion", value::text(old, "status.resourceVersion"));
        let (text, field) = (value::text(new, version), Path::new(version));
        let well_formed = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        if !well_formed {
            let detail = format!("resource version is not well formed: {text}");
            errors.push(FieldError::invalid(&field, text, detail));
        }
        let at = Path::new("status.conditions");
        let list = value::items(new, "status.conditions");
        errors.extend(conditions::validate(list, &at));
        if !before.is_empty() && before != text {
            errors.push(FieldError::invalid(&field, text, rules::IMMUTABLE));
        }
        let holds = |object, kind| conditions::is(object, kind, "True");
        let lost = |kind| holds(old, kind) && !holds(new, kind);
        for (broken, detail) in [
            (
                holds(new, "Succeeded") && holds(new, "Failed"),
                "Both success and failed conditions cannot be true at the same time",
            ),
            (lost("Succeeded"), "Success condition cannot be set to false once it is true"),
            (lost("Failed"), "Failed condition cannot be set to false once it is true"),
        ] {
            if broken {
                errors.push(FieldError::invalid(&at, list.to_vec(), detail));
            }
        }
        errors
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let text = |name| value::text(object, name);
        let resource = match (text("spec.resource.resource"), text("spec.resource.group")) {
            (resource, "") => resource.to_owned(),
            (resource, group) => format!("{resource}.{group}"),
        };
        let known = |kind: &&str| matches!(*kind, "Running" | "Failed" | "Succeeded");
        let status = value::items(object, "status.conditions")
            .iter()
            .filter(|condition| value::text(condition, "status") == "True")
            .map(|condition| value::text(condition, "type"))
            .rfind(known);
        vec![cells::name(object), resource.into(), status.unwrap_or("Unknown").into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn condition(kind: &str) -> Value {
        json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn resources_are_named() {
        for (resource, sentences) in [
            (json!({"resource": "pods"}), &[][..]),
            (json!({"group": "apps", "resource": "deployments"}), &[]),
            (json!({"group": "apps"}), &["spec.resource.resource: Required value: resource is required to be set"]),
            (
                json!({"group": "A", "resource": "1"}),
                &[
                    "spec.resource.resource: Invalid value: \"1\": a DNS-1035 label must consist of lower case alphanumeric \
                     characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. \
                     'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                    "spec.resource.group: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
                     alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                     'example.com', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
        ] {
            testing::invalid(&KIND, &json!({"spec": {"resource": resource}}), sentences);
        }
        let of = |resource| json!({"spec": {"resource": {"resource": resource}}});
        testing::invalid_update(
            &KIND,
            &of("pods"),
            &of("nodes"),
            &["spec: Invalid value: {\"Resource\":{\"group\":\"\",\"resource\":\"pods\"}}: field is immutable"],
        );
    }

    #[test]
    fn what_is_over_stays_over() {
        let check = |new: Value, old: Value, starts: &[&str]| {
            let errors = KIND.hooks.validate_part("status", &json!({ "status": new }), &json!({ "status": old }));
            let found = testing::shown(&errors);
            let fits = found.len() == starts.len()
                && found.iter().zip(starts).all(|(f, s)| f.starts_with(s) || f.ends_with(s));
            assert!(fits, "{found:?}");
        };
        check(json!({"resourceVersion": "5", "conditions": [condition("Running")]}), json!({}), &[]);
        check(
            json!({"resourceVersion": "05"}),
            json!({}),
            &["status.resourceVersion: Invalid value: \"05\": resource version is not well formed: 05"],
        );
        check(
            json!({"resourceVersion": "6"}),
            json!({"resourceVersion": "5"}),
            &["status.resourceVersion: Invalid value: \"6\": field is immutable"],
        );
        check(
            json!({"conditions": [condition("Succeeded"), condition("Failed")]}),
            json!({}),
            &["Both success and failed conditions cannot be true at the same time"],
        );
        for (kind, name) in [("Succeeded", "Success"), ("Failed", "Failed")] {
            let sentence = format!("{name} condition cannot be set to false once it is true");
            check(json!({"conditions": []}), json!({"conditions": [condition(kind)]}), &[&sentence]);
        }
    }

    #[test]
    fn row() {
        let mut object =
            json!({"metadata": {"name": "m"}, "spec": {"resource": {"group": "apps", "resource": "deployments"}}});
        testing::row(&KIND, &object, &json!(["m", "deployments.apps", "Unknown"]));
        value::set(&mut object, "status.conditions", vec![condition("Running"), condition("Other")]);
        testing::row(&KIND, &object, &json!(["m", "deployments.apps", "Running"]));
    }
}
