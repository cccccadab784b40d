//! Keeps the older Endpoints object of each Service with a selector. It leaves Endpoints of Services without one to
//! whoever made them.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use kube::{Api, api::PostParams};

use crate::{
    controller::{
        self, Context, Controller, EVENTS, Error, Next, Rule, is_already_exists, is_namespace_terminating, is_not_found,
    },
    informer::{Key, Watched},
    object,
    queue::Queue,
    service::{self, Backend, Port},
};

impl Watched for Endpoints {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "endpoints-controller",
    aliases: &["endpoint"],
    service_account: "endpoint-controller",
    reporter: "endpoint-controller",
    watches: &["v1.Service", "v1.Pod", "v1.Endpoints"],
    rules: &[
        Rule::new(&[""], &["pods", "services"], &["get", "list", "watch"]),
        Rule::new(&[""], &["endpoints"], &["create", "delete", "get", "list", "update", "watch"]),
        Rule::new(&[""], &["endpoints/restricted"], &["create"]),
        EVENTS,
    ],
    start,
};

const MANAGER: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object at most.
const CAPACITY: usize = 1000;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let services = context.informers.of::<Service>();
        let pods = context.informers.of::<Pod>();
        let endpoints = context.informers.of::<Endpoints>();
        let queue: Arc<Queue<Key>> = Arc::default();
        service::wake_by(&services, &pods, &queue);
        endpoints.subscribe({
            let queue = queue.clone();
            move |change| queue.add(Key::of(&change.object().metadata))
        });
        let synced = services.synced(&context.stop).await
            && pods.synced(&context.stop).await
            && endpoints.synced(&context.stop).await;
        if synced {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// Groups backends by their ports; whether some had to be left out.
fn subsets(backends: &[Backend]) -> (Vec<EndpointSubset>, bool) {
    let mut shown: Vec<_> = backends.iter().filter(|one| !one.terminating).collect();
    // Where not all find room, those that serve come first.
    shown.sort_by_key(|one| !one.ready);
    let cut = shown.len() > CAPACITY;
    shown.truncate(CAPACITY);
    let mut groups: BTreeMap<&[Port], EndpointSubset> = BTreeMap::new();
    for one in shown {
        let group = groups.entry(&one.ports).or_insert_with(|| EndpointSubset {
            ports: Some(one.ports.iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
            ..EndpointSubset::default()
        });
        let list = if one.ready { &mut group.addresses } else { &mut group.not_ready_addresses };
        list.get_or_insert_default().push(EndpointAddress {
            ip: one.address.clone(),
            hostname: one.hostname.clone(),
            node_name: one.node.clone(),
            target_ref: Some(one.target.clone()),
        });
    }
    let mut all: Vec<_> = groups.into_values().collect();
    for group in &mut all {
        for list in [&mut group.addresses, &mut group.not_ready_addresses].into_iter().flatten() {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
    }
    (all, cut)
}

fn port(of: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(of.name.clone()).filter(|name| !name.is_empty()),
        protocol: Some(of.protocol.clone()),
        port: of.port,
        app_protocol: of.app_protocol.clone(),
    }
}

/// The object as it should be; `None` if it is so.
fn plan(service: &Service, held: Option<&Endpoints>, backends: &[Backend]) -> Option<Endpoints> {
    let (subsets, cut) = subsets(backends);
    let mut next = held.cloned().unwrap_or_default();
    next.metadata.name = service.metadata.name.clone();
    next.metadata.namespace = service.metadata.namespace.clone();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service::HEADLESS);
    if service::is_headless(service) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGER.0.to_owned(), MANAGER.1.to_owned());
    next.metadata.labels = Some(labels);
    if cut {
        object::put(&mut next.metadata.annotations, OVER_CAPACITY, "truncated");
    } else if let Some(annotations) = &mut next.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    let same = held.is_some_and(|held| {
        held.subsets.clone().unwrap_or_default() == subsets
            && held.metadata.labels == next.metadata.labels
            && held.metadata.annotations.clone().unwrap_or_default()
                == next.metadata.annotations.clone().unwrap_or_default()
    });
    next.subsets = Some(subsets).filter(|all| !all.is_empty());
    (!same).then_some(next)
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let api: Api<Endpoints> = context.api(&key.namespace);
    let cache = context.informers.of::<Endpoints>();
    let held = cache.get(&key);
    let Some(service) = context.informers.of::<Service>().get(&key) else {
        let mine = held.filter(|held| object::label(&held.metadata, MANAGER.0) == Some(MANAGER.1));
        if let Some(mine) = mine {
            controller::delete(&api, &key.name, mine.metadata.uid.as_deref()).await?;
            cache.saw_deleted(&key, mine.metadata.uid.as_deref()).await;
        }
        return Ok(Next::Done);
    };
    let Some(selector) = service::selector_of(&service) else { return Ok(Next::Done) };
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Done);
    }
    let pods = context.informers.of::<Pod>().select(&key.namespace, &selector);
    let family = service::families(&service).into_iter().next().unwrap_or_default();
    let backends = service::backends(&service, &pods, &family, |_| None);
    let Some(next) = plan(&service, held.as_deref(), &backends) else { return Ok(Next::Done) };
    let written = if held.is_some() {
        api.replace(&key.name, &PostParams::default(), &next).await
    } else {
        api.create(&PostParams::default(), &next).await
    };
    match written {
        Ok(written) => {
            cache.saw(&written.metadata).await;
            Ok(Next::Done)
        }
        Err(error) if is_namespace_terminating(&error) || is_not_found(&error) => Ok(Next::Done),
        Err(error) if is_already_exists(&error) => Err(Error::NotYet(format!("{key} was just created"))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn backend(address: &str, ready: bool, terminating: bool) -> Backend {
        Backend {
            address: address.to_owned(),
            ports: vec![Port { name: String::new(), protocol: "TCP".to_owned(), port: 8080, app_protocol: None }],
            ready,
            serving: ready,
            terminating,
            node: Some("n".to_owned()),
            zone: None,
            hostname: None,
            target: k8s_openapi::api::core::v1::ObjectReference::default(),
        }
    }

    #[test]
    fn ready_and_unready_addresses_stand_apart() {
        let mut service = Service::default();
        service.metadata.name = Some("web".into());
        let backends = [
            backend("10.0.0.2", true, false),
            backend("10.0.0.1", true, false),
            backend("10.0.0.3", false, false),
            backend("10.0.0.4", false, true),
        ];
        let next = plan(&service, None, &backends).unwrap();
        assert_eq!(
            serde_json::to_value(&next).unwrap()["subsets"],
            json!([{"addresses": [{"ip": "10.0.0.1", "nodeName": "n", "targetRef": {}}, {"ip": "10.0.0.2", "nodeName": "n", "targetRef": {}}],
                "notReadyAddresses": [{"ip": "10.0.0.3", "nodeName": "n", "targetRef": {}}],
                "ports": [{"port": 8080, "protocol": "TCP"}]}])
        );
        assert_eq!(plan(&service, Some(&next), &backends), None);
        let emptied = plan(&service, Some(&next), &[]).unwrap();
        assert_eq!(emptied.subsets, None);
    }

    #[test]
    fn too_many_addresses_are_cut() {
        let many: Vec<_> =
            (0..1001).map(|at| backend(&format!("10.0.{}.{}", at / 250, at % 250), true, false)).collect();
        let (all, cut) = subsets(&many);
        assert!(cut);
        assert_eq!(all[0].addresses.as_ref().unwrap().len(), 1000);
    }
}
