//! Conversion webhooks: a TLS server of the test's own converts between the versions of a definition.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use e2e::{Http, Reply, TlsServer, base64, control_plane, eventually, runtime};
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use kube::api::{Api, ApiResource, DynamicObject, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const GROUP: &str = "conversion.example.com";

type Asked = Arc<Mutex<Vec<usize>>>;

/// `v1` has `spec.place` (`host:port`), `v2` has `spec.host` and `spec.port`.
fn convert(object: &Value, desired: &str) -> Value {
    let mut object = object.clone();
    let spec = object["spec"].clone();
    object["spec"] = if desired.ends_with("/v2") {
        let (host, port) = spec["place"].as_str().unwrap().split_once(':').unwrap();
        json!({"host": host, "port": port})
    } else {
        json!({"place": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())})
    };
    object["apiVersion"] = desired.into();
    // What a webhook may not touch, and what no schema knows.
    object["metadata"]["generation"] = json!(77);
    object["unknown"] = json!(true);
    object
}

async fn answer(asked: Asked, request: http::Request<Incoming>) -> Result<Reply, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    let question = review["request"].take();
    let objects = question["objects"].as_array().unwrap();
    asked.lock().unwrap().push(objects.len());
    let desired = question["desiredAPIVersion"].as_str().unwrap();
    let response = match path.as_str() {
        "/convert" | "/exact" => {
            let mut converted: Vec<Value> = objects.iter().map(|object| convert(object, desired)).collect();
            if path == "/exact" {
                converted.iter_mut().for_each(|object| drop(object.as_object_mut().unwrap().remove("unknown")));
            }
            json!({"uid": question["uid"], "result": {"status": "Success"}, "convertedObjects": converted})
        }
        _ => json!({"uid": question["uid"], "result": {"status": "Failure", "message": "not today"}}),
    };
    let answer = json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
    Ok(http::Response::new(Full::from(answer.to_string())))
}

fn definition(plural: &str, kind: &str, server: &TlsServer, path: &str, stored: &str) -> Value {
    let version = |name: &str, fields: &[&str]| {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        json!({"name": name, "served": true, "storage": name == stored,
            "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "required": fields.keys().collect::<Vec<_>>(), "properties": fields}}}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Cluster", "names": {"plural": plural, "kind": kind},
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {
                "url": format!("https://localhost:{}{path}", server.port), "caBundle": base64(server.authority.as_bytes())}}},
            "versions": [version("v1", &["place"]), version("v2", &["host", "port"])]}})
}

struct Things {
    http: Http,
    plural: &'static str,
    kind: &'static str,
    server: TlsServer,
    asked: Asked,
}

impl Things {
    fn define(http: Http, plural: &'static str, kind: &'static str) -> Things {
        let asked = Asked::default();
        let own = Arc::clone(&asked);
        let server = TlsServer::serve(&["localhost"], move |request| answer(Arc::clone(&own), request));
        let things = Things { http, plural, kind, server, asked };
        let made = things.http.post(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            &definition(plural, kind, &things.server, "/convert", "v1"),
        );
        assert_eq!(made.status, 201, "{}", made.body);
        eventually("the kind is served", PATIENCE, || {
            let found = things.http.get(&things.path("v2", ""));
            if found.status == 200 { Ok(()) } else { Err(found.body.to_string()) }
        });
        things
    }

    fn path(&self, version: &str, name: &str) -> String {
        format!("/apis/{GROUP}/{version}/{}{}{name}", self.plural, if name.is_empty() { "" } else { "/" })
    }

    fn object(&self, version: &str, name: &str, spec: &Value) -> Value {
        json!({"apiVersion": format!("{GROUP}/{version}"), "kind": self.kind, "metadata": {"name": name}, "spec": spec})
    }

    fn create(&self, version: &str, name: &str, spec: &Value) -> Value {
        let made = self.http.post(&self.path(version, ""), &self.object(version, name, spec));
        assert_eq!(made.status, 201, "{}", made.body);
        made.body
    }

    fn get(&self, version: &str, name: &str) -> Value {
        let found = self.http.get(&self.path(version, name));
        assert_eq!(found.status, 200, "{}", found.body);
        found.body
    }

