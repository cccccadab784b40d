//! Admission webhooks: a TLS server of the test's own is asked about writes, and its word counts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
#![allow(clippy::needless_pass_by_value, reason = "literals of JSON read better without a borrow")]

use e2e::{Http, Reply, TlsServer, base64, control_plane, eventually};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// A webhook that answers by the path it is asked at, and remembers what it was asked.
struct Hook {
    server: TlsServer,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hook {
    /// Serves under these names.
    fn serve(names: &[&str]) -> Arc<Hook> {
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let own = Arc::clone(&asked);
        let server = TlsServer::serve(names, move |request| answer(Arc::clone(&own), request));
        Arc::new(Hook { server, asked })
    }

    /// What it was asked at a path since the last question about that.
    fn asked(&self, path: &str) -> Vec<Value> {
        let mut asked = self.asked.lock().unwrap();
        let (there, rest) = std::mem::take(&mut *asked).into_iter().partition(|(at, _)| at == path);
        *asked = rest;
        let there: Vec<(String, Value)> = there;
        there.into_iter().map(|(_, review)| review).collect()
    }

    /// A webhook of a configuration that asks here.
    fn webhook(&self, name: &str, path: &str, namespace: &str, further: Value) -> Value {
        let mut hook = json!({"name": format!("{name}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://localhost:{}{path}", self.server.port), "caBundle": base64(self.server.authority.as_bytes())},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
        for (field, value) in further.as_object().into_iter().flatten() {
            hook[field] = value.clone();
        }
        hook
    }
}

async fn answer(
    asked_before: Arc<Mutex<Vec<(String, Value)>>>,
    request: http::Request<Incoming>,
) -> Result<Reply, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = review["request"].clone();
    asked_before.lock().unwrap().push((path.clone(), asked.clone()));
    let patch = |operations: Value| {
        let text = base64(operations.to_string().as_bytes());
        json!({"allowed": true, "patchType": "JSONPatch", "patch": text})
    };
    let mut response = match path.as_str() {
        "/deny" => json!({"allowed": false, "status": {"code": 403, "reason": "Sleepy", "message": "not today"}}),
        "/warn" => json!({"allowed": true, "warnings": ["say \"please\""], "auditAnnotations": {"a": "b"}}),
        "/add" => patch(
            json!([{"op": "add", "path": "/data/added", "value": "1"}, {"op": "add", "path": "/nonsense", "value": 1}]),
        ),
        "/count" => {
            let before = asked["object"]["data"]["count"].as_str().unwrap_or("0").parse::<u32>().unwrap();
            patch(json!([{"op": "add", "path": "/data/count", "value": (before + 1).to_string()}]))
        }
        "/fail" => return Ok(http::Response::builder().status(500).body(Full::from("oh")).unwrap()),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            json!({"allowed": true})
        }
        _ => json!({"allowed": true}),
    };
    response["uid"] = asked["uid"].clone();
    let answer = json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response});
    Ok(http::Response::new(Full::from(answer.to_string())))
}

/// A configuration that goes when the test is done.
struct Configuration<'a> {
    http: &'a Http,
    path: String,
}

impl<'a> Configuration<'a> {
    fn create(http: &'a Http, kind: &str, name: &str, webhooks: Vec<Value>) -> Configuration<'a> {
        let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": name}, "webhooks": webhooks});
        let collection =
            format!("/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations", kind.to_ascii_lowercase());
        let answer = http.post(&collection, &body);
        assert_eq!(answer.status, 201, "{}", answer.body);
        Configuration { http, path: format!("{collection}/{name}") }
    }
}

impl Drop for Configuration<'_> {
    fn drop(&mut self) {
        self.http.send("DELETE", &self.path, "", b"");
    }
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}}, "data": {"k": "v"}})
}

fn maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

