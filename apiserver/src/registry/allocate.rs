//! Numbers and addresses that an object holds for itself alone: cluster IPs and node ports.
//!
//! A claim is part of the object's own transaction, and so is the IPAddress of a cluster IP: two Services never share one and none
//! leaks. Never repairs: there is nothing to repair.

use super::ranges::Ranges;
use super::{Target, addresses};
use crate::answer::Failure;
use crate::road::timed::{Work, timed};
use crate::server::Server;
use api::field_path::{FieldError, Path};
use api::json::Value;
use api::kind::{Need, Pool};
use api::kinds::shared::addresses::sloppy_ip;
use api::status::Status;
use rand::Rng as _;
use std::collections::HashSet;
use std::net::IpAddr;
use storage::store::{Claim, Op, StoreError};

/// Claims for one write.
#[derive(Default)]
pub struct Claims {
    /// For the commit.
    pub claims: Vec<Claim>,
    /// Objects that come and go with what is claimed, for the commit.
    pub ops: Vec<Op>,
    /// Pools and items that were chosen by us, so that a lost race for one is tried again with others.
    chosen: HashSet<(String, String)>,
    /// Where chosen values were written.
    written: Vec<String>,
}

/// Something that another object holds.
pub struct Lost {
    /// The item.
    pub item: String,
    /// It was chosen by us, and not by the client: another one will do.
    pub chosen: bool,
}

impl Claims {
    /// What a commit failed for, where it was one of these.
    #[must_use]
    pub fn lost(&self, error: &StoreError) -> Option<Lost> {
        let (pool, item) = match error {
            StoreError::Claimed { pool, item, .. } => (pool.to_string(), item.to_string()),
            StoreError::Expectation { key, .. } if self.ops.iter().any(|op| op.key() == key) => {
                let pool = if key.name.contains(':') { Pool::ClusterIpV6 } else { Pool::ClusterIpV4 };
                (pool_name(pool), key.name.to_string())
            }
            _ => return None,
        };
        let chosen = self.chosen.contains(&(pool, item.clone()));
        Some(Lost { item, chosen })
    }

    /// Takes an item and, of an address, writes its object.
    async fn take(&mut self, server: &Server, owner: &Target, pool: &str, item: &str) -> Result<(), Failure> {
        self.claims.push(Claim::Take { pool: pool.into(), item: item.into(), owner: owner.key() });
        if let (true, Ok(ip)) = (is_address(pool), item.parse()) {
            self.ops.push(addresses::put(server, owner, ip).await?);
        }
        Ok(())
    }

    /// Gives an item back, and with an address its object.
    fn give_back(&mut self, owner: &Target, pool: &str, item: &str) {
        self.claims.push(Claim::Release { pool: pool.into(), item: item.into(), owner: owner.key() });
        self.ops.extend(object_of(pool, item));
    }
}

/// What removes the object of an item that has one.
#[must_use]
pub fn object_of(pool: &str, item: &str) -> Option<Op> {
    is_address(pool).then(|| addresses::discard(item))
}

fn is_address(pool: &str) -> bool {
    pool.starts_with("cluster-ip/")
}

/// The pool's name in the store. Node ports of all protocols are told apart; a health check port is a TCP port.
fn pool_name(pool: Pool) -> String {
    match pool {
        Pool::ClusterIpV4 => "cluster-ip/4".to_owned(),
        Pool::ClusterIpV6 => "cluster-ip/6".to_owned(),
        Pool::NodePort(protocol) => format!("node-port/{protocol}"),
        Pool::HealthCheckNodePort => "node-port/TCP".to_owned(),
    }
}

/// The names of all pools.
pub fn pools() -> impl Iterator<Item = String> {
    let ports = ["TCP", "UDP", "SCTP"].map(Pool::NodePort);
    [Pool::ClusterIpV4, Pool::ClusterIpV6].into_iter().chain(ports).map(pool_name)
}

