//! Dynamic admission against a world of the test's own: configurations and policies in, questions and verdicts out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
#![allow(clippy::needless_pass_by_value, reason = "literals of JSON read better without a borrow")]

use super::{Caller, Client, Dynamic, Notes, Round, Rounds};
use crate::plugin::{Chain, Form, Lookup, Operation, Refusal, Request, Right};
use api::json::{Value, json};
use api::kind::Kind;
use api::kinds::{self, by_resource};
use api::value;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Answers by path, and remembers what it was asked.
#[derive(Default)]
struct Web {
    asked: Mutex<Vec<(String, Value)>>,
}

#[async_trait]
impl Caller for Web {
    async fn call(&self, client: &Client, review: Vec<u8>, _: Duration) -> Result<Vec<u8>, String> {
        let review: Value = api::json::from_slice(&review).unwrap();
        let path = client.url.rsplit('/').next().unwrap_or_default().to_owned();
        self.asked.lock().push((path.clone(), review["request"].clone()));
        let mut response = match path.as_str() {
            "down" => return Err("Post \"https://x\": EOF".to_owned()),
            "no" => json!({"allowed": false, "status": {"message": "no"}}),
            // [{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]
            "label" => json!({"allowed": true, "patchType": "JSONPatch",
                "patch": "W3sib3AiOiJhZGQiLCJwYXRoIjoiL21ldGFkYXRhL2xhYmVscyIsInZhbHVlIjp7ImEiOiJiIn19XQ=="}),
            _ => json!({"allowed": true}),
        };
        response["uid"] = review["request"]["uid"].clone();
        Ok(json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response})
            .to_string()
            .into())
    }
}

/// Objects by plural.
struct World {
    objects: BTreeMap<&'static str, Vec<Value>>,
    web: Arc<Web>,
    dynamic: Dynamic,
}

impl World {
    fn new(objects: &[(&'static str, Value)]) -> World {
        let mut held: BTreeMap<&'static str, Vec<Value>> = BTreeMap::new();
        for (plural, object) in objects {
            let kind = by_resource("admissionregistration.k8s.io", "v1", plural);
            let mut object = object.clone();
            if let Some(kind) = kind {
                kind.hooks.default(&mut object);
            }
            held.entry(plural).or_default().push(object);
        }
        let web = Arc::new(Web::default());
        World { objects: held, dynamic: Dynamic::new(Arc::clone(&web) as _), web }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.web.asked.lock()).into_iter().map(|(path, _)| path).collect()
    }
}

#[async_trait]
impl Lookup for World {
    async fn get(&self, _: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let named = |object: &&Value| {
            value::text(object, "metadata.name") == name && value::text(object, "metadata.namespace") == namespace
        };
        self.objects.get(plural)?.iter().find(named).cloned()
    }

    async fn list(&self, _: &str, plural: &str, _: &str) -> Vec<Value> {
        self.objects.get(plural).cloned().unwrap_or_default()
    }

    async fn list_latest(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Refusal> {
        Ok(self.list(group, plural, namespace).await)
    }

    async fn may(&self, _: &Request<'_>, _: Right<'_>) -> bool {
        false
    }

    fn equivalents(&self, kind: &'static Kind) -> Vec<&'static Kind> {
        let same = |other: &&'static Kind| std::ptr::eq(other.stored(), kind.stored()) && !std::ptr::eq(*other, kind);
        kinds::ALL.iter().copied().filter(same).collect()
    }

    fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
        kinds::by_gvk(group, version, kind)
    }

    fn dynamic(&self) -> Option<&Dynamic> {
        Some(&self.dynamic)
    }
}

struct Write {
    kind: &'static Kind,
    operation: Operation,
    part: &'static str,
    namespace: &'static str,
    name: &'static str,
    dry_run: bool,
}

impl Write {
    fn of(group: &str, version: &str, plural: &str, operation: Operation) -> Write {
        let kind = by_resource(group, version, plural).unwrap();
        let namespace = if kind.namespaced { "ns" } else { "" };
        Write { kind, operation, part: "", namespace, name: "x", dry_run: false }
    }

