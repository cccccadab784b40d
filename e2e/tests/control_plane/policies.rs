//! Admission policies: expressions that judge and change writes, where bindings put them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
#![allow(clippy::needless_pass_by_value, reason = "literals of JSON read better without a borrow")]

use e2e::{Answer, Http, control_plane, eventually};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// A policy or binding that goes when the test is done.
struct Made<'a> {
    http: &'a Http,
    path: String,
}

impl<'a> Made<'a> {
    fn create(http: &'a Http, kind: &str, name: &str, spec: Value) -> Made<'a> {
        let plural = if kind.ends_with("Binding") {
            format!("{}s", kind.to_lowercase())
        } else {
            format!("{}ies", kind.to_lowercase().trim_end_matches('y'))
        };
        let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let answer = http.post(&format!("{GROUP}/{plural}"), &body);
        assert_eq!(answer.status, 201, "{}", answer.body);
        Made { http, path: format!("{GROUP}/{plural}/{name}") }
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.http.send("DELETE", &self.path, "", b"");
    }
}

/// Which requests: config maps of a namespace.
fn about(namespace: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}, "resourceRules": [
        {"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]})
}

fn create(http: &Http, namespace: &str, name: &str, data: Value) -> Answer {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    http.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), &body)
}

#[test]
fn a_policy_refuses_warns_and_takes_parameters() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.namespace("judged");
    let http = cluster.http();
    kubectl.ok("label namespace judged level=high");
    assert_eq!(create(&http, "judged", "limit", json!({"most": "3"})).status, 201);
    let _policy = Made::create(
        &http,
        "ValidatingAdmissionPolicy",
        "judged",
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": about("judged"),
            "matchConditions": [{"name": "ours", "expression": "object.metadata.name.startsWith('x')"}],
            "variables": [
                {"name": "keys", "expression": "has(object.data) ? size(object.data) : 0"},
                {"name": "most", "expression": "int(params.data.most)"},
                {"name": "broken", "expression": "object.data.nothing"},
            ],
            "validations": [
                {"expression": "variables.keys <= variables.most",
                 "messageExpression": "'at most ' + string(variables.most) + ' keys, not ' + string(variables.keys)"},
                {"expression": "!('secret' in object.data)", "message": "no secrets", "reason": "Forbidden"},
                {"expression": "namespaceObject.metadata.labels.level == 'high' && request.operation == 'CREATE'"},
                {"expression": "authorizer.group('').resource('secrets').namespace('judged').check('get').allowed()"},
                {"expression": "object.metadata.name != 'xbroken' || variables.broken == ''"},
            ],
        }),
    );
    let bind = |name: &str, action: &str| {
        let spec = json!({"policyName": "judged", "validationActions": [action],
            "paramRef": {"name": "limit", "namespace": "judged", "parameterNotFoundAction": "Deny"}});
        Made::create(&http, "ValidatingAdmissionPolicyBinding", name, spec)
    };
    let warning = bind("judged-warns", "Warn");
    let many = json!({"a": "1", "b": "2", "c": "3", "d": "4"});
    let said = "at most 3 keys, not 4";
    eventually("the policy warns", PATIENCE, || {
        let answer = create(&http, "judged", "xwarned", many.clone());
        let want =
            format!("Validation failed for ValidatingAdmissionPolicy 'judged' with binding 'judged-warns': {said}");
        if answer.status == 201 && answer.warnings == [want] {
            Ok(())
        } else {
            http.send("DELETE", "/api/v1/namespaces/judged/configmaps/xwarned", "", b"");
            Err(format!("{answer:?}"))
        }
    });
    drop(warning);
    let _binding = bind("judged-denies", "Deny");
    let denied = eventually("the policy refuses", PATIENCE, || {
        let answer = create(&http, "judged", "xdenied", many.clone());
        if answer.status == 422 {
            Ok(answer)
        } else {
            http.send("DELETE", "/api/v1/namespaces/judged/configmaps/xdenied", "", b"");
            Err(format!("{answer:?}"))
        }
    });
    let by = "ValidatingAdmissionPolicy 'judged' with binding 'judged-denies' denied request";
    let message = |name: &str, why: &str| json!(format!("configmaps {name:?} is forbidden: {by}: {why}"));
    assert_eq!((&denied.body["message"], &denied.body["reason"]), (&message("xdenied", said), &"Invalid".into()));
    assert_eq!(denied.body["details"]["causes"], json!([{"message": format!("{by}: {said}")}]));
    let secret = create(&http, "judged", "xsecret", json!({"secret": "1"}));
    assert_eq!((secret.status, &secret.body["message"]), (403, &message("xsecret", "no secrets")));
    let broken = create(&http, "judged", "xbroken", json!({"a": "1"}));
    let why = "expression 'object.metadata.name != 'xbroken' || variables.broken == ''' resulted in error: composited variable \
               \"broken\" fails to evaluate: no such key: nothing";
    assert_eq!((broken.status, &broken.body["message"]), (422, &message("xbroken", why)));
    assert_eq!(create(&http, "judged", "xfine", json!({"a": "1"})).status, 201, "what keeps the rules goes through");
    assert_eq!(create(&http, "judged", "other", many).status, 201, "the condition leaves others alone");
    // Who may not is refused by the expression that asks.
    kubectl.ok("create role writes --verb=create --resource=configmaps");
    kubectl.ok("create rolebinding writes --role=writes --user=jane");
    let jane = eventually("jane may write", PATIENCE, || {
        let output = kubectl.run("create configmap xjane --from-literal=a=1 --as=jane");
        if output.stderr.contains("ValidatingAdmissionPolicy") { Ok(output.stderr) } else { Err(output.to_string()) }
    });
    assert!(jane.contains("failed expression: authorizer.group('').resource('secrets')"), "{jane}");
    let metrics = kubectl.ok("get --raw /metrics");
    for (action, binding) in [("warn", "judged-warns"), ("deny", "judged-denies")] {
        let labels = format!(
            "{{enforcement_action=\"{action}\",error_type=\"invalid_error\",policy=\"judged\",policy_binding=\"{binding}\"}} "
        );
        for name in ["check_total", "check_duration_seconds_count"] {
            let want = format!("apiserver_validating_admission_policy_{name}{labels}");
            assert!(metrics.lines().any(|line| line.starts_with(&want)), "no {want} in\n{metrics}");
        }
    }
}