    /// How many objects each question since the last look was about.
    fn asked(&self) -> Vec<usize> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn redefine(&self, path: &str, stored: &str) -> Value {
        let at = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.{GROUP}", self.plural);
        let patch = json!({"spec": definition(self.plural, self.kind, &self.server, path, stored)["spec"]});
        let done = self.http.send("PATCH", &at, "application/merge-patch+json", patch.to_string().as_bytes());
        assert_eq!(done.status, 200, "{}", done.body);
        done.body
    }
}

#[test]
fn objects_are_what_they_are_in_every_version() {
    let Some(cluster) = control_plane() else { return };
    let things = Things::define(cluster.http(), "places", "Place");
    let made = things.create("v2", "a", &json!({"host": "h", "port": "1"}));
    assert_eq!((&made["spec"], &made["metadata"]["generation"]), (&json!({"host": "h", "port": "1"}), &json!(1)));
    assert_eq!(made.get("unknown"), None);
    assert_eq!(things.get("v1", "a")["spec"], json!({"place": "h:1"}));
    let merge = |patch: &Value| {
        things.http.send("PATCH", &things.path("v2", "a"), "application/merge-patch+json", patch.to_string().as_bytes())
    };
    let patched = merge(&json!({"spec": {"port": "2"}, "metadata": {"labels": {"x": "y"}}})).body;
    assert_eq!((&patched["spec"]["port"], &patched["metadata"]["generation"]), (&json!("2"), &json!(2)), "{patched}");
    let same = merge(&json!({"spec": {"port": "2"}})).body;
    assert_eq!(same["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"]);
    let mut whole = things.get("v1", "a");
    assert_eq!(whole["spec"]["place"], "h:2");
    whole["spec"]["place"] = "g:3".into();
    let put = things.http.send("PUT", &things.path("v1", "a"), "application/json", whole.to_string().as_bytes());
    assert_eq!(put.status, 200, "{}", put.body);
    let applied = things.object("v2", "a", &json!({"host": "g", "port": "4"}));
    let at = format!("{}?fieldManager=op&force=true", things.path("v2", "a"));
    let applied = things.http.send("PATCH", &at, "application/apply-patch+yaml", applied.to_string().as_bytes());
    assert_eq!(applied.body["spec"], json!({"host": "g", "port": "4"}), "{}", applied.body);
    assert_eq!(things.get("v1", "a")["spec"]["place"], "g:4");
    let table = things.http.get_as(&things.path("v2", "a"), "application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_eq!(table.body["rows"][0]["cells"][0], "a", "{}", table.body);

    // A list asks once for what has changed, and selects by what was converted.
    for i in 0..20 {
        things.create("v1", &format!("b{i}"), &json!({"place": "h:1"}));
    }
    things.asked();
    let list = |query: &str| things.http.get(&format!("{}?{query}", things.path("v2", ""))).body;
    let all = list("");
    assert_eq!(all["items"].as_array().unwrap().len(), 21, "{all}");
    assert!(all["items"].as_array().unwrap().iter().all(|item| item["spec"].get("host").is_some()), "{all}");
    assert_eq!(things.asked(), [21]);
    let page = list("limit=5");
    assert_eq!((page["items"].as_array().unwrap().len(), &page["metadata"]["remainingItemCount"]), (5, &json!(16)));
    assert_eq!(list("labelSelector=x%3Dy")["items"].as_array().unwrap().len(), 1);
    assert_eq!(things.asked(), Vec::<usize>::new());

    let gone = things.http.send("DELETE", &things.path("v2", "a"), "", b"");
    assert_eq!((gone.status, &gone.body["status"]), (200, &json!("Success")), "{}", gone.body);
}

#[test]
fn owners_in_another_version_are_asked_in_theirs() {
    let Some(cluster) = control_plane() else { return };
    let things = Things::define(cluster.http(), "quays", "Quay");
    things.redefine("/exact", "v1");
    let apply = |version: &str, manager: &str, spec: &Value, force: bool| {
        let at = format!("{}?fieldManager={manager}&force={force}", things.path(version, "a"));
        let body = things.object(version, "a", spec).to_string();
        things.http.send("PATCH", &at, "application/apply-patch+yaml", body.as_bytes())
    };
    let owners = |object: &Value| -> Vec<Value> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        entries.map(|entry| json!([entry["manager"], entry["apiVersion"], entry["fieldsV1"]["f:spec"]])).collect()
    };
    assert_eq!(apply("v1", "one", &json!({"place": "h:1"}), false).status, 201);
    // What the one owns has another name where the other applies.
    let conflict = "Apply failed with 1 conflict: conflict with \"one\": .spec.place";
    eventually("the webhook is exact", PATIENCE, || {
        let refused = apply("v2", "other", &json!({"host": "g", "port": "1"}), false);
        match (refused.status, refused.body["message"].as_str()) {
            (409, Some(said)) if said == conflict => Ok(()),
            _ => Err(refused.body.to_string()),
        }
    });
    let agreed = apply("v2", "other", &json!({"host": "h", "port": "1"}), false);
    assert_eq!(agreed.status, 200, "{}", agreed.body);
    assert_eq!(owners(&agreed.body).len(), 2, "{}", agreed.body);
    let forced = apply("v2", "other", &json!({"host": "g", "port": "1"}), true);
    let (first, second) = (format!("{GROUP}/v1"), format!("{GROUP}/v2"));
    assert_eq!(owners(&forced.body), [json!(["other", second, {"f:host": {}, "f:port": {}}])], "{}", forced.body);
    // An update in the one version takes from the owner in the other what it changes there.
    let patch = json!({"spec": {"place": "g:2"}}).to_string();
    let at = format!("{}?fieldManager=third", things.path("v1", "a"));
    let patched = things.http.send("PATCH", &at, "application/merge-patch+json", patch.as_bytes());
    let wanted = [json!(["other", second, {"f:host": {}}]), json!(["third", first, {"f:place": {}}])];
    assert_eq!(owners(&patched.body), wanted, "{}", patched.body);
    // Where it cannot be converted any more, an apply says so, and an update forgets who owned what.
    things.redefine("/fail", "v1");
    let sentence = format!("conversion webhook for {first}, Kind=Quay failed: not today");
    eventually("the webhook fails", PATIENCE, || {
        let refused = apply("v1", "one", &json!({"place": "g:2"}), false);
        match (refused.status, refused.body["message"].as_str()) {
            (500, Some(said)) if said == sentence => Ok(()),
            _ => Err(refused.body.to_string()),
        }
    });
    let patched = things.http.send("PATCH", &at, "application/merge-patch+json", br#"{"spec": {"place": "g:3"}}"#);
    assert_eq!((patched.status, &patched.body["metadata"]["managedFields"]), (200, &Value::Null), "{}", patched.body);
}

#[test]
fn watches_see_their_version_and_an_event_is_converted_once() {
    let Some(cluster) = control_plane() else { return };
    let things = Things::define(cluster.http(), "spots", "Spot");
    let begin = things.create("v1", "a", &json!({"place": "h:1"}));
    let test = async {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v2", "Spot"), "spots");
        let all: Api<DynamicObject> = Api::all_with(cluster.client().await, &resource);
        let version = begin["metadata"]["resourceVersion"].as_str().unwrap();
        let mut watches = Vec::new();
        for _ in 0..3 {
            watches.push(all.watch(&WatchParams::default(), version).await.unwrap().boxed());
        }
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    things.asked();
                    things.create("v1", "b", &json!({"place": "h:2"}));
                });
            });
        });
        for watch in &mut watches {
            let Some(WatchEvent::Added(seen)) = watch.try_next().await.unwrap() else { panic!("an addition") };
            assert_eq!(seen.data["spec"], json!({"host": "h", "port": "2"}));
        }
        assert_eq!(things.asked(), [1]);
    };
    runtime().block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("done in time") });
}

