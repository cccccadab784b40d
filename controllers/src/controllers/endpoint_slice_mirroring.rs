//! Mirrors Endpoints that somebody wrote by hand, for a Service without a selector, into EndpointSlices. It never touches
//! a slice that another manages, nor Endpoints that a controller keeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::PostParams;

use crate::{
    controller::{self, Context, Controller, EVENTS, Error, Next, Rule, is_namespace_terminating, is_not_found},
    events::Note,
    informer::Key,
    object,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "endpointslice-mirroring-controller",
    aliases: &["endpointslicemirroring"],
    service_account: "endpointslicemirroring-controller",
    reporter: "endpoint-slice-mirroring-controller",
    watches: &["v1.Endpoints", "v1.Service", "discovery.k8s.io/v1.EndpointSlice"],
    rules: &[
        Rule::new(&[""], &["endpoints", "services"], &["get", "list", "watch"]),
        Rule::new(&[""], &["services/finalizers"], &["update"]),
        Rule::new(&[""], &["endpoints/finalizers"], &["update"]),
        Rule::new(&["discovery.k8s.io"], &["endpointslices"], &["create", "delete", "get", "list", "update", "watch"]),
        Rule::new(&["discovery.k8s.io"], &["endpointslices/restricted"], &["create"]),
        EVENTS,
    ],
    start,
};

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGER: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslicemirroring-controller.k8s.io");
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints object itself.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// `--mirroring-max-endpoints-per-subset`.
const MOST: usize = 1000;

fn is_mirror(slice: &EndpointSlice) -> bool {
    object::label(&slice.metadata, MANAGER.0) == Some(MANAGER.1)
}

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let endpoints = context.informers.of::<Endpoints>();
        let services = context.informers.of::<Service>();
        let slices = context.informers.of::<EndpointSlice>();
        let queue: Arc<Queue<Key>> = Arc::default();
        endpoints.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        services.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        slices.subscribe({
            let queue = queue.clone();
            move |change| {
                let slice = change.object();
                if let Some(name) = object::label(&slice.metadata, SERVICE).filter(|_| is_mirror(slice)) {
                    queue.add(Key::new(object::namespace(&slice.metadata), name));
                }
            }
        });
        let synced = [
            endpoints.synced(&context.stop).await,
            services.synced(&context.stop).await,
            slices.synced(&context.stop).await,
        ];
        if synced == [true; 3] {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// Whether the Endpoints are somebody's own words about a Service that selects nothing.
fn mirrors(endpoints: &Endpoints, service: &Service) -> bool {
    let meta = &endpoints.metadata;
    let selects = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|all| !all.is_empty());
    object::label(meta, SKIP) != Some("true") && object::annotation(meta, LEADER).is_none() && !selects
}

/// A slice's family and ports; the latter as JSON, which has an order.
type Group = (&'static str, String);

/// Ports and endpoints by group.
type Groups = BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)>;

/// What the slices have to say, and how many addresses are none.
fn wanted(endpoints: &Endpoints) -> (Groups, usize) {
    let (mut groups, mut invalid) = (Groups::new(), 0);
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<_> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                protocol: port.protocol.clone(),
                port: Some(port.port),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let text = serde_json::to_string(&ports).unwrap_or_default();
        let ready = subset.addresses.iter().flatten().map(|one| (one, true));
        let waiting = subset.not_ready_addresses.iter().flatten().map(|one| (one, false));
        for (address, ready) in ready.chain(waiting).take(MOST) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                invalid += 1;
                continue;
            };
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let (_, all) = groups.entry((family, text.clone())).or_insert_with(|| (ports.clone(), Vec::new()));
            all.push(endpoint(address, ip, ready));
        }
    }
    (groups, invalid)
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn group_of(slice: &EndpointSlice) -> Group {
    let family = if slice.address_type == "IPv4" { "IPv4" } else { "IPv6" };
    (family, serde_json::to_string(&slice.ports.clone().unwrap_or_default()).unwrap_or_default())
}

#[derive(Debug, Default)]
struct Plan {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<Arc<EndpointSlice>>,
    invalid: usize,
}

