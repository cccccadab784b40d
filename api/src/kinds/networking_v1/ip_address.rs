//! `ipaddresses` of networking.k8s.io: an address of a service, held by its name.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, NameRule, describe};
use crate::kinds::shared::labels::invalid;
use crate::kinds::shared::{cells, names, references, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    columns: &[Column::NAME, Column::text("ParentRef").of("spec.parentRef")],
    describe: describe::<k8s_openapi::api::networking::v1::IPAddress>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &IpAddress,
    ..Kind::BASE
};

struct IpAddress;

impl Hooks for IpAddress {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec.parentRef");
        let Some(parent) = value::get(object, "spec.parentRef").filter(|parent| !parent.is_null()) else {
            errors.push(FieldError::required(&field, ""));
            return errors;
        };
        let optional = |errors: &mut Errors, name: &str, rule: fn(&str) -> names::Messages| {
            let text = value::text(parent, name);
            if !text.is_empty() {
                invalid(errors, &field.child(name), text, rule(text));
            }
        };
        optional(&mut errors, "group", names::dns_subdomain);
        references::required_segment(&mut errors, parent, "resource", &field);
        references::required_segment(&mut errors, parent, "name", &field);
        optional(&mut errors, "namespace", |text| names::path_segment(text, false));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec.parentRef", "*ParentReference");
        errors
    }

    fn name_rule(&self) -> NameRule {
        NameRule::IpAddress
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let parent = value::get(object, "spec.parentRef").filter(|parent| !parent.is_null());
        let parent = parent.map_or_else(
            || "<none>".to_owned(),
            |parent| {
                let get = |name| value::text(parent, name);
                let resource = match get("group") {
                    "" => get("resource").to_owned(),
                    group => format!("{}.{group}", get("resource")),
                };
                let mut steps = vec![resource.to_lowercase()];
                steps.extend(Some(get("namespace")).filter(|namespace| !namespace.is_empty()).map(str::to_owned));
                steps.push(get("name").to_owned());
                steps.join("/")
            },
        );
        vec![cells::name(object), parent.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn validation() {
        let check = |parent: Value, sentences: &[&str]| {
            testing::invalid(&KIND, &json!({"spec": {"parentRef": parent}}), sentences);
        };
        check(json!({"resource": "services", "namespace": "n", "name": "s"}), &[]);
        check(json!(null), &["spec.parentRef: Required value"]);
        check(
            json!({"group": "A", "resource": "a/b", "namespace": ".."}),
            &[
                "spec.parentRef.group: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                 characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                 validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.parentRef.resource: Invalid value: \"a/b\": may not contain '/'",
                "spec.parentRef.name: Required value",
                "spec.parentRef.namespace: Invalid value: \"..\": may not be '..'",
            ],
        );
        testing::invalid_update(
            &KIND,
            &json!({"spec": {"parentRef": {"name": "b"}}}),
            &json!({"spec": {"parentRef": {"name": "a"}}}),
            &[
                "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"\",\"Namespace\":\"\",\"Name\":\"b\"}: field is immutable",
            ],
        );
    }

    #[test]
    fn names_are_addresses() {
        for (name, sentences) in [
            ("10.0.0.1", &[][..]),
            ("fd00::1", &[]),
            ("FD00::1", &["metadata.name: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")"]),
            (
                "a",
                &["metadata.name: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
            ),
        ] {
            let errors = testing::metadata(&json!({"metadata": {"name": name}}), &KIND);
            assert_eq!(testing::shown(&errors), sentences);
        }
    }

    #[test]
    fn row() {
        let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}});
        testing::row(&KIND, &address, &json!(["10.0.0.1", "services/n/s"]));
        let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"group": "x.y", "resource": "Gateways", "name": "s"}}});
        testing::row(&KIND, &address, &json!(["10.0.0.1", "gateways.x.y/s"]));
        testing::row(&KIND, &json!({"metadata": {"name": "10.0.0.1"}}), &json!(["10.0.0.1", "<none>"]));
    }
}
