//! Owners of several versions, as tables of writes and what they leave: what a v1.36 server answered, whose webhook was the converter here.

use crate::apply::{ApplyError, FieldSet, Later, Manager, Operation, Unconverted, Versions, apply, update};
use crate::custom::kinds::define;
use crate::json::{Map, Value, json};
use crate::kind::Kind;
use crate::schema::SchemaRef;
use crate::value;
use std::sync::Mutex;

const TIME: &str = "2026-01-01T00:00:01Z";

/// `v1` has `spec.place` (`host:port`), `v2` has `spec.host` and `spec.port`; both have `spec.note`.
fn kind() -> &'static Kind {
    let version = |name: &str, fields: &[&str]| {
        let fields: Map = fields.iter().map(|field| (*field, json!({"type": "string"}))).collect();
        json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": fields}}}}})
    };
    let versions = [version("v1", &["note", "place"]), version("v2", &["host", "note", "port"])];
    let spec = json!({"group": "g.io", "scope": "Cluster", "names": {"plural": "places", "kind": "Place"}, "versions": versions});
    define(&json!({ "spec": spec })).unwrap().stored
}

/// What the webhook makes of an object.
fn converted(object: &Value, version: &str) -> Value {
    let mut out = object.clone();
    let from = value::text(object, "apiVersion").to_owned();
    let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
    let mut take = |name: &str| spec.remove(name).map(|text| text.as_str().unwrap().to_owned());
    match (&*from, version) {
        ("g.io/v1", "g.io/v2") => {
            if let Some(place) = take("place") {
                let (host, port) = place.split_once(':').unwrap();
                spec.insert("host", host.into());
                spec.insert("port", port.into());
            }
        }
        ("g.io/v2", "g.io/v1") => {
            if let (host, port) = (take("host"), take("port"))
                && (host.is_some() || port.is_some())
            {
                spec.insert("place", format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default()).into());
            }
        }
        _ => {}
    }
    out["spec"] = spec.into();
    out["apiVersion"] = version.into();
    out
}

/// How the versions are converted.
#[derive(Clone, Copy, Debug)]
enum By {
    Name,
    Webhook,
    /// It adds a field that no schema knows.
    Careless,
}

#[derive(Debug)]
struct Places {
    kind: &'static Kind,
    by: By,
}

impl Versions for Places {
    fn convert(&self, object: &Value, version: &str) -> Result<Option<(Value, SchemaRef<'_>)>, Unconverted> {
        let Some(to) = self.kind.sibling(version) else { return self.kind.convert(object, version) };
        if value::text(object, "apiVersion") == version {
            return Ok(Some((object.clone(), to.schema())));
        }
        let mut out = match self.by {
            By::Name => return self.kind.convert(object, version),
            By::Webhook | By::Careless => converted(object, version),
        };
        if matches!(self.by, By::Careless) {
            out["unknown"] = true.into();
        }
        Ok(Some((out, to.schema())))
    }

    fn resets(&self) -> bool {
        false
    }
}

/// An object that is written in two versions, and converted in between as the store's would be.
struct World {
    versions: Places,
    live: Option<Value>,
}

impl World {
    fn new(by: By) -> World {
        World { versions: Places { kind: kind(), by }, live: None }
    }

    /// The object as a request in this version sees it.
    fn live(&self, version: &str) -> Option<Value> {
        self.live.as_ref().map(|live| match self.versions.by {
            By::Name => Versions::convert(self.versions.kind, live, version).unwrap().unwrap().0,
            By::Webhook | By::Careless => converted(live, version),
        })
    }

