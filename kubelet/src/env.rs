//! The environment of a container, and `$(NAME)` expansion. Pure: everything referred to was fetched before.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use crate::downward::{self, Facts};
use crate::model;

/// ConfigMaps and Secrets of the pod's namespace by name; `None` for one that does not exist.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, Option<core::ConfigMap>>,
    /// Secrets.
    pub secrets: BTreeMap<String, Option<core::Secret>>,
}

/// Names of the ConfigMaps and Secrets that a container's environment needs.
pub fn references(container: &core::Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|item| item.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|item| item.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|item| item.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|item| item.name.clone()));
    }
    (config_maps, secrets)
}

/// Expands `$(NAME)`; `$$` is a literal `$`, an unknown name stays as written.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let after = tail.get(1..).unwrap_or_default();
        if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            rest = next;
        } else if let Some((name, next)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = next;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Environment variables that tell of the services of a namespace and of `default/kubernetes`.
pub fn service_variables(services: &[core::Service], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut chosen: BTreeMap<&str, &core::Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
        let master = home == "default" && name == "kubernetes";
        if ip.is_empty() || ip == "None" || !(master || (links && home == namespace)) {
            continue;
        }
        if home == namespace || !chosen.contains_key(name) {
            chosen.insert(name, service);
        }
    }
    for (name, service) in chosen {
        let Some(spec) = &service.spec else { continue };
        let ip = spec.cluster_ip.as_deref().unwrap_or_default();
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let prefix = name.to_uppercase().replace('-', "_");
        variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let key = format!("{prefix}_SERVICE_PORT_{}", port_name.to_uppercase().replace('-', "_"));
                variables.insert(key, port.port.to_string());
            }
        }
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
            if index == 0 {
                variables.insert(format!("{prefix}_PORT"), url.clone());
            }
            let base = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
            variables.insert(format!("{base}_PROTO"), protocol.to_lowercase());
            variables.insert(format!("{base}_PORT"), port.port.to_string());
            variables.insert(format!("{base}_ADDR"), ip.to_owned());
            variables.insert(base, url);
        }
    }
    variables
}

/// The environment of a container, in order of definition; later definitions win.
///
/// # Errors
/// A sentence for the container's `CreateContainerConfigError`.
pub fn environment(
    pod: &core::Pod,
    container: &core::Container,
    sources: &Sources,
    services: &BTreeMap<String, String>,
    facts: &Facts,
) -> Result<Vec<(String, String)>, String> {
    let mut result: Vec<(String, String)> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let namespace = model::namespace(pod);
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in env_from(from, sources, namespace)? {
            set(&mut result, &mut values, format!("{prefix}{key}"), value);
        }
    }
    let service = |name: &str| services.get(name).cloned();
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) if !value.is_empty() => {
                Some(expand(value, &|name| values.get(name).cloned().or_else(|| service(name))))
            }
            (_, Some(source)) => value_from(pod, container, source, sources, facts)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut result, &mut values, var.name.clone(), value);
        }
    }
    for (key, value) in services {
        if !values.contains_key(key) {
            result.push((key.clone(), value.clone()));
        }
    }
    Ok(result)
}

fn set(result: &mut Vec<(String, String)>, values: &mut BTreeMap<String, String>, key: String, value: String) {
    values.insert(key.clone(), value.clone());
    match result.iter_mut().find(|(name, _)| *name == key) {
        Some(slot) => slot.1 = value,
        None => result.push((key, value)),
    }
}

fn env_from(from: &core::EnvFromSource, sources: &Sources, namespace: &str) -> Result<Vec<(String, String)>, String> {
    if let Some(reference) = &from.config_map_ref {
        return match sources.config_maps.get(&reference.name).and_then(Option::as_ref) {
            Some(map) => Ok(map.data.clone().unwrap_or_default().into_iter().collect()),
            None if reference.optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("configmap {:?} not found", reference.name)),
        };
    }
    if let Some(reference) = &from.secret_ref {
        return match sources.secrets.get(&reference.name).and_then(Option::as_ref) {
            Some(secret) => {
                let data = secret.data.iter().flatten();
                Ok(data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect())
            }
            None if reference.optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("secret {:?} not found", reference.name)),
        };
    }
    Err(format!("envFrom of a pod in namespace {namespace} names neither a configMap nor a secret"))
}

