//! What is allowed in a pod but probably not meant: warnings that clients show.
//!
//! Never refuses anything.

use super::pod_defaults::CONTAINER_LISTS;
use super::{addresses, labels, node_labels, pod_profiles, pod_scheduling, resources};
use crate::field_path::Path;
use crate::json::Value;
use crate::{meta, value};

/// Volumes that nothing mounts any more.
const VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Annotations that have no meaning any more.
const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// Resources that come in whole bytes.
const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

/// About a pod that is created.
#[must_use]
pub fn of_pod(pod: &Value) -> Vec<String> {
    of(pod, &Path::new(""), false)
}

/// About the template at `field`.
#[must_use]
pub fn of_template_at(template: &Value, field: &Path) -> Vec<String> {
    of(template, field, true)
}

fn of(object: &Value, whole: &Path, of_template: bool) -> Vec<String> {
    let mut out = Vec::new();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let field = &whole.child("spec");
    for (key, _) in labels::map(spec, "nodeSelector").into_iter().flatten() {
        if let Some(why) = node_labels::deprecated(key) {
            out.push(format!("{}: {why}", field.child("nodeSelector").key(key)));
        }
    }
    node_affinity(&mut out, spec, &field.child("affinity.nodeAffinity"));
    for (i, constraint) in value::items(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = field.child("topologySpreadConstraints").index(i);
        let key = value::text(constraint, "topologyKey");
        if let Some(why) = node_labels::deprecated(key) {
            out.push(format!("{}: {key} is {why}", at.child("topologyKey")));
        }
        if constraint.get("labelSelector").is_none_or(Value::is_null) {
            out.push(format!("{}: a null labelSelector results in matching no pod", at.child("labelSelector")));
        }
    }
    for (key, why) in ANNOTATIONS.iter().filter(|(key, _)| meta::annotation(object, key).is_some()) {
        out.push(format!("{}: {why}", whole.child("metadata.annotations").key(key)));
    }
    for (i, volume) in value::items(spec, "volumes").iter().enumerate() {
        for (name, why) in VOLUMES.iter().filter(|(name, _)| volume.get(*name).is_some_and(Value::is_object)) {
            let shown = if *name == "storageos" { "storageOS" } else { name };
            out.push(format!("{}: {why}", field.child("volumes").index(i).child(shown)));
        }
    }
    for (list, name, what) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let items = value::items(spec, list);
        for (i, item) in items.iter().enumerate() {
            let text = value::text(item, name);
            if items.iter().take(i).any(|other| value::text(other, name) == text) {
                out.push(format!("{}: duplicate {what} {text:?}", field.child(list).index(i).child(name)));
            }
        }
    }
    for (i, _) in empty_names(spec) {
        out.push(format!("{}: invalid empty name \"\"", field.child("imagePullSecrets").index(i).child("name")));
    }
    for name in BYTES {
        fraction(&mut out, spec.get("overhead"), name, &field.child("overhead"));
    }
    pod_profiles::warnings(&mut out, object, whole, of_template);
    let containers: Vec<(Path, &Value)> = CONTAINER_LISTS
        .iter()
        .flat_map(|list| value::items(spec, list).iter().enumerate().map(|(i, c)| (field.child(list).index(i), c)))
        .collect();
    for (field, container) in &containers {
        of_container(&mut out, container, field);
    }
    ports(&mut out, &containers);
    if value::int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let at = field.child("terminationGracePeriodSeconds");
        out.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    if let Some(affinity) = spec.get("affinity") {
        out.extend(pod_scheduling::affinity_warnings(affinity, &field.child("affinity")));
    }
    for (i, server) in value::items(spec, "dnsConfig.nameservers").iter().filter_map(Value::as_str).enumerate() {
        out.extend(addresses::ip_warnings(&field.child("dnsConfig.nameservers").index(i), server));
    }
    for (i, alias) in value::items(spec, "hostAliases").iter().enumerate() {
        out.extend(addresses::ip_warnings(&field.child("hostAliases").index(i).child("ip"), value::text(alias, "ip")));
    }
    out
}

fn empty_names(spec: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value::items(spec, "imagePullSecrets")
        .iter()
        .enumerate()
        .filter(|(_, secret)| value::text(secret, "name").is_empty())
}

fn node_affinity(out: &mut Vec<String>, spec: &Value, field: &Path) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let of = |path: &str| value::items(spec, &format!("affinity.nodeAffinity.{path}")).iter().enumerate();
    for (i, term) in of(REQUIRED) {
        out.extend(node_labels::warnings_of_term(term, &field.child(REQUIRED).index(i)));
    }
    for (i, term) in of(PREFERRED) {
        let at = field.child(PREFERRED).index(i).child("preference");
        out.extend(term.get("preference").into_iter().flat_map(|term| node_labels::warnings_of_term(term, &at)));
    }
}

