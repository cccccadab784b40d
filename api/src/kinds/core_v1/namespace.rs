//! `namespaces`: scopes for names.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::judgement::Judgement;
use crate::kind::{Column, Gvk, Hooks, Kind, NameRule, Part, Selectable, Subresource, Verb, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{cells, labels, names};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch],
    subresources: &[
        Subresource {
            name: "finalize",
            gvk: Gvk { group: "", version: "v1", kind: "Namespace" },
            verbs: &[Verb::Update],
            part: Part::View { merge: parts::all_but_status },
        },
        parts::status("", "v1", "Namespace"),
    ],
    columns: &[Column::NAME, Column::text("Status").says("The status of the namespace"), Column::AGE],
    selectable: &[Selectable { name: "status.phase", value: |object| value::text(object, "status.phase").to_owned() }],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::core::v1::Namespace>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &Namespace,
    ..Kind::BASE
};

struct Namespace;

impl Hooks for Namespace {
    fn holds_on(&self, namespace: &Value) -> bool {
        !value::items(namespace, "spec.finalizers").is_empty()
    }

    fn begin_deletion(&self, namespace: &mut Value) {
        value::set(namespace, "status.phase", "Terminating");
    }

    fn default(&self, object: &mut Value) {
        let name = meta::name(object).to_owned();
        // A name that was made is a label once it is known to be sound.
        let made = !value::text(object, "metadata.generateName").is_empty() && !names::label_value(&name).is_empty();
        if !name.is_empty() && !made {
            value::map_mut(object, "metadata.labels").insert(NAME_LABEL, name.into());
        }
        value::set_default(object, "status.phase", "Active");
    }

    fn prepare_create(&self, object: &mut Value) {
        value::set(object, "status", json!({"phase": "Active"}));
        let finalizers = value::items(object, "spec.finalizers");
        if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
            let all: Vec<Value> = finalizers.iter().cloned().chain(["kubernetes".into()]).collect();
            value::set(object, "spec.finalizers", all);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        parts::copy(new, old, "spec.finalizers");
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        for finalizer in value::items(object, "spec.finalizers").iter().filter_map(Value::as_str) {
            validate_finalizer(&mut errors, finalizer, &Path::new("spec.finalizers"));
        }
        errors
    }

    fn validate_part(&self, part: &str, new: &Value, _old: &Value) -> Errors {
        let mut errors = Errors::new();
        if part == "finalize" {
            for (i, finalizer) in value::items(new, "spec.finalizers").iter().filter_map(Value::as_str).enumerate() {
                validate_finalizer(&mut errors, finalizer, &Path::new("spec.finalizers").index(i));
            }
        } else {
            let (wanted, when) =
                if meta::is_deleting(new) { ("Terminating", "is not empty") } else { ("Active", "is empty") };
            let phase = value::text(new, "status.phase");
            if phase != wanted {
                let detail = format!("may only be '{wanted}' if `deletionTimestamp` {when}");
                errors.push(FieldError::invalid(&Path::new("status.Phase"), phase, detail));
            }
        }
        errors
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![cells::name(object), cells::text(object, "status.phase"), cells::age(object, now)]
    }
}

/// The label by which selectors find a namespace; the server keeps it equal to the name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn validate_finalizer(errors: &mut Errors, finalizer: &str, field: &Path) {
    labels::invalid(errors, field, finalizer, names::qualified_name(finalizer));
    if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(field, finalizer, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn born_active_with_its_finalizer_and_label() {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x/y"]}});
        KIND.hooks.default(&mut object);
        KIND.hooks.prepare_create(&mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
                "spec": {"finalizers": ["x/y", "kubernetes"]}, "status": {"phase": "Active"}})
        );
        let mut new = json!({"metadata": {"name": "a"}, "spec": {}});
        KIND.hooks.prepare_update(&mut new, &object);
        assert_eq!(value::items(&new, "spec.finalizers").len(), 2);
        testing::row(&KIND, &object, &json!(["a", "Active", "<unknown>"]));
    }

    #[test]
    fn finalizers_and_phases() {
        testing::invalid(
            &KIND,
            &json!({"spec": {"finalizers": ["mine"]}}),
            &[
                "spec.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        );
        let deleting =
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Active"}});
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &deleting, &deleting)),
            ["status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty"]
        );
        assert_eq!(KIND.hooks.validate_part("finalize", &deleting, &deleting), Errors::new());
    }
}