    fn write(&mut self, operation: Operation, manager: &str, version: &str, spec: &Value, force: bool) -> Value {
        let version = format!("g.io/{version}");
        let schema = self.versions.kind.sibling(&version).unwrap().schema();
        let who = Manager {
            manager,
            operation,
            api_version: &version,
            time: TIME,
            subresource: "",
            versions: Some(&self.versions),
        };
        let live = self.live(&version);
        let mut object = json!({"apiVersion": version, "kind": "Place", "metadata": {"name": "x"}, "spec": spec});
        let written = match operation {
            Operation::Apply => apply(live.as_ref(), &object, schema, &who, force),
            Operation::Update => {
                let mut all = live.as_ref().map(|live| live["spec"].clone()).unwrap_or_default();
                spec.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
                object["spec"] = all;
                Ok(update(live.as_ref(), object, schema, &who, &FieldSet::default()).unwrap())
            }
        };
        match written {
            Ok(object) => {
                let owners = value::items(&object, "metadata.managedFields").iter().map(|entry| {
                    let version = value::text(entry, "apiVersion").trim_start_matches("g.io/");
                    let fields = entry["fieldsV1"]["f:spec"].as_object().unwrap().keys();
                    let fields: Vec<&str> = fields.map(|name| name.trim_start_matches("f:")).collect();
                    format!("{} {version} {}", value::text(entry, "manager"), fields.join(" "))
                });
                let owners: Vec<String> = owners.collect();
                let seen = json!([object["spec"], owners]);
                self.live = Some(object);
                seen
            }
            Err(error) => error.to_string().into(),
        }
    }
}

const APPLY: Operation = Operation::Apply;
const UPDATE: Operation = Operation::Update;

type Write = (Operation, &'static str, &'static str, Value, bool, Value);

fn check(by: By, writes: Vec<Write>) {
    let mut world = World::new(by);
    for (i, (operation, manager, version, spec, force, wanted)) in writes.into_iter().enumerate() {
        let found = world.write(operation, manager, version, &spec, force);
        assert_eq!(found, wanted, "{by:?} {i}: {operation:?} {manager} {version} {spec}");
    }
}

#[test]
fn owners_of_another_version_are_asked_in_theirs() {
    check(
        By::Webhook,
        vec![
            (
                APPLY,
                "a",
                "v1",
                json!({"place": "h:1", "note": "n"}),
                false,
                json!([{"note": "n", "place": "h:1"}, ["a v1 note place"]]),
            ),
            (
                APPLY,
                "b",
                "v2",
                json!({"note": "n2"}),
                false,
                json!("Apply failed with 1 conflict: conflict with \"a\": .spec.note"),
            ),
            // What `a` owns has another name in this version.
            (
                APPLY,
                "b",
                "v2",
                json!({"host": "g"}),
                false,
                json!("Apply failed with 1 conflict: conflict with \"a\": .spec.place"),
            ),
            (
                APPLY,
                "b",
                "v2",
                json!({"host": "h"}),
                false,
                json!([{"host": "h", "note": "n", "port": "1"}, ["b v2 host", "a v1 note place"]]),
            ),
            (
                APPLY,
                "b",
                "v2",
                json!({"host": "h", "port": "2"}),
                true,
                json!([{"host": "h", "note": "n", "port": "2"}, ["a v1 note", "b v2 host port"]]),
            ),
            (
                UPDATE,
                "c",
                "v1",
                json!({"note": "zz"}),
                false,
                json!([{"note": "zz", "place": "h:2"}, ["b v2 host port", "c v1 note"]]),
            ),
            (
                UPDATE,
                "d",
                "v2",
                json!({"host": "q"}),
                false,
                json!([{"host": "q", "note": "zz", "port": "2"}, ["b v2 port", "c v1 note", "d v2 host"]]),
            ),
            (
                UPDATE,
                "e",
                "v1",
                json!({"place": "r:2"}),
                false,
                json!([{"note": "zz", "place": "r:2"}, ["b v2 port", "c v1 note", "e v1 place"]]),
            ),
        ],
    );
}

#[test]
fn what_was_applied_in_another_version_is_let_go_there() {
    check(
        By::Webhook,
        vec![
            (
                APPLY,
                "a",
                "v1",
                json!({"place": "h:1", "note": "n"}),
                false,
                json!([{"note": "n", "place": "h:1"}, ["a v1 note place"]]),
            ),
            (APPLY, "a", "v2", json!({"note": "n"}), false, json!([{"note": "n"}, ["a v2 note"]])),
            (
                APPLY,
                "a",
                "v1",
                json!({"place": "h:1", "note": "n"}),
                false,
                json!([{"note": "n", "place": "h:1"}, ["a v1 note place"]]),
            ),
            (
                APPLY,
                "b",
                "v2",
                json!({"host": "h"}),
                false,
                json!([{"host": "h", "note": "n", "port": "1"}, ["b v2 host", "a v1 note place"]]),
            ),
            // The host is `b`'s in another version: the place stays for it.
            (
                APPLY,
                "a",
                "v1",
                json!({"note": "n"}),
                false,
                json!([{"note": "n", "place": "h:1"}, ["b v2 host", "a v1 note"]]),
            ),
        ],
    );
}

