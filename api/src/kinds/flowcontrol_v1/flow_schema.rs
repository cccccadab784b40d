//! `flowschemas` of flowcontrol.apiserver.k8s.io: which requests belong together, and at which priority.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-1040.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, flow_control, labels, names, parts, rules};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    version: "v1",
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    namespaced: false,
    generation: true,
    subresources: &[parts::status_only("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema")],
    resets: parts::STATUS_ONLY,
    columns: &[
        Column::NAME,
        Column::text("PriorityLevel").of("spec.priorityLevelConfiguration.name"),
        Column::text("MatchingPrecedence").of("spec.matchingPrecedence"),
        Column::text("DistinguisherMethod").of("spec.distinguisherMethod"),
        Column::AGE,
        Column::text("MissingPL").says("references a broken or non-existent PriorityLevelConfiguration"),
    ],
    describe: describe::<k8s_openapi::api::flowcontrol::v1::FlowSchema>,
    judgement: Judgement::ONLY_AS_NEW,
    hooks: &FlowSchema,
    ..Kind::BASE
};

struct FlowSchema;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// Precedence: lower goes first.
const LAST: i64 = 10_000;

impl Hooks for FlowSchema {
    fn default(&self, object: &mut Value) {
        if value::int(object, "spec.matchingPrecedence").unwrap_or_default() == 0 {
            value::set(object, "spec.matchingPrecedence", 1000);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let name = meta::name(object);
        precedence(&mut errors, spec, name, &field.child("matchingPrecedence"));
        if let Some(method) = spec.get("distinguisherMethod").filter(|method| !method.is_null())
            && !matches!(value::text(method, "type"), "ByNamespace" | "ByUser")
        {
            let field = field.child("distinguisherMethod.type");
            let error = FieldError::not_supported(&field, Value::Null, &["ByNamespace", "ByUser"]);
            errors.push(error.showing("FlowDistinguisherMethod", method));
        }
        let level = value::text(spec, "priorityLevelConfiguration.name");
        let at = field.child("priorityLevelConfiguration.name");
        if level.is_empty() {
            errors.push(FieldError::required(&at, "must reference a priority level"));
        } else {
            labels::invalid(&mut errors, &at, level, names::dns_subdomain(level));
        }
        for (i, rule) in value::items(spec, "rules").iter().enumerate() {
            validate_rule(&mut errors, rule, &field.child("rules").index(i));
        }
        if flow_control::mandatory_schema(name).is_some_and(|fixed| fixed != *spec) {
            let error = FieldError::invalid_whole(&field, format!("spec of '{name}' must equal the fixed value"));
            errors.push(error.showing("FlowSchemaSpec", spec));
        }
        errors.extend(flow_control::conditions(object));
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        flow_control::conditions(new)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let conditions = value::items(object, "status.conditions");
        let dangling = conditions.iter().find(|condition| value::text(condition, "type") == "Dangling");
        vec![
            cells::name(object),
            cells::text(object, "spec.priorityLevelConfiguration.name"),
            cells::count(object, "spec.matchingPrecedence"),
            cells::text_or(object, "spec.distinguisherMethod.type", "<none>"),
            cells::age(object, now),
            dangling.map_or("?", |condition| value::text(condition, "status")).into(),
        ]
    }
}

fn precedence(errors: &mut Errors, spec: &Value, name: &str, field: &Path) {
    let precedence = value::int(spec, "matchingPrecedence").unwrap_or_default();
    if precedence <= 0 {
        errors.push(FieldError::invalid(field, precedence, "must be a positive value"));
    }
    if precedence > LAST {
        errors.push(FieldError::invalid(field, precedence, format!("must not be greater than {LAST}")));
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(FieldError::invalid(field, precedence, detail));
    }
}

fn validate_rule(errors: &mut Errors, rule: &Value, field: &Path) {
    let subjects = value::items(rule, "subjects");
    if subjects.is_empty() {
        errors.push(FieldError::required(&field.child("subjects"), "subjects must contain at least one value"));
    }
    for (i, subject) in subjects.iter().enumerate() {
        validate_subject(errors, subject, &field.child("subjects").index(i));
    }
    let (resources, others) = (value::items(rule, "resourceRules"), value::items(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(field, detail));
    }
    for (i, rule) in resources.iter().enumerate() {
        let field = field.child("resourceRules").index(i);
        verbs(errors, rule, &field);
        let detail = "resource rules must supply at least one";
        words(errors, rule, "apiGroups", &field, &format!("{detail} api group"), "api groups");
        words(errors, rule, "resources", &field, &format!("{detail} resource"), "resources");
        namespaces(errors, rule, &field.child("namespaces"));
    }
    for (i, rule) in others.iter().enumerate() {
        let field = field.child("nonResourceRules").index(i);
        verbs(errors, rule, &field);
        let detail = "nonResourceURLs must contain at least one value";
        words(errors, rule, "nonResourceURLs", &field, detail, "non-resource URLs");
        let urls = value::items(rule, "nonResourceURLs");
        if !wild(urls) {
            for (i, url) in urls.iter().filter_map(Value::as_str).enumerate() {
                if let Some(why) = not_a_path(url) {
                    errors.push(FieldError::invalid(&field.child("nonResourceURLs").index(i), url, why));
                }
            }
        }
    }
}

fn wild(words: &[Value]) -> bool {
    words.iter().any(|word| word == "*")
}

/// A list that is not empty, and holds nothing beside a `*`.
fn words(errors: &mut Errors, rule: &Value, name: &str, field: &Path, missing: &str, others: &str) {
    let words = value::items(rule, name);
    if words.is_empty() {
        errors.push(FieldError::required(&field.child(name), missing));
    } else if words.len() > 1 && wild(words) {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.push(FieldError::invalid(&field.child(name), words.to_vec(), detail));
    }
}

fn verbs(errors: &mut Errors, rule: &Value, field: &Path) {
    words(errors, rule, "verbs", field, "verbs must contain at least one value", "verbs");
    let verbs = value::items(rule, "verbs");
    if !wild(verbs) && !verbs.iter().all(|verb| verb.as_str().is_some_and(|verb| VERBS.contains(&verb))) {
        errors.push(FieldError::not_supported(&field.child("verbs"), verbs.to_vec(), VERBS));
    }
}

fn namespaces(errors: &mut Errors, rule: &Value, field: &Path) {
    let namespaces = value::items(rule, "namespaces");
    if namespaces.is_empty() {
        if !value::flag(rule, "clusterScope") {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(FieldError::required(field, detail));
        }
    } else if wild(namespaces) {
        if namespaces.len() > 1 {
            let detail = "if '*' is present, must not specify other namespaces";
            errors.push(FieldError::invalid(field, namespaces.to_vec(), detail));
        }
    } else {
        for (i, namespace) in namespaces.iter().filter_map(Value::as_str).enumerate() {
            for why in names::dns_label(namespace) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.push(FieldError::invalid(&field.index(i), namespace, detail));
            }
        }
    }
}

