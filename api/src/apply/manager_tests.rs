//! Ownership as tables of writes and what they leave.

use super::*;
use crate::apply::testing::types;
use crate::json::{Text, json};
use crate::schema::Types;

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

/// An update for which no version has to be asked.
fn update(live: Option<&Value>, new: Value, schema: SchemaRef<'_>, who: &Manager<'_>, reset: &FieldSet<'_>) -> Value {
    super::update(live, new, schema, who, reset).unwrap()
}

struct World {
    types: Types,
    live: Option<Value>,
}

impl World {
    fn new() -> World {
        World { types: types(), live: None }
    }

    fn who<'a>(manager: &'a str, operation: Operation, time: &'a str) -> Manager<'a> {
        Manager { manager, operation, api_version: "v1", time, subresource: "", versions: None }
    }

    fn apply_at(&mut self, manager: &str, fields: Value, force: bool, time: &str) -> Result<Value, ApplyError> {
        let who = World::who(manager, Operation::Apply, time);
        let schema = self.types.schema("Thing").unwrap();
        let out = apply(self.live.as_ref(), &thing(fields), schema, &who, force)?;
        self.live = Some(out.clone());
        Ok(bare(&out))
    }

    fn apply(&mut self, manager: &str, fields: Value) -> Value {
        self.apply_at(manager, fields, false, T1).unwrap()
    }

    fn update_at(&mut self, manager: &str, fields: Value, time: &str) -> Value {
        let who = World::who(manager, Operation::Update, time);
        let schema = self.types.schema("Thing").unwrap();
        let out = update(self.live.as_ref(), thing(fields), schema, &who, &FieldSet::default());
        self.live = Some(out.clone());
        bare(&out)
    }

    fn update(&mut self, manager: &str, fields: Value) -> Value {
        self.update_at(manager, fields, T1)
    }

    /// What a manager owns.
    fn owns(&self, manager: &str) -> Value {
        let fields = value::items(self.live.as_ref().unwrap(), "metadata.managedFields");
        fields.iter().find(|entry| entry["manager"] == manager).map_or(Value::Null, |entry| entry["fieldsV1"].clone())
    }

    fn time(&self, manager: &str) -> Value {
        let fields = value::items(self.live.as_ref().unwrap(), "metadata.managedFields");
        fields.iter().find(|entry| entry["manager"] == manager).map_or(Value::Null, |entry| entry["time"].clone())
    }
}

#[allow(clippy::needless_pass_by_value)] // `json!` at every call
fn thing(fields: Value) -> Value {
    let mut out = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}});
    for (name, field) in fields.as_object().unwrap() {
        if name == "metadata" {
            for (name, field) in field.as_object().unwrap() {
                out["metadata"][name] = field.clone();
            }
        } else {
            out[name] = field.clone();
        }
    }
    out
}

/// The fields of a thing without what every object has.
fn bare(object: &Value) -> Value {
    let mut out = object.clone();
    for path in ["apiVersion", "kind", "metadata.name", "metadata.managedFields"] {
        value::remove(&mut out, path);
    }
    if out["metadata"] == json!({}) {
        value::remove(&mut out, "metadata");
    }
    out
}