fn held(target: &Target, object: &Value) -> HashSet<(String, String)> {
    let needs = target.kind.hooks.needs(object, None);
    needs.into_iter().filter_map(|need| Some((pool_name(need.pool), item(need.want.as_deref()?)))).collect()
}

/// An address has one name, however it is written.
fn item(want: &str) -> String {
    sloppy_ip(want).map_or_else(|| want.to_owned(), |ip| ip.to_canonical().to_string())
}

/// The cluster IPs that an object holds.
pub fn cluster_ips(target: &Target, object: &Value) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = held(target, object)
        .into_iter()
        .filter(|(pool, _)| is_address(pool))
        .filter_map(|(_, item)| item.parse().ok())
        .collect();
    out.sort_unstable();
    out
}

/// Fills in what the object needs and says what to claim; `old` keeps what it holds and gives back what it no longer
/// needs.
///
/// # Errors
/// 422 for an address outside the ranges, 500 when a pool is exhausted, those of the store.
pub async fn claim(
    server: &Server,
    target: &Target,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Claims, Failure> {
    let mut out = Claims::default();
    let needs = target.kind.hooks.needs(object, old);
    let before = old.map(|old| held(target, old)).unwrap_or_default();
    if needs.is_empty() && before.is_empty() {
        return Ok(out);
    }
    let ranges = Ranges::known(server).await;
    let mut now = HashSet::new();
    for need in needs {
        let pool = pool_name(need.pool);
        let item = match &need.want {
            Some(want) => {
                let item = item(want);
                if !before.contains(&(pool.clone(), item.clone())) {
                    allowed(server, target, object, &ranges, &need)?;
                }
                item
            }
            None => {
                let taken =
                    timed(Work::Store, server.store.claims(&pool)).await.map_err(|error| target.failure(error))?;
                let taken: HashSet<String> = taken.into_iter().map(|(item, _)| item.to_string()).collect();
                let is_free = |item: &str| {
                    let here = taken.contains(item) || now.contains(&(pool.clone(), item.to_owned()));
                    !here && (!is_address(&pool) || !addresses::is_taken(server, item))
                };
                let found = choose(server, &ranges, need.pool, is_free);
                let item = found.ok_or_else(|| exhausted(target, &need))?;
                for pointer in &need.set {
                    write(object, pointer, need.pool, &item);
                }
                out.written.extend(need.set.clone());
                out.chosen.insert((pool.clone(), item.clone()));
                item
            }
        };
        let held = (pool, item);
        if !before.contains(&held) && !now.contains(&held) {
            out.take(server, target, &held.0, &held.1).await?;
        }
        now.insert(held);
    }
    for (pool, item) in before.difference(&now) {
        out.give_back(target, pool, item);
    }
    Ok(out)
}

/// Gives back everything an object holds, when it goes.
#[must_use]
pub fn release(target: &Target, object: &Value) -> Claims {
    let mut out = Claims::default();
    for (pool, item) in held(target, object) {
        out.give_back(target, &pool, &item);
    }
    out
}

/// Takes back what `claim` chose, so that it chooses anew.
pub fn forget(object: &mut Value, claims: &Claims) {
    for pointer in &claims.written {
        if let Some(value) = object.pointer_mut(pointer) {
            *value = Value::Null;
        }
    }
}

/// 422 for something that another object holds.
#[must_use]
pub fn taken(target: &Target, object: &Value, lost: &str) -> Failure {
    let needs = target.kind.hooks.needs(object, None);
    let need = needs.iter().find(|need| need.want.as_deref().is_some_and(|want| item(want) == lost));
    let error = match need {
        Some(need) if is_address(&pool_name(need.pool)) => refused(object, need, "provided IP is already allocated"),
        Some(need) => refused(object, need, "provided port is already allocated"),
        None => FieldError::invalid(&Path::new("spec"), lost, "provided item is already allocated"),
    };
    invalid(target, error)
}

fn invalid(target: &Target, error: FieldError) -> Failure {
    Status::invalid(target.kind.group, target.kind.kind, &target.name, &vec![error]).into()
}

/// Why the item that the client named cannot be had.
fn refused(object: &Value, need: &Need, why: &str) -> FieldError {
    let want = need.want.as_deref().unwrap_or_default();
    if is_address(&pool_name(need.pool)) {
        let shown = api::value::get(object, "spec.clusterIPs").cloned().unwrap_or_default();
        return FieldError::invalid(&need.field, shown, format!("failed to allocate IP {want}: {why}"));
    }
    FieldError::invalid(&need.field, want.parse::<u64>().unwrap_or_default(), why)
}

fn allowed(server: &Server, target: &Target, object: &Value, ranges: &Ranges, need: &Need) -> Result<(), Failure> {
    let want = need.want.as_deref().unwrap_or_default();
    let (inside, why) = match need.pool {
        Pool::ClusterIpV4 | Pool::ClusterIpV6 => {
            let inside = sloppy_ip(want).is_some_and(|ip| ranges.give(ip));
            (inside, "the provided network does not match the current range".to_owned())
        }
        Pool::NodePort(_) | Pool::HealthCheckNodePort => {
            let (low, high) = server.config.node_ports;
            let inside = want.parse().is_ok_and(|port: u16| (low..=high).contains(&port));
            (inside, format!("provided port is not in the valid range. The range of valid ports is {low}-{high}"))
        }
    };
    if inside { Ok(()) } else { Err(invalid(target, refused(object, need, &why))) }
}

fn exhausted(target: &Target, need: &Need) -> Failure {
    let what = match need.pool {
        Pool::ClusterIpV4 | Pool::ClusterIpV6 => format!("serviceIP for Service {:?}", target.name),
        Pool::NodePort(_) => "nodePort".to_owned(),
        Pool::HealthCheckNodePort => "HealthCheck NodePort 0".to_owned(),
    };
    Status::internal(format!("failed to allocate a {what}: range is full")).into()
}

/// A free item, random first, then the first free one in order.
fn choose(server: &Server, ranges: &Ranges, pool: Pool, free: impl Fn(&str) -> bool) -> Option<String> {
    match pool {
        Pool::ClusterIpV4 | Pool::ClusterIpV6 => ranges.choose(pool == Pool::ClusterIpV4, free),
        Pool::NodePort(_) | Pool::HealthCheckNodePort => {
            let mut random = rand::rng();
            let (low, high) = server.config.node_ports;
            (0..64)
                .map(|_| random.random_range(low..=high).to_string())
                .find(|item| free(item))
                .or_else(|| (low..=high).map(|port| port.to_string()).find(|item| free(item)))
        }
    }
}

fn write(object: &mut Value, pointer: &str, pool: Pool, item: &str) {
    let number = !matches!(pool, Pool::ClusterIpV4 | Pool::ClusterIpV6);
    let value = if number { item.parse::<u64>().unwrap_or_default().into() } else { Value::from(item) };
    let mut at = object;
    let mut steps = pointer.split('/').skip(1).peekable();
    while let Some(step) = steps.next() {
        let last = steps.peek().is_none();
        if let (true, Ok(index)) = (at.is_array() || step == "0", step.parse::<usize>()) {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let Some(list) = at.as_array_mut() else { return };
            while list.len() <= index {
                list.push(Value::Null);
            }
            let Some(next) = list.get_mut(index) else { return };
            at = next;
        } else {
            at = api::value::map_mut(at, "").entry(step).or_insert(Value::Null);
        }
        if last {
            *at = value;
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::json;

    #[test]
    fn chosen_values_are_written_where_they_belong() {
        let mut service = json!({"spec": {"ports": [{"port": 80}]}});
        write(&mut service, "/spec/clusterIP", Pool::ClusterIpV4, "10.0.0.7");
        write(&mut service, "/spec/clusterIPs/0", Pool::ClusterIpV4, "10.0.0.7");
        write(&mut service, "/spec/ports/0/nodePort", Pool::NodePort("TCP"), "30001");
        assert_eq!(
            service,
            json!({"spec": {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": [{"port": 80, "nodePort": 30001}]}})
        );
    }

    const SERVICES: &str = "/api/v1/namespaces/default/services";
    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
    const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

    fn root() -> User {
        User::new("root", &["system:masters", AUTHENTICATED])
    }

    fn service(name: &str, ip: Option<&str>) -> Value {
        json!({"metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}})
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_address_of_a_service_has_its_object() {
        let (world, root) = (World::start(|_| {}).await, root());
        let ask = async |method: &str, path: &str, body: Value| world.ask(&root, method, path, &body).await;
        let at = |ip: &str| format!("{ADDRESSES}/{ip}");

        let (code, made) = ask("POST", SERVICES, service("a", None)).await;
        assert_eq!(code, 201, "{made}");
        let ip = made["spec"]["clusterIP"].as_str().unwrap();
        let (code, object) = ask("GET", &at(ip), Value::Null).await;
        assert_eq!(
            (code, &object["metadata"]["resourceVersion"]),
            (200, &made["metadata"]["resourceVersion"]),
            "{object}"
        );
        assert_eq!(object["spec"], json!({"parentRef": {"resource": "services", "namespace": "default", "name": "a"}}));
        assert_eq!(
            object["metadata"]["labels"],
            json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
        );
        assert!(object["metadata"]["uid"].is_string() && object["metadata"]["creationTimestamp"].is_string());
        // It goes where the Service needs it no longer, comes again, and goes with the Service.
        let path = format!("{SERVICES}/a");
        let alias = json!({"spec": {"type": "ExternalName", "externalName": "a.b"}});
        assert_eq!(ask("PATCH", &path, alias).await.0, 200);
        assert_eq!(ask("GET", &at(ip), Value::Null).await.0, 404);
        let (_, again) = ask("PATCH", &path, json!({"spec": {"type": "ClusterIP", "clusterIP": ip}})).await;
        assert_eq!(again["spec"]["clusterIP"], ip, "{again}");
        assert_eq!(ask("GET", &at(ip), Value::Null).await.0, 200);
        // Trying it is not doing it.
        assert_eq!(ask("DELETE", &format!("{path}?dryRun=All"), Value::Null).await.0, 200);
        assert_eq!(ask("GET", &at(ip), Value::Null).await.0, 200);
        assert_eq!(ask("DELETE", &path, Value::Null).await.0, 200);
        assert_eq!(ask("GET", &at(ip), Value::Null).await.0, 404);

        // An address that somebody has keeps others off, whoever made its object; without one nothing is lost.
        let mine =
            json!({"metadata": {"name": "10.96.0.77"}, "spec": {"parentRef": {"resource": "gates", "name": "g"}}});
        assert_eq!(ask("POST", ADDRESSES, mine).await.0, 201);
        let (code, refused) = ask("POST", SERVICES, service("b", Some("10.96.0.77"))).await;
        assert_eq!(code, 422, "{refused}");
        const TAKEN: &str = "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.77\"]: failed to allocate IP \
            10.96.0.77: provided IP is already allocated";
        assert_eq!(refused["message"], TAKEN);
        assert_eq!(ask("DELETE", &at("10.96.0.77"), Value::Null).await.0, 200);
        assert_eq!(ask("POST", SERVICES, service("b", Some("10.96.0.77"))).await.0, 201);
        assert_eq!(ask("POST", SERVICES, service("c", Some("10.96.0.77"))).await.0, 422);
        assert_eq!(ask("DELETE", &at("10.96.0.77"), Value::Null).await.0, 200);
        assert_eq!(ask("DELETE", &format!("{SERVICES}/b"), Value::Null).await.0, 200);
        assert_eq!(ask("POST", SERVICES, service("c", Some("10.96.0.77"))).await.0, 201);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn addresses_come_from_ranges_that_are_there() {
        let world = World::start(|config| config.service_cidrs = vec!["10.96.0.0/30".parse().unwrap()]).await;
        let root = root();
        let ask = async |method: &str, path: &str, body: Value| world.ask(&root, method, path, &body).await;
        // The Service of the API server has one of the two.
        assert_eq!(ask("POST", SERVICES, service("a", None)).await.1["spec"]["clusterIP"], "10.96.0.2");
        let (code, full) = ask("POST", SERVICES, service("b", None)).await;
        const FULL: &str = "Internal error occurred: failed to allocate a serviceIP for Service \"b\": range is full";
        assert_eq!((code, &full["message"]), (500, &FULL.into()));
        let (code, outside) = ask("POST", SERVICES, service("b", Some("10.97.0.1"))).await;
        const OUTSIDE: &str = "failed to allocate IP 10.97.0.1: the provided network does not match the current range";
        assert!(code == 422 && outside["message"].as_str().unwrap().ends_with(OUTSIDE), "{outside}");

        let range = json!({"metadata": {"name": "more", "finalizers": ["example.com/held"]}, "spec": {"cidrs": ["10.97.0.0/28"]}});
        assert_eq!(ask("POST", RANGES, range).await.0, 201);
        // A list waits for the cache, which allocation asks.
        assert_eq!(ask("GET", RANGES, Value::Null).await.1["items"].as_array().unwrap().len(), 2);
        let (code, found) = ask("POST", SERVICES, service("b", None)).await;
        assert!(code == 201 && found["spec"]["clusterIP"].as_str().unwrap().starts_with("10.97.0."), "{found}");
        assert_eq!(ask("DELETE", &format!("{RANGES}/more"), Value::Null).await.0, 200);
        ask("GET", RANGES, Value::Null).await;
        assert_eq!(ask("POST", SERVICES, service("c", None)).await.0, 500);
        // Who has an address keeps it.
        let path = format!("{SERVICES}/b");
        assert_eq!(ask("PATCH", &path, json!({"metadata": {"labels": {"a": "b"}}})).await.0, 200);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn services_have_addresses_of_two_families_where_there_are_two() {
        let nets = ["fd00::/112", "10.96.0.0/24"];
        let world = World::start(|config| config.service_cidrs = nets.map(|net| net.parse().unwrap()).to_vec()).await;
        let root = root();
        let ask = async |method: &str, path: &str, body: Value| world.ask(&root, method, path, &body).await;
        let mut wanted = service("a", None);
        api::value::set(&mut wanted, "spec.ipFamilyPolicy", "PreferDualStack");
        let (code, made) = ask("POST", SERVICES, wanted).await;
        assert_eq!((code, &made["spec"]["ipFamilies"]), (201, &json!(["IPv6", "IPv4"])), "{made}");
        for ip in made["spec"]["clusterIPs"].as_array().unwrap() {
            assert_eq!(ask("GET", &format!("{ADDRESSES}/{}", ip.as_str().unwrap()), Value::Null).await.0, 200);
        }
        let second = made["spec"]["clusterIPs"][1].as_str().unwrap();
        let path = format!("{SERVICES}/a");
        let (code, one) = ask("PATCH", &path, json!({"spec": {"ipFamilyPolicy": "SingleStack"}})).await;
        assert_eq!((code, &one["spec"]["clusterIPs"]), (200, &json!([made["spec"]["clusterIP"]])), "{one}");
        assert_eq!(ask("GET", &format!("{ADDRESSES}/{second}"), Value::Null).await.0, 404);
        // However it is written, an address is one.
        let same = made["spec"]["clusterIP"].as_str().unwrap().to_uppercase();
        let (code, refused) = ask("POST", SERVICES, service("b", Some(&same))).await;
        assert!(code == 422 && refused["message"].as_str().unwrap().ends_with("already allocated"), "{refused}");
    }
}
