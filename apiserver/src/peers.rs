//! The servers over one store, as those inside the cluster find them: Endpoints and EndpointSlice of the Service `kubernetes` hold the
//! addresses of all that live.
//!
//! Each server renews a Lease of its own in `kube-system` and takes it with it when it goes. Who has not renewed his for a while, by the
//! clock of who looks, is out, so that clocks may differ. The last address is never taken away. Source: upstream's lease reconciler.

use crate::answer::Failure;
use crate::bootstrap::{ensure, options, put};
use crate::registry::write::{self, Change, DeleteOptions};
use crate::registry::{Target, read};
use crate::road::authorized::Permit;
use crate::server::Server;
use admission::Lookup as _;
use api::json::{Value, json};
use api::kinds::coordination_v1::lease;
use api::{meta, value};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a server renews its Lease and looks at the others'.
const EVERY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(10) };
/// After so long without a renewal a server is out.
const SILENCE: Duration = if cfg!(test) { Duration::from_secs(3) } else { Duration::from_secs(15) };
/// A Lease that is met for the first time and is older than that, by clocks that may differ, is nobody's; seconds.
const STALE: i64 = 60;
/// After so long it is deleted, seconds.
const FORGOTTEN: i64 = 3600;
const NAMESPACE: &str = "kube-system";
const IDENTITY: &str = "apiserver.kubernetes.io/identity";
const NAME: &str = "kubernetes";

/// What one server knows of all.
pub(crate) struct Peers {
    /// Name of its Lease.
    own: String,
    /// Whom the Lease names.
    holder: String,
    /// Of each Lease, how it was renewed last and when that was seen; never for one that was old already.
    seen: HashMap<String, (String, Option<Instant>)>,
    going: bool,
}

/// Where others reach this server, where that is anywhere: a loopback address is for its own machine, and may not stand in Endpoints.
fn address(server: &Server) -> Option<SocketAddr> {
    let address = server.config.advertise;
    let reachable = !address.is_loopback() && !address.is_unspecified() && !server.config.service_cidrs.is_empty();
    reachable.then(|| SocketAddr::new(address, server.config.listen.port()))
}

/// The address in a Lease of a server.
fn held(lease: &Value) -> Option<IpAddr> {
    let (address, _) = value::text(lease, "spec.holderIdentity").rsplit_once('_')?;
    address.parse::<SocketAddr>().ok().map(|address| address.ip())
}

impl Peers {
    /// Makes this server one of those that are found.
    ///
    /// # Errors
    /// Those of the writes.
    pub(crate) async fn join(server: &Server, permit: &Permit) -> Result<Option<Peers>, Failure> {
        let Some(address) = address(server) else { return Ok(None) };
        let hash: String =
            Sha256::digest(address.to_string()).iter().take(13).map(|byte| format!("{byte:02x}")).collect();
        let holder = format!("{address}_{}", uuid::Uuid::new_v4());
        let mut peers = Peers { own: format!("apiserver-{hash}"), holder, seen: HashMap::new(), going: false };
        peers.turn(server, permit).await?;
        Ok(Some(peers))
    }

