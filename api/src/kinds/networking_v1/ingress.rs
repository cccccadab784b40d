//! `ingresses` of networking.k8s.io: HTTP from outside to services, by host and path.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::labels::invalid;
use crate::kinds::shared::{addresses, cells, names, parts, references, rules};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    subresources: &[parts::status("networking.k8s.io", "v1", "Ingress")],
    generation: true,
    columns: &[
        Column::NAME,
        Column::text("Class")
            .says("The name of the IngressClass resource that should be used for additional configuration"),
        Column::text("Hosts").says("Hosts that incoming requests are matched against before the ingress rule"),
        Column::text("Address").says("Address is a list containing ingress points for the load-balancer"),
        Column::text("Ports").says("Ports of TLS configurations that open"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::networking::v1::Ingress>,
    judgement: Judgement::AS_NEW,
    hooks: &Ingress,
    ..Kind::BASE
};

/// What named the class before `spec.ingressClassName`.
const CLASS: &str = "kubernetes.io/ingress.class";

struct Ingress;

impl Hooks for Ingress {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = validate(object);
        let class = value::get(object, "spec.ingressClassName").and_then(Value::as_str);
        if let (Some(annotation), Some(class)) = (meta::annotation(object, CLASS), class)
            && annotation != class
        {
            let detail = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(&Path::new("annotations").child(CLASS), annotation, detail));
        }
        errors
    }

    fn revalidate(&self, new: &Value, _old: &Value) -> Errors {
        validate(new)
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let points = |object| value::items(object, "status.loadBalancer.ingress");
        let before: Vec<&str> = points(old).iter().map(|point| value::text(point, "ip")).collect();
        for (i, point) in points(new).iter().enumerate() {
            let field = Path::new("status.loadBalancer.ingress").index(i);
            let (ip, host) = (value::text(point, "ip"), value::text(point, "hostname"));
            if !ip.is_empty() {
                addresses::check(&mut errors, &field.child("ip"), ip, addresses::legacy_ip, &before);
            }
            if !host.is_empty() {
                let at = field.child("hostname");
                invalid(&mut errors, &at, host, names::dns_subdomain(host));
                not_an_address(&mut errors, host, &at);
            }
        }
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let named = value::get(new, "spec.ingressClassName").is_some_and(Value::is_string);
        match (old, meta::annotation(new, CLASS)) {
            (None, Some(_)) if !named => {
                vec![format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead")]
            }
            _ => Vec::new(),
        }
    }

    fn warnings_of_part(&self, _part: &str, new: &Value, _old: &Value) -> Vec<String> {
        let points = value::items(new, "status.loadBalancer.ingress").iter().enumerate();
        let field = Path::new("status.loadBalancer.ingress");
        points.flat_map(|(i, point)| addresses::ip_warnings(&field.index(i), value::text(point, "ip"))).collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let points = value::items(object, "status.loadBalancer.ingress").iter();
        let mut points: Vec<&str> = points
            .map(|point| match value::text(point, "ip") {
                "" => value::text(point, "hostname"),
                ip => ip,
            })
            .filter(|point| !point.is_empty())
            .collect();
        points.sort_unstable();
        points.dedup();
        let class = value::get(object, "spec.ingressClassName").and_then(Value::as_str);
        let ports = if value::items(object, "spec.tls").is_empty() { "80" } else { "80, 443" };
        vec![
            cells::name(object),
            class.unwrap_or("<none>").into(),
            hosts(value::items(object, "spec.rules")).into(),
            points.join(",").into(),
            ports.into(),
            cells::age(object, now),
        ]
    }
}

/// The first three hosts, and how many rules more.
fn hosts(rules: &[Value]) -> String {
    const SHOWN: usize = 3;
    let mut shown = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == SHOWN;
        let host = value::text(rule, "host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.join(","), more) {
        (none, _) if none.is_empty() => "*".to_owned(),
        (list, true) => format!("{list} + {} more...", rules.len() - SHOWN),
        (list, false) => list,
    }
}

fn validate(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let rules = value::items(spec, "rules");
    let backend = spec.get("defaultBackend").filter(|backend| !backend.is_null());
    if rules.is_empty() && backend.is_none() {
        let shown = spec.get("rules").cloned().unwrap_or_default();
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&field, shown, detail));
    }
    if let Some(given) = backend {
        self::backend(&mut errors, given, &field.child("defaultBackend"));
    }
    for (i, rule) in rules.iter().enumerate() {
        self::rule(&mut errors, rule, &field.child("rules").index(i));
    }
    for (i, tls) in value::items(spec, "tls").iter().enumerate() {
        let field = field.child("tls").index(i);
        for (j, host) in value::items(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
            self::host(&mut errors, host, &field.child("hosts").index(j));
        }
        let secret = value::text(tls, "secretName");
        if !secret.is_empty() {
            invalid(&mut errors, &field.child("secretName"), secret, names::dns_subdomain(secret));
        }
    }
    rules::text(&mut errors, spec, "ingressClassName", &field, names::dns_subdomain);
    errors
}

