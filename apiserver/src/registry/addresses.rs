//! The IPAddress objects of cluster IPs: written and removed in the transaction of the object that holds the address.
//!
//! Never chooses an address; `ranges` does.

use super::Target;
use super::ranges::family;
use super::write::{bytes, canonical, owned};
use crate::answer::Failure;
use crate::bootstrap;
use crate::server::Server;
use api::json::{Value, json};
use api::kinds::networking_v1::ip_address::KIND;
use api::value;
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

/// The label of the objects that allocation makes, and what it says.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// See `MANAGED_BY`.
pub const MANAGER: &str = "ipallocator.k8s.io";

/// The object of an address that `owner` has.
pub fn object(owner: &Target, ip: IpAddr) -> Value {
    json!({"apiVersion": KIND.api_version(), "kind": KIND.kind,
        "metadata": {"name": ip.to_string(), "labels": {
            "ipaddress.kubernetes.io/ip-family": family(ip),
            MANAGED_BY: MANAGER,
        }},
        "spec": {"parentRef": {"resource": owner.kind.plural, "namespace": owner.namespace, "name": owner.name}}})
}
