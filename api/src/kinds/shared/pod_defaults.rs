//! Defaults of pods and pod templates that depend on other fields.
//!
//! Constant defaults of the schema are repeated where upstream's own functions set them, so that a value made without
//! the decoder is complete too. Every function changes nothing when run twice.

use super::{image, labels, resources};
use crate::json::{Value, json};
use crate::{quota, value};

/// The lists of containers of a pod spec.
pub const CONTAINER_LISTS: &[&str] = &["initContainers", "containers", "ephemeralContainers"];

/// The template at a path (`spec.template`), which is there whatever was sent: Go holds it by value.
pub fn template(object: &mut Value, path: &str) {
    value::map_mut(object, path);
    given_template(object, path);
}

/// The template at a path, if there is one.
pub fn given_template(object: &mut Value, path: &str) {
    let Some(template) = value::get_mut(object, path).filter(|template| template.is_object()) else { return };
    value::map_mut(template, "spec");
    if let Some(spec) = template.get_mut("spec") {
        pod_spec(spec);
    }
}

/// A whole pod: its spec, and what is filled in for pods but not for templates.
pub fn pod(object: &mut Value) {
    value::map_mut(object, "spec");
    let Some(spec) = object.get_mut("spec") else { return };
    pod_spec(spec);
    let host_network = value::flag(spec, "hostNetwork");
    for list in ["initContainers", "containers"] {
        for container in value::items_mut(spec, list) {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    pod_resources(spec);
    value::set_default(spec, "enableServiceLinks", true);
}

fn pod_spec(spec: &mut Value) {
    for (name, default) in
        [("dnsPolicy", "ClusterFirst"), ("restartPolicy", "Always"), ("schedulerName", "default-scheduler")]
    {
        text(spec, name, default);
    }
    value::set_default(spec, "securityContext", json!({}));
    value::set_default(spec, "terminationGracePeriodSeconds", 30);
    service_account(spec);
    for list in CONTAINER_LISTS {
        for container in value::items_mut(spec, list) {
            self::container(container);
        }
    }
    for volume in value::items_mut(spec, "volumes") {
        self::volume(volume);
    }
}

/// An absent or empty text takes the default.
fn text(object: &mut Value, name: &str, default: &str) {
    if value::text(object, name).is_empty() {
        value::set(object, name, default);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`, which wins.
fn service_account(spec: &mut Value) {
    let name = match value::text(spec, "serviceAccountName") {
        "" => value::text(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = name.to_owned();
        value::set(spec, "serviceAccountName", name.clone());
        value::set(spec, "serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    if value::text(container, "imagePullPolicy").is_empty() {
        let policy = image::pull_policy(value::text(container, "image"));
        value::set(container, "imagePullPolicy", policy);
    }
    text(container, "terminationMessagePath", "/dev/termination-log");
    text(container, "terminationMessagePolicy", "File");
    value::set_default(container, "resources", json!({}));
    for port in value::items_mut(container, "ports") {
        text(port, "protocol", "TCP");
    }
    for variable in value::items_mut(container, "env") {
        if let Some(field) = value::get_mut(variable, "valueFrom.fieldRef") {
            text(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).filter(|probe| probe.is_object()) {
            self::probe(probe);
        }
    }
    for name in ["lifecycle.postStart.httpGet", "lifecycle.preStop.httpGet"] {
        if let Some(action) = value::get_mut(container, name).filter(|action| action.is_object()) {
            http_get(action);
        }
    }
}

fn probe(probe: &mut Value) {
    for (name, default) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if value::int(probe, name).unwrap_or_default() == 0 {
            value::set(probe, name, default);
        }
    }
    if let Some(action) = probe.get_mut("httpGet").filter(|action| action.is_object()) {
        http_get(action);
    }
    if let Some(action) = probe.get_mut("grpc").filter(|action| action.is_object()) {
        value::set_default(action, "service", "");
    }
}

fn http_get(action: &mut Value) {
    text(action, "path", "/");
    text(action, "scheme", "HTTP");
}

/// 0644.
const MODE: i64 = 420;

fn volume(volume: &mut Value) {
    let sourceless =
        volume.as_object().is_some_and(|v| v.iter().all(|(key, source)| key == "name" || source.is_null()));
    if sourceless {
        value::set(volume, "emptyDir", json!({}));
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(name).filter(|source| source.is_object()) {
            value::set_default(source, "defaultMode", MODE);
            field_refs(source);
            for projection in value::items_mut(source, "sources") {
                if let Some(token) = projection.get_mut("serviceAccountToken").filter(|token| token.is_object()) {
                    value::set_default(token, "expirationSeconds", 3600);
                }
                if let Some(downward) = projection.get_mut("downwardAPI") {
                    field_refs(downward);
                }
            }
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|source| source.is_object()) {
        value::set_default(path, "type", "");
    }
    if let Some(claim) = value::get_mut(volume, "ephemeral.volumeClaimTemplate.spec") {
        value::set_default(claim, "volumeMode", "Filesystem");
    }
    if let Some(image) = volume.get_mut("image").filter(|source| source.is_object())
        && value::text(image, "pullPolicy").is_empty()
    {
        let policy = image::pull_policy(value::text(image, "reference"));
        value::set(image, "pullPolicy", policy);
    }
}

fn field_refs(source: &mut Value) {
    for item in value::items_mut(source, "items") {
        if let Some(field) = item.get_mut("fieldRef").filter(|field| field.is_object()) {
            text(field, "apiVersion", "v1");
        }
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(Value::Object(limits)) = value::get(container, "resources.limits").cloned() else { return };
    if !limits.is_empty() {
        let requests = value::map_mut(container, "resources.requests");
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// Pod-level amounts, where the pod says some of them: limits of huge pages are the sum of the containers' unless they are requested,
/// requests of processors and memory the sum of theirs, and all others the limits.
fn pod_resources(spec: &mut Value) {
    if !spec.get("resources").is_some_and(Value::is_object) {
        return;
    }
    // What the pod says for itself is no part of the sums.
    let list = |name: &str| spec.get(name).cloned().unwrap_or_default();
    let containers = json!({"containers": list("containers"), "initContainers": list("initContainers")});
    let of = |spec: &Value, side: &str| labels::map(spec, &format!("resources.{side}")).cloned().unwrap_or_default();
    let (mut limits, mut requests) = (of(spec, "limits"), of(spec, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, sum) in quota::sums(&containers, "limits") {
        if name.starts_with("hugepages-") && !requests.contains_key(&name) {
            limits.entry(name).or_insert_with(|| sum.to_string().into());
        }
    }
    if limits.is_empty() {
        return;
    }
    for (name, sum) in quota::sums(&containers, "requests") {
        if matches!(name.as_str(), "cpu" | "memory") {
            requests.entry(name).or_insert_with(|| sum.to_string().into());
        }
    }
    for (name, limit) in limits.iter().filter(|(name, _)| resources::is_pod_level(name)) {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
    value::set(spec, "resources.limits", limits);
    value::set(spec, "resources.requests", requests);
}

fn host_ports(container: &mut Value) {
    for port in value::items_mut(container, "ports") {
        if value::int(port, "hostPort").unwrap_or_default() == 0
            && let Some(number) = value::int(port, "containerPort")
        {
            value::set(port, "hostPort", number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &Value, expected: &Value) {
        let mut object = json!({ "spec": spec });
        pod(&mut object);
        assert_eq!(&object["spec"], expected);
        pod(&mut object);
        assert_eq!(&object["spec"], expected, "run twice");
    }

    #[test]
    fn a_bare_pod_is_completed() {
        check(
            &json!({"serviceAccount": "me", "containers": [{"name": "a", "image": "nginx", "resources": {"limits": {"cpu": "1"}}}],
                "volumes": [{"name": "v"}]}),
            &json!({"serviceAccount": "me", "serviceAccountName": "me", "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
                "enableServiceLinks": true, "containers": [{"name": "a", "image": "nginx", "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}]}),
        );
    }

    #[test]
    fn probes_ports_and_volumes() {
        let mut spec = json!({"hostNetwork": true, "containers": [{"image": "a:1", "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}}, "env": [{"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
            "volumes": [{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                {"downwardAPI": {"items": [{"fieldRef": {"fieldPath": "metadata.name"}}]}}]}}, {"name": "h", "hostPath": {"path": "/"}}]});
        let mut object = json!({ "spec": spec.take() });
        pod(&mut object);
        let container = &object["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
        assert_eq!(
            container["livenessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3})
        );
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        let projected = &object["spec"]["volumes"][0]["projected"];
        assert_eq!(projected["defaultMode"], 420);
        assert_eq!(projected["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3600);
        assert_eq!(projected["sources"][1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(object["spec"]["volumes"][1]["hostPath"]["type"], "");
    }
}