#[test]
fn where_an_object_cannot_be_converted_applies_fail_and_updates_forget_owners() {
    let first = || {
        (
            APPLY,
            "a",
            "v1",
            json!({"place": "h:1", "note": "n"}),
            false,
            json!([{"note": "n", "place": "h:1"}, ["a v1 note place"]]),
        )
    };
    let undeclared = "failed to convert new object: .spec.host: field not declared in schema";
    // By name alone what one version has is no field of the other.
    let mut world = World::new(By::Name);
    world.write(APPLY, "a", "v1", &json!({"note": "n"}), false);
    assert_eq!(world.write(APPLY, "b", "v2", &json!({"host": "h"}), false), undeclared);
    assert_eq!(world.write(UPDATE, "c", "v2", &json!({"host": "q"}), false), json!([{"host": "q", "note": "n"}, []]));
    check(
        By::Careless,
        vec![
            first(),
            (APPLY, "b", "v2", json!({"note": "n"}), false, json!(".unknown: field not declared in schema")),
            (UPDATE, "c", "v2", json!({"note": "q"}), false, json!([{"host": "h", "note": "q", "port": "1"}, []])),
        ],
    );
    // A version that the definition has no more.
    let mut world = World::new(By::Name);
    world.write(APPLY, "a", "v1", &json!({"note": "n"}), false);
    let entry = &mut world.live.as_mut().unwrap()["metadata"]["managedFields"][0];
    entry["apiVersion"] = "g.io/v0".into();
    let gone = "request to convert CR to an invalid group/version: g.io/v0";
    assert_eq!(world.write(APPLY, "b", "v1", &json!({"note": "n"}), false), gone);
    assert_eq!(world.write(UPDATE, "c", "v1", &json!({"note": "q"}), false), json!([{"note": "q"}, []]));
}

#[test]
fn native_owners_are_asked_in_their_version_and_go_with_it() {
    let kind = |version: &str| crate::kinds::by_gvk("autoscaling", version, "HorizontalPodAutoscaler").unwrap();
    let write = |operation, live: Option<&Value>, manager: &str, version: &str, spec: Value, force| {
        let own = kind(version);
        let api_version = own.api_version();
        let live = live.map(|live| Versions::convert(own, live, &api_version).unwrap().unwrap().0);
        let who =
            Manager { manager, operation, api_version: &api_version, time: TIME, subresource: "", versions: Some(own) };
        let mut object = json!({"apiVersion": api_version, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": spec});
        match operation {
            Operation::Apply => apply(live.as_ref(), &object, own.schema(), &who, force),
            Operation::Update => {
                value::set(
                    &mut object,
                    "metadata.managedFields",
                    live.as_ref().unwrap()["metadata"]["managedFields"].clone(),
                );
                Ok(update(live.as_ref(), object, own.schema(), &who, &FieldSet::default()).unwrap())
            }
        }
    };
    let metrics = |target: i64| json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}]);
    let one =
        write(APPLY, None, "a", "v1", json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}), false).unwrap();
    let error = write(APPLY, Some(&one), "b", "v2", json!({"metrics": metrics(60)}), false).unwrap_err();
    let why = "Apply failed with 1 conflict: conflict with \"a\": .spec.targetCPUUtilizationPercentage";
    assert_eq!(error.to_string(), why);
    let two = write(APPLY, Some(&one), "b", "v2", json!({"metrics": metrics(60)}), true).unwrap();
    let owners = |object: &Value| {
        let entries = value::items(object, "metadata.managedFields").iter();
        entries.map(|entry| (value::text(entry, "manager").to_owned(), entry["fieldsV1"].clone())).collect::<Vec<_>>()
    };
    let wanted = [
        ("a".to_owned(), json!({"f:spec": {"f:maxReplicas": {}}})),
        ("b".to_owned(), json!({"f:spec": {"f:metrics": {}}})),
    ];
    assert_eq!(owners(&two), wanted);
    let mut three = two.clone();
    three["metadata"]["managedFields"][0]["apiVersion"] = "autoscaling/v2beta1".into();
    let four =
        write(UPDATE, Some(&three), "u", "v2", json!({"maxReplicas": 3, "metrics": metrics(60)}), false).unwrap();
    assert_eq!(owners(&four), wanted[1..], "an owner in a version that is no more goes");
}