/// Why a path without a resource is none; a `*` may stand at its end.
fn not_a_path(path: &str) -> Option<&'static str> {
    let beyond = path.find('*').is_some_and(|at| at + 1 < path.len());
    let after_slash = path.strip_suffix('*').is_none_or(|path| path.ends_with('/'));
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if beyond || !after_slash => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

/// The kinds of subjects with their fields.
const SUBJECTS: &[(&str, &str)] = &[("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn validate_subject(errors: &mut Errors, subject: &Value, field: &Path) {
    let kind = value::text(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(name, _)| *name == kind) else {
        errors.push(FieldError::not_supported(&field.child("kind"), kind, &["Group", "ServiceAccount", "User"]));
        return;
    };
    let given = |name: &str| subject.get(name).filter(|subject| !subject.is_null());
    match given(own) {
        None => {
            let detail = format!("{own} is required when subject kind is '{kind}'");
            errors.push(FieldError::required(&field.child(own), detail));
        }
        Some(subject) => named(errors, subject, *own == "serviceAccount", &field.child(own)),
    }
    for (kind, other) in SUBJECTS.iter().filter(|(_, other)| other != own && given(other).is_some()) {
        let detail = format!("{other} is forbidden when subject kind is not '{kind}'");
        errors.push(FieldError::forbidden(&field.child(other), detail));
    }
}

fn named(errors: &mut Errors, subject: &Value, account: bool, field: &Path) {
    let name = rules::required(errors, subject, "name", field);
    if !account {
        return;
    }
    if !matches!(name, "" | "*") {
        labels::invalid(errors, &field.child("name"), name, names::dns_subdomain(name));
    }
    let namespace = value::text(subject, "namespace");
    if namespace.is_empty() {
        errors.push(FieldError::required(&field.child("namespace"), "must specify namespace for service account"));
    } else {
        labels::invalid(errors, &field.child("namespace"), namespace, names::dns_label(namespace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 1000,
            "priorityLevelConfiguration": {"name": "b"}, "distinguisherMethod": {"type": "ByUser"}, "rules": [{
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/", "/a/*"]}]}]}});
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["a", "b", 1000, "ByUser", "<unknown>", "?"]));
        testing::defaults(&KIND, json!({"spec": {}}), &json!({"spec": {"matchingPrecedence": 1000}}));
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 1, "distinguisherMethod": {"type": "x"}, "rules": [
                {},
                {"subjects": [{"kind": "User", "group": {"name": "g"}}, {"kind": "Y"}],
                 "resourceRules": [{"verbs": ["get", "*"], "apiGroups": [], "resources": ["*", "a"], "namespaces": ["A"]}],
                 "nonResourceRules": [{"verbs": ["x"], "nonResourceURLs": ["a", "/*x"]}]}]}}),
            &[
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.distinguisherMethod.type: Unsupported value: {\"Type\":\"x\"}: supported values: \"ByNamespace\", \"ByUser\"",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
                "spec.rules[1].subjects[0].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[1].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[1].subjects[1].kind: Unsupported value: \"Y\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
                "spec.rules[1].resourceRules[0].verbs: Invalid value: [\"get\",\"*\"]: if '*' is present, must not specify other verbs",
                "spec.rules[1].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "spec.rules[1].resourceRules[0].resources: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources",
                "spec.rules[1].resourceRules[0].namespaces[0]: Invalid value: \"A\": each member of this list must be '*' or a \
                 DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.rules[1].nonResourceRules[0].verbs: Unsupported value: [\"x\"]: supported values: \"create\", \"delete\", \
                 \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
                "spec.rules[1].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
                "spec.rules[1].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/*x\": wildcard can only do suffix matching",
            ],
        );
    }

    #[test]
    fn the_mandatory_ones_are_fixed() {
        for name in ["exempt", "catch-all"] {
            let mut object = json!({"metadata": {"name": name}, "spec": flow_control::mandatory_schema(name)});
            testing::invalid(&KIND, &object, &[]);
            value::set(&mut object, "spec.matchingPrecedence", 7);
            let errors = testing::shown(&KIND.hooks.validate(&object));
            assert!(
                errors.last().unwrap().ends_with(&format!("spec of '{name}' must equal the fixed value")),
                "{errors:?}"
            );
        }
        let status = json!({"status": {"conditions": [{"type": "a"}, {"type": "a"}, {}]}});
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &status, &json!({}))),
            ["status.conditions[1].type: Duplicate value: \"a\"", "status.conditions[2].type: Required value"]
        );
    }
}