#[test]
fn a_validating_webhook_is_asked_and_its_word_counts() {
    let Some(cluster) = control_plane() else { return };
    cluster.namespace("hooked");
    let (http, hook) = (cluster.http(), Hook::serve(&["localhost"]));
    let selects = |name: &str| json!({"objectSelector": {"matchLabels": {"app": name}}});
    let _configuration = Configuration::create(
        &http,
        "Validating",
        "hooked",
        vec![
            hook.webhook("deny", "/deny", "hooked", selects("denied")),
            hook.webhook("warn", "/warn", "hooked", selects("warned")),
            hook.webhook("fail", "/fail", "hooked", selects("failed")),
            hook.webhook(
                "excluded",
                "/deny",
                "hooked",
                json!({"matchConditions": [{"name": "some", "expression": "request.operation == 'CREATE' && object.metadata.name == 'excluded' && !request.dryRun"}]}),
            ),
            hook.webhook("open", "/fail", "hooked", json!({"failurePolicy": "Ignore"})),
            hook.webhook("slow", "/slow", "hooked", json!({"objectSelector": {"matchLabels": {"app": "slow"}}, "timeoutSeconds": 1})),
            hook.webhook("effects", "/effects", "hooked", json!({"objectSelector": {"matchLabels": {"app": "dry"}}, "admissionReviewVersions": ["v9", "v1beta1"]})),
        ],
    );
    let denied = eventually("the webhook refuses", PATIENCE, || {
        let answer = http.post(&maps("hooked"), &config_map("denied"));
        if answer.status == 403 {
            Ok(answer)
        } else {
            http.send("DELETE", &format!("{}/denied", maps("hooked")), "", b"");
            Err(format!("{answer:?}"))
        }
    });
    let why = "admission webhook \"deny.example.com\" denied the request: not today";
    assert_eq!((&denied.body["message"], &denied.body["reason"]), (&why.into(), &"Sleepy".into()));
    let asked = hook.asked("/deny").pop().unwrap();
    assert_eq!(asked["operation"], "CREATE");
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(asked["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(
        (&asked["name"], &asked["namespace"], &asked["dryRun"]),
        (&"denied".into(), &"hooked".into(), &false.into())
    );
    assert_eq!((&asked["object"]["kind"], &asked["oldObject"]), (&"ConfigMap".into(), &Value::Null));
    assert_eq!(asked["options"], json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}));
    assert!(asked["userInfo"]["groups"].as_array().unwrap().contains(&"system:masters".into()), "{asked}");

    let warned = http.post(&maps("hooked"), &config_map("warned"));
    assert_eq!((warned.status, warned.warnings), (201, vec!["say \"please\"".to_owned()]));

    let failed = http.post(&maps("hooked"), &config_map("failed"));
    let why = "Internal error occurred: failed calling webhook \"fail.example.com\": failed to call webhook: an error on the server \
               (\"oh\") has prevented the request from succeeding";
    assert_eq!((failed.status, &failed.body["message"]), (500, &why.into()));

    let slow = http.post(&maps("hooked"), &config_map("slow"));
    let why = format!(
        "Internal error occurred: failed calling webhook \"slow.example.com\": failed to call webhook: Post \
         \"https://localhost:{}/slow?timeout=1s\": context deadline exceeded",
        hook.server.port
    );
    assert_eq!((slow.status, &slow.body["message"]), (500, &why.into()));

    // Conditions keep a webhook out of what it is not about.
    let excluded = http.post(&maps("hooked"), &config_map("excluded"));
    let why = "admission webhook \"excluded.example.com\" denied the request: not today";
    assert_eq!((excluded.status, &excluded.body["message"]), (403, &why.into()));

    // A dry run asks as well; the older form of the question is spoken too.
    let dry = http.post(&format!("{}?dryRun=All&fieldManager=me", maps("hooked")), &config_map("dry"));
    assert_eq!(dry.status, 201, "{}", dry.body);
    let asked = hook.asked("/effects").pop().unwrap();
    assert_eq!(asked["dryRun"], true);
    assert_eq!(
        asked["options"],
        json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"], "fieldManager": "me"})
    );

    let metrics = http.get("/metrics").body;
    let line = "apiserver_admission_webhook_admission_duration_seconds_count{name=\"deny.example.com\",operation=\"CREATE\",rejected=\"true\",\
                type=\"validating\"}";
    assert!(metrics.as_str().unwrap().contains(line), "{metrics}");

    // Deletions: one by one of a collection too, and never seen as an object.
    hook.asked("/warn");
    let gone = http.send("DELETE", &format!("{}?labelSelector=app%3Dwarned", maps("hooked")), "", b"");
    assert_eq!((gone.status, gone.warnings), (200, vec!["say \"please\"".to_owned()]));
    let asked = hook.asked("/warn").pop().unwrap();
    assert_eq!(
        (&asked["operation"], &asked["name"], &asked["object"]),
        (&"DELETE".into(), &"warned".into(), &Value::Null)
    );
    assert_eq!(asked["oldObject"]["metadata"]["name"], "warned");
    assert_eq!(asked["options"]["kind"], "DeleteOptions");
    let connections = hook.server.connections.load(Ordering::Relaxed);
    let questions = 8;
    for _ in 0..questions {
        http.post(&maps("hooked"), &config_map("denied"));
    }
    let more = hook.server.connections.load(Ordering::Relaxed) - connections;
    assert!(more < questions, "connections are used again: {more} new ones for {questions} questions");
}

#[test]
fn mutating_webhooks_see_what_others_did() {
    let Some(cluster) = control_plane() else { return };
    cluster.namespace("changed");
    let (http, hook) = (cluster.http(), Hook::serve(&["localhost"]));
    let creates =
        json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let _configuration = Configuration::create(
        &http,
        "Mutating",
        "changed",
        vec![
            hook.webhook("count", "/count", "changed", json!({"rules": creates, "reinvocationPolicy": "IfNeeded"})),
            hook.webhook("add", "/add", "changed", json!({"rules": creates})),
        ],
    );
    let made = eventually("the webhooks change the object", PATIENCE, || {
        let answer = http.post(&maps("changed"), &config_map("a"));
        let data = &answer.body["data"];
        if data["added"] == "1" {
            Ok(answer.body)
        } else {
            http.send("DELETE", &format!("{}/a", maps("changed")), "", b"");
            Err(answer.body.to_string())
        }
    });
    // The second one changed the object after the first: the first is asked again, the second is not.
    assert_eq!(made["data"], json!({"added": "1", "count": "2", "k": "v"}));
    assert!(made.get("nonsense").is_none());
    let kept = http.get(&format!("{}/a", maps("changed"))).body;
    assert_eq!(kept["data"], made["data"]);
}