#[test]
fn one_manager_owns_and_drops_what_it_applies() {
    // (first, second, result, what is owned after the second)
    let cases = [
        (json!({"count": 1}), json!({"count": 2}), json!({"count": 2}), json!({"f:count": {}})),
        (json!({"count": 1, "name": "a"}), json!({"name": "a"}), json!({"name": "a"}), json!({"f:name": {}})),
        (
            json!({"labels": {"a": "1", "b": "2"}}),
            json!({"labels": {"b": "2"}}),
            json!({"labels": {"b": "2"}}),
            json!({"f:labels": {"f:b": {}}}),
        ),
        (
            json!({"items": [{"name": "a", "v": 1}, {"name": "b", "v": 1}]}),
            json!({"items": [{"name": "b"}]}),
            json!({"items": [{"name": "b"}]}),
            json!({"f:items": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}}),
        ),
        (
            json!({"finalizers": ["a", "b"]}),
            json!({"finalizers": ["b", "c"]}),
            json!({"finalizers": ["b", "c"]}),
            json!({"f:finalizers": {"v:\"b\"": {}, "v:\"c\"": {}}}),
        ),
        (json!({"args": ["a"]}), json!({"args": ["b"]}), json!({"args": ["b"]}), json!({"f:args": {}})),
        (json!({"data": {"a": "1"}}), json!({"data": {"b": "1"}}), json!({"data": {"b": "1"}}), json!({"f:data": {}})),
        (json!({"shut": {"a": "1"}}), json!({"shut": {"b": "1"}}), json!({"shut": {"b": "1"}}), json!({"f:shut": {}})),
        (
            json!({"selector": {"matchLabels": {"a": "1"}}}),
            json!({"selector": {"matchLabels": {"b": "1"}}}),
            json!({"selector": {"matchLabels": {"b": "1"}}}),
            json!({"f:selector": {}}),
        ),
        (
            json!({"ports": [{"port": 80}]}),
            json!({"ports": [{"port": 80, "protocol": "UDP"}]}),
            json!({"ports": [{"port": 80, "protocol": "UDP"}]}),
            json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"UDP\"}": {".": {}, "f:port": {}, "f:protocol": {}}}}),
        ),
        (
            json!({"strategy": {"kind": "a", "rolling": {"max": 1}}}),
            json!({"strategy": {"kind": "a"}}),
            json!({"strategy": {"kind": "a"}}),
            json!({"f:strategy": {"f:kind": {}}}),
        ),
        (json!({"rolling": {}}), json!({"rolling": {}}), json!({"rolling": {}}), json!({"f:rolling": {}})),
        (json!({"raw": {"a": 1}}), json!({"raw": {"b": null}}), json!({"raw": {"b": null}}), json!({"f:raw": {}})),
        (json!({"count": 1}), json!({"count": null}), json!({}), json!({"f:count": {}})),
    ];
    for (first, second, result, owned) in cases {
        let mut world = World::new();
        assert_eq!(world.apply("m", first.clone()), first);
        assert_eq!(world.apply("m", second.clone()), result, "{first} {second}");
        assert_eq!(world.owns("m"), owned, "{first} {second}");
    }
}

