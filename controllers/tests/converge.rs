//! The controllers against the real API server over a store in memory. Nodes are played by the test: it binds pods,
//! reports them running and lets them go.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking"
)]

use std::{
    fmt::Debug,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use apiserver::{
    authn::{
        User,
        tokens::{LEGACY_ISSUER, ObjectRef, TokenSigner},
    },
    authz::bootstrap::ControllerRole,
    transport::Identity,
};
use controllers::{Options, Signer, object, pod};
use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    authentication::v1::TokenReview,
    batch::v1::Job,
    core::v1::{
        ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
        ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kube_runtime::watcher;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct World {
    admin: Client,
    stop: CancellationToken,
}

impl World {
    async fn start(options: Options) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let stop = CancellationToken::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let identity = Identity { certificates: certificate.clone(), key: key.serialize_pem() };
        let signing_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let roles = controllers::rbac::rules().into_iter().map(|(service_account, rules)| ControllerRole {
            service_account,
            rules: rules.iter().map(controllers::rbac::policy).collect(),
        });
        let key = TokenSigner::from_pem(&signing_key, LEGACY_ISSUER).unwrap();
        let sign = Signer::new(move |of| {
            let account = ObjectRef { name: of.account.to_owned(), uid: of.account_uid.to_owned() };
            key.sign(&key.legacy_claims(of.namespace, account, of.secret)).map_err(|why| why.to_string())
        });
        let config = apiserver::Config {
            controller_roles: roles.collect(),
            workers: 2,
            ..apiserver::Config::new(identity, signing_key)
        };
        let clock = Arc::new(storage::clock::SystemClock);
        let kv = storage::engines::open("sim:1").unwrap();
        let store = storage::store::Store::open(kv, clock.clone()).await.unwrap();
        let api = apiserver::start(config, store, clock, stop.clone()).await.expect("the API server starts");
        let admin = api.client(User::new("admin", &["system:masters"]), "test");
        let clients: std::collections::HashMap<String, Client> = controllers::accounts()
            .map(|name| {
                (name.to_owned(), api.client(User::service_account("kube-system", name, ""), "kube-controller-manager"))
            })
            .collect();
        let manager = api.client(User::new("system:kube-controller-manager", &[]), "kube-controller-manager");
        let client_for = move |name: &str| clients.get(name).unwrap_or(&manager).clone();
        let options = Options { cluster_ca_pem: certificate, sign: Some(sign), leader_elect: true, ..options };
        tokio::spawn(controllers::run(client_for, options, stop.clone()));
        tokio::spawn(nodes_play(admin.clone(), stop.clone()));
        Self { admin, stop }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.admin.clone(), "default")
    }

    async fn create<K>(&self, value: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(value).unwrap()).await.unwrap()
    }
}

/// Asks again until the answer holds, for twenty seconds.
async fn eventually<F, R>(what: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = Result<(), String>>,
{
    let mut last = String::new();
    let asked = tokio::time::timeout(Duration::from_secs(20), async {
        let mut every = tokio::time::interval(Duration::from_millis(25));
        loop {
            every.tick().await;
            match holds().await {
                Ok(()) => return,
                Err(now) => last = now,
            }
        }
    })
    .await;
    assert!(asked.is_ok(), "{what}: {last}");
}

fn check<T: PartialEq + Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} is not {expected:?}")) }
}

/// Binds each pod to the node that it asks for, reports it ready, and lets it go when it is deleted.
async fn nodes_play(client: Client, stop: CancellationToken) {
    let next = AtomicU32::new(1);
    let mut events = Box::pin(watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()));
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let Some(Ok(watcher::Event::Apply(one) | watcher::Event::InitApply(one))) = event else { continue };
        let api: Api<Pod> = Api::namespaced(client.clone(), object::namespace(&one.metadata));
        let name = object::name(&one.metadata);
        if pod::is_terminating(&one) {
            let _ = api.delete(name, &DeleteParams::default().grace_period(0)).await;
        } else if pod::node_of(&one).is_none() {
            let spec = serde_json::to_value(&one.spec).unwrap();
            let asked = spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0");
            let node = asked.and_then(Value::as_str).unwrap_or("n1");
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
            let bound: Result<Value, _> =
                api.create_subresource("binding", name, &PostParams::default(), &binding).await;
            bound.expect("bound");
        } else if !pod::is_ready(&one) && pod::phase(&one) == "Pending" {
            let ip = format!("10.1.0.{}", next.fetch_add(1, Ordering::Relaxed));
            let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": object::time(jiff::Timestamp::now())}]}});
            let patched = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
            if let Err(error) = patched {
                assert!(controllers::controller::is_not_found(&error), "{error}");
            }
        }
    }
}

