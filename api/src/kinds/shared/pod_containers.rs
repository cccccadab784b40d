//! What is wrong with the containers of a pod: names, images, ports, environment, mounts, restart rules.
//!
//! Never checks the volumes themselves.

use super::labels::invalid;
use super::pod_defaults::CONTAINER_LISTS;
use super::pod_validation::Context;
use super::rules::{PROTOCOLS, given_one_of, required_one_of, required_one_of_listed};
use super::{names, pod_probes, pod_security, pod_volumes, resources};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

/// All containers of a pod spec at `field`.
#[must_use]
pub fn validate(context: &Context<'_>, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let spec = context.spec;
    let regular = value::items(spec, "containers");
    let init = value::items(spec, "initContainers");
    let mut taken: Vec<&str> = Vec::new();

    let at = field.child("containers");
    if regular.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    for (i, container) in regular.iter().enumerate() {
        let field = at.index(i);
        common(&mut errors, context, container, &field);
        unique(&mut errors, &mut taken, container, &field, false);
        pod_probes::validate(&mut errors, context, container, &field);
        restart_rules(&mut errors, container, &field);
    }
    host_ports(&mut errors, regular, 0, &at);

    let at = field.child("initContainers");
    for (i, container) in init.iter().enumerate() {
        let field = at.index(i);
        common(&mut errors, context, container, &field);
        restart_rules(&mut errors, container, &field);
        unique(&mut errors, &mut taken, container, &field, true);
        host_ports(&mut errors, std::slice::from_ref(container), i, &at);
        if value::text(container, "restartPolicy") == "Always" {
            pod_probes::validate(&mut errors, context, container, &field);
        } else {
            for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.get(name).is_some_and(|v| !v.is_null()) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.push(FieldError::forbidden(&field.child(name), detail));
                }
            }
            for (j, policy) in value::items(container, "resizePolicy").iter().enumerate() {
                let action = value::text(policy, "restartPolicy");
                if action == "RestartContainer" {
                    let at = field.child("resizePolicy").index(j).child("restartPolicy");
                    let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    errors.push(FieldError::invalid(&at, action, detail));
                }
            }
        }
    }

    let others = taken.clone();
    let at = field.child("ephemeralContainers");
    for (i, container) in value::items(spec, "ephemeralContainers").iter().enumerate() {
        let field = at.index(i);
        common(&mut errors, context, container, &field);
        unique(&mut errors, &mut taken, container, &field, false);
        ephemeral(&mut errors, container, &others, &field);
    }
    errors
}

/// Two without a name have the same, but for two init containers.
fn unique<'a>(errors: &mut Errors, taken: &mut Vec<&'a str>, container: &'a Value, field: &Path, init: bool) {
    let name = value::text(container, "name");
    if taken.contains(&name) {
        errors.push(FieldError::duplicate(&field.child("name"), name));
    } else if !init || !name.is_empty() {
        taken.push(name);
    }
}

/// What a container for debugging may not have.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

fn ephemeral(errors: &mut Errors, container: &Value, others: &[&str], field: &Path) {
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    let target = value::text(container, "targetContainerName");
    if !target.is_empty() && !others.contains(&target) {
        errors.push(FieldError::not_found(&field.child("targetContainerName"), target));
    }
    for name in NOT_EPHEMERAL {
        if container.get(*name).is_some_and(|v| !super::rules::is_zero(v)) {
            errors.push(FieldError::forbidden(&field.child(name), DETAIL));
        }
    }
    for (i, mount) in value::items(container, "volumeMounts").iter().enumerate() {
        for name in ["subPath", "subPathExpr"] {
            if !value::text(mount, name).is_empty() {
                errors.push(FieldError::forbidden(&field.child("volumeMounts").index(i).child(name), DETAIL));
            }
        }
    }
}

fn common(errors: &mut Errors, context: &Context<'_>, container: &Value, field: &Path) {
    match value::text(container, "name") {
        "" => errors.push(FieldError::required(&field.child("name"), "")),
        name => invalid(errors, &field.child("name"), name, names::dns_label(name)),
    }
    if value::text(container, "image").is_empty() {
        errors.push(FieldError::required(&field.child("image"), ""));
    }
    required_one_of_listed(errors, container, "terminationMessagePolicy", field, &["File", "FallbackToLogsOnError"]);
    ports(errors, container, &field.child("ports"));
    environment(errors, container, field);
    pod_volumes::mounts(errors, context, container, field);
    required_one_of(errors, container, "imagePullPolicy", field, &["Always", "IfNotPresent", "Never"]);
    errors.extend(resources::validate(container.get("resources"), &field.child("resources")));
    resource_claims(errors, context.spec, container, &field.child("resources.claims"));
    resize_policy(errors, context, container, &field.child("resizePolicy"));
    errors.extend(pod_security::container(container, context.spec, &field.child("securityContext")));
}

