//! Keeps EndpointSlices for Services with a selector: up to 100 endpoints each, grouped by family and ports, changed in
//! place where they can be. It never touches a slice that another manages.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};

use crate::{
    controller::{
        self, Context, Controller, EVENTS, Error, Next, Rule, is_namespace_terminating, is_not_found, message,
    },
    events::Note,
    informer::{Key, Watched},
    object,
    queue::Queue,
    service::{self, Backend, Port},
};

impl Watched for EndpointSlice {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    aliases: &["endpointslice"],
    service_account: "endpointslice-controller",
    reporter: "endpoint-slice-controller",
    watches: &["v1.Service", "v1.Pod", "v1.Node", "discovery.k8s.io/v1.EndpointSlice"],
    rules: &[
        Rule::new(&[""], &["nodes", "pods", "services"], &["get", "list", "watch"]),
        Rule::new(&[""], &["services/finalizers"], &["update"]),
        Rule::new(&["discovery.k8s.io"], &["endpointslices"], &["create", "delete", "get", "list", "update", "watch"]),
        Rule::new(&["discovery.k8s.io"], &["endpointslices/restricted"], &["create"]),
        EVENTS,
    ],
    start,
};

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGER: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
/// Endpoints in a slice at most.
const SLICE: usize = 100;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let services = context.informers.of::<Service>();
        let pods = context.informers.of::<Pod>();
        let nodes = context.informers.of::<Node>();
        let slices = context.informers.of::<EndpointSlice>();
        let queue: Arc<Queue<Key>> = Arc::default();
        service::wake_by(&services, &pods, &queue);
        slices.subscribe({
            let queue = queue.clone();
            move |change| {
                let meta = &change.object().metadata;
                if object::label(meta, MANAGER.0) == Some(MANAGER.1)
                    && let Some(name) = object::label(meta, SERVICE)
                {
                    queue.add(Key::new(object::namespace(meta), name));
                }
            }
        });
        let synced = services.synced(&context.stop).await
            && pods.synced(&context.stop).await
            && nodes.synced(&context.stop).await
            && slices.synced(&context.stop).await;
        if synced {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

#[derive(Debug, PartialEq)]
enum Write {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
}

fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        zone: backend.zone.clone(),
        target_ref: Some(backend.target.clone()),
        ..Endpoint::default()
    }
}

fn ports(of: &[Port]) -> Vec<EndpointPort> {
    let port = |one: &Port| EndpointPort {
        name: Some(one.name.clone()),
        protocol: Some(one.protocol.clone()),
        port: Some(one.port),
        app_protocol: one.app_protocol.clone(),
    };
    of.iter().map(port).collect()
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service::HEADLESS);
    if service::is_headless(service) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE.to_owned(), object::name(&service.metadata).to_owned());
    labels.insert(MANAGER.0.to_owned(), MANAGER.1.to_owned());
    labels
}

fn fresh(service: &Service, family: &str, endpoints: Vec<Endpoint>, of: &[EndpointPort]) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", object::name(&service.metadata))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![object::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(of.to_vec()),
    }
}

/// Who an endpoint is, whatever its conditions.
fn identity(one: &Endpoint) -> (Option<&str>, Option<&str>) {
    (one.target_ref.as_ref().and_then(|target| target.uid.as_deref()), one.addresses.first().map(String::as_str))
}

/// The writes that make the held slices show these backends, family by family.
fn plan(service: &Service, held: &[Arc<EndpointSlice>], by_family: &[(String, Vec<Backend>)]) -> Vec<Write> {
    let mut writes = Vec::new();
    let families: Vec<_> = by_family.iter().map(|(family, _)| family).collect();
    writes.extend(held.iter().filter(|slice| !families.contains(&&slice.address_type)).cloned().map(Write::Delete));
    for (family, backends) in by_family {
        let mut groups: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
        for backend in backends {
            groups.entry(backend.ports.clone()).or_default().push(endpoint(backend));
        }
        let mut slices: Vec<_> = held.iter().filter(|slice| slice.address_type == *family).cloned().collect();
        slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        if groups.is_empty() {
            place_none(service, family, &slices, &mut writes);
            continue;
        }
        for (of, wanted) in groups {
            let of = ports(&of);
            let (mine, others) = slices.into_iter().partition(|slice| slice.ports.as_deref().unwrap_or_default() == of);
            slices = others;
            place(service, family, &of, wanted, mine, &mut writes);
        }
        writes.extend(slices.into_iter().map(Write::Delete));
    }
    writes
}