fn web(replicas: i32) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "c", "image": "one", "ports": [{"name": "http", "containerPort": 8080}]}]}}}})
}

async fn rolled_out(world: &World, revision: &str, image: &str) {
    let (deployments, pods) = (world.api::<Deployment>(), world.api::<Pod>());
    eventually("the rollout ends", || async {
        let one = deployments.get("web").await.unwrap();
        let status = one.status.clone().unwrap_or_default();
        check(status.observed_generation, one.metadata.generation)?;
        check(object::annotation(&one.metadata, "deployment.kubernetes.io/revision"), Some(revision))?;
        let wanted = one.spec.as_ref().unwrap().replicas;
        check((status.replicas, status.updated_replicas, status.available_replicas), (wanted, wanted, wanted))?;
        let progress = status.conditions.iter().flatten().find(|one| one.type_ == "Progressing");
        check(progress.and_then(|one| one.reason.as_deref()), Some("NewReplicaSetAvailable"))?;
        let pods = pods.list(&ListParams::default().labels("app=web")).await.unwrap();
        let images: Vec<_> = pods.iter().filter_map(|one| one.spec.as_ref()?.containers[0].image.as_deref()).collect();
        check(images, vec![image; usize::try_from(wanted.unwrap()).unwrap()])
    })
    .await;
}

async fn empty<K>(api: &Api<K>, labels: &str)
where
    K: Clone + DeserializeOwned + Debug + kube::Resource,
{
    eventually("all is gone", || async {
        let list = api.list(&ListParams::default().labels(labels)).await.unwrap();
        let left: Vec<_> = list.items.iter().map(|one| one.meta().name.clone()).collect();
        check(left, Vec::new())
    })
    .await;
}

async fn namespaces_are_furnished(world: &World) {
    eventually("the account and the authority", || async {
        let account = world.api::<ServiceAccount>().get_opt("default").await.unwrap();
        let map = world.api::<ConfigMap>().get_opt("kube-root-ca.crt").await.unwrap();
        check(
            (account.is_some(), map.is_some_and(|map| map.data.unwrap()["ca.crt"].contains("CERTIFICATE"))),
            (true, true),
        )
    })
    .await;
}

async fn a_deployment_rolls_out_and_back(world: &World) {
    world
        .create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": "http"}]}}))
        .await;
    world.create::<Deployment>(web(3)).await;
    rolled_out(world, "1", "one").await;
    let deployments = world.api::<Deployment>();
    let image = |image: &str| {
        Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}))
    };
    deployments.patch("web", &PatchParams::default(), &image("two")).await.unwrap();
    rolled_out(world, "2", "two").await;
    deployments.patch("web", &PatchParams::default(), &image("one")).await.unwrap();
    rolled_out(world, "3", "one").await;
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), 2);
    deployments.patch("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 5}}))).await.unwrap();
    rolled_out(world, "3", "one").await;

    eventually("endpoints follow", || async {
        let slices = world
            .api::<EndpointSlice>()
            .list(&ListParams::default().labels("kubernetes.io/service-name=web"))
            .await
            .unwrap();
        let ready: usize = slices
            .items
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .filter(|one| one.conditions.as_ref().unwrap().ready == Some(true))
            .count();
        let older = world.api::<Endpoints>().get("web").await.map_err(|error| error.to_string())?;
        let addresses: usize =
            older.subsets.iter().flatten().map(|subset| subset.addresses.iter().flatten().count()).sum();
        check((ready, addresses), (5, 5))
    })
    .await;
    eventually("events tell of it", || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        let reasons: std::collections::BTreeSet<_> =
            events.items.iter().filter_map(|event| event.reason.clone()).collect();
        let told = ["ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete"]
            .iter()
            .all(|reason| reasons.contains(*reason));
        if told { Ok(()) } else { Err(format!("{reasons:?}")) }
    })
    .await;
}

