//! Numbers and addresses that an object holds for itself alone: cluster IPs and node ports.
//!
//! A claim is part of the object's own transaction, so two Services never share one and none leaks. Never repairs:
//! there is nothing to repair.

use super::Target;
use crate::answer::Failure;
use crate::road::timed::{Work, timed};
use crate::server::Server;
use api::field_path::{FieldError, Path};
use api::json::Value;
use api::kind::{Need, Pool};
use api::status::Status;
use ipnet::IpNet;
use rand::Rng as _;
use std::collections::HashSet;
use std::net::IpAddr;
use storage::store::Claim;

/// Claims for one write.
#[derive(Default)]
pub struct Claims {
    /// For the commit.
    pub claims: Vec<Claim>,
    /// Pools and items that were chosen by us, so that a lost race for one is tried again with others.
    chosen: HashSet<(String, String)>,
    /// Where chosen values were written.
    written: Vec<String>,
}

impl Claims {
    /// Whether the item was chosen by us, and not by the client.
    #[must_use]
    pub fn chose(&self, pool: &str, item: &str) -> bool {
        self.chosen.contains(&(pool.to_owned(), item.to_owned()))
    }
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
    needs.into_iter().filter_map(|need| Some((pool_name(need.pool), need.want?))).collect()
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
    let mut now = HashSet::new();
    for need in needs {
        let pool = pool_name(need.pool);
        let item = match &need.want {
            Some(want) => {
                allowed(server, target, object, &need, want)?;
                want.clone()
            }
            None => {
                let taken =
                    timed(Work::Store, server.store.claims(&pool)).await.map_err(|error| target.failure(error))?;
                let taken: HashSet<String> = taken.into_iter().map(|(item, _)| item.to_string()).collect();
                let found = choose(server, need.pool, |item| {
                    !taken.contains(item) && !now.contains(&(pool.clone(), item.to_owned()))
                });
                let item = found.ok_or_else(|| exhausted(&need))?;
                for pointer in &need.set {
                    write(object, pointer, need.pool, &item);
                }
                out.written.extend(need.set.clone());
                out.chosen.insert((pool.clone(), item.clone()));
                item
            }
        };
        if !before.contains(&(pool.clone(), item.clone())) && !now.contains(&(pool.clone(), item.clone())) {
            let (pool, item) = (pool.as_str().into(), item.as_str().into());
            out.claims.push(Claim::Take { pool, item, owner: target.key() });
        }
        now.insert((pool, item));
    }
    for (pool, item) in before.difference(&now) {
        let (pool, item) = (pool.as_str().into(), item.as_str().into());
        out.claims.push(Claim::Release { pool, item, owner: target.key() });
    }
    Ok(out)
}

/// Gives back everything an object holds, when it goes.
#[must_use]
pub fn release(target: &Target, object: &Value) -> Vec<Claim> {
    held(target, object)
        .into_iter()
        .map(|(pool, item)| Claim::Release { pool: pool.into(), item: item.into(), owner: target.key() })
        .collect()
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
pub fn taken(target: &Target, object: &Value, item: &str) -> Failure {
    let needs = target.kind.hooks.needs(object, None);
    let need = needs.into_iter().find(|need| need.want.as_deref() == Some(item));
    let port = need.as_ref().is_some_and(|need| !matches!(need.pool, Pool::ClusterIpV4 | Pool::ClusterIpV6));
    let field = need.map_or_else(|| Path::new("spec"), |need| need.field);
    let error = if port {
        FieldError::invalid(&field, item.parse::<u64>().unwrap_or_default(), "provided port is already allocated")
    } else {
        FieldError::invalid(
            &field,
            item,
            "failed to allocate IP ".to_owned() + item + ": provided IP is already allocated",
        )
    };
    Status::invalid(target.kind.group, target.kind.kind, &target.name, &vec![error]).into()
}

fn allowed(server: &Server, target: &Target, _object: &Value, need: &Need, want: &str) -> Result<(), Failure> {
    let problem = match need.pool {
        Pool::ClusterIpV4 | Pool::ClusterIpV6 => {
            let address: Option<IpAddr> = want.parse().ok();
            let inside = address.is_some_and(|ip| server.config.service_cidrs.iter().any(|net| net.contains(&ip)));
            let ranges: Vec<String> = server.config.service_cidrs.iter().map(ToString::to_string).collect();
            (!inside).then(|| {
                FieldError::invalid(
                    &need.field,
                    want,
                    format!("failed to allocate IP {want}: the provided IP ({want}) is not in the valid range. The range of valid IPs is {}", ranges.join(",")),
                )
            })
        }
        Pool::NodePort(_) | Pool::HealthCheckNodePort => {
            let port: Option<u16> = want.parse().ok();
            let (low, high) = server.config.node_ports;
            let inside = port.is_some_and(|port| (low..=high).contains(&port));
            (!inside).then(|| {
                FieldError::invalid(
                    &need.field,
                    want.parse::<u64>().unwrap_or_default(),
                    format!("provided port is not in the valid range. The range of valid ports is {low}-{high}"),
                )
            })
        }
    };
    match problem {
        None => Ok(()),
        Some(error) => Err(Status::invalid(target.kind.group, target.kind.kind, &target.name, &vec![error]).into()),
    }
}

fn exhausted(need: &Need) -> Failure {
    let what = if matches!(need.pool, Pool::ClusterIpV4 | Pool::ClusterIpV6) { "IPs" } else { "ports" };
    Status::internal(format!("failed to allocate {}: range is full of {what}", need.field)).into()
}

/// A free item, random first, then the first free one in order.
fn choose(server: &Server, pool: Pool, free: impl Fn(&str) -> bool) -> Option<String> {
    let mut random = rand::rng();
    match pool {
        Pool::ClusterIpV4 | Pool::ClusterIpV6 => {
            let four = pool == Pool::ClusterIpV4;
            let net = server.config.service_cidrs.iter().find(|net| net.addr().is_ipv4() == four)?;
            let (base, size) = range(net);
            // Upstream keeps the low end for addresses that people choose; the first one is the API server's own.
            let reserved = (size / 16).clamp(2, 257);
            let at = |offset: u128| address(four, base + offset).to_string();
            (0..64)
                .map(|_| at(random.random_range(reserved.min(size - 2)..size - 1)))
                .find(|item| free(item))
                .or_else(|| (2..(size - 1).min(1 << 20)).map(at).find(|item| free(item)))
        }
        Pool::NodePort(_) | Pool::HealthCheckNodePort => {
            let (low, high) = server.config.node_ports;
            (0..64)
                .map(|_| random.random_range(low..=high).to_string())
                .find(|item| free(item))
                .or_else(|| (low..=high).map(|port| port.to_string()).find(|item| free(item)))
        }
    }
}

/// First address as a number, and how many there are; at least four.
fn range(net: &IpNet) -> (u128, u128) {
    let (base, bits) = match net {
        IpNet::V4(net) => (u128::from(u32::from(net.network())), 32 - u32::from(net.prefix_len())),
        IpNet::V6(net) => (u128::from(net.network()), 128 - u32::from(net.prefix_len())),
    };
    (base, (1_u128 << bits.min(112)).max(4))
}

fn address(four: bool, number: u128) -> IpAddr {
    if four {
        IpAddr::from(u32::try_from(number).unwrap_or_default().to_be_bytes())
    } else {
        IpAddr::from(number.to_be_bytes())
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
mod tests {
    use super::*;
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

    #[test]
    fn ranges_count_their_addresses() {
        assert_eq!(range(&"10.0.0.0/24".parse().unwrap()), (0x0a00_0000, 256));
    }
}