#[test]
fn fields_of_others_conflict_unless_equal_or_forced() {
    let mut world = World::new();
    world.apply("a", json!({"count": 1, "labels": {"x": "1"}}));
    assert_eq!(world.apply("b", json!({"count": 1})), json!({"count": 1, "labels": {"x": "1"}}));
    let error = world.apply_at("b", json!({"count": 2}), false, T2).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .count");
    assert_eq!(error.status().code, 409);
    assert_eq!(
        error.status().details["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".count"}])
    );
    world.apply_at("b", json!({"count": 2}), true, T2).unwrap();
    assert_eq!(world.owns("a"), json!({"f:labels": {"f:x": {}}}));
    assert_eq!(world.owns("b"), json!({"f:count": {}}));
    // What another still owns stays when one lets go of it.
    world.apply("a", json!({"count": 2}));
    assert_eq!(world.apply("b", json!({"name": "n"})), json!({"count": 2, "name": "n"}));
}

#[test]
fn many_conflicts_are_grouped_by_owner() {
    let mut world = World::new();
    world.apply("a", json!({"count": 1, "items": [{"name": "i", "v": 1}]}));
    world.update("u", json!({"count": 1, "items": [{"name": "i", "v": 1}], "name": "n"}));
    let fields = json!({"count": 2, "items": [{"name": "i", "v": 2}], "name": "m"});
    let error = world.apply_at("b", fields, false, T2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .count\n- .items[name=\"i\"].v\nconflicts with \"u\" \
         using v1:\n- .name"
    );
}

#[test]
fn lists_keep_live_elements_in_place() {
    // (live by an update, applied, result) as names
    let cases = [
        ("a b c", "d", "a b c d"),
        ("a b c", "c a", "b c a"),
        ("a b c", "a d c", "a b d c"),
        ("a b c", "a d b", "a d b c"),
        ("", "b a", "b a"),
        ("x a y b z", "b a", "x y b z a"),
        ("a x b", "a c b", "a x c b"),
    ];
    let items =
        |names: &str| json!({"items": names.split_whitespace().map(|name| json!({"name": name})).collect::<Vec<_>>()});
    for (live, applied, expected) in cases {
        let mut world = World::new();
        world.update("u", items(live));
        let got = world.apply("m", items(applied));
        let names: Vec<&str> = got["items"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), expected, "{live} + {applied}");
    }
}

#[test]
fn updates_own_what_they_change() {
    let mut world = World::new();
    world.update("a", json!({"count": 1, "strategy": {"kind": "k", "rolling": {"max": 1}}, "labels": {"x": "1"}}));
    assert_eq!(
        world.owns("a"),
        json!({"f:count": {}, "f:labels": {".": {}, "f:x": {}}, "f:strategy": {"f:kind": {}, "f:rolling": {".": {}, "f:max": {}}}})
    );
    world.update_at(
        "b",
        json!({"count": 2, "strategy": {"kind": "k", "rolling": {"max": 1}}, "labels": {"x": "1", "y": "2"}}),
        T2,
    );
    assert_eq!(world.owns("b"), json!({"f:count": {}, "f:labels": {"f:y": {}}}));
    assert_eq!(world.time("a"), T1);
    // Fields that are gone leave everybody.
    world.update("c", json!({"count": 2}));
    assert_eq!(world.owns("a"), Value::Null);
    assert_eq!(world.owns("b"), json!({"f:count": {}}));
    assert_eq!(world.owns("c"), Value::Null);
}

#[test]
fn a_list_that_goes_always_along_is_no_field_of_its_own() {
    let mut world = World::new();
    world.update("a", json!({"wanted": [{"port": 1}]}));
    assert_eq!(world.owns("a"), json!({"f:wanted": {"k:{\"port\":1}": {".": {}, "f:port": {}}}}));
}

#[test]
fn writes_that_change_nothing_leave_times() {
    let mut world = World::new();
    world.update("u", json!({"count": 1}));
    world.apply("m", json!({"name": "n"}));
    world.update_at("u", json!({"count": 1, "name": "n", "metadata": {"generation": 4, "resourceVersion": "7"}}), T2);
    world.apply_at("m", json!({"name": "n"}), false, T2).unwrap();
    assert_eq!((world.time("u"), world.time("m")), (json!(T1), json!(T1)));
    world.update_at("u", json!({"count": 2, "name": "n"}), T2);
    assert_eq!((world.time("u"), world.time("m")), (json!(T2), json!(T1)));
}

#[test]
fn managed_fields_can_be_replaced_and_cleared() {
    for clear in [json!([]), json!([{}])] {
        let mut world = World::new();
        world.update("u", json!({"count": 1}));
        world.update("u", json!({"count": 2, "metadata": {"managedFields": clear}}));
        assert_eq!(world.live.as_ref().unwrap()["metadata"].get("managedFields"), None);
        // Nothing is tracked until the next apply, which gives the rest to nobody in particular.
        world.update("u", json!({"count": 3}));
        assert_eq!(world.owns("u"), Value::Null);
        world.apply("m", json!({"name": "n"}));
        assert_eq!(world.owns("before-first-apply"), json!({"f:count": {}}));
    }
    let mut world = World::new();
    world.update("u", json!({"count": 1}));
    let sent = json!([{"manager": "z", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:count": {}}}]);
    world.update("u", json!({"count": 1, "metadata": {"managedFields": sent}}));
    assert_eq!((world.owns("u"), world.owns("z")), (Value::Null, json!({"f:count": {}})));
    world.update("u", json!({"count": 1, "metadata": {"managedFields": [{"manager": "bad"}]}}));
    assert_eq!(world.owns("z"), json!({"f:count": {}}));
}

#[test]
fn resets_are_owned_by_nobody() {
    let world = World::new();
    let schema = world.types.schema("Thing").unwrap();
    let mut reset = FieldSet::default();
    reset.insert_subtree(&["strategy"]);
    let object = thing(json!({"count": 1, "strategy": {"kind": "k"}}));
    let who = World::who("u", Operation::Update, T1);
    let updated = update(None, object.clone(), schema, &who, &reset);
    assert_eq!(updated["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:count": {}}));
    let applied = apply_resetting(None, &object, schema, &who, false, &reset).unwrap();
    assert_eq!(applied["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:count": {}}));
}

#[test]
fn entries_have_upstreams_form_and_order() {
    let world = World::new();
    let schema = world.types.schema("Thing").unwrap();
    let who = |manager, operation, time, subresource| Manager {
        manager,
        operation,
        api_version: "v1",
        time,
        subresource,
        versions: None,
    };
    let none = FieldSet::default();
    let one = update(None, thing(json!({"count": 1})), schema, &who("b", Operation::Update, T2, ""), &none);
    let mut two = one.clone();
    two["name"] = json!("n");
    let two = update(Some(&one), two, schema, &who("a", Operation::Update, T1, "status"), &none);
    let three =
        apply(Some(&two), &thing(json!({"name": "n"})), schema, &who("z", Operation::Apply, T2, ""), false).unwrap();
    assert_eq!(
        three["metadata"]["managedFields"],
        json!([
            {"manager": "z", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:name": {}}},
            {"manager": "a", "operation": "Update", "apiVersion": "v1", "time": T1, "fieldsType": "FieldsV1", "fieldsV1": {"f:name": {}}, "subresource": "status"},
            {"manager": "b", "operation": "Update", "apiVersion": "v1", "time": T2, "fieldsType": "FieldsV1", "fieldsV1": {"f:count": {}}},
        ])
    );
    let error = apply(Some(&three), &thing(json!({"name": "o"})), schema, &who("q", Operation::Apply, T2, ""), false)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\" with subresource \"status\" using v1:\n- .name\nconflicts \
         with \"z\":\n- .name"
    );
}

#[test]
fn old_updaters_are_folded() {
    let mut world = World::new();
    let mut labels = Map::new();
    for i in 0..14 {
        labels.insert(format!("l{i:02}"), "1".into());
        world.update_at(&format!("m{i:02}"), json!({"labels": labels}), &format!("2026-01-01T00:00:{i:02}Z"));
    }
    let entries = value::items(world.live.as_ref().unwrap(), "metadata.managedFields");
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    let names: Vec<&str> = entries[0]["fieldsV1"]["f:labels"].as_object().unwrap().keys().map(Text::as_str).collect();
    assert_eq!(names, [".", "f:l00", "f:l01", "f:l02", "f:l03", "f:l04"]);
}

#[test]
fn bad_configurations_are_refused() {
    let cases = [
        (json!({"metadata": {"managedFields": []}}), "metadata.managedFields must be nil"),
        (
            json!({"apiVersion": "v2"}),
            "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1",
        ),
        (
            json!({"items": [{"name": "a"}, {"name": "a"}]}),
            "failed to create typed patch object (/x; /v1, Kind=Thing): .items: duplicate entries for key [name=\"a\"]",
        ),
        (
            json!({"finalizers": ["a", "a"]}),
            "failed to create typed patch object (/x; /v1, Kind=Thing): .finalizers: duplicate entries for key [=\"a\"]",
        ),
        (
            json!({"nope": 1}),
            "failed to create typed patch object (/x; /v1, Kind=Thing): .nope: field not declared in schema",
        ),
        (
            json!({"items": [{"v": 1}]}),
            "failed to create typed patch object (/x; /v1, Kind=Thing): .items: element 0: associative list with keys \
             has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
        ),
    ];
    for (fields, sentence) in cases {
        let got = World::new().apply_at("m", fields, false, T1);
        assert_eq!(got.map_err(|error| error.to_string()), Err(sentence.to_owned()));
    }
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut world = World::new();
    let last = thing(json!({"count": 1, "name": "n"})).to_string();
    let annotations = json!({"annotations": {LAST_APPLIED: last}});
    world.update("kubectl-client-side-apply", json!({"count": 1, "name": "n", "metadata": annotations}));
    // The name still is what was applied: it may change. Another manager's change may not be undone.
    let got = world.apply("kubectl", json!({"count": 1, "name": "new"}));
    assert_eq!(got["name"], "new");
    let kept: Value = crate::json::from_str(got["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap()).unwrap();
    assert_eq!(kept, thing(json!({"count": 1, "name": "new"})));
    let mut scaled = bare(world.live.as_ref().unwrap());
    scaled["count"] = json!(5);
    world.update("scaler", scaled);
    let error = world.apply_at("kubectl", json!({"count": 1, "name": "new"}), false, T2).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"scaler\" using v1: .count");
}

/// What upstream records for a Deployment that kubectl creates and a controller and an applier then touch.
#[test]
fn a_deployment_is_owned_as_upstream_has_it() {
    let schema = crate::schema::native().of_gvk("apps", "v1", "Deployment").unwrap();
    let who = |manager, operation, subresource| Manager {
        manager,
        operation,
        api_version: "apps/v1",
        time: T1,
        subresource,
        versions: None,
    };
    let none = FieldSet::default();
    let created = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "uid": "u", "creationTimestamp": T1},
        "spec": {
            "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "containers": [{
                    "name": "web", "image": "nginx", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30}}},
    });
    let created = update(None, created, schema, &who("kubectl-create", Operation::Update, ""), &none);
    assert_eq!(
        created["metadata"]["managedFields"][0]["fieldsV1"],
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:containers": {"k:{\"name\":\"web\"}": {
                            ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                                ".": {}, "f:containerPort": {}, "f:protocol": {}}},
                            "f:resources": {}, "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}},
                        "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                        "f:terminationGracePeriodSeconds": {}}}}
        })
    );
    // Times of conditions are there as null even when nobody sets them.
    let mut seen = created.clone();
    value::set(&mut seen, "metadata.annotations", json!({"deployment.kubernetes.io/revision": "1"}));
    value::set(&mut seen, "status", json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}));
    let seen =
        update(Some(&created), seen, schema, &who("kube-controller-manager", Operation::Update, "status"), &none);
    assert_eq!(
        seen["metadata"]["managedFields"][0]["fieldsV1"],
        json!({
            "f:metadata": {"f:annotations": {".": {}, "f:deployment.kubernetes.io/revision": {}}},
            "f:status": {
                "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:lastTransitionTime": {}, "f:lastUpdateTime": {}, "f:status": {}, "f:type": {}}},
                "f:replicas": {}}
        })
    );
    let applied = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "web", "env": [{"name": "A", "value": "1"}]}]}}},
    });
    let refused = apply(Some(&seen), &applied, schema, &who("helm", Operation::Apply, ""), false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-create\" using apps/v1: .spec.replicas"
    );
    let forced = apply(Some(&seen), &applied, schema, &who("helm", Operation::Apply, ""), true).unwrap();
    assert_eq!(
        forced["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
            ".": {}, "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:name": {}}}}}}})
    );
}

