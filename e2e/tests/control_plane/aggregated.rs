//! Aggregated API servers: a TLS server of the test's own serves a version of a group, and clients cannot tell.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use e2e::{Cluster, Http, Kind, Reply, TlsServer, base64, binary, eventually};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const GROUP: &str = "aggregated.example.com";

/// Serves one thing, whose annotations say who asked for it; not at all while `well` is not so.
async fn answer(well: Arc<AtomicBool>, request: http::Request<Incoming>) -> Result<Reply, hyper::Error> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let base = format!("/apis/{GROUP}/v1");
    let said = |name: &str| {
        let values = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    let annotations = json!({"user": said("x-remote-user"), "groups": said("x-remote-group"),
        "credentials": said("authorization"), "agent": said("user-agent")});
    let thing = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Thing",
        "metadata": {"name": "a", "resourceVersion": "1", "annotations": annotations}});
    let meta = json!({"resourceVersion": "1"});
    let body = match path {
        _ if !well.load(Ordering::Relaxed) => return Ok(reply(500, &json!("not well"))),
        _ if path == base => {
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1"),
            "resources": [{"name": "things", "singularName": "thing", "namespaced": false, "kind": "Thing", "shortNames": ["thg"],
                "verbs": ["get", "list", "watch", "delete"]}]})
        }
        _ if path == format!("{base}/things") && query.contains("watch=") => json!({"type": "ADDED", "object": thing}),
        _ if path == format!("{base}/things") => {
            json!({"apiVersion": format!("{GROUP}/v1"), "kind": "ThingList", "metadata": meta, "items": [thing]})
        }
        _ if path == format!("{base}/things/a") => thing,
        "/openapi/v3" => {
            let url = format!("/openapi/v3{base}?hash=1");
            json!({"paths": {format!("apis/{GROUP}/v1"): {"serverRelativeURL": url}}})
        }
        "/openapi/v2" => json!({"swagger": "2.0", "info": {"title": "Things"},
            "parameters": {"pretty-1": {"name": "pretty", "in": "query", "type": "string"}},
            "paths": {"/version": {}, format!("{base}/things"): {
                "parameters": [{"$ref": "#/parameters/pretty-1"}],
                "get": {"operationId": "listThings", "responses": {"200": {"description": "OK",
                    "schema": {"$ref": "#/definitions/com.example.Thing"}}}}}},
            "definitions": {
                "com.example.Thing": {"type": "object", "description": "One of the other server's things.",
                    "properties": {"metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}},
                    "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1", "kind": "Thing"}]},
                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "description": "Of another release."}}}),
        _ if path == format!("/openapi/v3{base}") => json!({"openapi": "3.0.0", "info": {"title": "Things"}}),
        _ => {
            return Ok(reply(
                404,
                &json!({"kind": "Status", "apiVersion": "v1", "code": 404, "message": "no such thing"}),
            ));
        }
    };
    Ok(reply(200, &body))
}

fn reply(code: u16, body: &Value) -> Reply {
    let reply = http::Response::builder().status(code).header("content-type", "application/json");
    reply.body(Full::from(format!("{body}\n"))).unwrap()
}

fn condition(http: &Http) -> (String, String) {
    let found = http.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/v1.{GROUP}")).body;
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |field: &str| conditions.first().map(|one| one[field].as_str().unwrap().to_owned()).unwrap_or_default();
    (text("reason"), text("message"))
}