fn not_an_address(errors: &mut Errors, host: &str, field: &Path) {
    if addresses::sloppy_ip(host).is_some() {
        errors.push(FieldError::invalid(field, host, "must be a DNS name, not an IP address"));
    }
}

/// A name, or one with a star for its first part.
fn host(errors: &mut Errors, host: &str, field: &Path) {
    if !host.contains('*') {
        invalid(errors, field, host, names::dns_subdomain(host));
        return;
    }
    let long = names::too_long(253);
    if host.len() > 253 {
        errors.push(FieldError::invalid(field, host, long.clone()));
    }
    let fine = host.strip_prefix("*.").is_some_and(|rest| names::dns_subdomain(rest).iter().all(|why| *why == long));
    if !fine {
        errors.push(FieldError::invalid(
            field,
            host,
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
             regex used for validation is \
             '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ));
    }
}

fn rule(errors: &mut Errors, rule: &Value, field: &Path) {
    let given = value::text(rule, "host");
    if !given.is_empty() {
        not_an_address(errors, given, &field.child("host"));
        host(errors, given, &field.child("host"));
    }
    let Some(http) = rule.get("http").filter(|http| !http.is_null()) else { return };
    let field = field.child("http.paths");
    let paths = value::items(http, "paths");
    if paths.is_empty() {
        errors.push(FieldError::required(&field, ""));
    }
    for (i, path) in paths.iter().enumerate() {
        self::path(errors, path, &field.index(i));
    }
}

fn path(errors: &mut Errors, entry: &Value, field: &Path) {
    let Some(kind) = entry.get("pathType").and_then(Value::as_str) else {
        errors.push(FieldError::required(&field.child("pathType"), "pathType must be specified"));
        return;
    };
    let path = value::text(entry, "path");
    let at = field.child("path");
    let is_absolute = path.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            if !is_absolute {
                errors.push(FieldError::invalid(&at, path, "must be an absolute path"));
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| path.contains(**part)) {
                errors.push(FieldError::invalid(&at, path, format!("must not contain '{part}'")));
            }
            for end in ["/..", "/."].iter().filter(|end| path.ends_with(**end)) {
                errors.push(FieldError::invalid(&at, path, format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !is_absolute {
                errors.push(FieldError::invalid(&at, path, "must be an absolute path"));
            }
        }
        other => errors.push(FieldError::not_supported(
            &field.child("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        )),
    }
    backend(errors, entry.get("backend").unwrap_or(&Value::Null), &field.child("backend"));
}

fn backend(errors: &mut Errors, backend: &Value, field: &Path) {
    let get = |name| backend.get(name).filter(|target: &&Value| !target.is_null());
    match (get("resource"), get("service")) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(field, "", "cannot set both resource and service backends"));
        }
        (Some(resource), None) => references::typed_local(errors, resource, &field.child("resource")),
        (None, Some(service)) => service_backend(errors, service, field),
        (None, None) => errors.push(FieldError::invalid(field, "", "resource or service backend is required")),
    }
}

fn service_backend(errors: &mut Errors, service: &Value, field: &Path) {
    let at = field.child("service");
    let name = rules::required(errors, service, "name", &at);
    if !name.is_empty() {
        invalid(errors, &at.child("name"), name, names::dns_label(name));
    }
    let (name, number) = (value::text(service, "port.name"), value::int(service, "port.number").unwrap_or_default());
    match (name.is_empty(), number) {
        (true, 0) => errors.push(FieldError::required(field, "port name or number is required")),
        (true, number) => {
            for message in names::port_number(number) {
                errors.push(FieldError::invalid(&at.child("port.number"), number, message));
            }
        }
        (false, 0) => invalid(errors, &at.child("port.name"), name, names::port_name(name)),
        (false, _) => errors.push(FieldError::invalid(field, "", "cannot set both port name & port number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn with(path: &str, host: &str) -> Value {
        json!({"metadata": {"name": "i"}, "spec": {"rules": [{"host": host, "http": {"paths": [
            {"path": path, "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}})
    }

    #[test]
    fn hosts_and_paths() {
        const WILDCARD: &str = "spec.rules[0].host: Invalid value: \"*.\": a wildcard DNS-1123 subdomain must start with '*.', \
            followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with \
            an alphanumeric character (e.g. '*.example.com', regex used for validation is \
            '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        const PATH: &str = "spec.rules[0].http.paths[0].path: Invalid value: ";
        for (path, host, sentences) in [
            ("/", "a.example.com", vec![]),
            ("/", "*.example.com", vec![]),
            (
                "/",
                "10.0.0.1",
                vec!["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address".into()],
            ),
            ("/", "*.", vec![WILDCARD.to_owned()]),
            ("/", "*.*.com", vec![WILDCARD.replace("\"*.\"", "\"*.*.com\"")]),
            ("/", "*bar.com", vec![WILDCARD.replace("\"*.\"", "\"*bar.com\"")]),
            ("/", "*.-a.com", vec![WILDCARD.replace("\"*.\"", "\"*.-a.com\"")]),
            ("a", "", vec![format!("{PATH}\"a\": must be an absolute path")]),
            (
                "/a//b/..",
                "",
                vec![
                    format!("{PATH}\"/a//b/..\": must not contain '//'"),
                    format!("{PATH}\"/a//b/..\": cannot end with '/..'"),
                ],
            ),
            ("/%2f", "", vec![format!("{PATH}\"/%2f\": must not contain '%2f'")]),
        ] {
            let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
            testing::invalid(&KIND, &with(path, host), &sentences);
        }
    }

    #[test]
    fn backends_and_classes() {
        testing::invalid(
            &KIND,
            &json!({"spec": {}}),
            &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        );
        for (backend, sentences) in [
            (json!({}), vec!["spec.defaultBackend: Invalid value: \"\": resource or service backend is required"]),
            (
                json!({"service": {"name": "a.b", "port": {}}}),
                vec![
                    "spec.defaultBackend.service.name: Invalid value: \"a.b\": must not contain dots",
                    "spec.defaultBackend: Required value: port name or number is required",
                ],
            ),
            (
                json!({"service": {"name": "1a", "port": {"name": "80", "number": 80}}}),
                vec!["spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number"],
            ),
            (
                json!({"service": {"port": {"number": 65536}}}),
                vec![
                    "spec.defaultBackend.service.name: Required value",
                    "spec.defaultBackend.service.port.number: Invalid value: 65536: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                json!({"resource": {"apiGroup": "a b", "kind": "x/y"}}),
                vec![
                    "spec.defaultBackend.resource.apiGroup: Invalid value: \"a b\": a lowercase RFC 1123 subdomain must consist of \
                     lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                     'example.com', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                    "spec.defaultBackend.resource.kind: Invalid value: \"x/y\": may not contain '/'",
                    "spec.defaultBackend.resource.name: Required value",
                ],
            ),
        ] {
            testing::invalid(&KIND, &json!({"spec": {"defaultBackend": backend}}), &sentences);
        }
        let mut both = with("/", "");
        value::set(&mut both, "spec.ingressClassName", "a");
        value::map_mut(&mut both, "metadata.annotations").insert(CLASS, "b".into());
        testing::invalid(
            &KIND,
            &both,
            &[
                "annotations.kubernetes.io/ingress.class: Invalid value: \"b\": must match `ingressClassName` when both are specified",
            ],
        );
        assert_eq!(testing::shown(&KIND.hooks.revalidate(&both, &both)), [""; 0]);
        assert_eq!(KIND.hooks.warnings(&both, None), [""; 0]);
        value::remove(&mut both, "spec.ingressClassName");
        assert_eq!(
            KIND.hooks.warnings(&both, None),
            ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]
        );
    }

    #[test]
    fn status() {
        let points =
            |ip: &str, host: &str| json!({"status": {"loadBalancer": {"ingress": [{"ip": ip, "hostname": host}]}}});
        let check = |new: &Value, old: &Value| testing::shown(&KIND.hooks.validate_part("status", new, old));
        assert_eq!(check(&points("10.0.0.1", "a.b"), &json!({})), [""; 0]);
        assert_eq!(
            check(&points("010.0.0.1", "10.0.0.1"), &json!({})),
            [
                "status.loadBalancer.ingress[0].ip: Invalid value: \"010.0.0.1\": must not have leading 0s",
                "status.loadBalancer.ingress[0].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ]
        );
        let odd = points("010.0.0.1", "");
        assert_eq!(check(&odd, &odd), [""; 0]);
        assert_eq!(
            KIND.hooks.warnings_of_part("status", &odd, &odd),
            ["status.loadBalancer.ingress[0]: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\""]
        );
    }

    #[test]
    fn row() {
        let mut ingress = with("/", "");
        testing::row(&KIND, &ingress, &json!(["i", "<none>", "*", "", "80", "<unknown>"]));
        value::set(&mut ingress, "spec.tls", json!([{}]));
        value::set(&mut ingress, "spec.ingressClassName", "nginx");
        value::set(
            &mut ingress,
            "spec.rules",
            json!([{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}, {"host": "e"}]),
        );
        value::set(
            &mut ingress,
            "status.loadBalancer.ingress",
            json!([{"hostname": "h"}, {"ip": "10.0.0.1"}, {"hostname": "h"}]),
        );
        let cells = json!(["i", "nginx", "a,b,c + 2 more...", "10.0.0.1,h", "80, 443", "<unknown>"]);
        testing::row(&KIND, &ingress, &cells);
    }
}
