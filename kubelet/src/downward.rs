//! Values of a pod's own fields and resources, for environment variables and downward API files. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{model, quantity};

/// What the pod object does not say.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The node's address.
    pub node_ip: String,
    /// The pod's addresses, primary first.
    pub pod_ips: Vec<String>,
    /// The node's allocatable resources: what an absent limit means.
    pub allocatable: BTreeMap<String, Quantity>,
}

fn quoted(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value))).collect();
    lines.join("\n")
}

/// A text in Go's quoted form.
fn go_quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of a field path.
///
/// # Errors
/// A sentence that names the path when it is not one that may be asked for.
pub fn field(pod: &core::Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    let metadata = &pod.metadata;
    if let Some((map, rest)) = path.split_once("['")
        && let Some(key) = rest.strip_suffix("']")
    {
        let map = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => Some(quoted(metadata.labels.as_ref())),
        "metadata.annotations" => Some(quoted(metadata.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.hostIP" | "status.hostIPs" => Some(facts.node_ip.clone()),
        "status.podIP" => facts.pod_ips.first().cloned(),
        "status.podIPs" => Some(facts.pod_ips.join(",")),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    };
    Ok(value.unwrap_or_default())
}

/// The value of a container's resource, in units of the divisor.
///
/// # Errors
/// A sentence that names the container or resource when there is none such.
pub fn resource(
    pod: &core::Pod,
    own: Option<&core::Container>,
    selector: &core::ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let found = named.and_then(|name| model::find_container(pod, name));
    let container = match named {
        Some(name) => found.as_ref().ok_or_else(|| format!("container {name} not found"))?,
        None => own.ok_or_else(|| "no container specified".to_owned())?,
    };
    let (list, name) = selector.resource.split_once('.').unwrap_or(("", selector.resource.as_str()));
    let resources = container.resources.as_ref();
    let zero = Quantity("0".to_owned());
    let quantity = match list {
        "limits" => resources
            .and_then(|resources| resources.limits.as_ref()?.get(name))
            .or_else(|| facts.allocatable.get(name))
            .unwrap_or(&zero),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()?.get(name)).unwrap_or(&zero),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let value = quantity::divided(quantity, selector.divisor.as_ref())
        .ok_or_else(|| format!("malformed quantity {:?}", quantity.0))?;
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_resources() {
        let pod: core::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "x\"y"}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}}]},
        }))
        .unwrap();
        let facts = Facts {
            node_ip: "10.0.0.1".into(),
            pod_ips: vec!["10.1.0.2".into()],
            allocatable: BTreeMap::from([("ephemeral-storage".to_owned(), Quantity("1Gi".into()))]),
        };
        let fields = [
            ("metadata.name", Ok("p")),
            ("metadata.labels", Ok("a=\"x\\\"y\"\nb=\"2\"")),
            ("metadata.labels['b']", Ok("2")),
            ("metadata.annotations['no']", Ok("")),
            ("spec.nodeName", Ok("node")),
            ("status.podIP", Ok("10.1.0.2")),
            ("spec.containers", Err("unsupported fieldPath: spec.containers")),
        ];
        for (path, expected) in fields {
            let value = field(&pod, path, &facts);
            assert_eq!(value.as_deref().map_err(String::as_str), expected, "{path}");
        }
        let resources = [
            ("limits.cpu", None, "2"),
            ("limits.cpu", Some("1m"), "1500"),
            ("requests.cpu", Some("1m"), "250"),
            ("limits.memory", Some("1Mi"), "64"),
            ("limits.ephemeral-storage", None, "1073741824"),
            ("requests.memory", None, "0"),
        ];
        for (name, divisor, expected) in resources {
            let selector = core::ResourceFieldSelector {
                container_name: Some("c".into()),
                divisor: divisor.map(|text| Quantity(text.into())),
                resource: name.into(),
            };
            assert_eq!(resource(&pod, None, &selector, &facts).as_deref(), Ok(expected), "{name}");
        }
    }
}
