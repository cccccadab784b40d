//! Tests of the json codec: tables of what goes in and what comes out.

use super::*;
use crate::json::json;
use crate::schema::native;

fn schema(group: &str, version: &str, kind: &str) -> SchemaRef<'static> {
    native().of_gvk(group, version, kind).unwrap()
}

fn error(kind: &str, text: &str) -> String {
    let group = if kind == "Deployment" { "apps" } else { "" };
    decode(text.as_bytes(), schema(group, "v1", kind), Strictness::Strict).unwrap_err().to_string()
}

#[test]
fn errors_are_those_of_go() {
    for (kind, text, want) in [
        (
            "Deployment",
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Deployment",
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Deployment",
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Deployment",
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            "Pod",
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[1]}}"#,
            "json: cannot unmarshal number into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            "Pod",
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "Pod",
            r#"{"spec":{"restartPolicy":true}}"#,
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            "Pod",
            r#"{"spec":{"foo":1,"hostNetwork":true,"hostNetwork":true},"bar":{}}"#,
            r#"strict decoding error: unknown field "spec.foo", duplicate field "spec.hostNetwork", unknown field "bar""#,
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"Name":"a"}]}}"#,
            r#"strict decoding error: unknown field "spec.containers[0].Name""#,
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("Secret", r#"{"data":{"a":"*"}}"#, "illegal base64 data at input byte 0"),
        ("Pod", "[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
        ("Pod", "{", "unexpected end of JSON input"),
        ("Pod", r#"{"a" 1}"#, "invalid character '1' after object key"),
        ("Pod", r#"{"spec":1,}"#, "invalid character '}' looking for beginning of object key string"),
        ("Pod", "{} x", "invalid character 'x' after top-level value"),
        ("Pod", r#"{"spec":nil}"#, "invalid character 'i' in literal null (expecting 'u')"),
    ] {
        assert_eq!(error(kind, text), want, "{text}");
    }
}

#[test]
fn values_take_the_form_go_holds() {
    let decoded = decode(
        br#"{"kind":"Pod","metadata":{"name":"a","creationTimestamp":null,"labels":{"x":null}},"spec":{"hostNetwork":false,
            "nodeName":"","volumes":[],"containers":[{"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1024Ki"}}}],
            "terminationGracePeriodSeconds":0,"zzz":1},"status":{"startTime":"2024-01-01T01:00:00.5+01:00"}}"#,
        schema("", "v1", "Pod"),
        Strictness::Warn,
    )
    .unwrap();
    assert_eq!(decoded.warnings, [r#"unknown field "spec.zzz""#]);
    assert_eq!(
        decoded.value,
        json!({"kind":"Pod","metadata":{"name":"a","labels":{"x":""}},"spec":{"containers":[{"name":"c",
            "resources":{"limits":{"cpu":"500m","memory":"1Mi"}}}],"terminationGracePeriodSeconds":0},
            "status":{"startTime":"2024-01-01T00:00:00Z"}})
    );
    let text = String::from_utf8(encode(&decoded.value, schema("", "v1", "Pod"))).unwrap();
    assert_eq!(
        text,
        r#"{"kind":"Pod","metadata":{"name":"a","labels":{"x":""}},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"500m","memory":"1Mi"}}}],"terminationGracePeriodSeconds":0},"status":{"startTime":"2024-01-01T00:00:00Z"}}"#
    );
}

#[test]
fn required_fields_are_written_when_empty() {
    let text = |value: Value, schema| String::from_utf8(encode(&value, schema)).unwrap();
    assert_eq!(
        text(json!({"kind": "Deployment"}), schema("apps", "v1", "Deployment")),
        r#"{"kind":"Deployment","metadata":{},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#
    );
    assert_eq!(
        text(
            json!({"kind": "ConfigMap", "data": {"b": "<&>\u{2028}\u{1}", "a": "\"\\\n"}}),
            schema("", "v1", "ConfigMap")
        ),
        "{\"kind\":\"ConfigMap\",\"metadata\":{},\"data\":{\"a\":\"\\\"\\\\\\n\",\"b\":\"\\u003c\\u0026\\u003e\\u2028\\u0001\"}}"
    );
}

#[test]
fn strings_are_unescaped_as_go_does() {
    let value = parse(br#"["\u00e9\ud83d\ude00\ud83dx\/\b", -1.5e3, 9223372036854775808, 1.0]"#).unwrap();
    assert_eq!(value[0], json!("\u{e9}\u{1f600}\u{fffd}x/\u{8}"));
    let numbers = Value::Array(value.as_array().unwrap()[1..].to_vec());
    assert_eq!(encode_any(&numbers), b"[-1500,9223372036854776000,1]");
}

#[test]
fn depth_is_bounded() {
    let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert_eq!(parse(&deep(20_000)).unwrap_err().to_string(), "invalid character '[' exceeded max depth");
    assert_eq!(parse(&deep(101)).unwrap_err().to_string(), "invalid character '[' exceeded max depth");
    // What is read can be read again by others, with a list, an event and managed fields around it.
    let deepest = parse(&deep(100)).unwrap();
    let around = json!({"object": {"items": [[[[[[[deepest]]]]]]]}});
    assert_eq!(crate::json::from_slice::<Value>(&encode_any(&around)).unwrap(), around);
}

#[test]
fn what_is_not_kept_may_nest_as_deep_as_go_reads() {
    // The object around it is a level as well.
    for (open, close, most) in [("[", "]", 9_999), (r#"[{},{"a":"#, r#","b":[]},0]"#, 4_999)] {
        let body = |depth: usize| {
            format!(r#"{{"kind":"Pod","x":{}1{},"spec":{{}}}}"#, open.repeat(depth), close.repeat(depth)).into_bytes()
        };
        let read = |depth, mode| decode(&body(depth), schema("", "v1", "Pod"), mode);
        let decoded = read(most, Strictness::Warn).unwrap();
        assert_eq!((decoded.value.get("x"), decoded.warnings.len()), (None, 1), "{open}");
        let refused = read(most, Strictness::Strict).unwrap_err().to_string();
        assert!(refused.contains(r#"unknown field "x""#), "{refused}");
        for depth in [most + 1, 1_000_000] {
            let refused = read(depth, Strictness::Ignore).unwrap_err().to_string();
            assert!(
                refused.starts_with("invalid character '") && refused.ends_with("' exceeded max depth"),
                "{refused}"
            );
        }
    }
    assert!(decode(br#"{"x":[{"a":1]}"#, schema("", "v1", "Pod"), Strictness::Warn).is_err());
}

#[test]
fn applied_objects_keep_what_was_said() {
    let decoded =
        decode_applied(br#"{"spec":{"hostNetwork":false,"nodeName":null}}"#, schema("", "v1", "Pod"), Strictness::Warn)
            .unwrap();
    assert_eq!(decoded.value, json!({"spec": {"hostNetwork": false, "nodeName": null}}));
}

#[test]
fn malformed_text_is_an_error_and_no_panic() {
    let good = br#"{"kind":"Pod","metadata":{"labels":{"a":"\u00e9\ud83d\ude00"}},"spec":{"containers":[{"name":"c","ports":[{"containerPort":80}],
        "resources":{"limits":{"cpu":"1"}}}],"terminationGracePeriodSeconds":-1e2},"status":{"startTime":"2024-01-01T00:00:00Z"}} "#;
    let schema = schema("", "v1", "Pod");
    for end in 0..good.len() - 2 {
        assert!(decode(&good[..end], schema, Strictness::Warn).is_err(), "{end}");
    }
    for at in 0..good.len() {
        for byte in [0, b'"', b'\\', b'{', b']', b'9', 0xff, 0xe2] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            if let Ok(decoded) = decode(&bad, schema, Strictness::Warn) {
                assert!(parse(&encode(&decoded.value, schema)).is_ok());
            }
        }
    }
}

#[test]
fn custom_types_keep_what_validation_will_speak_of() {
    use crate::schema::{Field, PatchStrategy, Shape, TypeDef, Types};
    use std::collections::HashMap;
    let field = |name: &str, shape| Field {
        name: name.into(),
        number: 0,
        shape,
        required: true,
        omit_empty: true,
        pointer: false,
        patch: PatchStrategy::default(),
        atomic: false,
        default: None,
        allowed: Vec::new(),
    };
    let mut types = Types::default();
    let id = types.add(TypeDef {
        name: "example.com.v1.Widget".to_owned(),
        gvks: Vec::new(),
        fields: vec![field("size", Shape::Int64), field("name", Shape::String), field("free", Shape::Any)],
        atomic: false,
        preserve_unknown: false,
        free: true,
        by_name: HashMap::from([("size".into(), 0), ("name".into(), 1), ("free".into(), 2)]),
    });
    let schema = SchemaRef { types: &types, id };
    let decoded =
        decode(br#"{"size":"big","name":"","free":{"z":1,"a":null},"more":1}"#, schema, Strictness::Warn).unwrap();
    assert_eq!(decoded.warnings, [r#"unknown field "more""#]);
    assert_eq!(encode(&decoded.value, schema), br#"{"free":{"a":null,"z":1},"name":"","size":"big"}"#);
}

#[test]
fn settled_is_what_would_be_read_back() {
    let pod = crate::json::from_str(include_str!("../../../benches/pod.json")).unwrap();
    let deployment = crate::json::from_str(include_str!("../../../benches/deployment.json")).unwrap();
    for (group, kind, object) in [
        ("", "Pod", pod),
        ("apps", "Deployment", deployment),
        ("", "Pod", json!({})),
        ("", "Pod", json!([1.0])),
        (
            "",
            "Pod",
            json!({"unknown": 1, "kind": null, "metadata": {"labels": {}, "annotations": {"a": null}, "name": ""},
            "spec": {"containers": null, "hostNetwork": false, "activeDeadlineSeconds": 5.0, "overhead": {"cpu": 1.5},
                "securityContext": {}, "volumes": [{"x": 1}, {"configMap": {"items": []}, "name": "v"}, null]}}),
        ),
        ("apps", "Deployment", json!({"spec": {"replicas": 0, "strategy": {}, "template": null}, "status": {}})),
        (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "properties": {"a": {"additionalProperties": true, "default": {"b": [1.0, -2.0, 0.5, 1e20, -1e19, 0.0]}},
                "c": {"items": [{"type": ""}], "maximum": 3.0}}, "dependencies": {"d": ["e"], "f": {"type": null}}}}}]}}),
        ),
    ] {
        let schema = schema(group, "v1", kind);
        let mut settled: Value = object;
        let text = encode(&settled, schema);
        settle(&mut settled, schema);
        let read: Value = crate::json::from_slice(&text).unwrap();
        assert_eq!(settled, read, "{}", String::from_utf8_lossy(&text));
        assert_eq!(encode(&settled, schema), text);
    }
}

#[test]
fn what_changed_is_decoded_as_the_whole_would_be() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"a": "b"}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "d"}]}}}, "status": {"replicas": 1},
    });
    let with = |path: &str, value: Value| {
        let mut new = deployment.clone();
        crate::value::set(&mut new, path, value);
        new
    };
    for new in [
        deployment.clone(),
        with("spec.replicas", json!(2)),
        with("spec.replicas", json!(2.0)),
        with("spec.replicas", json!("2")),
        with("spec.replicaz", json!(2)),
        with("spec", Value::Null),
        with("specs", json!({})),
        with("metadata.labels", json!({"a": 1})),
        with("metadata.creationTimestamp", Value::Null),
        with("status", json!([])),
        json!({}),
        json!([deployment]),
        json!("a"),
    ] {
        let schema = schema("apps", "v1", "Deployment");
        for mode in [Strictness::Strict, Strictness::Warn, Strictness::Ignore] {
            let told = |decoded: Result<Decoded, DecodeError>| match decoded {
                Ok(decoded) => (decoded.value, decoded.warnings),
                Err(error) => (Value::Null, vec![error.to_string()]),
            };
            let whole = told(decode(&encode_any(&new), schema, mode));
            assert_eq!(told(decode_changed(new.clone(), &deployment, schema, mode)), whole, "{new}");
        }
    }
}
