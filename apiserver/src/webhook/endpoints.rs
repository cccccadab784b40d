//! From a Service and its port to the address of an endpoint that is ready.
//!
//! Never opens a connection. Looks into the caches alone.

use crate::cache::{Cache, Caches};
use api::json::Value;
use api::value;
use rand::seq::IndexedRandom as _;
use std::fmt;
use std::sync::Arc;

/// Why there is no address, in upstream's words.
#[derive(Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No such Service.
    Absent(String),
    /// It has no such port.
    NoPort(String, u16),
    /// Nobody behind it is ready.
    NoEndpoint(String),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::Absent(name) => write!(f, "service {name:?} not found"),
            Unresolved::NoPort(name, port) => write!(f, "no service port {port} found for service {name:?}"),
            Unresolved::NoEndpoint(name) => write!(f, "no endpoints available for service {name:?}"),
        }
    }
}

/// An address and port of the Service's port; a random one of those that are ready.
///
/// # Errors
/// See `Unresolved`.
pub fn resolve(caches: &Caches, namespace: &str, name: &str, port: u16) -> Result<(String, u16), Unresolved> {
    let services = caches.named("services").and_then(|cache| cache.peek(namespace, name));
    let service = services.ok_or_else(|| Unresolved::Absent(name.to_owned()))?.value();
    if value::text(&service, "spec.type") == "ExternalName" {
        return Ok((value::text(&service, "spec.externalName").to_owned(), port));
    }
    let ports = value::items(&service, "spec.ports");
    let found = ports.iter().find(|found| value::int(found, "port") == Some(i64::from(port)));
    let found = found.ok_or_else(|| Unresolved::NoPort(name.to_owned(), port))?;
    let slices = caches.named("endpointslices.discovery.k8s.io");
    let all = slices.map(|slices| ready(&slices, namespace, name, value::text(found, "name"))).unwrap_or_default();
    let one = all.choose(&mut rand::rng()).ok_or_else(|| Unresolved::NoEndpoint(name.to_owned()))?;
    Ok((one.address.clone(), one.port))
}

/// One that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Of which host.
    pub address: String,
    /// Where it listens.
    pub port: u16,
    /// Namespace and name of the pod that it is said to be, if any.
    pub pod: Option<(String, String)>,
}

/// Those of a Service's port, by its name, that are ready.
#[must_use]
pub fn ready(slices: &Arc<Cache>, namespace: &str, service: &str, port: &str) -> Vec<Endpoint> {
    let slices = slices.snapshot();
    let own = slices.objects.iter().filter(|(key, entry)| {
        *key.namespace == *namespace
            && entry.labels.get("kubernetes.io/service-name").is_some_and(|label| *label == *service)
    });
    own.flat_map(|(_, entry)| of_slice(&entry.value(), port)).collect()
}

fn of_slice(slice: &Value, port: &str) -> Vec<Endpoint> {
    let ports = value::items(slice, "ports");
    let number =
        ports.iter().find(|found| value::text(found, "name") == port).and_then(|port| value::int(port, "port"));
    let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { return Vec::new() };
    let ready = |endpoint: &&Value| value::get(endpoint, "conditions.ready").and_then(Value::as_bool).unwrap_or(true);
    value::items(slice, "endpoints")
        .iter()
        .filter(ready)
        .filter_map(|endpoint| {
            let address = value::items(endpoint, "addresses").first()?.as_str()?.to_owned();
            Some(Endpoint { address, port: number, pod: pod(endpoint) })
        })
        .collect()
}

fn pod(endpoint: &Value) -> Option<(String, String)> {
    let target = value::get(endpoint, "targetRef").filter(|target| value::text(target, "kind") == "Pod")?;
    Some((value::text(target, "namespace").to_owned(), value::text(target, "name").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn ready_endpoints_of_a_port() {
        let slice = json!({"ports": [{"name": "a", "port": 1}, {"name": "", "port": 2}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"], "targetRef": {"kind": "Pod", "namespace": "n", "name": "p"}}]});
        let found = |address: &str, port, pod: Option<(&str, &str)>| Endpoint {
            address: address.to_owned(),
            port,
            pod: pod.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
        };
        assert_eq!(of_slice(&slice, "a"), [found("10.0.0.1", 1, None), found("10.0.0.3", 1, Some(("n", "p")))]);
        assert_eq!(of_slice(&slice, "").first(), Some(&found("10.0.0.1", 2, None)));
        assert_eq!(of_slice(&slice, "b"), []);
    }
}