    /// Keeps it so until the server is asked to stop, and takes its address out then.
    pub(crate) async fn keep(mut self, server: Arc<Server>) {
        let permit = Permit::without_request("peers");
        while !self.going {
            tokio::select! {
                () = server.ends.asked.cancelled() => self.going = true,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(failure) = self.turn(&server, &permit).await {
                let status = crate::answer::status(failure);
                tracing::warn!(why = status.message, "the servers of this cluster cannot be told");
            }
        }
    }

    async fn turn(&mut self, server: &Server, permit: &Permit) -> Result<(), Failure> {
        if self.going {
            drop_lease(server, permit, &self.own).await?;
        } else {
            self.renew(server, permit).await?;
        }
        // The caches of a server that ends follow no more: waiting for them would be for ever.
        let leases = match self.going {
            true => server.list(lease::KIND.group, lease::KIND.plural, NAMESPACE).await,
            false => {
                let latest = server.list_latest(lease::KIND.group, lease::KIND.plural, NAMESPACE).await;
                latest.map_err(|refusal| refusal.0)?
            }
        };
        let leases: Vec<_> = leases.into_iter().filter(|lease| meta::label(lease, IDENTITY).is_some()).collect();
        let mut found = self.alive(&leases, Instant::now(), server.now());
        let own = server.config.advertise;
        found.retain(|one| one.is_ipv4() == own.is_ipv4());
        if !self.going || found.is_empty() {
            found.insert(own);
        }
        publish(server, permit, &found).await?;
        let old = |lease: &&Value| age(lease, server.now()).is_some_and(|age| age > FORGOTTEN) && held(lease).is_some();
        for lease in leases.iter().filter(old) {
            drop_lease(server, permit, meta::name(lease)).await?;
        }
        Ok(())
    }

    async fn renew(&self, server: &Server, permit: &Permit) -> Result<(), Failure> {
        let target = target(&self.own);
        let now = server.now_text().replace('Z', ".000000Z");
        let spec = json!({"holderIdentity": self.holder, "leaseDurationSeconds": FORGOTTEN, "renewTime": now});
        if read::find(server, permit, &target).await?.is_none() {
            let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
                "metadata": {"name": self.own, "namespace": NAMESPACE, "labels": {IDENTITY: "kube-apiserver"}}});
            return ensure(server, permit, object).await;
        }
        write::update(server, permit, &target, &options(), |old| {
            let mut object = old.cloned().unwrap_or_default();
            value::set(&mut object, "spec", spec.clone());
            Ok(Change { object, applied: false, rebased: true })
        })
        .await
        .map(drop)
    }

    /// Addresses of others that have renewed their Leases of late.
    fn alive(&mut self, leases: &[Value], now: Instant, unix: i64) -> BTreeSet<IpAddr> {
        self.seen.retain(|name, _| leases.iter().any(|lease| meta::name(lease) == name));
        let mut found = BTreeSet::new();
        for lease in leases.iter().filter(|lease| meta::name(lease) != self.own) {
            let renewed = value::text(lease, "spec.renewTime");
            let known = self.seen.get(meta::name(lease));
            let at = match known {
                Some((last, at)) if last == renewed => *at,
                Some(_) => Some(now),
                None => age(lease, unix).is_none_or(|age| age < STALE).then_some(now),
            };
            self.seen.insert(meta::name(lease).to_owned(), (renewed.to_owned(), at));
            if at.is_some_and(|at| now.duration_since(at) < SILENCE) {
                found.extend(held(lease));
            }
        }
        found
    }
}

