//! Custom resources from a definition to verdicts, as data.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use super::kinds::{compare_versions, define};
use super::schema::Node;
use super::{settle, structural, validate};
use crate::codec::{Strictness, json as codec};
use crate::field_path::Path;
use crate::json::{Value, json};
use crate::kind::Kind;
use crate::kinds::apiextensions_v1::custom_resource_definition::KIND as DEFINITION;
use crate::kinds::shared::testing::shown;
use crate::value;

fn crontab() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "required": ["cronSpec"], "properties": {
                            "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$"},
                            "image": {"type": "string", "default": "busybox"},
                            "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
                            "color": {"type": "string", "enum": ["red", "blue"]},
                            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                                "items": {"type": "object", "required": ["port"], "properties": {
                                    "port": {"type": "integer"}, "name": {"type": "string"}}}},
                            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                            "any": {"x-kubernetes-preserve-unknown-fields": true},
                            "either": {"x-kubernetes-int-or-string": true},
                            "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}},
                            "maybe": {"type": "string", "nullable": true, "default": "x"}}},
                        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}}}},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                    "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1}]},
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

fn kinds() -> (&'static Kind, &'static Kind) {
    let mut definition = crontab();
    DEFINITION.hooks.default(&mut definition);
    let defined = define(&definition).unwrap();
    (defined.served[0], defined.served[1])
}

fn settled(kind: &'static Kind, object: Value) -> Value {
    let mut object = object;
    kind.hooks.default(&mut object);
    object
}

#[test]
fn a_definition_gives_kinds() {
    let (v1, beta) = kinds();
    assert_eq!(
        (v1.api_version().as_str(), beta.api_version().as_str()),
        ("stable.example.com/v1", "stable.example.com/v1beta1")
    );
    assert!(v1.stored_as.is_none() && std::ptr::eq(beta.stored(), v1));
    assert_eq!(v1.list_kind(), "CronTabList");
    assert_eq!((v1.singular, v1.short_names, v1.categories), ("crontab", &["ct"][..], &["all"][..]));
    assert_eq!(v1.subresources.iter().map(|part| part.name).collect::<Vec<_>>(), ["status", "scale"]);
    assert_eq!(
        beta.deprecation().as_deref(),
        Some("stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab")
    );
    assert_eq!(v1.selectable_names().collect::<Vec<_>>(), ["spec.color"]);
    assert_eq!(v1.selectable_values(&json!({"spec": {"color": "red"}})), ["red"]);
    assert_eq!(v1.columns.iter().map(|column| column.name).collect::<Vec<_>>(), ["Name", "Spec", "Replicas"]);
    let object = json!({"metadata": {"name": "a"}, "spec": {"cronSpec": "* * * * *", "replicas": 3}});
    assert_eq!(v1.hooks.row(&object, 0), [json!("a"), json!("* * * * *"), json!(3)]);
    assert_eq!(beta.hooks.row(&object, 0).len(), beta.columns.len());
}

