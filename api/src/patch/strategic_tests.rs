//! Strategic merge as tables: document, patch, outcome.

use super::*;
use crate::apply::testing::types;
use crate::json::json;

#[allow(clippy::needless_pass_by_value)] // `json!` at every call
fn check(doc: Value, patch: Value, expected: Result<Value, &str>) {
    let types = types();
    let got = apply(&doc, &patch, types.schema("Thing").unwrap());
    assert_eq!(got.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{doc} {patch}");
}

#[test]
fn maps_merge_and_directives_replace_or_delete() {
    check(json!({"labels": {"a": "1"}}), json!({"labels": {"b": "2"}}), Ok(json!({"labels": {"a": "1", "b": "2"}})));
    check(json!({"labels": {"a": "1"}}), json!({"labels": {"a": null}}), Ok(json!({"labels": {}})));
    check(json!({"labels": {"a": "1"}}), json!({"labels": null}), Ok(json!({})));
    check(
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"$patch": "replace", "b": "2"}}),
        Ok(json!({"labels": {"b": "2"}})),
    );
    check(json!({"labels": {"a": "1"}}), json!({"labels": {"$patch": "delete"}}), Ok(json!({"labels": {}})));
    check(json!({}), json!({"labels": {"$patch": "delete"}}), Ok(json!({})));
    check(json!({}), json!({"labels": {"a": null, "b": "1"}}), Ok(json!({"labels": {"b": "1"}})));
    check(json!({"count": 1}), json!({"count": 2, "name": "x"}), Ok(json!({"count": 2, "name": "x"})));
    check(json!({"a": 1}), json!({"$patch": "replace", "b": 1}), Ok(json!({"b": 1})));
    check(
        json!({"labels": {}}),
        json!({"labels": {"$patch": "frob", "a": 1}}),
        Err("unknown patch type: frob in map: map[$patch:frob a:1]"),
    );
    check(json!({}), json!([]), Err("invalid JSON document"));
}

#[test]
fn retained_keys_drop_the_others() {
    let before = json!({"strategy": {"kind": "Rolling", "rolling": {"max": 1}}});
    check(
        before.clone(),
        json!({"strategy": {"$retainKeys": ["kind"], "kind": "Recreate"}}),
        Ok(json!({"strategy": {"kind": "Recreate"}})),
    );
    check(
        before.clone(),
        json!({"strategy": {"$retainKeys": ["kind"], "rolling": {}}}),
        Err("invalid patch format of retainKeys"),
    );
    check(
        before.clone(),
        json!({"strategy": {"$retainKeys": ["kind"], "rolling": null}}),
        Ok(json!({"strategy": {"kind": "Rolling"}})),
    );
    check(before, json!({"strategy": {"$retainKeys": "kind"}}), Err("invalid patch format of retainKeys"));
}

#[test]
fn lists_of_scalars_merge_replace_and_shrink() {
    check(
        json!({"finalizers": ["a", "b"]}),
        json!({"finalizers": ["c", "b"]}),
        Ok(json!({"finalizers": ["c", "a", "b"]})),
    );
    check(
        json!({"finalizers": ["a", "b"]}),
        json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
        Ok(json!({"finalizers": ["b"]})),
    );
    check(json!({}), json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), Ok(json!({})));
    check(
        json!({"finalizers": ["a", "b"]}),
        json!({"$setElementOrder/finalizers": ["b", "c", "a"], "finalizers": ["c"]}),
        Ok(json!({"finalizers": ["b", "c", "a"]})),
    );
    check(json!({"args": ["a", "b"]}), json!({"args": ["c"]}), Ok(json!({"args": ["c"]})));
    check(
        json!({"finalizers": ["a"]}),
        json!({"finalizers": [1]}),
        Err("list element types are not identical: [[a] [1]]"),
    );
    check(json!({}), json!({"$deleteFromPrimitiveList": ["a"]}), Err("invalid patch format of primitive list"));
}