#[test]
fn a_write_waits_for_what_it_does_not_know() {
    /// Knows what it was told.
    #[derive(Debug)]
    struct Asking {
        versions: Places,
        known: Mutex<Vec<(Value, String)>>,
        missing: Mutex<Option<(Value, String)>>,
    }
    impl Versions for Asking {
        fn convert(&self, object: &Value, version: &str) -> Result<Option<(Value, SchemaRef<'_>)>, Unconverted> {
            let question = (object.clone(), version.to_owned());
            if value::text(object, "apiVersion") != version && !self.known.lock().unwrap().contains(&question) {
                *self.missing.lock().unwrap() = Some(question);
                return Err(Unconverted::Later);
            }
            self.versions.convert(object, version)
        }

        fn resets(&self) -> bool {
            false
        }
    }
    let mut world = World::new(By::Webhook);
    world.write(APPLY, "a", "v1", &json!({"place": "h:1"}), false);
    let live = world.live("g.io/v2").unwrap();
    let asking = Asking {
        versions: Places { kind: kind(), by: By::Webhook },
        known: Mutex::default(),
        missing: Mutex::default(),
    };
    let schema = asking.versions.kind.sibling("g.io/v2").unwrap().schema();
    let who = |operation| Manager {
        manager: "b",
        operation,
        api_version: "g.io/v2",
        time: TIME,
        subresource: "",
        versions: Some(&asking),
    };
    let mut new = live.clone();
    new["spec"]["host"] = "q".into();
    assert_eq!(update(Some(&live), new.clone(), schema, &who(UPDATE), &FieldSet::default()), Err(Later(new.clone())));
    let applied = json!({"apiVersion": "g.io/v2", "kind": "Place", "metadata": {"name": "x"}, "spec": {"host": "q"}});
    let mut rounds = 0;
    let conflict = loop {
        match apply(Some(&live), &applied, schema, &who(APPLY), false) {
            Err(ApplyError::Later) => {
                let question = asking.missing.lock().unwrap().take().unwrap();
                asking.known.lock().unwrap().push(question);
                rounds += 1;
            }
            other => break other.unwrap_err().to_string(),
        }
    };
    assert_eq!(conflict, "Apply failed with 1 conflict: conflict with \"a\": .spec.place");
    assert_eq!(rounds, 2, "the object before and after");
}

#[test]
fn what_has_become_atomic_is_owned_as_a_whole() {
    let kind = |atomic: &str| {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "m": {"type": "object", "x-kubernetes-map-type": atomic, "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "o": {"type": "string"}}}}});
        let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
        define(&json!({"spec": {"group": "g.io", "scope": "Cluster", "names": {"plural": "ats", "kind": "At"}, "versions": [version]}}))
            .unwrap()
            .stored
    };
    let (granular, atomic) = (kind("granular"), kind("atomic"));
    let who = |manager, operation| Manager {
        manager,
        operation,
        api_version: "g.io/v1",
        time: TIME,
        subresource: "",
        versions: Some(atomic),
    };
    let object = |spec: Value| json!({"apiVersion": "g.io/v1", "kind": "At", "metadata": {"name": "x"}, "spec": spec});
    let a = object(json!({"m": {"a": "1", "b": "2"}}));
    let one = apply(None, &a, granular.schema(), &who("a", APPLY), false).unwrap();
    let b = object(json!({"m": {"a": "1"}}));
    let two = apply(Some(&one), &b, granular.schema(), &who("b", APPLY), false).unwrap();
    let mut new = two.clone();
    new["spec"]["o"] = "1".into();
    let three = update(Some(&two), new, atomic.schema(), &who("c", UPDATE), &FieldSet::default()).unwrap();
    let owned: Vec<&Value> =
        value::items(&three, "metadata.managedFields").iter().map(|entry| &entry["fieldsV1"]).collect();
    let whole = json!({"f:spec": {"f:m": {}}});
    assert_eq!(owned, [&whole, &whole, &json!({"f:spec": {"f:o": {}}})]);
    let other = object(json!({"m": {"a": "2"}}));
    let error = apply(Some(&three), &other, atomic.schema(), &who("b", APPLY), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.m");
}