fn ports(errors: &mut Errors, container: &Value, field: &Path) {
    let mut seen = Vec::new();
    for (i, port) in value::items(container, "ports").iter().enumerate() {
        let field = field.index(i);
        let name = value::text(port, "name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if messages.is_empty() && seen.contains(&name) {
                errors.push(FieldError::duplicate(&field.child("name"), name));
            }
            invalid(errors, &field.child("name"), name, messages);
            seen.push(name);
        }
        for (name, needed) in [("containerPort", true), ("hostPort", false)] {
            match value::int(port, name).unwrap_or_default() {
                0 if needed => errors.push(FieldError::required(&field.child(name), "")),
                0 => {}
                number => errors.extend(
                    names::port_number(number).into_iter().map(|m| FieldError::invalid(&field.child(name), number, m)),
                ),
            }
        }
        required_one_of(errors, port, "protocol", &field, PROTOCOLS);
    }
}

fn host_ports(errors: &mut Errors, containers: &[Value], first: usize, field: &Path) {
    let mut seen = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in value::items(container, "ports").iter().enumerate() {
            let Some(number) = value::int(port, "hostPort").filter(|number| *number != 0) else { continue };
            let key = format!("{}/{}/{number}", value::text(port, "protocol"), value::text(port, "hostIP"));
            if seen.contains(&key) {
                let at = field.index(first + i).child("ports").index(j).child("hostPort");
                errors.push(FieldError::duplicate(&at, key));
            } else {
                seen.push(key);
            }
        }
    }
}

/// Fields of the pod that variables may refer to.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Resources of a container that variables and files may refer to.
const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];

fn environment(errors: &mut Errors, container: &Value, field: &Path) {
    for (i, variable) in value::items(container, "env").iter().enumerate() {
        let field = field.child("env").index(i);
        match value::text(variable, "name") {
            "" => errors.push(FieldError::required(&field.child("name"), "")),
            name => invalid(errors, &field.child("name"), name, names::env_name(name)),
        }
        if let Some(source) = variable.get("valueFrom").filter(|source| !source.is_null()) {
            value_from(errors, variable, source, &field.child("valueFrom"));
        }
    }
    let at = field.child("envFrom");
    for (i, source) in value::items(container, "envFrom").iter().enumerate() {
        let prefix = value::text(source, "prefix");
        if !prefix.is_empty() {
            invalid(errors, &at.index(i).child("prefix"), prefix, names::env_name(prefix));
        }
        let mut count = 0;
        for name in ["configMapRef", "secretRef"] {
            if let Some(reference) = source.get(name).filter(|reference| !reference.is_null()) {
                count += 1;
                let field = at.index(i).child(name).child("name");
                match value::text(reference, "name") {
                    "" => errors.push(FieldError::required(&field, "")),
                    name => invalid(errors, &field, name, names::dns_subdomain(name)),
                }
            }
        }
        match count {
            0 => errors.push(FieldError::invalid(&at, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(FieldError::invalid(&at, "", "may not have more than one field specified at a time")),
        }
    }
}

fn value_from(errors: &mut Errors, variable: &Value, source: &Value, field: &Path) {
    let mut count = 0;
    for name in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let Some(reference) = source.get(name).filter(|reference| !reference.is_null()) else { continue };
        count += 1;
        let at = field.child(name);
        match name {
            "fieldRef" => field_ref(errors, reference, ENV_FIELDS, &at),
            "resourceFieldRef" => resource_ref(errors, reference, false, &at),
            "fileKeyRef" => {
                for name in ["key", "volumeName", "path"] {
                    super::rules::required(errors, reference, name, &at);
                }
            }
            _ => {
                let name = value::text(reference, "name");
                invalid(errors, &at.child("name"), name, names::dns_subdomain(name));
                match value::text(reference, "key") {
                    "" => errors.push(FieldError::required(&at.child("key"), "")),
                    key => invalid(errors, &at.child("key"), key, names::config_key(key)),
                }
            }
        }
    }
    let detail = if count == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
    } else if !value::text(variable, "value").is_empty() {
        "may not be specified when `value` is not empty"
    } else if count > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    errors.push(FieldError::invalid(field, "", detail));
}