    /// Runs both steps; the sentence of the refusal, or the object.
    fn run(&self, world: &World, object: &Value, old: &Value) -> Result<Value, String> {
        let notes = Notes::default();
        let request = Request {
            operation: self.operation,
            kind: self.kind,
            namespace: self.namespace,
            name: self.name,
            subresource: self.part,
            user: "jane",
            uid: "",
            groups: &[],
            extra: &BTreeMap::new(),
            old,
            now: 0,
            form: Form::Itself,
            dry_run: self.dry_run,
            options: &Value::Null,
            notes: &notes,
            rounds: None,
        };
        let off: Vec<String> = crate::plugins::ALL
            .iter()
            .filter(|plugin| !plugin.is_dynamic())
            .map(|plugin| plugin.name().to_owned())
            .collect();
        let chain = Chain::new(&[], &off).unwrap();
        let mut object = object.clone();
        futures::executor::block_on(async {
            chain.mutate(&request, &mut object, world).await?;
            chain.validate(&request, &object, world).await
        })
        .map_err(|refusal| format!("{} {}", refusal.0.code, refusal.0.message))?;
        Ok(object)
    }
}

fn hook(path: &str, further: Value) -> Value {
    let mut hook = json!({"name": format!("{path}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://x/{path}")},
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]});
    for (field, value) in further.as_object().unwrap() {
        hook[field] = value.clone();
    }
    hook
}

fn validating(hooks: &[Value]) -> World {
    World::new(&[
        ("validatingwebhookconfigurations", json!({"metadata": {"name": "c"}, "webhooks": hooks})),
        ("namespaces", json!({"metadata": {"name": "ns", "labels": {"env": "prod"}}})),
    ])
}

#[test]
fn rules_selectors_and_equivalent_versions() {
    let rule = |operations: Value, groups: Value, versions: Value, resources: Value, scope: &str| json!({"rules": [{"operations": operations, "apiGroups": groups, "apiVersions": versions, "resources": resources, "scope": scope}]});
    let any = || json!(["*"]);
    let mut exact = rule(any(), json!(["autoscaling"]), json!(["v2"]), json!(["horizontalpodautoscalers"]), "*");
    exact["matchPolicy"] = json!("Exact");
    let pods = ("", "v1", "pods");
    for (further, (group, version, plural), part, asked) in [
        (json!({}), pods, "", true),
        (json!({}), pods, "status", false),
        (rule(any(), any(), any(), json!(["*/*"]), "*"), pods, "status", true),
        (rule(any(), any(), any(), json!(["pods/status"]), "*"), pods, "status", true),
        (rule(any(), any(), any(), json!(["*/status"]), "*"), pods, "", false),
        (rule(json!(["DELETE"]), any(), any(), any(), "*"), pods, "", false),
        (rule(any(), json!(["apps"]), any(), any(), "*"), pods, "", false),
        (rule(any(), any(), json!(["v2"]), any(), "*"), pods, "", false),
        (rule(any(), any(), any(), any(), "Cluster"), pods, "", false),
        (rule(any(), any(), any(), any(), "Namespaced"), pods, "", true),
        (rule(any(), any(), any(), any(), "Namespaced"), ("", "v1", "namespaces"), "", false),
        (rule(any(), any(), any(), any(), "Cluster"), ("", "v1", "namespaces"), "", true),
        (
            rule(any(), json!(["autoscaling"]), json!(["v2"]), json!(["horizontalpodautoscalers"]), "*"),
            ("autoscaling", "v1", "horizontalpodautoscalers"),
            "",
            true,
        ),
        (exact, ("autoscaling", "v1", "horizontalpodautoscalers"), "", false),
        (json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}), pods, "", true),
        (json!({"namespaceSelector": {"matchLabels": {"env": "test"}}}), pods, "", false),
        (json!({"namespaceSelector": {"matchLabels": {"env": "test"}}}), ("", "v1", "nodes"), "", true),
        (json!({"namespaceSelector": {"matchLabels": {"l": "1"}}}), ("", "v1", "namespaces"), "", true),
        (json!({"objectSelector": {"matchLabels": {"l": "1"}}}), pods, "", true),
        (json!({"objectSelector": {"matchLabels": {"l": "2"}}}), pods, "", false),
        (json!({}), ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"), "", false),
        (
            json!({"matchConditions": [{"name": "a", "expression": "request.userInfo.username == 'jane'"}]}),
            pods,
            "",
            true,
        ),
        (json!({"matchConditions": [{"name": "a", "expression": "object.metadata.labels.l == '2'"}]}), pods, "", false),
    ] {
        let world = validating(&[hook("a", further.clone())]);
        let write = Write { part, ..Write::of(group, version, plural, Operation::Create) };
        let object = json!({"metadata": {"name": "x", "labels": {"l": "1"}}});
        write.run(&world, &object, &Value::Null).unwrap();
        assert_eq!(!world.asked().is_empty(), asked, "{further} {plural}/{part}");
    }
}