/// Without any endpoint one empty slice stands, so that consumers know the Service has none.
fn place_none(service: &Service, family: &str, slices: &[Arc<EndpointSlice>], writes: &mut Vec<Write>) {
    let Some((first, rest)) = slices.split_first() else {
        writes.push(Write::Create(Box::new(fresh(service, family, Vec::new(), &[]))));
        return;
    };
    writes.extend(rest.iter().cloned().map(Write::Delete));
    let mut next = EndpointSlice::clone(first);
    next.endpoints = Some(Vec::new());
    next.ports = Some(Vec::new());
    update(service, first, next, writes);
}

fn update(service: &Service, held: &EndpointSlice, mut next: EndpointSlice, writes: &mut Vec<Write>) {
    next.metadata.labels = Some(labels(service));
    next.metadata.owner_references = Some(vec![object::controller_reference(service)]);
    let face = |slice: &EndpointSlice| {
        (
            slice.metadata.labels.clone(),
            slice.metadata.owner_references.clone(),
            slice.endpoints.clone().unwrap_or_default(),
            slice.ports.clone().unwrap_or_default(),
        )
    };
    if face(&next) != face(held) {
        writes.push(Write::Update(Box::new(next)));
    }
}

fn place(
    service: &Service,
    family: &str,
    of: &[EndpointPort],
    wanted: Vec<Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
    writes: &mut Vec<Write>,
) {
    let mut wanted: Vec<Option<Endpoint>> = wanted.into_iter().map(Some).collect();
    // Endpoints stay in their slice as long as they are wanted.
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let mut stays = Vec::new();
        for one in slice.endpoints.iter().flatten() {
            let slot = wanted.iter_mut().find(|slot| slot.as_ref().is_some_and(|next| identity(next) == identity(one)));
            stays.extend(slot.and_then(Option::take));
        }
        kept.push((slice, stays));
    }
    let mut rest = wanted.into_iter().flatten();
    // The fullest slices take the new ones, so that few slices change and few are needed.
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by_key(|at| kept.get(*at).map_or(0, |(_, stays)| SLICE.saturating_sub(stays.len())));
    for at in order {
        if let Some((_, stays)) = kept.get_mut(at) {
            let room = SLICE.saturating_sub(stays.len());
            stays.extend(rest.by_ref().take(room));
        }
    }
    for (slice, stays) in kept {
        if stays.is_empty() {
            writes.push(Write::Delete(slice));
            continue;
        }
        let mut next = EndpointSlice::clone(&slice);
        next.endpoints = Some(stays);
        update(service, &slice, next, writes);
    }
    let rest: Vec<_> = rest.collect();
    for chunk in rest.chunks(SLICE) {
        writes.push(Write::Create(Box::new(fresh(service, family, chunk.to_vec(), of))));
    }
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let slices = context.informers.of::<EndpointSlice>();
    let Some(service) = context.informers.of::<Service>().get(&key) else { return Ok(Next::Done) };
    let Some(selector) = service::selector_of(&service) else { return Ok(Next::Done) };
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Done);
    }
    let pods = context.informers.of::<Pod>().select(&key.namespace, &selector);
    let nodes = context.informers.of::<Node>();
    let by_family: Vec<_> = service::families(&service)
        .into_iter()
        .map(|family| {
            let backends = service::backends(&service, &pods, &family, |node| service::zone_of(&nodes, node));
            (family, backends)
        })
        .collect();
    let mine = [(SERVICE.to_owned(), key.name.clone()), (MANAGER.0.to_owned(), MANAGER.1.to_owned())];
    let mut held = slices.select(
        &key.namespace,
        &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
            match_labels: Some(mine.into()),
            match_expressions: None,
        },
    );
    held.retain(|slice| slice.metadata.deletion_timestamp.is_none());
    let api: Api<EndpointSlice> = context.api(&key.namespace);
    for write in plan(&service, &held, &by_family) {
        let outcome = match write {
            Write::Create(slice) => api.create(&PostParams::default(), &slice).await.map(Some),
            Write::Update(slice) => {
                api.replace(object::name(&slice.metadata), &PostParams::default(), &slice).await.map(Some)
            }
            Write::Delete(slice) => {
                let name = object::name(&slice.metadata);
                controller::delete(&api, name, slice.metadata.uid.as_deref()).await?;
                slices.saw_deleted(&Key::of(&slice.metadata), slice.metadata.uid.as_deref()).await;
                Ok(None)
            }
        };
        match outcome {
            Ok(Some(written)) => {
                slices.saw(&written.metadata).await;
            }
            Ok(None) => {}
            Err(error) if is_namespace_terminating(&error) || is_not_found(&error) => return Ok(Next::Done),
            Err(error) => {
                if !controller::is_conflict(&error) {
                    let text = format!("Error updating Endpoint Slices for Service {key}: {}", message(&error));
                    context.events.record(&*service, Note::warning("FailedToUpdateEndpointSlices", text));
                }
                return Err(error.into());
            }
        }
    }
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "s", "labels": {"team": "x"}},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        }))
        .unwrap()
    }

    fn pod_of(at: usize, port: i32, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{at:03}"), "namespace": "a", "uid": format!("u{at}")},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", at / 250, at % 250 + 1), "conditions": [{"type": "Ready", "status": status}]},
            }))
            .unwrap(),
        )
    }

    fn decide(held: &[Arc<EndpointSlice>], pods: &[Arc<Pod>]) -> Vec<Write> {
        let backends = service::backends(&service(), pods, "IPv4", |_| Some("z".to_owned()));
        plan(&service(), held, &[("IPv4".to_owned(), backends)])
    }

    /// Carries the writes out on the slices held.
    fn apply(held: &mut Vec<Arc<EndpointSlice>>, writes: Vec<Write>) -> Vec<&'static str> {
        let mut words = Vec::new();
        for write in writes {
            match write {
                Write::Create(mut slice) => {
                    words.push("create");
                    slice.metadata.name = Some(format!("s{}", held.len()));
                    held.push(Arc::new(*slice));
                }
                Write::Update(slice) => {
                    words.push("update");
                    let slot = held.iter_mut().find(|one| one.metadata.name == slice.metadata.name).unwrap();
                    *slot = Arc::new(*slice);
                }
                Write::Delete(slice) => {
                    words.push("delete");
                    held.retain(|one| one.metadata.name != slice.metadata.name);
                }
            }
        }
        words
    }

    fn sizes(held: &[Arc<EndpointSlice>]) -> Vec<usize> {
        held.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect()
    }

    #[test]
    fn slices_grow_shrink_and_stay_still() {
        let mut held = Vec::new();
        let pods: Vec<_> = (0..150).map(|at| pod_of(at, 8080, true)).collect();
        assert_eq!(apply(&mut held, decide(&[], &[])), ["create"], "an empty slice says that there is none");
        assert_eq!(sizes(&held), [0]);
        assert!(decide(&held, &[]).is_empty());
        let writes = decide(&held, &pods);
        apply(&mut held, writes);
        assert_eq!(sizes(&held), [100, 50]);
        assert!(decide(&held, &pods).is_empty(), "nothing changed");
        let writes = decide(&held, &pods[..149]);
        assert_eq!(apply(&mut held, writes), ["update"]);
        let writes = decide(&held, &pods[149..]);
        apply(&mut held, writes);
        assert_eq!(sizes(&held), [1]);
        let writes = decide(&held, &[]);
        assert_eq!(apply(&mut held, writes), ["update"]);
        assert_eq!(sizes(&held), [0]);
    }

    #[test]
    fn an_endpoint_shows_its_pod() {
        let mut held = Vec::new();
        apply(&mut held, decide(&[], &[pod_of(0, 8080, true), pod_of(1, 9090, false)]));
        let shown: Vec<_> = held.iter().map(|slice| serde_json::to_value(&**slice).unwrap()).collect();
        assert_eq!(shown.len(), 2, "pods with other ports need another slice");
        assert_eq!(
            shown[0]["endpoints"][0],
            json!({"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "n1", "zone": "z", "targetRef": {"kind": "Pod", "name": "p000", "namespace": "a", "uid": "u0"}})
        );
        assert_eq!(shown[0]["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
        assert_eq!(
            shown[0]["metadata"]["labels"],
            json!({"team": "x", "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
        );
        assert_eq!(shown[1]["endpoints"][0]["conditions"]["ready"], false);
        let writes = decide(&held, &[pod_of(0, 8080, false), pod_of(1, 9090, false)]);
        assert_eq!(apply(&mut held, writes), ["update"]);
    }
}