#[test]
fn services_subresources_and_connections() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("parts");
    let (http, hook) = (cluster.http(), Hook::serve(&["hook.parts.svc"]));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 443}]}});
    assert_eq!(http.post("/api/v1/namespaces/parts/services", &service).status, 201);
    let part = |name: &str, resources: Value| {
        let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}]);
        let mut webhook = hook.webhook(name, "/deny", "parts", json!({"rules": rules}));
        let service =
            json!({"namespace": "parts", "name": "hook", "path": format!("/{name}"), "port": hook.server.port});
        webhook["clientConfig"] = json!({"service": service, "caBundle": webhook["clientConfig"]["caBundle"]});
        webhook
    };
    kubectl.ok("create deployment web --image=nginx --replicas=0");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "a.b/c"}],
        "containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(http.post("/api/v1/namespaces/parts/pods", &pod).status, 201);
    let _configuration = Configuration::create(
        &http,
        "Validating",
        "parts",
        vec![
            part("scale", json!(["deployments/scale"])),
            part("exec", json!(["pods/exec", "pods/attach"])),
            part("status", json!(["pods/status"])),
            part("binding", json!(["pods/binding"])),
            part("eviction", json!(["pods/eviction"])),
            part("token", json!(["serviceaccounts/token"])),
        ],
    );
    eventually("the webhooks are asked", PATIENCE, || {
        kubectl.run("scale deployment web --replicas=1");
        kubectl.run("scale deployment web --replicas=0");
        let asked = hook.asked("/scale");
        if asked.is_empty() { Err(String::new()) } else { Ok(()) }
    });
    kubectl.ok("scale deployment web --replicas=1");
    let asked = hook.asked("/scale").pop().unwrap();
    assert_eq!(asked["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!((&asked["resource"]["resource"], &asked["subResource"]), (&"deployments".into(), &"scale".into()));
    assert_eq!((&asked["object"]["spec"]["replicas"], &asked["oldObject"]["spec"]["replicas"]), (&1.into(), &0.into()));

    // There is no node to run the command, but the question comes first.
    kubectl.run("exec p -- ls /");
    let asked = hook.asked("/exec").pop().unwrap();
    assert_eq!((&asked["operation"], &asked["name"]), (&"CONNECT".into(), &"p".into()));
    assert_eq!(
        (&asked["object"]["kind"], &asked["object"]["command"]),
        (&"PodExecOptions".into(), &json!(["ls", "/"]))
    );
    assert_eq!(asked["options"], Value::Null);

    let status = json!({"status": {"phase": "Pending", "message": "m"}}).to_string();
    let patched =
        http.send("PATCH", "/api/v1/namespaces/parts/pods/p/status", "application/merge-patch+json", status.as_bytes());
    assert_eq!(patched.status, 200, "{}", patched.body);
    let asked = hook.asked("/status").pop().unwrap();
    assert_eq!((&asked["operation"], &asked["object"]["status"]["message"]), (&"UPDATE".into(), &"m".into()));

    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    http.post("/api/v1/namespaces/parts/pods/p/binding", &binding);
    let asked = hook.asked("/binding").pop().unwrap();
    assert_eq!((&asked["operation"], &asked["object"]["target"]["name"]), (&"CREATE".into(), &"n".into()));

    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 700}});
    let token = http.post("/api/v1/namespaces/parts/serviceaccounts/default/token", &request);
    assert_eq!(token.status, 201, "{}", token.body);
    assert_eq!(hook.asked("/token").pop().unwrap()["object"]["spec"]["expirationSeconds"], 700);

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let evicted = http.post("/api/v1/namespaces/parts/pods/p/eviction", &eviction);
    assert_eq!(evicted.status, 201, "{}", evicted.body);
    assert_eq!(hook.asked("/eviction").pop().unwrap()["kind"]["kind"], "Eviction");
}

#[test]
fn nobody_is_asked_about_the_configurations_themselves() {
    let Some(cluster) = control_plane() else { return };
    let (http, hook) = (cluster.http(), Hook::serve(&["localhost"]));
    let mut all = hook.webhook("all", "/deny", "none", json!({}));
    all["rules"] = json!([{"operations": ["*"], "apiGroups": ["admissionregistration.k8s.io"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    let mut client = all.clone();
    client["name"] = json!("client.example.com");
    client["clientConfig"]["caBundle"] = json!(base64(b"nonsense"));
    let configuration = Configuration::create(&http, "Validating", "all", vec![all, client]);
    drop(configuration);
    let answer = http.get("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/all");
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(hook.asked("/deny").is_empty());
}
