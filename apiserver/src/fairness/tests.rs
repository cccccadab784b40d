//! Priority and fairness as requests meet it: who is let in, who waits, who is refused, and what is told of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use super::{Fairness, InFlight, Refused, Seat, Seats};
use crate::authn::User;
use crate::road::received::{Query, RequestInfo};
use crate::testing;
use api::json::json;
use k8s_openapi::api::flowcontrol::v1 as wire;
use prometheus::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

struct World {
    fairness: Arc<Fairness>,
    registry: Registry,
}

const SECOND: Duration = Duration::from_secs(1);

fn level(name: &str, shares: u32, response: &api::json::Value) -> wire::PriorityLevelConfiguration {
    api::json::from_value(json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name, "uid": format!("level-{name}")},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "limitResponse": response}}}))
    .unwrap()
}

fn schema(name: &str, level: &str, precedence: u32, user: &str) -> wire::FlowSchema {
    api::json::from_value(json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": name, "uid": format!("schema-{name}")},
        "spec": {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                    "clusterScope": true}]}]}}))
    .unwrap()
}

impl World {
    /// Ten seats at the level `queued` for everybody, ten at `catch-all`.
    fn new() -> World {
        let registry = Registry::new();
        let fairness = Fairness::new(20, &registry, InFlight::new(&registry));
        let queue = json!({"type": "Queue", "queuing": {"queues": 32, "handSize": 4, "queueLengthLimit": 5}});
        let judged = fairness.digest(&[level("queued", 5, &queue)], &[schema("everybody", "queued", 100, "*")]);
        assert!(judged.iter().all(|judged| !judged.dangling));
        World { fairness, registry }
    }

    async fn ask(&self, user: &str, patience: Duration) -> Result<Seat, Refused> {
        let user = User::new(user, &["system:authenticated"]);
        let info = Arc::new(RequestInfo::parse("GET", "/api/v1/namespaces/a/pods/b", &Query::default()));
        let schema = self.fairness.classify(&user, &info).unwrap();
        self.fairness.seat(&schema, &user, &info, &Query::default(), || None, patience).await
    }

    async fn fill(&self, user: &str, seats: usize) -> Vec<Seat> {
        let mut held = Vec::new();
        for _ in 0..seats {
            held.push(self.ask(user, SECOND).await.unwrap());
        }
        held
    }