#[test]
fn an_equivalent_version_is_what_the_webhook_asked_for() {
    let rules = json!({"rules": [{"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]}]});
    let world = validating(&[hook("a", rules)]);
    let object = json!({"metadata": {"name": "x"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
    Write::of("autoscaling", "v1", "horizontalpodautoscalers", Operation::Create)
        .run(&world, &object, &Value::Null)
        .unwrap();
    let (_, asked) = world.web.asked.lock().pop().unwrap();
    assert_eq!((&asked["kind"]["version"], &asked["requestKind"]["version"]), (&"v2".into(), &"v1".into()));
    assert_eq!(asked["object"]["apiVersion"], "autoscaling/v2");
    assert_eq!(asked["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
}

#[test]
fn failures_and_refusals_in_upstreams_words() {
    for (path, further, dry_run, want) in [
        ("no", json!({}), false, "400 admission webhook \"no.example.com\" denied the request: no"),
        (
            "down",
            json!({}),
            false,
            "500 Internal error occurred: failed calling webhook \"down.example.com\": failed to call webhook: Post \"https://x\": EOF",
        ),
        ("down", json!({"failurePolicy": "Ignore"}), false, ""),
        (
            "yes",
            json!({"sideEffects": "Some"}),
            true,
            "400 admission webhook \"yes.example.com\" does not support dry run",
        ),
        ("yes", json!({"sideEffects": "NoneOnDryRun"}), true, ""),
        (
            "yes",
            json!({"matchConditions": [{"name": "a", "expression": "object.none == 1"}]}),
            false,
            "403 pods \"x\" is forbidden: expression 'object.none == 1' resulted in error: no such key: none",
        ),
        (
            "no",
            json!({"failurePolicy": "Ignore", "matchConditions": [{"name": "a", "expression": "object.none == 1"}]}),
            false,
            "",
        ),
        ("no", json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}), false, ""),
    ] {
        let world = validating(&[hook(path, further.clone())]);
        let write = Write { dry_run, ..Write::of("", "v1", "pods", Operation::Create) };
        let said = write.run(&world, &json!({"metadata": {"name": "x"}}), &Value::Null).err().unwrap_or_default();
        assert_eq!(said, want, "{path} {further}");
    }
    let world = World::new(&[(
        "validatingwebhookconfigurations",
        json!({"metadata": {"name": "c"}, "webhooks": [hook("a", json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}))]}),
    )]);
    let said = Write::of("", "v1", "pods", Operation::Create).run(&world, &json!({}), &Value::Null).unwrap_err();
    assert_eq!(said, "404 namespaces \"ns\" not found");
}

#[test]
fn what_goes_cannot_be_changed() {
    let world = World::new(&[(
        "mutatingwebhookconfigurations",
        json!({"metadata": {"name": "c"}, "webhooks": [hook("label", json!({}))]}),
    )]);
    let pod = json!({"metadata": {"name": "x"}});
    let made = Write::of("", "v1", "pods", Operation::Create).run(&world, &pod, &Value::Null).unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"a": "b"}));
    let said = Write::of("", "v1", "pods", Operation::Delete).run(&world, &Value::Null, &pod).unwrap_err();
    assert_eq!(
        said,
        "500 Internal error occurred: admission webhook \"label.example.com\" attempted to modify the object, which is not \
         supported for this operation"
    );
}

fn policy(spec: Value) -> Value {
    let mut whole = json!({"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*"]}]}});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    json!({"metadata": {"name": "p"}, "spec": whole})
}