#[test]
fn a_webhook_that_fails_is_named_and_a_new_storage_version_is_taken_up_by_writes() {
    let Some(cluster) = control_plane() else { return };
    let things = Things::define(cluster.http(), "sites", "Site");
    things.create("v1", "a", &json!({"place": "h:1"}));
    things.create("v1", "b", &json!({"place": "h:1"}));
    let redefined = things.redefine("/convert", "v2");
    assert_eq!(redefined["status"]["storedVersions"], json!(["v1", "v2"]));
    // A write that changes nothing stores the object in the new version.
    let mut object = eventually("v2 is converted from what was stored", PATIENCE, || {
        let object = things.get("v2", "a");
        if object["spec"]["host"] == "h" { Ok(object) } else { Err(object.to_string()) }
    });
    let before = object["metadata"]["resourceVersion"].clone();
    eventually("the object is written again", PATIENCE, || {
        let put = things.http.send("PUT", &things.path("v2", "a"), "application/json", object.to_string().as_bytes());
        assert_eq!(put.status, 200, "{}", put.body);
        object = put.body;
        if object["metadata"]["resourceVersion"] == before { Err("unchanged".to_owned()) } else { Ok(()) }
    });
    // What was stored in the version that is asked for is shown as it is, whichever is stored now.
    things.asked();
    assert_eq!(things.get("v1", "b")["spec"], json!({"place": "h:1"}));
    assert_eq!(things.asked(), Vec::<usize>::new());
    let list = things.http.get(&things.path("v1", "")).body;
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
    assert!(list["items"].as_array().unwrap().iter().all(|item| item["spec"]["place"] == "h:1"), "{list}");
    assert_eq!(things.asked(), [1]);
    things.redefine("/fail", "v2");
    let sentence = format!("conversion webhook for {GROUP}/v1, Kind=Site failed: not today");
    eventually("the webhook fails", PATIENCE, || {
        let found = things.http.get(&things.path("v2", "b"));
        match (found.status, found.body["message"].as_str()) {
            (500, Some(said)) if said == sentence => Ok(()),
            _ => Err(found.body.to_string()),
        }
    });
    assert_eq!(things.get("v2", "a")["spec"]["host"], "h");
    let list = things.http.get(&things.path("v2", ""));
    assert_eq!((list.status, &list.body["message"]), (500, &json!(sentence)), "{}", list.body);
}