#[test]
fn bodies_are_decoded_by_the_schema() {
    let (v1, _) = kinds();
    let body = br#"{"kind":"CronTab","apiVersion":"stable.example.com/v1","extra":1,"metadata":{"name":"a","labels":{"a":"b"},"odd":1},
        "spec":{"cronSpec":5,"none":1,"any":{"x":{"y":1}},"ports":[{"port":1,"more":2}],"image":"a","image":"b"}}"#;
    let decoded = codec::decode(body, v1.schema(), Strictness::Warn).unwrap();
    assert_eq!(
        decoded.warnings,
        [
            r#"unknown field "extra""#,
            r#"unknown field "metadata.odd""#,
            r#"unknown field "spec.none""#,
            r#"unknown field "spec.ports[0].more""#,
            r#"duplicate field "spec.image""#,
        ]
    );
    assert_eq!(
        decoded.value["spec"],
        json!({"cronSpec": 5, "any": {"x": {"y": 1}}, "ports": [{"port": 1}], "image": "b"})
    );
    let mut object = decoded.value;
    // Whatever the order of the fields of native metadata: by name, required ones included.
    object["metadata"]["ownerReferences"] = json!([{"kind": "Pod", "apiVersion": "v1", "name": "p"}]);
    object["metadata"]["managedFields"] =
        json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:b": {}, "f:a": {}}}]);
    let text = String::from_utf8(codec::encode(&object, v1.schema())).unwrap();
    let metadata = r#""metadata":{"labels":{"a":"b"},"managedFields":[{"apiVersion":"v1","fieldsV1":{"f:a":{},"f:b":{}},"manager":"m","operation":"Update"}],"name":"a","ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":""}]}"#;
    assert!(
        text.starts_with(&format!(r#"{{"apiVersion":"stable.example.com/v1","kind":"CronTab",{metadata},"spec""#)),
        "{text}"
    );
    assert!(codec::decode(br#"{"metadata":{"labels":{"a":1}}}"#, v1.schema(), Strictness::Ignore).is_err());
}

#[test]
fn defaults_settle() {
    let (v1, beta) = kinds();
    let object = json!({"metadata": {"name": "a"}, "gone": 1,
        "spec": {"cronSpec": null, "image": null, "maybe": null, "none": {}, "labels": {"a": null, "b": "c"}}});
    let once = settled(v1, object.clone());
    assert_eq!(
        once,
        json!({"metadata": {"name": "a"}, "spec": {"image": "busybox", "maybe": null, "labels": {"b": "c"}}})
    );
    assert_eq!(settled(v1, once.clone()), once);
    assert_eq!(settled(beta, object.clone()), object);
    // What is read in another version than it is stored in is completed there.
    let mut converted = json!({"apiVersion": "stable.example.com/v1beta1", "spec": {"cronSpec": "x", "none": 1}});
    beta.to_stored(&mut converted);
    v1.restore(&mut converted);
    assert_eq!(
        converted,
        json!({"apiVersion": "stable.example.com/v1", "spec": {"cronSpec": "x", "image": "busybox", "maybe": "x"}})
    );
}

#[test]
fn sentences_of_validation_are_upstreams() {
    let (v1, _) = kinds();
    let check = |spec: Value, sentences: &[&str]| {
        let object = json!({"metadata": {"name": "a"}, "spec": spec.clone()});
        assert_eq!(shown(&v1.hooks.validate(&object)), sentences, "{spec}");
    };
    let good = json!({"cronSpec": "* * * * */5", "replicas": 3, "either": "x", "color": "red"});
    check(good, &[]);
    check(json!({}), &["spec.cronSpec: Required value"]);
    check(
        json!({"cronSpec": "x"}),
        &[
            r#"spec.cronSpec: Invalid value: "x": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"#,
        ],
    );
    check(
        json!({"cronSpec": 5, "replicas": 11, "color": "green", "either": true}),
        &[
            r#"spec.color: Unsupported value: "green": supported values: "red", "blue""#,
            r#"spec.cronSpec: Invalid value: "integer": spec.cronSpec in body must be of type string: "integer""#,
            r#"spec.either: Invalid value: "boolean": spec.either in body must be of type integer,string: "boolean""#,
            "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10",
        ],
    );
    let cron = "* * * * *";
    check(
        json!({"cronSpec": cron, "replicas": 0}),
        &["spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"],
    );
    check(
        json!({"cronSpec": cron, "labels": {"a": "long"}}),
        &["spec.labels.a: Too long: may not be more than 3 bytes"],
    );
    check(json!({"cronSpec": cron, "tags": ["a", "b", "a", "a"]}), &[r#"spec.tags[2]: Duplicate value: "a""#]);
    check(
        json!({"cronSpec": cron, "ports": [{"port": 1}, {"port": 1, "name": "x"}]}),
        &[r#"spec.ports[1]: Duplicate value: {"port":1}"#],
    );
    check(
        json!({"cronSpec": cron, "replicas": -1}),
        &[
            "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 1",
            ".spec.replicas: Invalid value: -1: should be a non-negative integer",
        ],
    );
}

#[test]
fn several_schemas_speak_as_one() {
    let node = Node::of(&json!({"type": "object", "properties": {"a": {
        "oneOf": [{"properties": {"x": {"minimum": 5}}, "required": ["x"]}, {"required": ["y"]}],
        "type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
        "b": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}], "not": {"enum": [7]}}}}));
    let check = |value: Value, sentences: &[&str]| {
        assert_eq!(shown(&validate::validate(&value, None, &node, "")), sentences, "{value}");
    };
    check(json!({"a": {"x": 5}, "b": 6}), &[]);
    check(
        json!({"a": {"x": 5, "y": 1}}),
        &[r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#],
    );
    check(
        json!({"a": {}}),
        &[
            r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found none valid"#,
            "a.x: Required value",
        ],
    );
    check(
        json!({"b": 3}),
        &[
            r#"<nil>: Invalid value: "": "b" must validate at least one schema (anyOf)"#,
            "b: Invalid value: 3: b in body should be greater than or equal to 5",
        ],
    );
    check(json!({"b": 7}), &[r#"<nil>: Invalid value: "": "b" must not validate the schema (not)"#]);
}

#[test]
fn what_an_update_leaves_alone_is_not_complained_about() {
    let (v1, _) = kinds();
    let bad = json!({"metadata": {"name": "a"}, "spec": {"cronSpec": "bad", "replicas": 99, "ports": [{"port": 1, "name": 5}]}});
    let mut new = bad.clone();
    value::set(&mut new, "spec.image", "other");
    assert!(v1.hooks.revalidate(&new, &bad).is_empty());
    // Elements with keys are the same ones wherever they stand; others are not compared.
    value::set(&mut new, "spec.ports", json!([{"port": 2}, {"port": 1, "name": 5}]));
    assert!(v1.hooks.revalidate(&new, &bad).is_empty());
    value::set(&mut new, "spec.replicas", 98);
    assert_eq!(shown(&v1.hooks.revalidate(&new, &bad)).len(), 1);
}

#[test]
fn embedded_objects_say_what_they_are() {
    let node = Node::of(&json!({"type": "object", "properties": {"t": {"type": "object",
        "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
    let mut value =
        json!({"t": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"x": 1}}, "u": 1});
    settle::prune(&mut value, &node, true);
    assert_eq!(value, json!({"t": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"x": 1}}}));
}

#[test]
fn versions_have_an_order() {
    let mut versions =
        ["v10beta3", "foo1", "v3beta1", "v12alpha1", "v10", "v2", "v11beta2", "foo10", "v1", "v11alpha2"];
    versions.sort_by(|a, b| compare_versions(b, a));
    assert_eq!(
        versions,
        ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    );
}

#[test]
fn definitions_are_validated_with_upstreams_sentences() {
    let mut good = crontab();
    DEFINITION.hooks.default(&mut good);
    assert_eq!(shown(&DEFINITION.hooks.validate(&good)), Vec::<String>::new());
    let check = |path: &str, new: Value, sentences: &[&str]| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = new;
        assert_eq!(shown(&crate::judgement::create(&bad, &DEFINITION)), sentences, "{path}");
    };
    check(
        "/metadata/name",
        json!("x"),
        &["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"],
    );
    check(
        "/spec/scope",
        json!("Galaxy"),
        &["spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\""],
    );
    check(
        "/spec/names/listKind",
        json!("CronTab"),
        &["spec.names.listKind: Invalid value: \"CronTab\": kind and listKind may not be the same"],
    );
    check(
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/image",
        json!({}),
        &[
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[image].type: Required value: must not be empty \
         for specified object fields",
        ],
    );
    check(
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/image/default",
        json!(1),
        &[
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[image].default: Invalid value: \"integer\": \
         \x20in body must be of type string: \"integer\"",
        ],
    );
    check(
        "/spec/versions/0/selectableFields/0/jsonPath",
        json!(".spec.none"),
        &[
            "spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".spec.none\": is an invalid path: does not refer to \
             a valid field",
        ],
    );
    check(
        "/spec/versions/0/additionalPrinterColumns/0/type",
        json!("text"),
        &["spec.versions[0].additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of \
         boolean,date,integer,number,string"],
    );
    check(
        "/spec/conversion",
        json!({"strategy": "Webhook"}),
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    let rules = json!([{"rule": "self.replicaz > 1"}]);
    let mut ruled = good.clone();
    value::set(
        ruled.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap(),
        "x-kubernetes-validations",
        rules,
    );
    assert!(!DEFINITION.hooks.validate(&ruled).is_empty(), "rules that cannot be compiled are refused");
    assert!(DEFINITION.hooks.revalidate(&good, &good).is_empty());
}

#[test]
fn schemas_are_structural() {
    let field = Path::new("s");
    let check = |schema: Value, sentences: &[&str]| {
        assert_eq!(shown(&structural::violations(&schema, &field)), sentences, "{schema}");
    };
    check(
        json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
        &[],
    );
    check(
        json!({"type": "object", "anyOf": [{"type": "object", "properties": {"b": {}}}]}),
        &[
            "s.anyOf[0].type: Forbidden: must be empty to be structural",
            "s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]",
        ],
    );
    check(
        json!({"properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
        &[
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is \
         implicitly specified",
            "s.type: Required value: must not be empty at the root",
        ],
    );
    check(
        json!({"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "string", "pattern": "("}}})
            .clone(),
        &[
            "s.properties[a].items: Required value: must be specified",
            "s.properties[b].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error: unclosed group",
        ],
    );
    let words = |schema: Value, sentences: &[&str]| {
        assert_eq!(shown(&structural::words(&schema, &field)), sentences, "{schema}");
    };
    words(
        json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "x"]}),
        &[
            "s.x-kubernetes-list-map-keys: Invalid value: [\"k\",\"x\"]: entries must all be names of item properties",
            "s.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a \
         default or be a required property",
        ],
    );
    words(
        json!({"type": "object", "$ref": "x", "uniqueItems": true}),
        &[
            "s.$ref: Forbidden: $ref is not supported",
            "s.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ],
    );
}