#[test]
fn expressions_are_checked_when_they_are_written_and_told_in_the_status() {
    let Some(cluster) = control_plane() else { return };
    let http = cluster.http();
    let spec = |expression: &str| {
        json!({"matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["deployments"]}]}, "validations": [{"expression": expression}]})
    };
    let wrong = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "wrong"}, "spec": spec("objekt.spec")});
    let answer = http.post(&format!("{GROUP}/validatingadmissionpolicies"), &wrong);
    let why = "ValidatingAdmissionPolicy.admissionregistration.k8s.io \"wrong\" is invalid: spec.validations[0].expression: Invalid \
               value: \"objekt.spec\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'objekt' (in container '')\n | \
               objekt.spec\n | ^";
    assert_eq!((answer.status, &answer.body["message"]), (422, &why.into()));
    let policy = Made::create(&http, "ValidatingAdmissionPolicy", "typed", spec("object.spec.replicas > '1'"));
    let checked = eventually("the types are checked", PATIENCE, || {
        let status = http.get(&policy.path).body["status"].clone();
        if status["observedGeneration"] == 1 { Ok(status) } else { Err(status.to_string()) }
    });
    let warning = &checked["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    let text = warning["warning"].as_str().unwrap();
    assert!(text.contains("found no matching overload for '_>_' applied to '(int, string)'"), "{text}");
}