/// A reference to a field of the pod: a plain one of `allowed`, or `metadata.labels['x']` and annotations.
pub fn field_ref(errors: &mut Errors, reference: &Value, allowed: &[&str], field: &Path) {
    for name in ["apiVersion", "fieldPath"] {
        if value::text(reference, name).is_empty() {
            errors.push(FieldError::required(&field.child(name), ""));
            return;
        }
    }
    let path = value::text(reference, "fieldPath");
    let version = value::text(reference, "apiVersion");
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.push(FieldError::invalid(&field.child("fieldPath"), path, detail));
        return;
    }
    let subscript = path.strip_suffix("']").and_then(|path| path.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            invalid(errors, field, &key, names::qualified_name(&key));
        }
        Some(("metadata.labels", key)) => invalid(errors, field, key, names::qualified_name(key)),
        Some((path, _)) => errors.push(FieldError::invalid(field, path, "does not support subscript")),
        None if allowed.contains(&path) => {}
        None if ENV_FIELDS.contains(&path) || matches!(path, "metadata.labels" | "metadata.annotations") => {
            errors.push(FieldError::not_supported(&field.child("fieldPath"), path, allowed));
        }
        None => errors.push(FieldError::invalid(
            &field.child("fieldPath"),
            path,
            format!("error converting fieldPath: field label not supported: {path}"),
        )),
    }
}

/// A reference to a resource of a container; a file must name the container.
pub fn resource_ref(errors: &mut Errors, reference: &Value, in_volume: bool, field: &Path) {
    let resource = value::text(reference, "resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.starts_with(prefix));
    if in_volume && value::text(reference, "containerName").is_empty() {
        errors.push(FieldError::required(&field.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&field.child("resource"), ""));
    } else if !huge && !RESOURCE_FIELDS.contains(&resource) {
        errors.push(FieldError::not_supported(&field.child("resource"), resource, RESOURCE_FIELDS));
    }
    let divisor = value::text(reference, "divisor");
    if matches!(divisor, "" | "0") {
        return;
    }
    let (name, values) = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => ("cpu", "1m and 1"),
        Some(name @ ("memory" | "ephemeral-storage")) => (
            if name == "memory" { "memory" } else { "local ephemeral storage" },
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei",
        ),
        _ if huge => ("hugepages", "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"),
        _ => return,
    };
    if !values.split([',', ' ']).any(|value| value == divisor) {
        let detail = format!("only divisor's values {values} are supported with the {name} resource");
        errors.push(FieldError::invalid(&field.child("divisor"), resource, detail));
    }
}