#[test]
fn policies_their_bindings_and_parameters() {
    let limit = json!({"metadata": {"name": "limit", "namespace": "ns", "labels": {"k": "v"}}, "data": {"max": "2"}});
    let params = |param: Value| (json!({"apiVersion": "v1", "kind": "ConfigMap"}), param);
    let below = "params == null ? false : object.spec.replicas <= int(params.data.max)";
    let denied = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request:";
    let failed = format!("422 deployments.apps \"x\" is forbidden: {denied} failed expression: {below}");
    for ((kind, param), replicas, want) in [
        (params(json!({"name": "limit", "parameterNotFoundAction": "Deny"})), 2, String::new()),
        (params(json!({"name": "limit", "parameterNotFoundAction": "Deny"})), 3, failed.clone()),
        (
            params(json!({"selector": {"matchLabels": {"k": "v"}}, "parameterNotFoundAction": "Deny"})),
            3,
            failed.clone(),
        ),
        (params(json!({"name": "none", "parameterNotFoundAction": "Allow"})), 3, String::new()),
        (params(Value::Null), 1, failed.clone()),
        (
            params(json!({"name": "none", "parameterNotFoundAction": "Deny"})),
            3,
            format!(
                "422 deployments.apps \"x\" is forbidden: {denied} failed to configure binding: no params found for policy \
                 binding with `Deny` parameterNotFoundAction"
            ),
        ),
        (
            (json!({"apiVersion": "a.b/v1", "kind": "None"}), json!({"name": "a", "parameterNotFoundAction": "Deny"})),
            1,
            format!(
                "422 deployments.apps \"x\" is forbidden: {denied} failed to configure binding: paramKind kind \
                 `&ParamKind{{APIVersion:a.b/v1,Kind:None,}}` not known"
            ),
        ),
    ] {
        let mut binding =
            json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
        if !param.is_null() {
            binding["spec"]["paramRef"] = param.clone();
        }
        let world = World::new(&[
            ("validatingadmissionpolicies", policy(json!({"paramKind": kind, "validations": [{"expression": below}]}))),
            ("validatingadmissionpolicybindings", binding),
            ("configmaps", limit.clone()),
        ]);
        let object = json!({"metadata": {"name": "x"}, "spec": {"replicas": replicas}});
        let write = Write::of("apps", "v1", "deployments", Operation::Create);
        let said = write.run(&world, &object, &Value::Null).err().unwrap_or_default();
        assert_eq!(said, want, "{param}");
    }
}

#[test]
fn a_configuration_is_merged_and_may_not_replace_a_whole() {
    let world = |expression: &str| {
        let mutations = json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]);
        World::new(&[
            ("mutatingadmissionpolicies", policy(json!({"reinvocationPolicy": "Never", "mutations": mutations}))),
            ("mutatingadmissionpolicybindings", json!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}})),
        ])
    };
    let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "image": "i", "args": ["1"]}]}});
    let write = Write::of("", "v1", "pods", Operation::Create);
    let beside = "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'proxy', image: 'p', \
                  restartPolicy: 'Always'}], containers: [Object.spec.containers{name: 'a', image: 'j'}]}}";
    let made = write.run(&world(beside), &pod, &Value::Null).unwrap();
    assert_eq!(made["spec"]["initContainers"][0]["name"], "proxy");
    assert_eq!(made["spec"]["containers"][0]["image"], "j");
    assert_eq!(made["spec"]["containers"][0]["args"], json!(["1"]));
    assert!(made["metadata"].get("managedFields").is_none());
    for (expression, why) in [
        (
            "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'a', args: ['2']}]}}",
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
             .spec.containers[0].args",
        ),
        (
            "Object{spec: Object.wrong{}}",
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from \
             root Object type",
        ),
    ] {
        let said = write.run(&world(expression), &pod, &Value::Null).unwrap_err();
        assert_eq!(said, format!("403 policy 'p' with binding 'b' denied request: {why}"));
    }
}

#[test]
fn who_wants_to_is_called_again_after_a_change() {
    let mut round = Round::default();
    let (before, after) = (json!({"a": 1}), json!({"a": 2}));
    round.begin(false, &before);
    round.called("a");
    round.changed();
    round.called("b");
    assert!(round.calls_again("a") && !round.calls_again("b"));
    round.end(&before);
    round.begin(true, &before);
    assert!(!round.calls_again("b"), "nothing changed since");
    round.begin(true, &after);
    assert!(round.calls_again("b"));
}

#[test]
fn there_is_no_third_round() {
    let mut rounds = Rounds::default();
    assert!(!rounds.next());
    rounds.want_second();
    assert!(rounds.next() && rounds.is_second());
    rounds.want_second();
    assert!(!rounds.next());
}

#[test]
fn a_warning_is_said_once() {
    let notes = Notes::default();
    notes.warn("a");
    notes.warn("b");
    notes.warn("a");
    assert_eq!(notes.warnings(), ["a", "b"]);
    assert!(notes.warnings().is_empty());
}
