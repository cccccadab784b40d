//! `apiservices` of apiregistration.k8s.io: a version of a group, and who serves it.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::judgement::Judgement;
use crate::kind::{Column, Gvk, Hooks, Kind, NameRule, Occasion, Part, Subresource, Verb, describe};
use crate::kinds::shared::{cells, conditions, labels, names, parts};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "apiregistration.k8s.io",
    version: "v1",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    namespaced: false,
    unconditional_update: false,
    subresources: &[Subresource {
        name: "status",
        gvk: Gvk { group: "apiregistration.k8s.io", version: "v1", kind: "APIService" },
        verbs: Verb::PART,
        part: Part::View { merge: parts::status_alone },
    }],
    resets: &[("status", &[&["spec"], &["metadata"]])],
    columns: &[
        Column::NAME,
        Column::text("Service").says("The reference to the service that hosts this API endpoint."),
        Column::text("Available").says("Whether this service is available."),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService>,
    judgement: Judgement::CHANGE_FIRST.any_finalizer(),
    hooks: &ApiService,
    ..Kind::BASE
};

/// How the versions that this server itself serves are ordered: group, version, priority of the group, of the version in it.
const PRIORITIES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("certificates.k8s.io", "v1beta1", 17300, 9),
    ("certificates.k8s.io", "v1alpha1", 17300, 1),
    ("networking.k8s.io", "v1", 17200, 15),
    ("networking.k8s.io", "v1beta1", 17200, 9),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("storage.k8s.io", "v1beta1", 16800, 9),
    ("storage.k8s.io", "v1alpha1", 16800, 1),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1beta1", 16700, 12),
    ("admissionregistration.k8s.io", "v1alpha1", 16700, 9),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("scheduling.k8s.io", "v1alpha2", 16600, 2),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("coordination.k8s.io", "v1beta1", 16500, 13),
    ("coordination.k8s.io", "v1alpha2", 16500, 12),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("resource.k8s.io", "v1beta2", 16200, 15),
    ("resource.k8s.io", "v1beta1", 16200, 9),
    ("resource.k8s.io", "v1alpha3", 16200, 1),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("internal.apiserver.k8s.io", "v1alpha1", 16000, 9),
    ("storagemigration.k8s.io", "v1beta1", 15800, 9),
];

/// The label of what the server registers itself.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The APIServices of what the server itself serves, one per version of a group; none for its registration itself, as
/// upstream has it.
#[must_use]
pub fn local(kinds: &[&Kind]) -> Vec<Value> {
    let served = |group: &str, version: &str| kinds.iter().any(|kind| (kind.group, kind.version) == (group, version));
    PRIORITIES
        .iter()
        .filter(|(group, version, ..)| served(group, version))
        .map(|(group, version, of_group, of_version)| {
            let mut spec = json!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
            if !group.is_empty() {
                value::set(&mut spec, "group", *group);
            }
            json!({"apiVersion": KIND.api_version(), "kind": KIND.kind,
                "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: "onstart"}}, "spec": spec})
        })
        .collect()
}

/// The APIService of a version of a group of custom resources. Definitions make it and take it away.
#[must_use]
pub fn of_definitions(group: &str, version: &str) -> Value {
    json!({"apiVersion": KIND.api_version(), "kind": KIND.kind,
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: "true"}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 100}})
}

/// Definitions made it.
#[must_use]
pub fn is_of_definitions(object: &Value) -> bool {
    labels::map(object, "metadata.labels").and_then(|labels| labels.get(MANAGED)).is_some_and(|how| how == "true")
}

/// The server registered it at a start, and takes it away when it no longer serves it.
#[must_use]
pub fn is_managed(object: &Value) -> bool {
    labels::map(object, "metadata.labels").and_then(|labels| labels.get(MANAGED)).is_some_and(|how| how == "onstart")
}

struct ApiService;

impl Hooks for ApiService {
    fn default(&self, object: &mut Value) {
        if let Some(service) = value::get_mut(object, "spec.service").filter(|service| service.is_object()) {
            value::set_default(service, "port", 443);
        }
    }

    fn stamp(&self, part: &str, new: &mut Value, old: Option<&Value>, occasion: &Occasion<'_>) {
        if part.is_empty() && old.is_none() && service(new).is_none() {
            let condition = json!({"type": "Available", "status": "True", "lastTransitionTime": occasion.now,
                "reason": "Local", "message": "Local APIServices are always available"});
            value::set(new, "status", json!({"conditions": [condition]}));
        }
    }