#[test]
fn policies_see_the_version_that_they_are_about() {
    let Some(cluster) = control_plane() else { return };
    let things = Things::define(cluster.http(), "harbours", "Harbour");
    things.create("v1", "closed", &json!({"place": "closed:0"}));
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": format!("harbours.{GROUP}")},
        "spec": {"paramKind": {"apiVersion": format!("{GROUP}/v2"), "kind": "Harbour"},
            "matchConstraints": {"resourceRules": [{"apiGroups": [GROUP], "apiVersions": ["v2"], "operations": ["CREATE"],
                "resources": ["harbours"]}]},
            "validations": [{"expression": "object.spec.host != params.spec.host",
                "messageExpression": "object.apiVersion + ' ' + object.spec.host + ' ' + object.spec.port"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": format!("harbours.{GROUP}")},
        "spec": {"policyName": format!("harbours.{GROUP}"), "validationActions": ["Deny"],
            "paramRef": {"name": "closed", "parameterNotFoundAction": "Deny"}}});
    for (plural, object) in [("validatingadmissionpolicies", policy), ("validatingadmissionpolicybindings", binding)] {
        let made = things.http.post(&format!("{group}/{plural}"), &object);
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let refused = format!("denied request: {GROUP}/v2 closed 7");
    for version in ["v1", "v2"] {
        let spec = if version == "v1" { json!({"place": "closed:7"}) } else { json!({"host": "closed", "port": "7"}) };
        let object = things.object(version, "refused", &spec);
        let path = format!("{}?dryRun=All", things.path(version, ""));
        eventually("the policy sees what was converted", PATIENCE, || {
            let made = things.http.post(&path, &object);
            let said = made.body["message"].as_str().unwrap_or_default();
            if made.status == 422 && said.ends_with(&refused) { Ok(()) } else { Err(made.body.to_string()) }
        });
    }
    things.create("v1", "open", &json!({"place": "open:7"}));
    // A webhook that cannot say what the object is in the version of the policy lets nobody past it.
    things.redefine("/fail", "v1");
    let object = things.object("v1", "late", &json!({"place": "open:8"}));
    eventually("the conversion fails", PATIENCE, || {
        let made = things.http.post(&format!("{}?dryRun=All", things.path("v1", "")), &object);
        let said = made.body["message"].as_str().unwrap_or_default();
        if made.status == 422 && said.contains("failed: not today") { Ok(()) } else { Err(made.body.to_string()) }
    });
    for plural in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
        things.http.send("DELETE", &format!("{group}/{plural}/harbours.{GROUP}"), "", b"");
    }
}