async fn deletion_cascades_as_asked(world: &World) {
    let (deployments, sets, pods) = (world.api::<Deployment>(), world.api::<ReplicaSet>(), world.api::<Pod>());
    deployments.delete("web", &DeleteParams::orphan()).await.unwrap();
    eventually("the deployment alone goes", || async {
        check(deployments.get_opt("web").await.unwrap().is_none(), true)?;
        let sets = sets.list(&ListParams::default()).await.unwrap();
        check(
            sets.items.iter().map(|set| set.metadata.owner_references.iter().flatten().count()).collect::<Vec<_>>(),
            vec![0, 0],
        )?;
        let pods = pods.list(&ListParams::default().labels("app=web")).await.unwrap();
        check(pods.items.len(), 5)
    })
    .await;
    let mut adopter = web(5);
    adopter["metadata"]["annotations"] = json!({"again": "yes"});
    world.create::<Deployment>(adopter).await;
    eventually("its sets are adopted", || async {
        let sets = sets.list(&ListParams::default()).await.unwrap();
        check(
            sets.items.iter().map(|set| set.metadata.owner_references.iter().flatten().count()).collect::<Vec<_>>(),
            vec![1, 1],
        )
    })
    .await;
    rolled_out(world, "3", "one").await;
    deployments.delete("web", &DeleteParams::foreground()).await.unwrap();
    eventually("dependents go first", || async {
        let there = deployments.get_opt("web").await.unwrap().is_some();
        let dependents = sets.list(&ListParams::default()).await.unwrap().items.len();
        assert!(there || dependents == 0, "the deployment went before its sets");
        check((there, dependents), (false, 0))
    })
    .await;
    empty(&pods, "app=web").await;
    world.create::<Deployment>(web(2)).await;
    rolled_out(world, "1", "one").await;
    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    empty(&sets, "").await;
    empty(&pods, "app=web").await;
}

async fn node_reports(world: &World, name: &str, status: &str) {
    let nodes: Api<Node> = Api::all(world.admin.clone());
    if nodes.get_opt(name).await.unwrap().is_none() {
        let node = json!({"metadata": {"name": name}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    }
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": status,
        "lastHeartbeatTime": object::time(jiff::Timestamp::now())}]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

async fn daemons_run_on_every_node(world: &World) {
    for name in ["n1", "n2"] {
        node_reports(world, name, "True").await;
    }
    world.create::<DaemonSet>(json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}})).await;
    let sets = world.api::<DaemonSet>();
    let settled = |image: &'static str| {
        let (sets, pods) = (sets.clone(), world.api::<Pod>());
        move || {
            let (sets, pods) = (sets.clone(), pods.clone());
            async move {
                let one = sets.get("agent").await.unwrap();
                let status = one.status.clone().unwrap_or_default();
                check(status.observed_generation, one.metadata.generation)?;
                check(
                    (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available),
                    (2, Some(2), Some(2)),
                )?;
                let pods = pods.list(&ListParams::default().labels("app=agent")).await.unwrap();
                let images: Vec<_> =
                    pods.iter().filter_map(|one| one.spec.as_ref()?.containers[0].image.as_deref()).collect();
                check(images, vec![image; 2])
            }
        }
    };
    eventually("one pod on each node", settled("one")).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    eventually("the update rolls", settled("two")).await;
    let history = world.api::<ControllerRevision>();
    let revisions = history.list(&ListParams::default()).await.unwrap();
    let first = revisions.items.iter().find(|one| one.revision == 1).expect("the first revision").clone();
    // As `kubectl rollout undo` does.
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(first.data.clone().unwrap().0)).await.unwrap();
    eventually("the undo rolls", settled("one")).await;
    let revisions = history.list(&ListParams::default()).await.unwrap();
    let mut numbers: Vec<_> = revisions.items.iter().map(|one| one.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    sets.delete("agent", &DeleteParams::background()).await.unwrap();
    empty(&world.api::<Pod>(), "app=agent").await;
    empty(&history, "").await;
}