#[test]
fn lists_of_maps_merge_by_key() {
    let two = json!({"items": [{"name": "a", "v": 1}, {"name": "b", "v": 2}]});
    // An element that the patch adds comes before those it does not name.
    check(
        two.clone(),
        json!({"items": [{"name": "b", "v": 3}, {"name": "c"}]}),
        Ok(json!({"items": [{"name": "a", "v": 1}, {"name": "b", "v": 3}, {"name": "c"}]})),
    );
    check(
        two.clone(),
        json!({"items": [{"name": "c"}]}),
        Ok(json!({"items": [{"name": "c"}, {"name": "a", "v": 1}, {"name": "b", "v": 2}]})),
    );
    check(
        two.clone(),
        json!({"items": [{"name": "a", "$patch": "delete"}]}),
        Ok(json!({"items": [{"name": "b", "v": 2}]})),
    );
    check(two.clone(), json!({"items": [{"name": "c"}, {"$patch": "replace"}]}), Ok(json!({"items": [{"name": "c"}]})));
    check(
        two.clone(),
        json!({"items": [{"name": "a", "v": null}]}),
        Ok(json!({"items": [{"name": "a"}, {"name": "b", "v": 2}]})),
    );
    check(
        two.clone(),
        json!({"$setElementOrder/items": [{"name": "b"}, {"name": "a"}]}),
        Ok(json!({"items": [{"name": "b", "v": 2}, {"name": "a", "v": 1}]})),
    );
    check(
        two.clone(),
        json!({"$setElementOrder/items": [{"name": "c"}, {"name": "b"}], "items": [{"name": "c"}, {"name": "a", "$patch": "delete"}]}),
        Ok(json!({"items": [{"name": "c"}, {"name": "b", "v": 2}]})),
    );
    check(
        json!({"items": [{"name": "server"}, {"name": "a"}]}),
        json!({"$setElementOrder/items": [{"name": "a"}, {"name": "b"}], "items": [{"name": "b"}]}),
        Ok(json!({"items": [{"name": "server"}, {"name": "a"}, {"name": "b"}]})),
    );
    check(two.clone(), json!({"items": [{"v": 1}]}), Err("map: map[v:1] does not contain declared merge key: name"));
    check(
        two.clone(),
        json!({"$setElementOrder/items": [{"name": "b"}], "items": [{"name": "a", "v": 2}]}),
        Err("The order in patch list:\n[map[name:a v:2]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n"),
    );
    check(
        two,
        json!({"items": [{"name": "a", "$patch": "merge"}]}),
        Err("merging lists cannot yet be specified in the patch"),
    );
    check(
        json!({}),
        json!({"items": [{"name": "a", "$patch": "delete"}, {"name": "b", "v": null}]}),
        Ok(json!({"items": [{"name": "b"}]})),
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    check(json!({"ports": [{"port": 1}]}), json!({"ports": [{"port": 2}]}), Ok(json!({"ports": [{"port": 2}]})));
    let types = types();
    let nested =
        apply(&json!({"finalizers": [["a"]]}), &json!({"finalizers": [["b"]]}), types.schema("Thing").unwrap());
    assert_eq!(nested, Err(PatchError::unfit()));
}

/// What `kubectl` sends for edited manifests, on the schema that the server has.
#[test]
fn a_deployment_merges_by_the_fact_table() {
    let schema = crate::schema::native().of_gvk("apps", "v1", "Deployment").unwrap();
    let doc = json!({"spec": {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "template": {"spec": {
            "containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}], "args": ["x"]}, {"name": "b"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "nodeSelector": {"k": "v"},
            "tolerations": [{"key": "t"}],
        }},
    }});
    let patch = json!({"spec": {
        "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        "template": {"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [{"name": "a", "image": "a:2", "args": ["y"], "ports": [{"containerPort": 81}]}],
            "volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}],
            "nodeSelector": {"k": null, "l": "w"},
            "tolerations": [{"key": "u"}],
        }},
    }});
    let expected = json!({"spec": {
        "strategy": {"type": "Recreate"},
        "template": {"spec": {
            "containers": [
                {"name": "b"},
                {"name": "a", "image": "a:2", "ports": [{"containerPort": 81}, {"containerPort": 80}], "args": ["y"]},
            ],
            "volumes": [{"name": "v", "configMap": {"name": "c"}}],
            "nodeSelector": {"l": "w"},
            "tolerations": [{"key": "u"}],
        }},
    }});
    assert_eq!(apply(&doc, &patch, schema), Ok(expected));
}

#[test]
fn few_faults_are_the_clients() {
    let types = types();
    for (patch, code, reason) in [
        (json!({"labels": {"$patch": 1}}), 500, ""),
        (json!({"strategy": {"$retainKeys": 1}}), 400, "BadRequest"),
        (json!({"$setElementOrder/finalizers": 1}), 500, ""),
        (json!({"$setElementOrder": []}), 400, "BadRequest"),
        (json!({"$deleteFromPrimitiveList": []}), 400, "BadRequest"),
        (json!({"finalizers": [1]}), 500, ""),
    ] {
        let doc = json!({"labels": {"a": "1"}, "strategy": {"kind": "x"}, "finalizers": ["a"]});
        let status = apply(&doc, &patch, types.schema("Thing").unwrap()).unwrap_err().status();
        assert_eq!((status.code, status.reason.as_ref()), (code, reason), "{patch}: {}", status.message);
    }
}