    fn name_errors(&self, object: &Value, name: &str, prefix: bool) -> Vec<String> {
        let wanted = format!("{}.{}", value::text(object, "spec.version"), value::text(object, "spec.group"));
        match names::path_segment(name, prefix) {
            wrong if wrong.is_empty() && name != wanted => {
                vec![format!("must be `spec.version+\".\"+spec.group`: {wanted:?}")]
            }
            wrong => wrong,
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let (group, version) = (value::text(spec, "group"), value::text(spec, "version"));
        if group.is_empty() && version != "v1" {
            let detail = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required(&field.child("group"), detail));
        }
        if !group.is_empty() {
            labels::invalid(&mut errors, &field.child("group"), group, names::dns_subdomain(group));
        }
        labels::invalid(&mut errors, &field.child("version"), version, names::dns_1035_label(version));
        for (name, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let priority = value::int(spec, name).unwrap_or_default();
            if !(1..=most).contains(&priority) {
                let detail = format!("must be positive and less than {most}");
                errors.push(FieldError::invalid(&field.child(name), priority, detail));
            }
        }
        server(&mut errors, object, spec, &field);
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        let mut errors = Errors::new();
        for (i, condition) in value::items(new, "status.conditions").iter().enumerate() {
            let status = value::text(condition, "status");
            if !conditions::STATUSES.contains(&status) {
                let field = Path::new("status.conditions").index(i).child("status");
                errors.push(FieldError::not_supported_as_listed(&field, status, &["True", "False", "Unknown"]));
            }
        }
        errors
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let by = service(object).map_or_else(
            || "Local".to_owned(),
            |service| format!("{}/{}", value::text(service, "namespace"), value::text(service, "name")),
        );
        vec![cells::name(object), by.into(), available(object).into(), cells::age(object, now)]
    }
}

/// The Service that serves it; none for what the server serves itself.
fn service(object: &Value) -> Option<&Value> {
    value::get(object, "spec.service").filter(|service| !service.is_null())
}

/// How it is reached: by a Service whose certificate is checked, or not at all.
fn server(errors: &mut Errors, object: &Value, spec: &Value, field: &Path) {
    let bundle = value::text(spec, "caBundle");
    let blind = value::flag(spec, "insecureSkipTLSVerify");
    let at = field.child("insecureSkipTLSVerify");
    let Some(service) = service(object) else {
        if !bundle.is_empty() {
            let padding = bundle.bytes().rev().take_while(|b| *b == b'=').count();
            let shown = format!("{} bytes", (bundle.len() / 4 * 3).saturating_sub(padding));
            let detail = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(&field.child("caBundle"), shown, detail));
        }
        if blind {
            errors.push(FieldError::invalid(&at, true, "local APIServices may not have insecureSkipTLSVerify"));
        }
        return;
    };
    let field = field.child("service");
    for name in ["namespace", "name"] {
        crate::kinds::shared::rules::required(errors, service, name, &field);
    }
    let port = value::int(service, "port").unwrap_or_default();
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&field.child("port"), port, detail));
    }
    if blind && !bundle.is_empty() {
        errors.push(FieldError::invalid(&at, true, "may not be true if caBundle is present"));
    }
}

fn available(object: &Value) -> String {
    let of_type = |condition: &&Value| value::text(condition, "type") == "Available";
    let Some(condition) = value::items(object, "status.conditions").iter().find(of_type) else {
        return "Unknown".to_owned();
    };
    match (value::text(condition, "status"), value::text(condition, "reason")) {
        (status @ "True", _) | (status, "") => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": "metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
            "service": {"namespace": "kube-system", "name": "metrics-server", "port": 443}}})
    }

    #[test]
    fn every_version_that_is_served_is_registered() {
        let local = local(crate::kinds::ALL);
        for object in &local {
            testing::invalid(&KIND, object, &[]);
            assert!(is_managed(object));
        }
        assert!(!is_managed(&sound()));
        for kind in crate::kinds::ALL.iter().filter(|kind| kind.group != KIND.group) {
            let name = format!("{}.{}", kind.version, kind.group);
            assert!(local.iter().any(|object| crate::meta::name(object) == name), "{name} has no priority");
        }
    }

    #[test]
    fn local_ones_are_available_at_once() {
        let mut object = local(crate::kinds::ALL).remove(0);
        KIND.hooks.stamp("", &mut object, None, &testing::occasion("2026-01-01T00:00:00Z"));
        testing::row(&KIND, &object, &json!(["v1.", "Local", "True", "<unknown>"]));
        let mut other = sound();
        KIND.hooks.stamp("", &mut other, None, &testing::occasion("1"));
        assert_eq!(other, sound());
        testing::row(
            &KIND,
            &other,
            &json!(["v1beta1.metrics.k8s.io", "kube-system/metrics-server", "Unknown", "<unknown>"]),
        );
        value::set(
            &mut other,
            "status.conditions",
            json!([{"type": "Available", "status": "False", "reason": "Gone"}]),
        );
        assert_eq!(available(&other), "False (Gone)");
    }

    #[test]
    fn validation() {
        let mut without_port = sound();
        value::remove(&mut without_port, "spec.service.port");
        testing::defaults(&KIND, without_port, &sound());
        testing::invalid(&KIND, &sound(), &[]);
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "x"}, "spec": {"version": "V1", "versionPriority": 1001,
                "insecureSkipTLSVerify": true, "caBundle": "eHk="}}),
            &[
                "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
                "spec.version: Invalid value: \"V1\": a DNS-1035 label must consist of lower case alphanumeric characters or \
                 '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or \
                 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000",
                "spec.caBundle: Invalid value: \"2 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ],
        );
        let mut bad = sound();
        value::set(&mut bad, "spec.service", json!({"port": 0}));
        value::set(&mut bad, "spec.caBundle", "eHk=");
        testing::invalid(
            &KIND,
            &bad,
            &[
                "spec.service.namespace: Required value",
                "spec.service.name: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ],
        );
        let status = json!({"status": {"conditions": [{"status": "Maybe"}]}});
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &status, &status)),
            [
                "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"True\", \"False\", \"Unknown\""
            ]
        );
    }
}