async fn a_replication_controller_keeps_its_pods(world: &World) {
    world
        .create::<ReplicationController>(json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "template": {
        "metadata": {"labels": {"app": "old"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}}))
        .await;
    let (controllers, pods) = (world.api::<ReplicationController>(), world.api::<Pod>());
    let settled = || async {
        let one = controllers.get("old").await.unwrap();
        let status = one.status.unwrap_or_default();
        check((status.observed_generation, status.replicas, status.available_replicas), (Some(1), 2, Some(2)))?;
        let owned = pods.list(&ListParams::default().labels("app=old")).await.unwrap();
        check(owned.items.iter().filter_map(|one| object::controller_of(&one.metadata)).count(), 2)
    };
    eventually("two pods are available", settled).await;
    let first = pods.list(&ListParams::default().labels("app=old")).await.unwrap().items.remove(0);
    let name = object::name(&first.metadata);
    let released = json!({"metadata": {"labels": {"app": "free"}}});
    pods.patch(name, &PatchParams::default(), &Patch::Strategic(released)).await.unwrap();
    eventually("the pod is let go", || async {
        let one = pods.get(name).await.unwrap();
        check(object::controller_of(&one.metadata).map(|owner| owner.name.clone()), None)
    })
    .await;
    eventually("another takes its place", settled).await;
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    controllers.delete("old", &DeleteParams::background()).await.unwrap();
    empty(&pods, "app=old").await;
}

/// What a quota refuses is said in the controller's status, until it asks for less.
async fn a_full_namespace_is_a_condition(world: &World) {
    let quotas = world.api::<ResourceQuota>();
    world.create::<ResourceQuota>(json!({"metadata": {"name": "full"}, "spec": {"hard": {"pods": "2"}}})).await;
    eventually("the quota counts", || async {
        let status = quotas.get("full").await.unwrap().status.unwrap_or_default();
        check(status.hard.is_some_and(|hard| hard.contains_key("pods")), true)
    })
    .await;
    world
        .create::<ReplicationController>(json!({"metadata": {"name": "big"}, "spec": {"replicas": 3, "template": {
        "metadata": {"labels": {"app": "big"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}}))
        .await;
    let controllers = world.api::<ReplicationController>();
    let failure = || async {
        let status = controllers.get("big").await.unwrap().status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        conditions.into_iter().find(|one| one.type_ == "ReplicaFailure").map(|one| one.message.unwrap_or_default())
    };
    eventually("the failure is told", || async {
        let said = failure().await.unwrap_or_default();
        if said.contains("exceeded quota: full, requested: pods=1, used: pods=2, limited: pods=2") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    let fewer = Patch::Merge(json!({"spec": {"replicas": 2}}));
    controllers.patch("big", &PatchParams::default(), &fewer).await.unwrap();
    eventually("nothing fails any more", || async { check(failure().await, None) }).await;
    controllers.delete("big", &DeleteParams::background()).await.unwrap();
    quotas.delete("full", &DeleteParams::default()).await.unwrap();
    empty(&world.api::<Pod>(), "app=big").await;
}

async fn claims_go_with_the_pods_of_a_stateful_set(world: &World) {
    let (sets, claims) = (world.api::<StatefulSet>(), world.api::<PersistentVolumeClaim>());
    world
        .create::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": {"replicas": 2, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Delete"},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]}}))
        .await;
    let owned = || async {
        let list = claims.list(&ListParams::default()).await.unwrap();
        let owner = |claim: &PersistentVolumeClaim| {
            let owner = object::controller_of(&claim.metadata).map(|owner| owner.kind.clone()).unwrap_or_default();
            format!("{} {owner}", object::name(&claim.metadata))
        };
        list.items.iter().map(owner).collect::<Vec<_>>()
    };
    eventually("each pod has its claim, and the set both", || async {
        check(owned().await, vec!["data-db-0 StatefulSet".to_owned(), "data-db-1 StatefulSet".to_owned()])
    })
    .await;
    sets.patch("db", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 1}}))).await.unwrap();
    eventually("the claim went with its pod", || async {
        check(owned().await, vec!["data-db-0 StatefulSet".to_owned()])
    })
    .await;
    sets.delete("db", &DeleteParams::background()).await.unwrap();
    empty(&claims, "").await;
    empty(&world.api::<Pod>(), "app=db").await;
}

