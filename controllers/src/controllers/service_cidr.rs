//! Says of ServiceCIDRs that they are ready, and keeps one that is deleted as long as it alone has the address of some Service
//! (finalizer `networking.k8s.io/service-cidr-finalizer`). It gives out no address; the API server does.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule, is_not_found},
    informer::{Informer, Key, Watched},
    object,
    protection::{self, Stand},
    queue::Queue,
};

impl Watched for ServiceCIDR {}
impl Watched for IPAddress {}

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long API servers may take to hear that a range is to go: one that has not heard may still give out its addresses.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) static CONTROLLER: Controller = Controller {
    name: "service-cidr-controller",
    aliases: &[],
    service_account: "service-cidrs-controller",
    reporter: "service-cidr-controller",
    watches: &["networking.k8s.io/v1.ServiceCIDR", "networking.k8s.io/v1.IPAddress"],
    rules: &[
        Rule::new(&["networking.k8s.io"], &["servicecidrs"], &["get", "list", "patch", "update", "watch"]),
        Rule::new(&["networking.k8s.io"], &["servicecidrs/finalizers"], &["patch", "update"]),
        Rule::new(&["networking.k8s.io"], &["servicecidrs/status"], &["patch", "update"]),
        Rule::new(&["networking.k8s.io"], &["ipaddresses"], &["get", "list", "watch"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let ranges = context.informers.of::<ServiceCIDR>();
        let addresses = context.informers.of::<IPAddress>();
        let queue: Arc<Queue<Key>> = Arc::default();
        ranges.subscribe({
            let (queue, ranges) = (queue.clone(), ranges.clone());
            move |change| {
                queue.add(Key::of(&change.object().metadata));
                waiting(&ranges, &queue);
            }
        });
        addresses.subscribe({
            let (queue, ranges) = (queue.clone(), ranges.clone());
            move |_| waiting(&ranges, &queue)
        });
        if ranges.synced(&context.stop).await && addresses.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, 1, reconcile).await;
        }
    }
    .boxed()
}

/// Ranges that are to go, of which there are few, may have lost what held them, or be needed again.
fn waiting(ranges: &Informer<ServiceCIDR>, queue: &Queue<Key>) {
    for range in ranges.all() {
        if protection::stand(&range.metadata, FINALIZER) == Stand::Held {
            queue.add(Key::of(&range.metadata));
        }
    }
}

fn nets(range: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).filter_map(|text| text.parse().ok())
}

/// Whether the range has this address to give.
fn has(net: IpNet, ip: IpAddr) -> bool {
    net.contains(&ip) && ip != net.network() && (net.addr().is_ipv6() || ip != net.broadcast())
}

/// Whether a Service would be left with an address that no range has.
fn is_needed<'a>(
    range: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    mut addresses: impl Iterator<Item = &'a Arc<IPAddress>>,
) -> bool {
    let others = || all.iter().filter(|other| other.metadata.name != range.metadata.name).flat_map(|other| nets(other));
    if nets(range).all(|net| others().any(|other| other.contains(&net))) {
        return false;
    }
    addresses.any(|address| {
        let ours = object::label(&address.metadata, "ipaddress.kubernetes.io/managed-by") == Some("ipallocator.k8s.io");
        let ip = object::name(&address.metadata).parse::<IpAddr>();
        ours && ip.is_ok_and(|ip| nets(range).any(|net| has(net, ip)) && !others().any(|net| has(net, ip)))
    })
}

/// What is said of a range.
fn condition(needed: bool) -> (&'static str, &'static str, &'static str) {
    const HELD: &str =
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
    if needed { ("False", "Terminating", HELD) } else { ("True", "", "Kubernetes Service CIDR is ready") }
}

fn says(range: &ServiceCIDR, (status, reason, message): (&str, &str, &str)) -> bool {
    let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let said = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    said.is_some_and(|said| said.status == status && said.reason == reason && said.message == message)
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let ranges = context.informers.of::<ServiceCIDR>();
    let Some(range) = ranges.get(&key) else { return Ok(Next::Done) };
    let stand = protection::stand(&range.metadata, FINALIZER);
    if let Some(deleted) = &range.metadata.deletion_timestamp {
        let addresses = context.informers.of::<IPAddress>().all();
        if is_needed(&range, &ranges.all(), addresses.iter()) {
            return say(&context, &range, condition(true)).await;
        }
        let left =
            GRACE.as_secs().saturating_sub(object::seconds_between(deleted.0, context.now()).max(0).unsigned_abs());
        if left > 0 {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        if stand == Stand::Held {
            protection::turn(&context.cluster_api(), &*range, FINALIZER).await?;
        }
        return Ok(Next::Done);
    }
    if stand == Stand::Bare {
        protection::turn(&context.cluster_api(), &*range, FINALIZER).await?;
    }
    say(&context, &range, condition(false)).await
}

async fn say(context: &Context, range: &ServiceCIDR, said: (&str, &str, &str)) -> Result<Next, Error> {
    if says(range, said) {
        return Ok(Next::Done);
    }
    let (status, reason, message) = said;
    let name = object::name(&range.metadata);
    let since = object::time(context.now());
    let patch: Value = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since}]}});
    let params = PatchParams::apply(CONTROLLER.name).force();
    match context.cluster_api::<ServiceCIDR>().patch_status(name, &params, &Patch::Apply(patch)).await {
        Err(gone) if is_not_found(&gone) => Ok(Next::Done),
        outcome => outcome.map(|_| Next::Done).map_err(Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidrs: &[&str]) -> Arc<ServiceCIDR> {
        let object = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_range_stays_while_it_alone_has_an_address() {
        let address = |ip: &str, manager: &str| -> Arc<IPAddress> {
            let object = json!({"metadata": {"name": ip, "labels": {"ipaddress.kubernetes.io/managed-by": manager}}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        const OURS: &str = "ipallocator.k8s.io";
        let going = range("going", &["10.1.0.0/24", "fd00::/112"]);
        for (others, ip, manager, needed) in [
            (vec![], "10.1.0.1", OURS, true),
            (vec![], "fd00::1", OURS, true),
            (vec![], "10.1.0.1", "somebody", false),
            (vec![], "10.2.0.1", OURS, false),
            (vec![], "10.1.0.0", OURS, false),
            (vec![range("a", &["10.1.0.0/25"])], "10.1.0.1", OURS, false),
            (vec![range("a", &["10.1.0.0/25"])], "10.1.0.129", OURS, true),
            (vec![range("a", &["10.1.0.0/25"])], "10.1.0.127", OURS, true),
            (vec![range("a", &["10.0.0.0/8"])], "fd00::1", OURS, true),
            (vec![range("a", &["10.0.0.0/8", "fd00::/64"])], "fd00::1", OURS, false),
        ] {
            let all: Vec<_> = others.into_iter().chain([going.clone()]).collect();
            let addresses = [address(ip, manager)];
            assert_eq!(is_needed(&going, &all, addresses.iter()), needed, "{ip} {all:?}");
        }
    }

    #[test]
    fn what_is_said_already_is_not_said_again() {
        let mut object = json!({"spec": {"cidrs": ["10.1.0.0/24"]}});
        let read = |object: &Value| serde_json::from_value::<ServiceCIDR>(object.clone()).unwrap();
        assert!(!says(&read(&object), condition(false)));
        object["status"] = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "",
            "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        assert!(says(&read(&object), condition(false)) && !says(&read(&object), condition(true)));
    }
}