#[test]
fn a_group_that_another_server_serves_is_a_group_like_any_other() {
    if binary().is_none() {
        eprintln!("left out: tests of the binary, because `ironkeel` is not built");
        return;
    }
    // Of its own: a group that nobody can ask is a hindrance to everybody's discovery.
    let cluster = Cluster::start(Kind::ControlPlane, &[]);
    let kubectl = cluster.namespace("aggregated");
    let http = cluster.http();
    let well = Arc::new(AtomicBool::new(true));
    let own = Arc::clone(&well);
    let server = TlsServer::serve(&["api.aggregated.svc"], move |request| answer(Arc::clone(&own), request));
    let registration = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("v1.{GROUP}")},
        "spec": {"group": GROUP, "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 15,
            "caBundle": base64(server.authority.as_bytes()),
            "service": {"namespace": "aggregated", "name": "api", "port": server.port}}});
    let made = http.post("/apis/apiregistration.k8s.io/v1/apiservices", &registration);
    assert_eq!(made.status, 201, "{}", made.body);
    eventually("the Service is missed", PATIENCE, || {
        let expected = ("ServiceNotFound".to_owned(), r#"service/api in "aggregated" is not present"#.to_owned());
        let found = condition(&http);
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let things = format!("/apis/{GROUP}/v1/things");
    // A client of ours would try again for as long as that is so.
    kubectl.fails(&format!("get --raw {things}"), "the server is currently unable to handle the request");

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 443}]}});
    assert_eq!(http.post("/api/v1/namespaces/aggregated/services", &service).status, 201);
    kubectl.ok(&format!("wait --for=condition=Available apiservice/v1.{GROUP} --timeout=20s"));
    assert_eq!(condition(&http), ("Passed".to_owned(), "all checks passed".to_owned()));
    eventually("discovery has its resources", PATIENCE, || {
        let found = kubectl.run(&format!("api-resources --api-group={GROUP} -o name"));
        if found.stdout == format!("things.{GROUP}\n") { Ok(()) } else { Err(found.to_string()) }
    });
    let groups = http.get("/apis").body;
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    let place = |name: &str| names.iter().position(|other| *other == name).unwrap();
    assert!(place("apps") < place(GROUP) && place("storage.k8s.io") < place(GROUP), "{names:?}");
    assert_eq!(http.get(&format!("/apis/{GROUP}")).body["preferredVersion"]["version"], "v1");

    let list = http.get(&things);
    let said = &list.body["items"][0]["metadata"]["annotations"];
    assert!(said["groups"].as_str().unwrap().contains("system:masters"), "{}", list.body);
    assert_eq!(said["credentials"], "");
    // Who impersonates is named as whom he acts, and one who may do nothing comes no further.
    let as_jane = kubectl.run(&format!("get --raw {things} --as=jane"));
    as_jane.check_failed("things.aggregated.example.com is forbidden");
    kubectl.ok(&format!("create clusterrole things --verb=list --resource=things.{GROUP}"));
    kubectl.ok("create clusterrolebinding things --clusterrole=things --user=jane");
    eventually("jane may", PATIENCE, || {
        let found = kubectl.run(&format!("get --raw {things} --as=jane"));
        if found.stdout.contains(r#""user":"jane""#) { Ok(()) } else { Err(found.to_string()) }
    });
    assert_eq!(kubectl.ok("get thg -o name"), format!("thing.{GROUP}/a\n"));
    assert!(kubectl.ok(&format!("get --raw {things}?watch=true")).contains(r#""type":"ADDED""#));
    let missing = http.get(&format!("{things}/b"));
    assert_eq!((missing.status, &missing.body["message"]), (404, &json!("no such thing")));
    eventually("the index of OpenAPI has it", PATIENCE, || {
        let index = http.get("/openapi/v3").body;
        let url =
            index["paths"][format!("apis/{GROUP}/v1")]["serverRelativeURL"].as_str().unwrap_or_default().to_owned();
        if url.ends_with("?hash=1") { Ok(()) } else { Err(index["paths"].to_string()) }
    });
    assert_eq!(http.get(&format!("/openapi/v3/apis/{GROUP}/v1?hash=1")).body["info"]["title"], "Things");
    let document = http.get("/openapi/v2").body;
    let path = &document["paths"][format!("/apis/{GROUP}/v1/things")];
    assert_eq!((&path["get"]["operationId"], &path["parameters"][0]["name"]), (&json!("listThings"), &json!("pretty")));
    let meta = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let refers = &document["definitions"]["com.example.Thing"]["properties"]["metadata"]["$ref"];
    assert_eq!(refers, &json!(format!("{meta}_v2")), "two releases of one type have two names");
    assert!(document["paths"]["/version/"]["get"].is_object() && document["paths"]["/api/v1/pods"]["get"].is_object());
    let paths = http.get("/").body["paths"].clone();
    for path in [format!("/apis/{GROUP}"), format!("/apis/{GROUP}/v1")] {
        assert!(paths.as_array().unwrap().contains(&json!(path)), "{path} in {paths}");
    }
    let trust =
        kubectl.ok("get configmap extension-apiserver-authentication --namespace=kube-system -o jsonpath={.data}");
    assert!(trust.contains("requestheader-client-ca-file") && trust.contains("front-proxy-client"), "{trust}");

    // A server that fails is unavailable, and its group goes on being named.
    well.store(false, Ordering::Relaxed);
    // What is registered anew is looked at at once.
    kubectl.ok(&format!("patch apiservice v1.{GROUP} --type=merge -p '{{\"spec\":{{\"versionPriority\":16}}}}'"));
    eventually("its failure is seen", PATIENCE, || {
        let (reason, message) = condition(&http);
        let expected = reason == "FailedDiscoveryCheck" && message.contains("bad status from https://localhost:");
        if expected { Ok(()) } else { Err(format!("{reason} {message}")) }
    });
    kubectl.fails(&format!("get --raw {things}"), "the server is currently unable to handle the request");
    assert!(kubectl.ok("get --raw /apis").contains(GROUP));
    kubectl.ok(&format!("delete apiservice v1.{GROUP}"));
    eventually("the group is gone", PATIENCE, || {
        let found = http.get(&format!("/apis/{GROUP}"));
        if found.status == 404 { Ok(()) } else { Err(found.body.to_string()) }
    });
    assert!(!kubectl.ok("get --raw /apis").contains(GROUP));
    assert!(http.get("/openapi/v2").body["definitions"].get("com.example.Thing").is_none());
}
