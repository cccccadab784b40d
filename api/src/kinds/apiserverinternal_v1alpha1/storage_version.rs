//! `storageversions` of internal.apiserver.k8s.io: in which version each API server stores a resource.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-2339.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::{Check, Judgement};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::labels::invalid;
use crate::kinds::shared::{cells, names, parts, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "internal.apiserver.k8s.io",
    version: "v1alpha1",
    kind: "StorageVersion",
    plural: "storageversions",
    singular: "storageversion",
    namespaced: false,
    unconditional_update: false,
    subresources: &[parts::status_only("internal.apiserver.k8s.io", "v1alpha1", "StorageVersion")],
    resets: parts::STATUS_ONLY,
    columns: &[
        Column::NAME,
        Column::text("CommonEncodingVersion").of("status.commonEncodingVersion"),
        Column::text("StorageVersions").of("status.storageVersions"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::apiserverinternal::v1alpha1::StorageVersion>,
    judgement: Judgement { update: &[Check::Object, Check::Change], ..Judgement::USUAL },
    hooks: &StorageVersion,
    ..Kind::BASE
};

struct StorageVersion;

impl Hooks for StorageVersion {
    fn validate(&self, object: &Value) -> Errors {
        status(object)
    }

    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        // There is nothing to change but the status, which has its own way.
        Errors::new()
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        status(new)
    }

    fn name_errors(&self, _object: &Value, name: &str, _prefix: bool) -> Vec<String> {
        let Some((group, resource)) = name.rsplit_once('.') else {
            return vec!["name must be in the form of <group>.<resource>".to_owned()];
        };
        let mut errors = prefixed("the group segment ", names::dns_subdomain(group));
        errors.extend(prefixed("the resource segment ", names::dns_1035_label(resource)));
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let servers: Vec<String> = value::items(object, "status.storageVersions")
            .iter()
            .map(|server| format!("{}={}", value::text(server, "apiServerID"), value::text(server, "encodingVersion")))
            .collect();
        vec![
            cells::name(object),
            cells::text_or(object, "status.commonEncodingVersion", "<unset>"),
            cells::first_three(&servers, "").into(),
            cells::age(object, now),
        ]
    }
}

fn prefixed(prefix: &str, messages: names::Messages) -> names::Messages {
    messages.into_iter().map(|message| format!("{prefix}{message}")).collect()
}

fn status(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("status");
    let servers = value::items(object, "status.storageVersions");
    for (i, server) in servers.iter().enumerate() {
        let field = field.child("storageVersions").index(i);
        let id = value::text(server, "apiServerID");
        if servers.iter().take(i).any(|other| value::text(other, "apiServerID") == id) {
            errors.push(FieldError::duplicate(&field.child("apiServerID"), id));
        }
        one_server(&mut errors, server, &field);
    }
    common_version(&mut errors, object, servers);
    conditions(&mut errors, value::items(object, "status.conditions"), &field);
    errors
}

fn one_server(errors: &mut Errors, server: &Value, field: &Path) {
    let id = value::text(server, "apiServerID");
    invalid(errors, &field.child("apiServerID"), id, names::dns_subdomain(id));
    let encoding = value::text(server, "encodingVersion");
    let check = |errors: &mut Errors, field: &Path, version: &str| {
        let messages = api_version(version);
        if !messages.is_empty() {
            errors.push(FieldError::invalid(field, version, messages.join(",")));
        }
    };
    check(errors, &field.child("encodingVersion"), encoding);
    let texts = |name| value::items(server, name).iter().filter_map(Value::as_str).collect::<Vec<&str>>();
    let (decodable, served) = (texts("decodableVersions"), texts("servedVersions"));
    for (i, version) in decodable.iter().enumerate() {
        check(errors, &field.child("decodableVersions").index(i), version);
    }
    if !decodable.contains(&encoding) {
        let detail = format!("decodableVersions must include encodingVersion {encoding}");
        let shown = if decodable.is_empty() { Value::Null } else { decodable.clone().into() };
        errors.push(FieldError::invalid(&field.child("decodableVersions"), shown, detail));
    }
    for (i, version) in served.iter().enumerate() {
        let field = field.child("servedVersions").index(i);
        check(errors, &field, version);
        if !decodable.contains(version) {
            let list = decodable.join(" ");
            let detail =
                format!("individual served version : {version} must be included in decodableVersions : [{list}]");
            errors.push(FieldError::invalid(&field, *version, detail));
        }
    }
}

/// The version in which all servers store is said, and only that.
fn common_version(errors: &mut Errors, object: &Value, servers: &[Value]) {
    let field = Path::new("status.commonEncodingVersion");
    let versions: Vec<&str> = servers.iter().map(|server| value::text(server, "encodingVersion")).collect();
    let common = versions.first().copied().filter(|first| versions.iter().all(|version| version == first));
    let said = value::get(object, "status.commonEncodingVersion").and_then(Value::as_str);
    let detail = match (common, said) {
        (None, Some(_)) => {
            "should be nil if servers do not agree on the same encoding version, or if there is no server \
                            reporting the supported versions yet"
                .to_owned()
        }
        (Some(common), None) => format!("the common encoding version is {common}"),
        (Some(common), Some(said)) if common != said => format!("the actual common encoding version is {common}"),
        _ => return,
    };
    errors.push(FieldError::invalid(&field, said.map_or(Value::Null, Value::from), detail));
}

/// The paths lack `conditions`, upstream's too.
fn conditions(errors: &mut Errors, conditions: &[Value], field: &Path) {
    for (i, condition) in conditions.iter().enumerate() {
        let field = field.index(i);
        let kind = value::text(condition, "type");
        let twin = conditions.iter().take(i).rposition(|other| value::text(other, "type") == kind);
        if let Some(twin) = twin {
            let detail = format!("the type of the condition is not unique, it also appears in conditions[{twin}]");
            errors.push(FieldError::invalid(&field.child("type"), kind, detail));
        }
        for name in ["type", "status"] {
            let text = value::text(condition, name);
            invalid(errors, &field.child(name), text, names::qualified_name(text));
        }
        for name in ["reason", "message"] {
            rules::required(errors, condition, name, &field);
        }
    }
}

/// `v1` or `group/v1`.
fn api_version(text: &str) -> names::Messages {
    let (mut errors, version) = match text.split_once('/') {
        None => (Vec::new(), text),
        Some((_, rest)) if rest.contains('/') => {
            return vec![
                "an apiVersion is a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', start \
                 with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                 regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?') with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyVersion')"
                    .to_owned(),
            ];
        }
        Some(("", version)) => (vec!["group part: must be non-empty".to_owned()], version),
        Some((group, version)) => (prefixed("group part: ", names::dns_subdomain(group)), version),
    };
    match version {
        "" => errors.push("version part: must be non-empty".to_owned()),
        _ => errors.extend(prefixed("version part: ", names::dns_1035_label(version))),
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn server(id: &str, encoding: &str) -> Value {
        json!({"apiServerID": id, "encodingVersion": encoding, "decodableVersions": ["v1", "a.b/v1"]})
    }

    fn check(status: &Value, sentences: &[&str]) {
        let errors = KIND.hooks.validate_part("status", &json!({"status": status}), &json!({}));
        assert_eq!(testing::shown(&errors), sentences);
    }

    #[test]
    fn servers_and_their_common_version() {
        check(&json!({}), &[]);
        check(&json!({"storageVersions": [server("a", "v1")], "commonEncodingVersion": "v1"}), &[]);
        check(&json!({"storageVersions": [server("a", "v1"), server("b", "a.b/v1")]}), &[]);
        check(
            &json!({"storageVersions": [server("a", "v1")]}),
            &["status.commonEncodingVersion: Invalid value: null: the common encoding version is v1"],
        );
        check(
            &json!({"storageVersions": [server("a", "v1"), server("a", "v1")], "commonEncodingVersion": "a.b/v1"}),
            &[
                "status.storageVersions[1].apiServerID: Duplicate value: \"a\"",
                "status.commonEncodingVersion: Invalid value: \"a.b/v1\": the actual common encoding version is v1",
            ],
        );
        check(
            &json!({"commonEncodingVersion": "v1"}),
            &[
                "status.commonEncodingVersion: Invalid value: \"v1\": should be nil if servers do not agree on the same encoding \
                 version, or if there is no server reporting the supported versions yet",
            ],
        );
        check(
            &json!({"commonEncodingVersion": "x/", "storageVersions": [{"apiServerID": "a", "encodingVersion": "x/",
                "decodableVersions": ["/v1", "v2"], "servedVersions": ["v3"]}]}),
            &[
                "status.storageVersions[0].encodingVersion: Invalid value: \"x/\": version part: must be non-empty",
                "status.storageVersions[0].decodableVersions[0]: Invalid value: \"/v1\": group part: must be non-empty",
                "status.storageVersions[0].decodableVersions: Invalid value: [\"/v1\",\"v2\"]: decodableVersions must include \
                 encodingVersion x/",
                "status.storageVersions[0].servedVersions[0]: Invalid value: \"v3\": individual served version : v3 must be \
                 included in decodableVersions : [/v1 v2]",
            ],
        );
        assert!(api_version("a/b/c")[0].starts_with("an apiVersion is a DNS-1035 label"));
    }

    #[test]
    fn conditions_say_everything() {
        let fine = json!({"type": "AllEncodingVersionsEqual", "status": "True", "reason": "r", "message": "m"});
        check(&json!({ "conditions": [fine] }), &[]);
        check(
            &json!({"conditions": [fine, {"type": "AllEncodingVersionsEqual", "status": "True"}]}),
            &[
                "status[1].type: Invalid value: \"AllEncodingVersionsEqual\": the type of the condition is not unique, it also \
                 appears in conditions[0]",
                "status[1].reason: Required value",
                "status[1].message: Required value",
            ],
        );
    }

    #[test]
    fn names_are_group_and_resource() {
        for (name, sentence) in [
            ("apps.deployments", ""),
            ("deployments", "name must be in the form of <group>.<resource>"),
            ("a_b.pods", "the group segment a lowercase RFC 1123 subdomain must"),
            ("core.Pods", "the resource segment a DNS-1035 label must"),
        ] {
            let errors = testing::metadata(&json!({"metadata": {"name": name}}), &KIND);
            let found = testing::shown(&errors).join("; ");
            assert!(found.contains(sentence) && found.is_empty() == sentence.is_empty(), "{name}: {found}");
        }
    }

    #[test]
    fn row() {
        let servers: Vec<Value> = ["a", "b", "c", "d"].iter().map(|id| server(id, "v1")).collect();
        let object = json!({"metadata": {"name": "x.y"}, "status": {"storageVersions": servers}});
        testing::row(&KIND, &object, &json!(["x.y", "<unset>", "a=v1,b=v1,c=v1 + 1 more...", "<unknown>"]));
    }
}
