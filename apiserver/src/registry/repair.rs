//! Cluster IPs and their IPAddress objects agree, whatever somebody did to the objects: looked at now and then, and mended.
//!
//! Never takes an address from a Service: what only its owner can mend is told in an event.

use super::Target;
use super::addresses::{self, MANAGED_BY, MANAGER};
use super::allocate::cluster_ips;
use super::ranges::{Ranges, family};
use super::write::{self, DeleteOptions};
use crate::answer::{self, Failure};
use crate::bootstrap;
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Lookup as _;
use api::json::{Value, json};
use api::kind::Kind;
use api::kinds::core_v1::service;
use api::kinds::networking_v1::ip_address;
use api::{meta, value};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Upstream's period.
const PERIOD: Duration = Duration::from_secs(180);

/// An address without its Service may be one whose Service is on its way, for so many seconds.
const GRACE: i64 = 60;

/// Looks until the server ends. The start has looked once.
pub async fn keep(server: Arc<Server>, end: CancellationToken) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        // What writes have to say is said to nobody, and goes with the permit.
        let permit = Permit::without_request("address-repair");
        if let Err(failure) = once(&server, &permit).await {
            let status = answer::status(failure);
            tracing::warn!(error = %status.message, "cluster IPs and their objects could not be compared");
        }
    }
}

/// Services have the objects of their addresses, and no object is without a Service.
///
/// # Errors
/// The first write that fails.
pub async fn once(server: &Server, permit: &Permit) -> Result<(), Failure> {
    // In this order, an address that is given out meanwhile looks missing, and the one that comes too late is refused.
    let held = all(server, &ip_address::KIND).await?;
    let services = all(server, &service::KIND).await?;
    let ranges = Ranges::known(server).await;
    for finding in plan(&services, &held, server.now(), |ip| ranges.give(ip)) {
        if let Err(failure) = bootstrap::ensure(server, permit, event(&finding, &server.now_text())).await {
            tracing::debug!(error = %answer::status(failure).message, "an event about an address was not kept");
        }
        if let Remedy::Remove(name) | Remedy::Replace(name, _) = &finding.remedy {
            let target = Target { kind: &ip_address::KIND, namespace: String::new(), name: name.clone() };
            match write::delete(server, permit, &target, &DeleteOptions::default()).await {
                Err(Failure::Status(status)) if status.reason == "NotFound" => {}
                outcome => drop(outcome?),
            }
        }
        if let Remedy::Make(object) | Remedy::Replace(_, object) = finding.remedy {
            bootstrap::ensure(server, permit, object).await?;
        }
    }
    Ok(())
}

async fn all(server: &Server, kind: &'static Kind) -> Result<Vec<Value>, Failure> {
    server.list_latest(kind.group, kind.plural, "").await.map_err(|refusal| refusal.0.into())
}

/// What is wrong with one address.
struct Finding<'a> {
    /// The Service or the IPAddress.
    about: &'a Value,
    reason: &'static str,
    note: String,
    remedy: Remedy,
}

enum Remedy {
    Nothing,
    Make(Value),
    Remove(String),
    Replace(String, Value),
}