#[test]
fn nobody_lets_a_policy_read_for_him() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.kubectl();
    admin.ok("create clusterrole policy-writer --verb=create,get --resource=validatingadmissionpolicies,validatingadmissionpolicybindings");
    admin.ok("create clusterrolebinding policy-writer --clusterrole=policy-writer --user=joe");
    let object = |kind: &str, spec: Value| {
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "joes"}, "spec": spec});
        object.to_string().into_bytes()
    };
    let policy = object(
        "ValidatingAdmissionPolicy",
        json!({"matchConstraints": about("none"), "paramKind": {"apiVersion": "v1", "kind": "Secret"},
            "validations": [{"expression": "params == null"}]}),
    );
    let binding = object(
        "ValidatingAdmissionPolicyBinding",
        json!({"policyName": "joes", "validationActions": ["Deny"],
            "paramRef": {"name": "a", "namespace": "default", "parameterNotFoundAction": "Allow"}}),
    );
    eventually("joe may write policies, but not this one", PATIENCE, || {
        let output = admin.feed("create --as=joe -f -", &policy);
        let want = "spec.paramKind: Forbidden: user &{joe  [system:authenticated] map[]} must have \"get\" permission on all objects of the \
                    referenced paramKind (kind=Secret, apiVersion=v1)";
        if output.stderr.contains(want) { Ok(()) } else { Err(output.to_string()) }
    });
    let output = admin.feed("create --as=joe -f -", &binding);
    let want =
        "spec.paramRef: Forbidden: unable to get policy joes to determine minimum required permissions and user &{joe";
    assert!(output.stderr.contains(want), "{output}");
    admin.ok("create clusterrole secret-reader --verb=get --resource=secrets");
    admin.ok("create clusterrolebinding secret-reader --clusterrole=secret-reader --user=joe");
    eventually("who may read the parameters may name them", PATIENCE, || {
        let output = admin.feed("create --as=joe -f -", &policy);
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    admin.ok("delete validatingadmissionpolicy joes");
}

#[test]
fn a_policy_changes_what_is_written() {
    let Some(cluster) = control_plane() else { return };
    cluster.namespace("mended");
    let http = cluster.http();
    let policy = |name: &str, mutation: Value, again: &str| {
        let spec = json!({"matchConstraints": about("mended"), "reinvocationPolicy": again, "mutations": [mutation]});
        let bound = json!({"policyName": name});
        (
            Made::create(&http, "MutatingAdmissionPolicy", name, spec),
            Made::create(&http, "MutatingAdmissionPolicyBinding", name, bound),
        )
    };
    let apply = "Object{metadata: Object.metadata{labels: {'mended': 'yes'}}, data: has(object.data) && 'patched' in object.data ? {'seen': \
                 'yes'} : {'seen': 'no'}}";
    let _first = policy(
        "mended-a",
        json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}),
        "IfNeeded",
    );
    let patch = "[JSONPatch{op: 'add', path: '/data/patched', value: 'yes'}, JSONPatch{op: 'add', path: '/metadata/annotations', \
                 value: {'a.b/' + jsonpatch.escapeKey('c'): string(size(object.data))}}]";
    let _second = policy("mended-b", json!({"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}), "Never");
    let made = eventually("the policies change the object", PATIENCE, || {
        let answer = create(&http, "mended", "a", json!({"own": "1"}));
        if answer.body["data"]["patched"] == "yes" {
            Ok(answer.body)
        } else {
            http.send("DELETE", "/api/v1/namespaces/mended/configmaps/a", "", b"");
            Err(answer.body.to_string())
        }
    });
    // The first is asked again about what the second has changed.
    assert_eq!(made["data"], json!({"own": "1", "patched": "yes", "seen": "yes"}));
    assert_eq!(made["metadata"]["labels"], json!({"mended": "yes"}));
    assert_eq!(made["metadata"]["annotations"], json!({"a.b/c": "2"}));
    let broken =
        json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/data/none'}]"}});
    let _third = policy("mended-c", broken, "Never");
    let refused = eventually("a patch that does not fit refuses", PATIENCE, || {
        let answer = create(&http, "mended", "b", json!({"own": "1"}));
        if answer.status == 201 {
            http.send("DELETE", "/api/v1/namespaces/mended/configmaps/b", "", b"");
            return Err(answer.body.to_string());
        }
        Ok(answer)
    });
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.starts_with("policy 'mended-c' with binding 'mended-c' denied request: JSON Patch: "), "{message}");
    assert_eq!((refused.status, &refused.body["reason"]), (403, &"Invalid".into()));
}