fn value_from(
    pod: &core::Pod,
    container: &core::Container,
    source: &core::EnvVarSource,
    sources: &Sources,
    facts: &Facts,
) -> Result<Option<String>, String> {
    let namespace = model::namespace(pod);
    if let Some(reference) = &source.field_ref {
        return downward::field(pod, &reference.field_path, facts).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return downward::resource(pod, Some(container), reference, facts).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = sources.config_maps.get(&reference.name).and_then(Option::as_ref) else {
            return if optional { Ok(None) } else { Err(format!("configmap {:?} not found", reference.name)) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name)),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = sources.secrets.get(&reference.name).and_then(Option::as_ref) else {
            return if optional { Ok(None) } else { Err(format!("secret {:?} not found", reference.name)) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name)),
        };
    }
    Err("environment variable source is not supported by this node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expansion() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        let cases = [
            ("$(A)", "1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("x$(A)y$", "x1y$"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
            ("", ""),
            ("ü$(A)ü", "ü1ü"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    fn pod(container: serde_json::Value) -> (core::Pod, core::Container) {
        let mut value = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {}});
        value["spec"]["containers"] = serde_json::Value::Array(vec![container]);
        let pod: core::Pod = serde_json::from_value(value).unwrap();
        let container = model::app_containers(&pod)[0].clone();
        (pod, container)
    }

    fn sources() -> Sources {
        let map = serde_json::from_value(json!({"data": {"k": "v", "other": "o"}})).unwrap();
        let secret = serde_json::from_value(json!({"data": {"s": "c2VjcmV0"}})).unwrap();
        Sources {
            config_maps: BTreeMap::from([("m".to_owned(), Some(map)), ("none".to_owned(), None)]),
            secrets: BTreeMap::from([("s".to_owned(), Some(secret))]),
        }
    }

    #[test]
    fn definitions_in_order_and_by_source() {
        let (pod, container) = pod(json!({"name": "c",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "gone", "optional": true}}],
        "env": [
            {"name": "A", "value": "a"},
            {"name": "B", "value": "$(A)-$(P_k)-$(NOPE)-$(S_SERVICE_HOST)"},
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "s"}}},
            {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": true}}},
            {"name": "A", "value": "again"}
        ]}));
        let services = BTreeMap::from([("S_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned())]);
        let env = environment(&pod, &container, &sources(), &services, &Facts::default()).unwrap();
        let expected = [
            ("P_k", "v"),
            ("P_other", "o"),
            ("A", "again"),
            ("B", "a-v-$(NOPE)-10.0.0.1"),
            ("N", "p"),
            ("K", "secret"),
            ("S_SERVICE_HOST", "10.0.0.1"),
        ];
        let env: Vec<(&str, &str)> = env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(env, expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (json!({"configMapKeyRef": {"name": "none", "key": "x"}}), "configmap \"none\" not found"),
            (json!({"configMapKeyRef": {"name": "m", "key": "x"}}), "couldn't find key x in ConfigMap ns/m"),
            (json!({"secretKeyRef": {"name": "s", "key": "x"}}), "couldn't find key x in Secret ns/s"),
            (json!({"secretKeyRef": {"name": "t", "key": "x"}}), "secret \"t\" not found"),
        ];
        for (source, expected) in cases {
            let (pod, container) = pod(json!({"name": "c", "env": [{"name": "X", "valueFrom": source}]}));
            let result = environment(&pod, &container, &sources(), &BTreeMap::new(), &Facts::default());
            assert_eq!(result, Err(expected.to_owned()));
        }
    }

    #[test]
    fn services_of_the_namespace_and_the_api() {
        let service = |namespace: &str, name: &str, ip: &str| -> core::Service {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": ip, "ports": [{"name": "http-x", "port": 80}]}}))
            .unwrap()
        };
        let services = [
            service("default", "kubernetes", "10.0.0.1"),
            service("ns", "my-web", "10.0.0.2"),
            service("ns", "headless", "None"),
            service("other", "hidden", "10.0.0.3"),
        ];
        let variables = service_variables(&services, "ns", true);
        assert_eq!(variables.get("MY_WEB_SERVICE_PORT_HTTP_X").map(String::as_str), Some("80"));
        assert_eq!(variables.get("MY_WEB_PORT_80_TCP").map(String::as_str), Some("tcp://10.0.0.2:80"));
        assert_eq!(variables.get("KUBERNETES_SERVICE_HOST").map(String::as_str), Some("10.0.0.1"));
        assert!(!variables.keys().any(|key| key.starts_with("HEADLESS") || key.starts_with("HIDDEN")));
        let without = service_variables(&services, "ns", false);
        assert!(!without.contains_key("MY_WEB_SERVICE_HOST") && without.contains_key("KUBERNETES_SERVICE_HOST"));
    }
}