fn plan<'a>(services: &'a [Value], held: &'a [Value], now: i64, in_range: impl Fn(IpAddr) -> bool) -> Vec<Finding<'a>> {
    let mut out = Vec::new();
    for service in services {
        let (namespace, name) = (meta::namespace(service), meta::name(service));
        let owner = Target { kind: &service::KIND, namespace: namespace.to_owned(), name: name.to_owned() };
        for ip in cluster_ips(&owner, service) {
            let mut found = |reason, note, remedy| out.push(Finding { about: service, reason, note, remedy });
            let of = family(ip);
            if !in_range(ip) {
                let note = format!(
                    "Cluster IP [{of}]: {ip} is not within any configured Service CIDR; please recreate service"
                );
                found("ClusterIPOutOfRange", note, Remedy::Nothing);
                continue;
            }
            let wanted = addresses::object(&owner, ip);
            let Some(there) = held.iter().find(|address| meta::name(address) == ip.to_string()) else {
                let note = format!("Cluster IP [{of}]: {ip} is not allocated; repairing");
                found("ClusterIPNotAllocated", note, Remedy::Make(wanted));
                continue;
            };
            let Some((other, other_name)) = owner_of(there) else {
                found("ClusterIPNotAllocated", misled(of, ip, service), Remedy::Replace(ip.to_string(), wanted));
                continue;
            };
            if (other, other_name) != (namespace, name) {
                match find(services, other, other_name) {
                    None => {
                        let remedy = Remedy::Replace(ip.to_string(), wanted);
                        found("ClusterIPNotAllocated", misled(of, ip, service), remedy);
                        continue;
                    }
                    Some(other) if has(other, &ip.to_string()) => {
                        let note = format!(
                            "Cluster IP [{of}]:{ip} was assigned to multiple services; please recreate service"
                        );
                        found("ClusterIPAlreadyAllocated", note, Remedy::Nothing);
                        continue;
                    }
                    Some(_) => {}
                }
            }
            if !labelled(there, &wanted) {
                let note = format!("Cluster IP [{of}]: {ip} has an object with other labels; repairing");
                found("ClusterIPNotAllocated", note, Remedy::Replace(ip.to_string(), wanted));
            }
        }
    }
    out.extend(held.iter().filter_map(|address| orphan(address, services, now)));
    out
}

fn misled(of: &str, ip: IpAddr, service: &Value) -> String {
    let (namespace, name) = (meta::namespace(service), meta::name(service));
    format!("the ClusterIP [{of}]: {ip} for Service {namespace}/{name} has a wrong reference; repairing")
}

/// Namespace and name of the Service that an address refers to.
fn owner_of(address: &Value) -> Option<(&str, &str)> {
    let owner = value::get(address, "spec.parentRef")?;
    let is_service = value::text(owner, "group").is_empty() && value::text(owner, "resource") == service::KIND.plural;
    is_service.then(|| (value::text(owner, "namespace"), value::text(owner, "name")))
}

fn find<'a>(services: &'a [Value], namespace: &str, name: &str) -> Option<&'a Value> {
    services.iter().find(|service| meta::namespace(service) == namespace && meta::name(service) == name)
}

fn has(service: &Value, ip: &str) -> bool {
    value::items(service, "spec.clusterIPs").iter().any(|own| own.as_str() == Some(ip))
}

/// It has the labels that allocation gives.
fn labelled(there: &Value, wanted: &Value) -> bool {
    let of = |object| value::get(object, "metadata.labels").and_then(Value::as_object);
    let there = of(there);
    of(wanted)
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| there.and_then(|there| there.get(key)) == Some(value)))
}

/// An address that allocation gave, and that no Service has.
fn orphan<'a>(address: &'a Value, services: &[Value], now: i64) -> Option<Finding<'a>> {
    let labels = value::get(address, "metadata.labels")?;
    if labels.get(MANAGED_BY).and_then(Value::as_str) != Some(MANAGER) {
        return None;
    }
    let name = meta::name(address);
    let found = |reason, note| Some(Finding { about: address, reason, note, remedy: Remedy::Remove(name.to_owned()) });
    let Some((namespace, owner)) = owner_of(address) else {
        let note = format!("IPAddress {name} appears to have been modified, not referencing a Service: cleaning up");
        return found("IPAddressNotAllocated", note);
    };
    let made = meta::seconds(value::text(address, "metadata.creationTimestamp")).unwrap_or_default();
    match find(services, namespace, owner) {
        Some(service) if has(service, name) => None,
        _ if now - made <= GRACE => None,
        Some(_) => {
            let note = format!("IPAddress: {name} for Service {namespace}/{owner} has a wrong reference; cleaning up");
            found("IPAddressWrongReference", note)
        }
        None => {
            let note = format!("IPAddress: {name} for Service {namespace}/{owner} appears to have leaked: cleaning up");
            found("IPAddressNotAllocated", note)
        }
    }
}