fn plan(endpoints: &Endpoints, held: &[Arc<EndpointSlice>]) -> Plan {
    let (groups, invalid) = wanted(endpoints);
    let mut plan = Plan { invalid, ..Plan::default() };
    let mut used = BTreeSet::new();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), object::name(&endpoints.metadata).to_owned());
    labels.insert(MANAGER.0.to_owned(), MANAGER.1.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN.contains(&name.as_str()));
    let annotations = Some(annotations).filter(|all| !all.is_empty());
    for (group, (ports, all)) in groups {
        let slice = EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", object::name(&endpoints.metadata))),
                namespace: endpoints.metadata.namespace.clone(),
                labels: Some(labels.clone()),
                annotations: annotations.clone(),
                owner_references: Some(vec![object::controller_reference(endpoints)]),
                ..ObjectMeta::default()
            },
            address_type: group.0.to_owned(),
            ports: Some(ports),
            endpoints: Some(all),
        };
        let Some(old) = held.iter().find(|old| group_of(old) == group) else {
            plan.create.push(slice);
            continue;
        };
        used.insert(object::uid(&old.metadata).to_owned());
        let same = old.endpoints == slice.endpoints
            && old.metadata.labels == slice.metadata.labels
            && old.metadata.annotations.clone().filter(|all| !all.is_empty()) == slice.metadata.annotations;
        if !same {
            let (labels, annotations) = (slice.metadata.labels, slice.metadata.annotations);
            let metadata = ObjectMeta { labels, annotations, ..old.metadata.clone() };
            plan.update.push(EndpointSlice { metadata, ..slice });
        }
    }
    plan.delete = held.iter().filter(|old| !used.contains(object::uid(&old.metadata))).cloned().collect();
    plan
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let slices = context.informers.of::<EndpointSlice>();
    let mut held = slices.in_namespace(&key.namespace);
    held.retain(|slice| is_mirror(slice) && object::label(&slice.metadata, SERVICE) == Some(&key.name));
    let endpoints = context.informers.of::<Endpoints>().get(&key);
    let service = context.informers.of::<Service>().get(&key);
    let both = endpoints.zip(service).filter(|(endpoints, service)| mirrors(endpoints, service));
    let plan = match &both {
        Some((endpoints, _)) => plan(endpoints, &held),
        None => Plan { delete: held, ..Plan::default() },
    };
    if let Some((endpoints, _)) = both.filter(|_| plan.invalid > 0) {
        let text = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", plan.invalid);
        context.events.record(&*endpoints, Note::warning("InvalidIPAddress", text));
    }
    let api = context.api::<EndpointSlice>(&key.namespace);
    for slice in &plan.create {
        match api.create(&PostParams::default(), slice).await {
            Ok(made) => {
                slices.saw(&made.metadata).await;
            }
            Err(error) if is_namespace_terminating(&error) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        }
    }
    for slice in &plan.update {
        match api.replace(object::name(&slice.metadata), &PostParams::default(), slice).await {
            Ok(written) => {
                slices.saw(&written.metadata).await;
            }
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for slice in &plan.delete {
        controller::delete(&api, object::name(&slice.metadata), slice.metadata.uid.as_deref()).await?;
    }
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: impl Into<Value>) -> Endpoints {
        let subsets: Value = subsets.into();
        serde_json::from_value(json!({"metadata": {"name": "ext", "namespace": "a", "uid": "e", "labels": {"k": "v"},
            "annotations": {"note": "x", OWN[1]: "{}"}}, "subsets": subsets}))
        .unwrap()
    }

    fn made(subsets: Value) -> Vec<Arc<EndpointSlice>> {
        let mut plan = plan(&endpoints(subsets), &[]);
        for (at, slice) in plan.create.iter_mut().enumerate() {
            (slice.metadata.name, slice.metadata.uid) = (Some(format!("s{at}")), Some(at.to_string()));
        }
        plan.create.into_iter().map(Arc::new).collect()
    }

    #[test]
    fn subsets_become_slices_by_family_and_ports() {
        let subsets = json!([{"addresses": [{"ip": "10.0.0.1", "hostname": "h"}, {"ip": "fd00::1"}, {"ip": "nonsense"}],
            "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80, "protocol": "TCP"}]}]);
        let slices = made(subsets.clone());
        assert_eq!(plan(&endpoints(subsets), &slices).invalid, 1);
        let shown: Vec<_> = slices
            .iter()
            .map(|slice| {
                let all = slice.endpoints.iter().flatten();
                let words =
                    all.map(|one| (one.addresses[0].as_str(), one.conditions.as_ref().unwrap().ready == Some(true)));
                (slice.address_type.as_str(), words.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(shown, [("IPv4", vec![("10.0.0.1", true), ("10.0.0.2", false)]), ("IPv6", vec![("fd00::1", true)])]);
        let first = &slices[0].metadata;
        assert_eq!((object::label(first, SERVICE), object::label(first, "k")), (Some("ext"), Some("v")));
        assert_eq!((object::annotation(first, "note"), object::annotation(first, OWN[1])), (Some("x"), None));
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(80));
    }

    #[test]
    fn slices_follow_what_was_written() {
        let subset = |ip: &str, port: i32| json!([{"addresses": [{"ip": ip}], "ports": [{"port": port}]}]);
        let held = made(subset("10.0.0.1", 80));
        let count = |plan: &Plan| (plan.create.len(), plan.update.len(), plan.delete.len());
        assert_eq!(count(&plan(&endpoints(subset("10.0.0.1", 80)), &held)), (0, 0, 0));
        let changed = plan(&endpoints(subset("10.0.0.9", 80)), &held);
        assert_eq!((count(&changed), changed.update[0].metadata.name.as_deref()), ((0, 1, 0), Some("s0")));
        assert_eq!(count(&plan(&endpoints(subset("10.0.0.1", 81)), &held)), (1, 0, 1));
        assert_eq!(count(&plan(&endpoints(json!([])), &held)), (0, 0, 1));
    }

    #[test]
    fn only_own_words_are_mirrored() {
        let service =
            |selector: Value| -> Service { serde_json::from_value(json!({"spec": {"selector": selector}})).unwrap() };
        let plain = endpoints(json!([]));
        assert!(mirrors(&plain, &service(Value::Null)));
        assert!(!mirrors(&plain, &service(json!({"app": "x"}))));
        let mut skipped = plain.clone();
        object::put(&mut skipped.metadata.labels, SKIP, "true");
        assert!(!mirrors(&skipped, &service(Value::Null)));
    }
}