/// The claims of a pod that a container, or the pod itself, names.
pub fn resource_claims(errors: &mut Errors, spec: &Value, container: &Value, field: &Path) {
    let known = value::items(spec, "resourceClaims").iter().map(|claim| value::text(claim, "name"));
    let known: Vec<&str> = known.filter(|name| !name.is_empty()).collect();
    let mut met: Vec<(&str, &str)> = Vec::new();
    for (i, claim) in value::items(container, "resources.claims").iter().enumerate() {
        let at = field.index(i);
        let (name, request) = (value::text(claim, "name"), value::text(claim, "request"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        if met.contains(&(name, "")) {
            // The whole of the claim is there already.
            errors.push(FieldError::duplicate(&at, name));
        } else {
            if !request.is_empty() {
                invalid(errors, &at.child("request"), request, names::dns_label(request));
            }
            if met.contains(&(name, request)) {
                errors.push(FieldError::duplicate(&at, format!("{name}/{request}")));
            } else if request.is_empty() {
                let parts = met.iter().filter(|(other, _)| *other == name);
                errors.extend(parts.map(|_| FieldError::duplicate(&at, name)));
            }
            met.push((name, request));
        }
        if !known.contains(&name) {
            let mut sorted = known.clone();
            sorted.sort_unstable();
            let those =
                if sorted.is_empty() { " which is empty".to_owned() } else { format!(": {}", sorted.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{those}");
            errors.push(FieldError { detail, ..FieldError::not_found(&at, name) });
        }
    }
}

/// The volumes that variables are read from: each is there, and empty at the start.
pub fn file_volumes(errors: &mut Errors, spec: &Value, field: &Path) {
    for list in CONTAINER_LISTS {
        for (i, container) in value::items(spec, list).iter().enumerate() {
            for (j, variable) in value::items(container, "env").iter().enumerate() {
                let Some(reference) = value::get(variable, "valueFrom.fileKeyRef").filter(|it| it.is_object()) else {
                    continue;
                };
                let name = value::text(reference, "volumeName");
                let volume = value::items(spec, "volumes").iter().rfind(|volume| value::text(volume, "name") == name);
                let at = || field.child(list).index(i).child("env").index(j).child("valueFrom.fileKeyRef.volumeName");
                match volume {
                    None => errors.push(FieldError::not_found(&at(), name)),
                    Some(volume) if volume.get("emptyDir").is_none_or(Value::is_null) => {
                        errors.push(FieldError::invalid(&at(), name, "referenced volume must be of type emptyDir"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

fn resize_policy(errors: &mut Errors, context: &Context<'_>, container: &Value, field: &Path) {
    let policies = value::items(container, "resizePolicy");
    for (i, policy) in policies.iter().enumerate() {
        let resource = value::text(policy, "resourceName");
        if policies.iter().take(i).any(|other| value::text(other, "resourceName") == resource) {
            errors.push(FieldError::duplicate(&field.index(i), resource));
        }
        let action = value::text(policy, "restartPolicy");
        for (text, supported) in [(resource, &["cpu", "memory"]), (action, &["NotRequired", "RestartContainer"])] {
            if text.is_empty() {
                errors.push(FieldError::required(field, ""));
            } else if !supported.contains(&text) {
                errors.push(FieldError::not_supported(field, text, supported));
            }
        }
        if value::text(context.spec, "restartPolicy") == "Never" && action != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(field, action, detail));
        }
    }
}

fn restart_rules(errors: &mut Errors, container: &Value, field: &Path) {
    let rules = value::items(container, "restartPolicyRules");
    if value::text(container, "restartPolicy").is_empty() && !rules.is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(&field.child("restartPolicy"), detail));
    }
    given_one_of(errors, container, "restartPolicy", field, &["Always", "Never", "OnFailure"]);
    let at = field.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&at, rules.len(), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        let field = at.index(i);
        let action = value::text(rule, "action");
        let actions = &["Restart", "RestartAllContainers"];
        if !actions.contains(&action) {
            errors.push(FieldError::not_supported(&field.child("action"), action, actions));
        }
        match rule.get("exitCodes").filter(|codes| codes.is_object()) {
            None => errors.push(FieldError::required(&field.child("exitCodes"), "must be specified")),
            Some(codes) => {
                let operator = value::text(codes, "operator");
                if !matches!(operator, "In" | "NotIn") {
                    let at = field.child("exitCodes.operator");
                    errors.push(FieldError::not_supported(&at, operator, &["In", "NotIn"]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::json::{Value, json};
    use crate::kinds::shared::testing::shown;
    use crate::kinds::shared::{pod_defaults, pod_validation};

    fn check(spec: Value, sentences: &[&str]) {
        let mut pod = json!({"metadata": {"name": "p", "resourceVersion": "1"}});
        pod["spec"] = spec;
        pod_defaults::pod(&mut pod);
        assert_eq!(shown(&pod_validation::pod(&pod)), sentences, "{pod}");
    }

    #[test]
    fn names_and_ports() {
        check(
            json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": ""}],
                "initContainers": [{"name": "a", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}]}),
            &[
                "spec.containers[1].image: Required value",
                "spec.containers[1].name: Duplicate value: \"a\"",
                "spec.initContainers[0].name: Duplicate value: \"a\"",
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
            ],
        );
        check(
            json!({"containers": [{"name": "a", "image": "i", "ports": [
                {"containerPort": 80, "hostPort": 80}, {"containerPort": 0, "hostPort": 80}, {"containerPort": 65536, "protocol": "X"}]}]}),
            &[
                "spec.containers[0].ports[1].containerPort: Required value",
                "spec.containers[0].ports[2].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[2].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\"",
            ],
        );
    }

    #[test]
    fn environment() {
        check(
            json!({"containers": [{"name": "a", "image": "i", "env": [
                {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}},
                {"name": "C", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "D", "valueFrom": {}},
                {"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}],
                "envFrom": [{}]}]}),
            &[
                "spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: \"status.phase\": error converting \
                 fieldPath: field label not supported: status.phase",
                "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                "spec.containers[0].env[3].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
                 `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                "spec.containers[0].env[4].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's \
                 values 1m and 1 are supported with the cpu resource",
                "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ],
        );
    }

    #[test]
    fn ephemeral_containers_are_plain() {
        check(
            json!({"containers": [{"name": "a", "image": "i"}], "ephemeralContainers": [
                {"name": "e", "image": "i", "targetContainerName": "z", "ports": [{"containerPort": 1}]}]}),
            &[
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"z\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ],
        );
    }
}