/// Laws over random writes: appliers get what they apply, owners own only what exists, a repeated apply changes nothing.
#[test]
fn laws_hold_over_random_writes() {
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..300 {
        let mut world = World::new();
        for step in 0..12 {
            let mut fields = json!({});
            if random(2) == 0 {
                fields["count"] = json!(random(3));
            }
            for name in ["a", "b", "c"] {
                if random(3) == 0 {
                    fields["labels"][name] = json!(random(2).to_string());
                }
            }
            let mut items = Vec::new();
            for name in ["i", "j", "k"] {
                if random(3) == 0 {
                    let at = random(items.len() as u64 + 1) as usize;
                    items.insert(at, json!({"name": name, "v": random(3), "args": [random(2).to_string()]}));
                }
            }
            if !items.is_empty() {
                fields["items"] = json!(items);
            }
            let manager = ["m0", "m1", "m2"][random(3) as usize];
            let shown = format!("round {round} step {step} {manager} {fields}");
            if random(4) == 0 {
                world.update(manager, fields);
            } else {
                let got = world.apply_at(manager, fields.clone(), true, T1).unwrap();
                assert!(contains(&got, &fields), "{shown}: {got}");
                let again = world.live.clone();
                world.apply_at(manager, fields, false, T2).unwrap();
                assert_eq!(world.live, again, "{shown}");
            }
            let live = world.live.clone().unwrap();
            let all = typed::field_set(&live, Ty::Struct(world.types.schema("Thing").unwrap()));
            let all = typed::with_named_fields(&all, Ty::Struct(world.types.schema("Thing").unwrap()));
            for (id, owned) in Managed::decode(&live, true).unwrap().by_id {
                assert!(owned.set().difference(&all).is_empty(), "{shown}: {id} owns what is not there: {live}");
            }
        }
    }
}

/// Everything in `part` is in `whole`; lists of objects by name.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| contains(whole, part)))
        }
        (whole, part) => whole == part,
    }
}