async fn a_job_goes_after_its_end(world: &World) {
    let (jobs, pods) = (world.api::<Job>(), world.api::<Pod>());
    world
        .create::<Job>(json!({"metadata": {"name": "brief"}, "spec": {"ttlSecondsAfterFinished": 0, "template": {
        "metadata": {"labels": {"app": "brief"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]}}}}))
        .await;
    let of_job = ListParams::default().labels("app=brief");
    eventually("its pod runs", || async {
        check(pods.list(&of_job).await.unwrap().items.iter().filter(|one| pod::is_ready(one)).count(), 1)
    })
    .await;
    let name = pods.list(&of_job).await.unwrap().items.remove(0).metadata.name.unwrap();
    let ended = json!({"status": {"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "c", "image": "one", "imageID": "", "ready": false, "restartCount": 0, "state": {
            "terminated": {"exitCode": 0, "finishedAt": object::time(jiff::Timestamp::now())}}}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(ended)).await.unwrap();
    eventually("the job is gone", || async {
        let left = jobs.get_opt("brief").await.unwrap();
        check(left.map(|one| serde_json::to_string(&one).unwrap()), None)
    })
    .await;
    empty(&pods, "app=brief").await;
}

async fn a_claim_gets_a_volume_and_gives_it_back(world: &World) {
    let volumes: Api<PersistentVolume> = Api::all(world.admin.clone());
    let claims = world.api::<PersistentVolumeClaim>();
    let spec =
        json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/tmp/x"}});
    let made = json!({"metadata": {"name": "disk"}, "spec": spec});
    volumes.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
    let phase = || async { volumes.get("disk").await.unwrap().status.unwrap_or_default().phase.unwrap_or_default() };
    eventually("the volume is free", || async { check(phase().await.as_str(), "Available") }).await;
    world
        .create::<PersistentVolumeClaim>(json!({"metadata": {"name": "wish"}, "spec": {"storageClassName": "",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
        .await;
    eventually("the claim has it", || async {
        let claim = claims.get("wish").await.unwrap();
        let (spec, status) = (claim.spec.unwrap(), claim.status.unwrap_or_default());
        let capacity = status.capacity.and_then(|all| all.get("storage").map(|amount| amount.0.clone()));
        let found = (spec.volume_name, status.phase, capacity);
        check(found, (Some("disk".to_owned()), Some("Bound".to_owned()), Some("2Gi".to_owned())))?;
        check(phase().await.as_str(), "Bound")
    })
    .await;
    claims.delete("wish", &DeleteParams::default()).await.unwrap();
    eventually("the volume is given back", || async { check(phase().await.as_str(), "Released") }).await;
    volumes.delete("disk", &DeleteParams::default()).await.unwrap();
    eventually("and goes", || async { check(volumes.get_opt("disk").await.unwrap().is_none(), true) }).await;
}

async fn a_namespace_ends_with_all_it_holds(world: &World) {
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    let name = "short-lived";
    let made = json!({"metadata": {"name": name}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(world.admin.clone(), name);
    deployments.create(&PostParams::default(), &serde_json::from_value(web(3)).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(world.admin.clone(), name);
    eventually("its pods run", || async {
        check(pods.list(&ListParams::default()).await.unwrap().items.iter().filter(|one| pod::is_ready(one)).count(), 3)
    })
    .await;
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", || async {
        let left = namespaces.get_opt(name).await.unwrap();
        check(left.map(|one| serde_json::to_string(&one.status).unwrap()), None)
    })
    .await;
    let left = pods.list(&ListParams::default()).await.unwrap();
    let left: Vec<_> = left.items.iter().map(|one| serde_json::to_string(&one.metadata).unwrap()).collect();
    assert_eq!(left, Vec::<String>::new());
}

async fn a_secret_speaks_for_its_account_as_long_as_both_are(world: &World) {
    let (accounts, secrets) = (world.api::<ServiceAccount>(), world.api::<Secret>());
    let listed = json!([{"name": "kept"}, {"name": "dropped"}]);
    world.create::<ServiceAccount>(json!({"metadata": {"name": "robot"}, "secrets": listed})).await;
    for name in ["kept", "dropped"] {
        let annotations = json!({"kubernetes.io/service-account.name": "robot"});
        world
            .create::<Secret>(json!({"metadata": {"name": name, "annotations": annotations},
                "type": "kubernetes.io/service-account-token"}))
            .await;
    }
    let text = |secret: &Secret, key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8(bytes.0.clone()).unwrap()).unwrap_or_default()
    };
    eventually("the secrets have tokens", || async {
        for name in ["kept", "dropped"] {
            let secret = secrets.get(name).await.unwrap();
            check(text(&secret, "namespace").as_str(), "default")?;
            check((text(&secret, "token").is_empty(), text(&secret, "ca.crt").contains("CERTIFICATE")), (false, true))?;
        }
        Ok(())
    })
    .await;
    let token = text(&secrets.get("kept").await.unwrap(), "token");
    let reviews: Api<TokenReview> = Api::all(world.admin.clone());
    let review: TokenReview = serde_json::from_value(json!({"spec": {"token": token}})).unwrap();
    let status = reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
    assert_eq!((status.authenticated, status.error), (Some(true), None));
    assert_eq!(status.user.unwrap().username.as_deref(), Some("system:serviceaccount:default:robot"));

    secrets.delete("dropped", &DeleteParams::default()).await.unwrap();
    eventually("the account no longer lists it", || async {
        let list = accounts.get("robot").await.unwrap().secrets.unwrap_or_default();
        check(list.iter().filter_map(|one| one.name.as_deref()).collect(), vec!["kept"])
    })
    .await;
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    eventually("the token goes with its account", || async {
        check(secrets.get_opt("kept").await.unwrap().map(|secret| secret.metadata.name), None)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_world_converges() {
    let world = World::start(Options::default()).await;
    namespaces_are_furnished(&world).await;
    a_deployment_rolls_out_and_back(&world).await;
    deletion_cascades_as_asked(&world).await;
    daemons_run_on_every_node(&world).await;
    a_replication_controller_keeps_its_pods(&world).await;
    a_full_namespace_is_a_condition(&world).await;
    claims_go_with_the_pods_of_a_stateful_set(&world).await;
    a_job_goes_after_its_end(&world).await;
    a_claim_gets_a_volume_and_gives_it_back(&world).await;
    a_secret_speaks_for_its_account_as_long_as_both_are(&world).await;
    a_namespace_ends_with_all_it_holds(&world).await;
    world.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_loses_its_pods_and_comes_back() {
    let world = World::start(Options {
        node_monitor_grace_period: Duration::from_secs(1),
        node_monitor_period: Duration::from_millis(100),
        ..Options::default()
    })
    .await;
    namespaces_are_furnished(&world).await;
    let nodes: Api<Node> = Api::all(world.admin.clone());
    let taints = |node: &Node| {
        let all = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let mut all: Vec<_> = all.map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
        all.sort();
        all
    };
    node_reports(&world, "n1", "True").await;
    let tolerations = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 1}]);
    let one = json!({"metadata": {"name": "one"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "tolerations": tolerations}});
    world.create::<Pod>(one).await;
    let unreachable = ["node.kubernetes.io/unreachable:NoExecute", "node.kubernetes.io/unreachable:NoSchedule"];
    eventually("the node is unknown", || async {
        let node = nodes.get("n1").await.unwrap();
        let ready =
            node.status.iter().flat_map(|status| status.conditions.iter().flatten()).find(|one| one.type_ == "Ready");
        check(
            ready.map(|one| (one.status.as_str(), one.reason.as_deref())),
            Some(("Unknown", Some("NodeStatusUnknown"))),
        )?;
        check(taints(&node), unreachable.map(str::to_owned).to_vec())
    })
    .await;
    eventually("its pod is evicted", || async {
        check(world.api::<Pod>().get_opt("one").await.unwrap().map(|one| one.metadata.name), None)
    })
    .await;
    eventually("an event tells of it", || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        check(events.iter().any(|event| event.reason.as_deref() == Some("TaintManagerEviction")), true)
    })
    .await;
    node_reports(&world, "n1", "True").await;
    eventually("its taints go", || async { check(taints(&nodes.get("n1").await.unwrap()), Vec::new()) }).await;
    world.stop.cancel();
}
