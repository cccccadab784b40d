//! The IPAddress objects of cluster IPs: written and removed in the transaction of the object that holds the address.
//!
//! Never chooses an address; `ranges` does.

use super::Target;
use super::ranges::family;
use super::write::{bytes, canonical, owned};
use crate::answer::Failure;
use crate::bootstrap;
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Lookup as _;
use api::json::{Value, json};
use api::kinds::core_v1::service;
use api::kinds::networking_v1::ip_address::KIND;
use api::{meta, value};
use std::net::IpAddr;
use storage::store::{Expect, Key, Op};

/// Where the object of an address lies.
pub fn key(ip: &str) -> Key {
    Key::new(&KIND.group_resource(), "", ip)
}

/// Some object has this address, as far as the cache knows.
pub fn is_taken(server: &Server, ip: &str) -> bool {
    server.caches.of(&KIND).is_some_and(|cache| cache.peek("", ip).is_some())
}

/// What writes the object of an address that `owner` takes; fails where there is one.
///
/// # Errors
/// Those of encoding.
pub async fn put(server: &Server, owner: &Target, ip: IpAddr) -> Result<Op, Failure> {
    let mut object = object(owner, ip);
    value::set(&mut object, "metadata.uid", crate::uid::random());
    value::set(&mut object, "metadata.creationTimestamp", server.now_text());
    canonical(&KIND, &mut object);
    let mut object = owned(server, &KIND, &bootstrap::options(), None, object).await;
    let bytes = bytes(server, &KIND, &mut object).await?;
    Ok(Op::Put { key: key(&ip.to_string()), bytes, expect: Expect::Absent, expires: None })
}

/// What removes the object of an address that is given back, if somebody has not done so already.
pub fn discard(ip: &str) -> Op {
    Op::Discard { key: key(ip), expect: Expect::Any }
}

fn object(owner: &Target, ip: IpAddr) -> Value {
    json!({"apiVersion": KIND.api_version(), "kind": KIND.kind,
        "metadata": {"name": ip.to_string(), "labels": {
            "ipaddress.kubernetes.io/ip-family": family(ip),
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }},
        "spec": {"parentRef": {"resource": owner.kind.plural, "namespace": owner.namespace, "name": owner.name}}})
}

/// Services have the objects of their addresses, also those that were made before there were any, or whose objects somebody deleted.
///
/// # Errors
/// The first write that fails.
pub async fn repair(server: &Server, permit: &Permit) -> Result<(), Failure> {
    for held in server.list("", service::KIND.plural, "").await {
        let (namespace, name) = (meta::namespace(&held).to_owned(), meta::name(&held).to_owned());
        let owner = Target { kind: &service::KIND, namespace, name };
        for ip in super::allocate::cluster_ips(&owner, &held) {
            if !is_taken(server, &ip.to_string()) {
                bootstrap::ensure(server, permit, object(&owner, ip)).await?;
            }
        }
    }
    Ok(())
}