/// One for each finding about an object: it is not told again while the event is kept.
fn event(finding: &Finding<'_>, now: &str) -> Value {
    const WHO: &str = "ipallocator-repair-controller";
    let about = finding.about;
    let (namespace, name) = (meta::namespace(about), meta::name(about));
    let mut hasher = DefaultHasher::new();
    (meta::uid(about), finding.reason, &finding.note).hash(&mut hasher);
    let action = if namespace.is_empty() { "IPAddressAllocation" } else { "ClusterIPAllocation" };
    let kind = if namespace.is_empty() { &ip_address::KIND } else { &service::KIND };
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": format!("{name}.{:016x}", hasher.finish()),
            "namespace": if namespace.is_empty() { "default" } else { namespace }},
        "eventTime": now, "type": "Warning", "reason": finding.reason, "note": finding.note, "action": action,
        "reportingController": WHO, "reportingInstance": WHO,
        "regarding": {"apiVersion": kind.api_version(), "kind": kind.kind, "namespace": namespace, "name": name,
            "uid": meta::uid(about), "resourceVersion": meta::resource_version(about)}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn service(name: &str, ip: &str) -> Value {
        json!({"metadata": {"namespace": "n", "name": name},
            "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"]}})
    }

    fn address(of: &str, ip: &str) -> Value {
        let owner = Target { kind: &service::KIND, namespace: "n".to_owned(), name: of.to_owned() };
        let mut made = addresses::object(&owner, ip.parse().unwrap());
        value::set(&mut made, "metadata.creationTimestamp", "1970-01-01T00:00:00Z");
        made
    }

    fn check(services: &[Value], held: &[Value], now: i64, wanted: &[(&str, &str)]) {
        let found = plan(services, held, now, |ip| ip.to_string().starts_with("10."));
        let found: Vec<_> = found
            .iter()
            .map(|finding| {
                let remedy = match &finding.remedy {
                    Remedy::Nothing => "nothing",
                    Remedy::Make(_) => "make",
                    Remedy::Remove(_) => "remove",
                    Remedy::Replace(..) => "replace",
                };
                (finding.reason, remedy)
            })
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn services_and_addresses_agree() {
        let one = service("a", "10.0.0.1");
        let own = address("a", "10.0.0.1");
        check(from_ref(&one), from_ref(&own), 1000, &[]);
        check(from_ref(&one), &[], 1000, &[("ClusterIPNotAllocated", "make")]);
        check(&[service("a", "192.0.2.1")], &[], 1000, &[("ClusterIPOutOfRange", "nothing")]);
        check(&[service("a", "None")], &[], 1000, &[]);
        let twice = [one.clone(), service("b", "10.0.0.1")];
        check(&twice, from_ref(&own), 1000, &[("ClusterIPAlreadyAllocated", "nothing")]);
        let mut foreign = own.clone();
        value::set(&mut foreign, "spec.parentRef", json!({"group": "x", "resource": "gateways", "name": "g"}));
        check(
            from_ref(&one),
            &[foreign],
            0,
            &[("ClusterIPNotAllocated", "replace"), ("IPAddressNotAllocated", "remove")],
        );
        let mut bare = own;
        value::remove(&mut bare, "metadata.labels");
        check(&[one], &[bare], 1000, &[("ClusterIPNotAllocated", "replace")]);
    }

    #[test]
    fn what_nobody_has_goes_after_a_while() {
        let own = address("a", "10.0.0.1");
        check(&[], from_ref(&own), GRACE, &[]);
        check(&[], from_ref(&own), GRACE + 1, &[("IPAddressNotAllocated", "remove")]);
        check(
            &[service("a", "10.0.0.2")],
            &[own.clone(), address("a", "10.0.0.2")],
            1000,
            &[("IPAddressWrongReference", "remove")],
        );
        let mut foreign = own;
        value::set(&mut foreign, "metadata.labels", json!({MANAGED_BY: "else"}));
        check(&[], &[foreign], 1000, &[]);
    }
}