fn target(name: &str) -> Target {
    Target { kind: &lease::KIND, namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

/// Deletes a Lease; one that is gone already is gone.
async fn drop_lease(server: &Server, permit: &Permit, name: &str) -> Result<(), Failure> {
    match write::delete(server, permit, &target(name), &DeleteOptions::default()).await {
        Err(Failure::Status(status)) if status.code == 404 => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Seconds since the last renewal.
fn age(lease: &Value, now: i64) -> Option<i64> {
    meta::seconds(value::text(lease, "spec.renewTime")).map(|at| now.saturating_sub(at))
}

/// Writes these addresses where others look for them.
async fn publish(server: &Server, permit: &Permit, found: &BTreeSet<IpAddr>) -> Result<(), Failure> {
    let ports = json!([{"name": "https", "port": server.config.listen.port(), "protocol": "TCP"}]);
    let addresses: Vec<Value> = found.iter().map(|address| json!({"ip": address.to_string()})).collect();
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": addresses, "ports": ports}]});
    put(server, permit, endpoints, "subsets").await?;
    let ready = |address: &IpAddr| json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": if server.config.advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": found.iter().map(ready).collect::<Vec<_>>(), "ports": ports});
    put(server, permit, slice, "endpoints").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;

    fn lease(name: &str, address: &str, renewed: i64) -> Value {
        json!({"metadata": {"name": name},
            "spec": {"holderIdentity": format!("{address}:6443_x"), "renewTime": meta::time(renewed)}})
    }

    #[test]
    fn who_renews_lives_whatever_his_clock_says() {
        let mut peers = Peers { own: "own".into(), holder: String::new(), seen: HashMap::new(), going: false };
        let start = Instant::now();
        let mut alive = |leases: &[Value], after: u64| -> Vec<String> {
            let at = start + Duration::from_secs(after);
            peers.alive(leases, at, 1000).iter().map(ToString::to_string).collect()
        };
        let none: [&str; 0] = [];
        let own = lease("own", "10.0.0.1", 1000);
        let (ahead, stale) = (|at| lease("ahead", "10.0.0.2", at), |at| lease("stale", "10.0.0.3", at));
        assert_eq!(alive(&[own.clone(), ahead(1500), stale(900)], 0), ["10.0.0.2"]);
        assert_eq!(alive(&[own.clone(), ahead(1500), stale(900)], 2), ["10.0.0.2"]);
        // One that was old when it was met lives when it is renewed, and one that is silent does not.
        assert_eq!(alive(&[own.clone(), ahead(1500), stale(901)], 4), ["10.0.0.3"]);
        assert_eq!(alive(&[own.clone(), ahead(1502), stale(901)], 5), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(alive(&[own, ahead(1502)], 6), ["10.0.0.2"]);
        assert_eq!(alive(&[json!({"metadata": {"name": "else"}})], 7), none);
    }

    #[tokio::test]
    async fn servers_over_one_store_are_all_found_until_they_go() {
        let store = World::store().await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let at = |last: u8| {
            move |config: &mut crate::Config| {
                config.advertise = [10, 0, 0, last].into();
                // Endpoints have a port that is one.
                let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
                config.listen = listener.local_addr().unwrap();
            }
        };
        let found = async |world: &World| -> (Vec<String>, Vec<String>) {
            let (_, endpoints) =
                world.ask(&root, "GET", "/api/v1/namespaces/default/endpoints/kubernetes", &Value::Null).await;
            let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
            let (_, slice) = world.ask(&root, "GET", path, &Value::Null).await;
            let subset = value::items(&endpoints, "subsets").first().cloned().unwrap_or_default();
            let text = |value: &Value, field: &str| value::text(value, field).to_owned();
            let addresses = value::items(&subset, "addresses").iter().map(|one| text(one, "ip")).collect();
            let of_slice = value::items(&slice, "endpoints").iter();
            let of_slice = of_slice.flat_map(|one| value::items(one, "addresses")).filter_map(Value::as_str);
            (addresses, of_slice.map(str::to_owned).collect())
        };
        let becomes = async |world: &World, wanted: &[&str]| {
            let mut last = (Vec::new(), Vec::new());
            for _ in 0..300 {
                last = found(world).await;
                if last.0 == wanted && last.1 == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            panic!("{last:?} is not {wanted:?}");
        };
        let first = World::over(&store, at(1)).await;
        becomes(&first, &["10.0.0.1"]).await;
        let second = World::over(&store, at(2)).await;
        let third = World::over(&store, at(3)).await;
        becomes(&first, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
        // Who goes says so, and the last one is not taken out.
        second.close().await;
        becomes(&first, &["10.0.0.1", "10.0.0.3"]).await;
        third.close().await;
        becomes(&first, &["10.0.0.1"]).await;
        let path =
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases?labelSelector=apiserver.kubernetes.io/identity";
        let (_, list) = first.ask(&root, "GET", path, &Value::Null).await;
        assert_eq!(value::items(&list, "items").len(), 1, "{list}");
        first.close().await;
        let beside = World::over(&store, |config| config.advertise = [127, 0, 0, 1].into()).await;
        assert_eq!(found(&beside).await.0, ["10.0.0.1"]);
        // One that ends without a word is out when it has been silent for a while.
        let silent = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "apiserver-silent", "namespace": NAMESPACE, "labels": {IDENTITY: "kube-apiserver"}},
            "spec": {"holderIdentity": "10.0.0.9:6443_x", "leaseDurationSeconds": 3600,
                "renewTime": beside.running.server().now_text().replace('Z', ".000000Z")}});
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
        assert_eq!(beside.ask(&root, "POST", path, &silent).await.0, 201);
        let again = World::over(&store, at(1)).await;
        becomes(&again, &["10.0.0.1", "10.0.0.9"]).await;
        becomes(&again, &["10.0.0.1"]).await;
    }
}