fn fraction(out: &mut Vec<String>, amounts: Option<&Value>, name: &str, field: &Path) {
    let amount = amounts.and_then(|amounts| amounts.get(name));
    if let Some(amount) = amount.filter(|amount| resources::nanos(amount).is_some_and(|n| n % 1_000_000_000 != 0)) {
        let shown = amount.as_str().unwrap_or_default();
        out.push(format!("{}: fractional byte value {shown:?} is invalid, must be an integer", field.key(name)));
    }
}

fn of_container(out: &mut Vec<String>, container: &Value, field: &Path) {
    for name in BYTES {
        for side in ["limits", "requests"] {
            let at = field.child("resources").child(side);
            fraction(out, value::get(container, &format!("resources.{side}")), name, &at);
        }
    }
    let variables = value::items(container, "env");
    for (i, variable) in variables.iter().enumerate() {
        let name = value::text(variable, "name");
        let reference = format!("$({name})");
        let text = value::text(variable, "value");
        let hides = variable.get("valueFrom").is_some() || text == reference || !text.contains(&reference);
        if hides && variables.iter().take(i).any(|other| value::text(other, "name") == name) {
            let at = field.child("env").index(i);
            out.push(format!("{at}: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

fn ports(out: &mut Vec<String>, containers: &[(Path, &Value)]) {
    let all: Vec<(Path, &Value)> = containers
        .iter()
        .flat_map(|(field, c)| {
            value::items(c, "ports").iter().enumerate().map(|(i, p)| (field.child("ports").index(i), p))
        })
        .collect();
    let key = |port: &Value| (value::int(port, "containerPort"), value::text(port, "protocol").to_owned());
    let host = |port: &Value| value::int(port, "hostPort").unwrap_or_default();
    for (i, (field, port)) in all.iter().enumerate() {
        let address = value::text(port, "hostIP");
        if !address.is_empty() && host(port) == 0 {
            let number = value::int(port, "containerPort").unwrap_or_default();
            let (name, protocol) = (value::text(port, "name"), value::text(port, "protocol"));
            out.push(format!(
                "{field}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{number} Protocol:{protocol} \
                 HostIP:{address}}}"
            ));
        }
        for (other_field, other) in all.iter().take(i).filter(|(_, other)| key(other) == key(port)) {
            let (a, b) = (value::text(port, "hostIP"), value::text(other, "hostIP"));
            let what = if a == b && host(port) == host(other) {
                "duplicate"
            } else if host(port) == 0 || host(other) == 0 {
                "overlapping"
            } else if host(port) == host(other) && a.is_empty() != b.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            out.push(format!("{field}: {what} port definition with {other_field}"));
        }
    }
    for (i, (field, port)) in all.iter().enumerate() {
        let name = value::text(port, "name");
        let same = |(_, other): &&(Path, &Value)| value::text(other, "name") == name;
        if let (false, Some((other, _))) = (name.is_empty(), all.iter().take(i).find(same)) {
            out.push(format!(
                "{field}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
            ));
        }
    }
}

/// About the template of a workload, at its creation and when `spec` changes in what `counts`.
#[must_use]
pub fn of_template(new: &Value, old: Option<&Value>, counts: &str) -> Vec<String> {
    let changed = old.is_none_or(|old| value::get(new, counts) != value::get(old, counts));
    match value::get(new, "spec.template") {
        Some(template) if changed => of_template_at(template, &Path::new("spec.template")),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn doubtful_pods() {
        let spec = json!({"volumes": [{"name": "g", "gitRepo": {}}], "imagePullSecrets": [{"name": "a"}, {"name": "a"}],
            "containers": [
                {"ports": [{"containerPort": 80, "protocol": "TCP", "name": "x"}], "env": [{"name": "A"}, {"name": "A", "value": "$(A)1"}]},
                {"ports": [{"containerPort": 80, "protocol": "TCP", "name": "x"}], "env": [{"name": "A"}, {"name": "A"}],
                    "resources": {"limits": {"memory": "500m"}}}]});
        assert_eq!(
            of_pod(&json!({"spec": spec, "metadata": {}})),
            [
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.containers[1].resources.limits[memory]: fractional byte value \"500m\" is invalid, must be an integer",
                "spec.containers[1].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: duplicate port name \"x\" with spec.containers[0].ports[0], services and probes \
                 that select ports by name will use spec.containers[0].ports[0]",
            ]
        );
    }
}