    fn shown(&self) -> String {
        self.fairness.tell();
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    #[track_caller]
    fn shows(&self, lines: &[&str]) {
        let text = self.shown();
        for line in lines {
            let line = format!("apiserver_flowcontrol_{line}");
            assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_turn_or_refused_in_time() {
    let world = World::new();
    let mut held = world.fill("noisy", 10).await;
    let begin = Instant::now();
    // Full: a wait that nobody ends.
    assert_eq!(world.ask("noisy", 3 * SECOND).await.err(), Some(Refused { retry_after: 1 }));
    assert_eq!(begin.elapsed().as_secs(), 3);
    // A client that goes while it waits leaves no trace.
    assert!(tokio::time::timeout(SECOND, world.ask("noisy", 9 * SECOND)).await.is_err());
    world.shows(&["current_executing_requests{flow_schema=\"everybody\",priority_level=\"queued\"} 10"]);
    // A seat that becomes free goes to who waits.
    let (asked, ()) = tokio::join!(world.ask("quiet", 9 * SECOND), async {
        tokio::time::sleep(SECOND).await;
        world.shows(&["current_inqueue_requests{flow_schema=\"everybody\",priority_level=\"queued\"} 1"]);
        held.pop();
    });
    held.push(asked.unwrap());
    world.shows(&[
        "current_executing_seats{flow_schema=\"everybody\",priority_level=\"queued\"} 10",
        "dispatched_requests_total{flow_schema=\"everybody\",priority_level=\"queued\"} 11",
        "rejected_requests_total{flow_schema=\"everybody\",priority_level=\"queued\",reason=\"time-out\"} 2",
        "request_wait_duration_seconds_count{execute=\"true\",flow_schema=\"everybody\",priority_level=\"queued\"} 11",
        "request_wait_duration_seconds_count{execute=\"false\",flow_schema=\"everybody\",priority_level=\"queued\"} 1",
        "nominal_limit_seats{priority_level=\"queued\"} 10",
        "nominal_limit_seats{priority_level=\"catch-all\"} 10",
        "nominal_limit_seats{priority_level=\"exempt\"} 0",
        // Five seconds of virtual time, in all of which all seats were in use and one request waited.
        "priority_level_seat_utilization_bucket{phase=\"executing\",priority_level=\"queued\",le=\"0.99\"} 0",
        "priority_level_seat_utilization_sum{phase=\"executing\",priority_level=\"queued\"} 5000000000",
        "priority_level_seat_utilization_count{phase=\"executing\",priority_level=\"exempt\"} 5000000000",
        "demand_seats_sum{priority_level=\"queued\"} 5500000000",
        "read_vs_write_current_requests_sum{phase=\"executing\",request_kind=\"readOnly\"} 2500000000",
        "read_vs_write_current_requests_bucket{phase=\"waiting\",request_kind=\"readOnly\",le=\"0\"} 0",
    ]);
    // Four queues of five for one flow, then no place.
    let waits: Vec<_> = (0..20).map(|_| Box::pin(world.ask("noisy", 60 * SECOND))).collect();
    let mut waits = futures::future::join_all(waits);
    let refused = tokio::select! {
        _ = &mut waits => panic!("nobody gives a seat back"),
        refused = async {
            tokio::time::sleep(SECOND).await;
            world.ask("noisy", 60 * SECOND).await
        } => refused,
    };
    assert!(refused.is_err());
    // Another flow has places of its own.
    let begin = Instant::now();
    assert!(world.ask("quiet", 5 * SECOND).await.is_err());
    assert_eq!(begin.elapsed().as_secs(), 5);
    drop(waits);
    world.shows(&[
        "current_executing_requests{flow_schema=\"everybody\",priority_level=\"queued\"} 10",
        "rejected_requests_total{flow_schema=\"everybody\",priority_level=\"queued\",reason=\"queue-full\"} 1",
    ]);
    drop(held);
    assert!(!world.shown().contains("apiserver_flowcontrol_current_executing_requests{"));
}

#[tokio::test(start_paused = true)]
async fn levels_come_and_go() {
    let world = World::new();
    let refuse = json!({"type": "Reject"});
    let name = |judged: Vec<super::levels::Judged>| -> Vec<(String, bool)> {
        judged.into_iter().map(|judged| (judged.schema, judged.dangling)).collect()
    };
    let held = world.fill("jane", 3).await;
    // Its object is gone: nobody is sent there any more, and who is there stays.
    let schemas = [schema("everybody", "queued", 100, "*"), schema("jane", "own", 50, "jane")];
    let judged = world.fairness.digest(&[level("own", 5, &refuse)], &schemas);
    assert_eq!(name(judged), [("everybody".to_owned(), true), ("jane".to_owned(), false)]);
    let matched = |user: &str| {
        let info = RequestInfo::parse("GET", "/api/v1/namespaces/a/pods", &Query::default());
        world.fairness.classify(&User::new(user, &["system:authenticated"]), &info).unwrap().name.clone()
    };
    assert_eq!((matched("jane"), matched("joe")), ("jane".to_owned(), "catch-all".to_owned()));
    let root = User::new("root", &["system:masters"]);
    let info = RequestInfo::parse("GET", "/version", &Query::default());
    assert_eq!(world.fairness.classify(&root, &info).unwrap().name, "exempt");
    // Three levels of five shares each.
    world.shows(&["nominal_limit_seats{priority_level=\"own\"} 7"]);
    assert!(!world.fairness.has_idle_remains());
    drop(held);
    assert!(world.fairness.has_idle_remains());
    world.fairness.digest(&[level("own", 5, &refuse)], &schemas);
    world.shows(&["nominal_limit_seats{priority_level=\"own\"} 10"]);
    // Whoever matches nothing belongs to the last schema, whatever groups there are.
    let info = RequestInfo::parse("GET", "/version", &Query::default());
    assert_eq!(world.fairness.classify(&User::new("x", &[]), &info).unwrap().name, "catch-all");
}

#[tokio::test(start_paused = true)]
async fn seats_that_linger_come_back_by_themselves() {
    let world = World::new();
    let lingering = Arc::clone(&world.fairness);
    let keeper = tokio::spawn(async move { lingering.linger().await });
    let held: Vec<_> = (0..200).map(|_| world.fairness.watching(&watch()).unwrap()).collect();
    let user = User::new("jane", &["system:authenticated"]);
    let info = Arc::new(RequestInfo::parse("PUT", "/api/v1/namespaces/a/pods/b", &Query::default()));
    let schema = world.fairness.classify(&user, &info).unwrap();
    let write = || async { world.fairness.seat(&schema, &user, &info, &Query::default(), || None, 5 * SECOND).await };
    // Two seats for fifty milliseconds each: as wide as the level's work may be guessed.
    let writes: Vec<Seat> = futures::future::join_all((0..5).map(|_| write())).await.into_iter().flatten().collect();
    assert_eq!(writes.len(), 5);
    let begin = Instant::now();
    drop(writes);
    let next = world.ask("joe", 5 * SECOND).await.unwrap();
    assert_eq!(begin.elapsed().as_millis(), 50);
    drop((next, held));
    keeper.abort();
}

fn watch() -> RequestInfo {
    RequestInfo::parse("GET", "/api/v1/pods", &Query::parse("watch=1"))
}

#[tokio::test]
async fn dumps_show_what_runs() {
    let world = World::new();
    let held = world.fill("jane", 2).await;
    let dump = |name: &str| super::dump::answer(&world.fairness, name, true, 1_000_000).unwrap();
    let levels = dump("dump_priority_levels");
    let row = levels.lines().find(|line| line.starts_with("queued,")).unwrap();
    let cells: Vec<&str> = row.split(',').map(str::trim).collect();
    assert_eq!(cells, ["queued", "0", "false", "false", "0", "2", "2", "0", "0", "0"]);
    let queues = dump("dump_queues");
    assert_eq!(queues.lines().filter(|line| line.starts_with("queued,")).count(), 32);
    let requests = dump("dump_requests");
    let rows: Vec<&str> = requests.lines().filter(|line| line.contains("everybody")).collect();
    assert_eq!(rows.len(), 2);
    let cells: Vec<&str> = rows[0].split(',').map(str::trim).collect();
    assert_eq!((cells[4], cells[10], cells[11], cells[12]), ("jane", "jane", "get", "/api/v1/namespaces/a/pods/b"));
    assert_eq!(super::dump::answer(&world.fairness, "dump_nothing", false, 0), None);
    drop(held);
}

/// Code, headers and body of an answer.
async fn travel(world: &testing::World, user: &str, method: &str, path: &str) -> (u16, http::HeaderMap, String) {
    let client = world.running.client(User::new(user, &["system:authenticated"]), "test");
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = client.send(request.body(kube::client::Body::empty()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8_lossy(&bytes).into_owned())
}

/// The whole road: what every cluster has, headers of every answer, the refusal, what becomes of a schema without a level.
#[tokio::test]
async fn requests_travel_by_their_schema() {
    let world = testing::World::start(|config| (config.max_requests, config.max_mutating) = (10, 10)).await;
    let root = User::new("root", &["system:masters", "system:authenticated"]);
    let ask = async |method: &str, path: &str, body: &api::json::Value| world.ask(&root, method, path, body).await;
    let null = api::json::Value::Null;
    let at = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let names = async |resource: &str| {
        let (_, list) = ask("GET", &format!("{at}/{resource}"), &null).await;
        let names =
            list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<String>>()
    };
    let levels = [
        "catch-all",
        "exempt",
        "global-default",
        "leader-election",
        "node-high",
        "system",
        "workload-high",
        "workload-low",
    ];
    assert_eq!(names("prioritylevelconfigurations").await, levels);
    let schemas = names("flowschemas").await;
    assert_eq!((schemas.len(), schemas[0].as_str(), schemas[10].as_str()), (11, "catch-all", "system-nodes"));

    let mut narrow = api::json::to_value(level("narrow", 1, &json!({"type": "Reject"}))).unwrap();
    narrow["metadata"]["uid"] = null.clone();
    narrow["spec"]["limited"]["borrowingLimitPercent"] = json!(0);
    assert_eq!(ask("POST", &format!("{at}/prioritylevelconfigurations"), &narrow).await.0, 201);
    let mut noisy = api::json::to_value(schema("noisy", "narrow", 100, "noisy")).unwrap();
    noisy["metadata"]["uid"] = null.clone();
    assert_eq!(ask("POST", &format!("{at}/flowschemas"), &noisy).await.0, 201);
    let mut lost = api::json::to_value(schema("lost", "nowhere", 100, "noisy")).unwrap();
    lost["metadata"]["uid"] = null.clone();
    assert_eq!(ask("POST", &format!("{at}/flowschemas"), &lost).await.0, 201);
    let condition = async |name: &str| {
        for _ in 0..500 {
            let (_, object) = ask("GET", &format!("{at}/flowschemas/{name}"), &null).await;
            if object["status"]["conditions"][0]["status"].is_string() {
                return object;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody says whether the level of {name} is there");
    };
    let found = condition("noisy").await;
    assert_eq!(
        (&found["status"]["conditions"][0]["status"], &found["status"]["conditions"][0]["reason"]),
        (&json!("False"), &json!("Found"))
    );
    let lost = condition("lost").await;
    let told = &lost["status"]["conditions"][0];
    assert_eq!(
        (&told["type"], &told["status"], &told["reason"]),
        (&json!("Dangling"), &json!("True"), &json!("NotFound"))
    );
    assert_eq!(
        told["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"nowhere\" but there is no such object"
    );
    let managers = lost["metadata"]["managedFields"].as_array().unwrap();
    let consumer =
        managers.iter().find(|entry| entry["manager"] == "api-priority-and-fairness-config-consumer-v1").unwrap();
    assert_eq!((&consumer["operation"], &consumer["subresource"]), (&json!("Apply"), &json!("status")));

    // One seat, taken.
    let pods = "/api/v1/namespaces/default/pods";
    let uid = |headers: &http::HeaderMap, name: &str| {
        headers[&format!("x-kubernetes-pf-{name}-uid")].to_str().unwrap().to_owned()
    };
    let Seats::Fair(fairness) = &world.running.server().seats else { panic!("fairness is on") };
    let busy = User::new("noisy", &["system:authenticated"]);
    let info = Arc::new(RequestInfo::parse("GET", pods, &Query::default()));
    let schema = fairness.classify(&busy, &info).unwrap();
    let seat = fairness.seat(&schema, &busy, &info, &Query::default(), || None, SECOND).await.unwrap();
    let (code, headers, body) = travel(&world, "noisy", "GET", pods).await;
    assert_eq!((code, body.as_str()), (429, "Too many requests, please try again later.\n"));
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(uid(&headers, "flowschema"), found["metadata"]["uid"]);
    // Others go on, and know where they belong, whatever the answer.
    let (_, global) = ask("GET", &format!("{at}/flowschemas/global-default"), &null).await;
    let (_, level) = ask("GET", &format!("{at}/prioritylevelconfigurations/global-default"), &null).await;
    let (code, headers, _) = travel(&world, "quiet", "GET", pods).await;
    assert_eq!(
        (code, uid(&headers, "flowschema"), uid(&headers, "prioritylevel")),
        (
            403,
            global["metadata"]["uid"].as_str().unwrap().to_owned(),
            level["metadata"]["uid"].as_str().unwrap().to_owned()
        )
    );
    let (code, dump) =
        ask("GET", "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1", &null).await;
    assert_eq!(code, 200);
    let dump = dump.as_str().unwrap().to_owned();
    let row = dump.lines().find(|line| line.starts_with("narrow,")).unwrap();
    assert!(row.contains("noisy") && row.contains(pods), "{row}");
    let (_, metrics) = ask("GET", "/metrics", &null).await;
    let line = "apiserver_flowcontrol_current_executing_requests{flow_schema=\"noisy\",priority_level=\"narrow\"} 1";
    assert!(metrics.as_str().unwrap().lines().any(|shown| shown == line));
    assert_eq!(ask("GET", "/debug/api_priority_and_fairness/dump_nothing", &null).await.0, 404);

    drop(seat);
    assert_eq!(travel(&world, "noisy", "GET", pods).await.0, 403);

    // What must be there comes back when it is changed by force, and what is suggested stays away from those who changed it.
    let permit = crate::road::authorized::Permit::without_request("test");
    let change = json!({"spec": {"matchingPrecedence": 9800}});
    assert_eq!(ask("PATCH", &format!("{at}/flowschemas/global-default"), &change).await.0, 200);
    let keep = json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}, "spec": {"matchingPrecedence": 8000}});
    assert_eq!(ask("PATCH", &format!("{at}/flowschemas/service-accounts"), &keep).await.0, 200);
    assert_eq!(ask("DELETE", &format!("{at}/flowschemas/exempt"), &null).await.0, 200);
    super::keeper::ensure(world.running.server(), &permit).await.unwrap();
    let precedence = async |name: &str| {
        ask("GET", &format!("{at}/flowschemas/{name}"), &null).await.1["spec"]["matchingPrecedence"].clone()
    };
    assert_eq!(
        (precedence("global-default").await, precedence("service-accounts").await, precedence("exempt").await),
        (json!(9900), json!(8000), json!(1))
    );
}

#[tokio::test]
async fn without_fairness_there_are_two_bounds() {
    let world = testing::World::start(|config| {
        (config.fairness, config.max_requests, config.max_mutating) = (false, 1, 1);
    })
    .await;
    let Seats::Plain(plain) = &world.running.server().seats else { panic!("fairness is off") };
    let pod = "/api/v1/namespaces/default/pods/a";
    let info = RequestInfo::parse("PUT", pod, &Query::default());
    let taken = plain.take(&User::new("noisy", &[]), &info).unwrap();
    let (code, headers, body) = travel(&world, "quiet", "PUT", pod).await;
    assert_eq!((code, body.as_str()), (429, "Too many requests, please try again later.\n"));
    assert_eq!(headers["retry-after"], "1");
    let (code, headers, _) = travel(&world, "quiet", "GET", pod).await;
    assert!(code == 403 && !headers.contains_key("x-kubernetes-pf-flowschema-uid"), "{code} {headers:?}");
    drop(taken);
    assert_eq!(travel(&world, "quiet", "PUT", pod).await.0, 403);
}
