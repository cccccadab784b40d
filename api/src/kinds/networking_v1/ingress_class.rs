//! `ingressclasses` of networking.k8s.io: which controller an ingress is for.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, names, references, rules};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    generation: true,
    columns: &[
        Column::NAME,
        Column::text("Controller").says("Controller that is responsible for handling this class"),
        Column::text("Parameters").says("A reference to a resource with additional parameters"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::networking::v1::IngressClass>,
    judgement: Judgement::CHANGE_FIRST,
    hooks: &IngressClass,
    ..Kind::BASE
};

const CONTROLLER: usize = 250;

struct IngressClass;

impl Hooks for IngressClass {
    fn default(&self, object: &mut Value) {
        if let Some(parameters) = value::get_mut(object, "spec.parameters").filter(|parameters| parameters.is_object())
        {
            value::set_default(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let controller = value::text(object, "spec.controller");
        let field = Path::new("spec.controller");
        if controller.len() > CONTROLLER {
            errors.push(FieldError::too_long(&field, CONTROLLER));
        }
        references::domain_prefixed_path(&mut errors, controller, &field);
        if let Some(parameters) = value::get(object, "spec.parameters").filter(|parameters| !parameters.is_null()) {
            validate_parameters(&mut errors, parameters, &Path::new("spec.parameters"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_text(&mut errors, new, old, "spec.controller");
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let default = meta::annotation(object, "ingressclass.kubernetes.io/is-default-class") == Some("true");
        let parameters = value::get(object, "spec.parameters").filter(|parameters| !parameters.is_null());
        let parameters = parameters.map_or_else(
            || "<none>".to_owned(),
            |parameters| {
                let group = parameters.get("apiGroup").and_then(Value::as_str).map(|group| format!(".{group}"));
                let (kind, name) = (value::text(parameters, "kind"), value::text(parameters, "name"));
                format!("{kind}{}/{name}", group.unwrap_or_default())
            },
        );
        vec![
            format!("{}{}", meta::name(object), if default { " (default)" } else { "" }).into(),
            cells::text(object, "spec.controller"),
            parameters.into(),
            cells::age(object, now),
        ]
    }
}

fn validate_parameters(errors: &mut Errors, parameters: &Value, field: &Path) {
    references::typed_local(errors, parameters, field);
    let Some(scope) = parameters.get("scope").and_then(Value::as_str) else {
        errors.push(FieldError::required(&field.child("scope"), ""));
        return;
    };
    let at = field.child("namespace");
    let namespace = parameters.get("namespace").and_then(Value::as_str);
    match (scope, namespace) {
        ("Namespace", None) => {
            errors.push(FieldError::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(_)) => rules::text(errors, parameters, "namespace", field, names::dns_label),
        ("Cluster", Some(_)) => {
            errors.push(FieldError::forbidden(&at, "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        (other, _) => {
            errors.push(FieldError::not_supported(&field.child("scope"), other, &["Cluster", "Namespace"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn defaults() {
        testing::defaults(
            &KIND,
            json!({"spec": {"controller": "a.b/c", "parameters": {"kind": "K", "name": "n"}}}),
            &json!({"spec": {"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "scope": "Cluster"}}}),
        );
    }

    #[test]
    fn validation() {
        let check = |parameters: Value, sentences: &[&str]| {
            testing::invalid(&KIND, &json!({"spec": {"controller": "a.b/c", "parameters": parameters}}), sentences);
        };
        check(json!(null), &[]);
        check(json!({"kind": "K", "name": "n", "scope": "Namespace", "namespace": "x"}), &[]);
        check(
            json!({"scope": "Namespace"}),
            &[
                "spec.parameters.kind: Required value",
                "spec.parameters.name: Required value",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        );
        check(
            json!({"kind": "K", "name": "n", "scope": "Cluster", "namespace": "x"}),
            &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        );
        check(
            json!({"kind": "K", "name": "n", "scope": "Odd"}),
            &["spec.parameters.scope: Unsupported value: \"Odd\": supported values: \"Cluster\", \"Namespace\""],
        );
        testing::invalid(&KIND, &json!({"spec": {}}), &["spec.controller: Required value"]);
        testing::invalid_update(
            &KIND,
            &json!({"spec": {"controller": "a.b/d"}}),
            &json!({"spec": {"controller": "a.b/c"}}),
            &["spec.controller: Invalid value: \"a.b/d\": field is immutable"],
        );
    }

    #[test]
    fn row() {
        let class = json!({"metadata": {"name": "c", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": "a.b/c", "parameters": {"apiGroup": "x.y", "kind": "K", "name": "n"}}});
        testing::row(&KIND, &class, &json!(["c (default)", "a.b/c", "K.x.y/n", "<unknown>"]));
        testing::row(&KIND, &json!({"metadata": {"name": "c"}}), &json!(["c", "", "<none>", "<unknown>"]));
    }
}
