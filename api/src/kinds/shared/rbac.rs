//! What roles and bindings have in common: rules, references to roles, subjects.
//!
//! Never decides who may do what: the authorizer does.

use super::{cells, labels, names, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::Column;
use crate::{meta, value};

/// The group of roles, and of users and groups as subjects.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles show their creation time as it is stored.
pub const ROLE_COLUMNS: &[Column] = &[Column::NAME, Column { name: "Created At", kind: "date", ..Column::AGE }];

/// The cells of `ROLE_COLUMNS`.
#[must_use]
pub fn role_row(object: &Value) -> Vec<Value> {
    vec![cells::name(object), cells::text(object, "metadata.creationTimestamp")]
}

/// The columns of a binding: what its role may be, and who is in it.
#[must_use]
pub const fn binding_columns(role: &'static str, subjects: [&'static str; 3]) -> [Column; 6] {
    let [users, groups, accounts] = subjects;
    [
        Column::NAME,
        Column::text("Role").says(role),
        Column::AGE,
        Column::text("Users").wide().says(users),
        Column::text("Groups").wide().says(groups),
        Column::text("ServiceAccounts").wide().says(accounts),
    ]
}

/// The cells of `binding_columns`.
#[must_use]
pub fn binding_row(object: &Value, now: i64) -> Vec<Value> {
    let subjects = |kind: &str| {
        let of_kind = value::items(object, "subjects").iter().filter(|subject| value::text(subject, "kind") == kind);
        let names: Vec<String> = of_kind
            .map(|subject| match (kind, value::text(subject, "namespace")) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => {
                    format!("{namespace}/{}", value::text(subject, "name"))
                }
                _ => value::text(subject, "name").to_owned(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    let role = format!("{}/{}", value::text(object, "roleRef.kind"), value::text(object, "roleRef.name"));
    vec![
        meta::name(object).into(),
        role.into(),
        cells::age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

/// References and subjects name their group.
pub fn default_binding(object: &mut Value) {
    if value::text(object, "roleRef.apiGroup").is_empty() {
        value::set(object, "roleRef.apiGroup", GROUP);
    }
    for subject in value::items_mut(object, "subjects") {
        let named = matches!(value::text(subject, "kind"), "User" | "Group");
        if named && value::text(subject, "apiGroup").is_empty() {
            value::set(subject, "apiGroup", GROUP);
        }
    }
}

/// The rules of a role.
#[must_use]
pub fn validate_rules(object: &Value, namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    for (i, rule) in value::items(object, "rules").iter().enumerate() {
        let field = Path::new("rules").index(i);
        let has = |name: &str| !value::items(rule, name).is_empty();
        if !has("verbs") {
            errors.push(FieldError::required(&field.child("verbs"), "verbs must contain at least one value"));
        }
        if has("nonResourceURLs") {
            let at = field.child("nonResourceURLs");
            let shown = Value::from(value::items(rule, "nonResourceURLs"));
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&at, shown.clone(), detail));
            }
            if has("apiGroups") || has("resources") || has("resourceNames") {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(&at, shown, detail));
            }
            continue;
        }
        if !has("apiGroups") {
            let detail = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&field.child("apiGroups"), detail));
        }
        if !has("resources") {
            let detail = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&field.child("resources"), detail));
        }
    }
    errors
}

/// A binding in a namespace may name a role of either kind; one for the cluster, a cluster role.
#[must_use]
pub fn validate_binding(object: &Value, namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("roleRef");
    let role = object.get("roleRef").unwrap_or(&Value::Null);
    let group = value::text(role, "apiGroup");
    if group != GROUP {
        errors.push(FieldError::not_supported(&field.child("apiGroup"), group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = value::text(role, "kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported_as_listed(&field.child("kind"), kind, kinds));
    }
    let name = rules::required(&mut errors, role, "name", &field);
    labels::invalid(&mut errors, &field.child("name"), name, names::path_segment(name, false));
    for (i, subject) in value::items(object, "subjects").iter().enumerate() {
        validate_subject(&mut errors, subject, namespaced, &Path::new("subjects").index(i));
    }
    errors
}

fn validate_subject(errors: &mut Errors, subject: &Value, namespaced: bool, field: &Path) {
    let name = rules::required(errors, subject, "name", field);
    let group = value::text(subject, "apiGroup");
    match value::text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                labels::invalid(errors, &field.child("name"), name, names::dns_subdomain(name));
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(&field.child("apiGroup"), group, &[""]));
            }
            if !namespaced {
                rules::required(errors, subject, "namespace", field);
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(&field.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            errors.push(FieldError::not_supported_as_listed(
                &field.child("kind"),
                other,
                &["ServiceAccount", "User", "Group"],
            ));
        }
    }
}

/// The role of a binding stays.
#[must_use]
pub fn validate_binding_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    if rules::differ(new.get("roleRef"), old.get("roleRef")) {
        let error = FieldError::invalid_whole(&Path::new("roleRef"), "cannot change roleRef");
        errors.push(error.showing("RoleRef", new.get("roleRef").unwrap_or(&Value::Null)));
    }
    errors
}

/// What holds for both bindings.
#[cfg(test)]
pub(crate) mod testing {
    use super::GROUP;
    use crate::json::json;
    use crate::kind::Kind;
    use crate::kinds::shared::testing;

    /// Groups that are not named are filled in.
    pub(crate) fn groups_are_filled_in(kind: &Kind) {
        testing::defaults(
            kind,
            json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
            &json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "r"}, "subjects": [
                {"apiGroup": GROUP, "kind": "User", "name": "u"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        );
    }

    /// References to roles of these kinds alone, to what can be a subject, and never to another role.
    pub(crate) fn reference_and_subjects_are_checked(kind: &Kind, roles: &str) {
        let fine = json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "a:b"}});
        testing::invalid(kind, &fine, &[]);
        testing::invalid(
            kind,
            &json!({"roleRef": {"apiGroup": GROUP, "kind": "X", "name": ""}, "subjects": [{"kind": "Y", "name": "u"}]}),
            &[
                &format!("roleRef.kind: Unsupported value: \"X\": supported values: {roles}"),
                "roleRef.name: Required value",
                "subjects[0].kind: Unsupported value: \"Y\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        );
        testing::invalid_update(
            kind,
            &json!({"roleRef": {"name": "b"}}),
            &json!({"roleRef": {"name": "a"}}),
            &["roleRef: Invalid value: {\"APIGroup\":\"\",\"Kind\":\"\",\"Name\":\"b\"}: cannot change roleRef"],
        );
    }

    /// The role, and its subjects by their kinds.
    pub(crate) fn row(kind: &Kind) {
        let object = json!({"metadata": {"name": "a"}, "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "User", "name": "v"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        testing::row(kind, &object, &json!(["a", "ClusterRole/r", "<unknown>", "u, v", "", "n/s"]));
    }
}
