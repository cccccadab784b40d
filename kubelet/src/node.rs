//! The node's own objects: registers the Node, keeps its status true, renews its Lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cri::v1::RuntimeCondition;
use crate::events::about_node;
use crate::machine;
use crate::node_context::SharedNode;
use crate::{Config, KUBELET_VERSION};

/// How often the Lease is renewed.
const LEASE_PERIOD: Duration = Duration::from_secs(10);
/// How long the Lease holds, seconds.
const LEASE_SECONDS: i32 = 40;
/// How often the status is looked at.
const STATUS_PERIOD: Duration = Duration::from_secs(10);
/// How often an unchanged status is written.
const HEARTBEAT: i64 = 300;
/// Conflicts with other writers before a write waits for its next turn.
const CONFLICTS: u32 = 5;
/// What a node says that it can do, of what the API server and the scheduler ask for by name (KEP-5328), in order.
const FEATURES: [&str; 1] = ["InPlacePodLevelResourcesVerticalScaling"];
/// Images listed in the status.
const MOST_IMAGES: usize = 50;
/// Memory kept free before pressure is reported, bytes.
const MEMORY_RESERVE: u64 = 100 << 20;

/// What a node has, and what of it pods may use.
pub fn resources(config: &Config) -> (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>) {
    let memory = machine::memory().total;
    let disk = machine::disk(&config.root).total;
    let quantity = |text: String| Quantity(text);
    let capacity = BTreeMap::from([
        ("cpu".to_owned(), quantity(machine::cpus().to_string())),
        ("memory".to_owned(), quantity(format!("{}Ki", memory / 1024))),
        ("ephemeral-storage".to_owned(), quantity(format!("{}Ki", disk / 1024))),
        ("pods".to_owned(), quantity(config.max_pods.to_string())),
        ("hugepages-1Gi".to_owned(), quantity("0".to_owned())),
        ("hugepages-2Mi".to_owned(), quantity("0".to_owned())),
    ]);
    let mut allocatable = capacity.clone();
    let left = memory.saturating_sub(MEMORY_RESERVE);
    allocatable.insert("memory".to_owned(), quantity(format!("{}Ki", left / 1024)));
    allocatable.insert("ephemeral-storage".to_owned(), quantity((disk / 10 * 9).to_string()));
    (capacity, allocatable)
}

/// What the machine and the runtime say at one moment.
#[derive(Debug, Clone)]
pub struct Health {
    /// The runtime's conditions, or why it did not answer.
    pub runtime: Result<Vec<RuntimeCondition>, String>,
    /// Memory of the machine.
    pub memory: machine::Memory,
    /// Space where the kubelet works.
    pub disk: machine::Disk,
    /// Process ids: most and in use.
    pub pids: (u64, u64),
}

/// The sentence that says why a node is not ready, `None` when it is.
fn unready(health: &Health) -> Option<String> {
    let conditions = match &health.runtime {
        Ok(conditions) => conditions,
        Err(error) => return Some(format!("[container runtime is down, {error}]")),
    };
    let failing: Vec<String> = conditions
        .iter()
        .filter(|condition| !condition.status && matches!(condition.r#type.as_str(), "RuntimeReady" | "NetworkReady"))
        .map(|condition| {
            let what =
                if condition.r#type == "NetworkReady" { "container runtime network" } else { "container runtime" };
            format!(
                "{what} not ready: {}={} reason:{} message:{}",
                condition.r#type, condition.status, condition.reason, condition.message
            )
        })
        .collect();
    (!failing.is_empty()).then(|| failing.join(", "))
}

/// The node's conditions; times of last change are kept from `old`.
pub fn conditions(health: &Health, old: &[core::NodeCondition], now: Timestamp) -> Vec<core::NodeCondition> {
    let low_memory = health.memory.available < MEMORY_RESERVE;
    let low_disk = health.disk.total > 0 && health.disk.available < health.disk.total / 10;
    let low_pids = health.pids.0 > 0 && health.pids.1.saturating_mul(10) > health.pids.0.saturating_mul(9);
    let trouble = unready(health);
    let pressure = |kind: &'static str, low: bool, good: (&str, &str), bad: (&str, &str)| {
        let (reason, message) = if low { bad } else { good };
        (kind, low, reason.to_owned(), message.to_owned())
    };
    let states = [
        pressure(
            "MemoryPressure",
            low_memory,
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            low_disk,
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ),
        pressure(
            "PIDPressure",
            low_pids,
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ),
        match trouble {
            None => ("Ready", true, "KubeletReady".to_owned(), "kubelet is posting ready status".to_owned()),
            Some(message) => ("Ready", false, "KubeletNotReady".to_owned(), message),
        },
    ];
    states
        .into_iter()
        .map(|(kind, holds, reason, message)| {
            let value = if holds { "True" } else { "False" };
            let since = old
                .iter()
                .find(|condition| condition.type_ == kind && condition.status == value)
                .and_then(|condition| condition.last_transition_time.clone());
            core::NodeCondition {
                type_: kind.to_owned(),
                status: value.to_owned(),
                reason: Some(reason),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: since.or(Some(Time(now))),
            }
        })
        .collect()
}

/// Keeper of the node's objects.
pub(crate) struct Keeper {
    node: SharedNode,
    api: Api<core::Node>,
    capacity: BTreeMap<String, Quantity>,
    runtime_version: String,
    written: Option<(Value, Timestamp)>,
    ready: Option<bool>,
}

impl Keeper {
    pub(crate) fn new(node: SharedNode, capacity: BTreeMap<String, Quantity>) -> Self {
        let api = Api::all(node.config.client.clone());
        Self { node, api, capacity, runtime_version: String::new(), written: None, ready: None }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let arch = machine::identity().architecture;
        let name = self.node.config.node_name.as_str();
        let mut labels: BTreeMap<String, String> = [
            ("beta.kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        labels.extend(self.node.config.labels.clone());
        labels
    }

    async fn health(&self) -> Health {
        Health {
            runtime: self.node.cri.conditions().await.map_err(|error| error.to_string()),
            memory: machine::memory(),
            disk: machine::disk(&self.node.config.root),
            pids: machine::pids(),
        }
    }

    async fn status(&mut self, old: &[core::NodeCondition]) -> core::NodeStatus {
        if self.runtime_version.is_empty()
            && let Ok(version) = self.node.cri.version().await
        {
            self.runtime_version = format!("{}://{}", version.runtime_name, version.runtime_version);
        }
        let config = &self.node.config;
        let identity = machine::identity();
        let images = self.node.cri.list_images().await.unwrap_or_default();
        let address = |kind: &str, value: String| core::NodeAddress { type_: kind.to_owned(), address: value };
        core::NodeStatus {
            addresses: Some(vec![
                address("InternalIP", config.node_ip.to_string()),
                address("Hostname", config.node_name.clone()),
            ]),
            allocatable: Some(self.node.allocatable.clone()),
            capacity: Some(self.capacity.clone()),
            conditions: Some(conditions(&self.health().await, old, Timestamp::now())),
            daemon_endpoints: Some(core::NodeDaemonEndpoints {
                kubelet_endpoint: Some(core::DaemonEndpoint { port: i32::from(config.listen.port()) }),
            }),
            declared_features: Some(FEATURES.map(str::to_owned).to_vec()),
            images: Some(crate::images::listed(images, MOST_IMAGES)),
            node_info: Some(core::NodeSystemInfo {
                architecture: identity.architecture.to_owned(),
                boot_id: identity.boot_id,
                container_runtime_version: self.runtime_version.clone(),
                kernel_version: identity.kernel,
                kube_proxy_version: String::new(),
                kubelet_version: KUBELET_VERSION.to_owned(),
                machine_id: identity.machine_id,
                operating_system: "linux".to_owned(),
                os_image: identity.os_image,
                swap: None,
                system_uuid: identity.system_uuid,
            }),
            ..core::NodeStatus::default()
        }
    }

    /// Creates the Node, or takes over the one that is there. Returns it.
    pub(crate) async fn register(&mut self) -> Result<core::Node, kube::Error> {
        let name = self.node.config.node_name.clone();
        if let Some(found) = self.api.get_opt(&name).await? {
            let mut labels: BTreeMap<String, Value> =
                self.labels().into_iter().map(|(key, value)| (key, Value::from(value))).collect();
            labels.retain(|key, value| {
                found.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str) != value.as_str()
            });
            let mut patch = json!({});
            if !labels.is_empty() {
                patch = json!({"metadata": {"labels": labels}});
            }
            let without_range = found.spec.as_ref().is_none_or(|spec| spec.pod_cidr.is_none());
            if without_range && !self.node.config.pod_cidr.is_empty() {
                let range = &self.node.config.pod_cidr;
                if let Some(map) = patch.as_object_mut() {
                    map.insert("spec".to_owned(), json!({"podCIDR": range, "podCIDRs": [range]}));
                }
            }
            if patch.as_object().is_some_and(|map| !map.is_empty()) {
                self.api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
            return self.write_status(true).await;
        }
        let range = Some(self.node.config.pod_cidr.clone()).filter(|range| !range.is_empty());
        let node = core::Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(self.labels()),
                annotations: Some(BTreeMap::from([(
                    "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                    "true".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            spec: Some(core::NodeSpec {
                pod_cidr: range.clone(),
                pod_cidrs: range.map(|range| vec![range]),
                taints: Some(self.node.config.taints.clone()).filter(|taints| !taints.is_empty()),
                ..core::NodeSpec::default()
            }),
            status: Some(self.status(&[]).await),
        };
        self.api.create(&PostParams::default(), &node).await?;
        self.write_status(true).await
    }

    /// Writes the status when it changed, when it is old, or when forced; anew when another writer was quicker.
    async fn write_status(&mut self, force: bool) -> Result<core::Node, kube::Error> {
        let mut left = CONFLICTS;
        loop {
            match self.write_status_once(force).await {
                Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => left -= 1,
                other => return other,
            }
        }
    }

    async fn write_status_once(&mut self, force: bool) -> Result<core::Node, kube::Error> {
        let name = self.node.config.node_name.clone();
        let held = self.api.get(&name).await?;
        let old = held.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let mut status = self.status(&old).await;
        let own: Vec<String> = status.conditions.iter().flatten().map(|condition| condition.type_.clone()).collect();
        let foreign = old.into_iter().filter(|condition| !own.contains(&condition.type_));
        let mut conditions: Vec<core::NodeCondition> = foreign.collect();
        conditions.extend(status.conditions.take().unwrap_or_default());
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if self.ready.is_some_and(|old| old != ready) || (self.ready.is_none() && ready) {
            let reason = if ready { "NodeReady" } else { "NodeNotReady" };
            let message = format!("Node {name} status is now: {reason}");
            self.node.events.normal(about_node(&name), reason, message);
        }
        self.ready = Some(ready);
        status.conditions = Some(conditions);
        let mut still = serde_json::to_value(&status).map_err(kube::Error::SerdeError)?;
        let whole = still.clone();
        for condition in still.pointer_mut("/conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(map) = condition.as_object_mut() {
                map.remove("lastHeartbeatTime");
            }
        }
        let now = Timestamp::now();
        let fresh = self
            .written
            .as_ref()
            .is_some_and(|(value, at)| *value == still && now.duration_since(*at).as_secs() < HEARTBEAT);
        if fresh && !force {
            return Ok(held);
        }
        let patch = json!({"metadata": {"resourceVersion": held.metadata.resource_version}, "status": whole});
        let written = self.api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.written = Some((still, now));
        Ok(written)
    }

    /// Whether the last status said that the node is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready == Some(true)
    }

    /// Keeps the status true until stopped; registers again when the Node was deleted.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        loop {
            let period = if self.is_ready() { STATUS_PERIOD } else { Duration::from_millis(250) };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
            match self.write_status(false).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    if let Err(error) = self.register().await {
                        tracing::warn!(%error, "node not registered again");
                    }
                }
                Err(error) => tracing::warn!(%error, "node status not written"),
            }
        }
    }
}

/// Renews the node's Lease until stopped.
pub(crate) async fn keep_lease(client: kube::Client, node: Arc<core::Node>, stop: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let mut held = None;
    loop {
        let period = match renew(&api, held.take(), &node).await {
            Ok(lease) => {
                held = Some(lease);
                LEASE_PERIOD
            }
            Err(error) => {
                tracing::debug!(%error, "lease not renewed");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// Renews over the lease as last written, or over what is there; makes it when there is none.
async fn renew(api: &Api<Lease>, held: Option<Lease>, node: &core::Node) -> Result<Lease, kube::Error> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let found = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(&name).await?,
    };
    if let Some(mut lease) = found {
        lease.spec = Some(spec);
        return api.replace(&name, &PostParams::default(), &lease).await;
    }
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some("kube-node-lease".to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    };
    api.create(&PostParams::default(), &lease).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(network: bool) -> Health {
        let condition = |kind: &str, status: bool| RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: "R".to_owned(),
            message: "m".to_owned(),
        };
        Health {
            runtime: Ok(vec![condition("RuntimeReady", true), condition("NetworkReady", network)]),
            memory: machine::Memory { total: 8 << 30, available: 4 << 30 },
            disk: machine::Disk { total: 100, available: 50 },
            pids: (1000, 10),
        }
    }

    #[test]
    fn readiness_follows_the_runtime_and_remembers_when() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let find = |list: &[core::NodeCondition], kind: &str| {
            list.iter().find(|condition| condition.type_ == kind).cloned().unwrap()
        };
        let first = conditions(&health(true), &[], at(1));
        assert_eq!(find(&first, "Ready").status, "True");
        let second = conditions(&health(true), &first, at(9));
        assert_eq!(find(&second, "Ready").last_transition_time, Some(Time(at(1))));
        assert_eq!(find(&second, "Ready").last_heartbeat_time, Some(Time(at(9))));
        let third = conditions(&health(false), &second, at(10));
        let ready = find(&third, "Ready");
        assert_eq!((ready.status.as_str(), ready.last_transition_time), ("False", Some(Time(at(10)))));
        assert!(ready.message.unwrap().contains("container runtime network not ready: NetworkReady=false"));
        let down = Health { runtime: Err("gone".into()), ..health(true) };
        assert_eq!(find(&conditions(&down, &[], at(1)), "Ready").reason.as_deref(), Some("KubeletNotReady"));
    }

    #[test]
    fn pressure_is_reported() {
        let mut tight = health(true);
        tight.memory.available = 1;
        tight.disk.available = 1;
        tight.pids = (100, 99);
        let list = conditions(&tight, &[], Timestamp::UNIX_EPOCH);
        let pressed: Vec<&str> = list
            .iter()
            .filter(|condition| condition.type_ != "Ready" && condition.status == "True")
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(pressed, ["MemoryPressure", "DiskPressure", "PIDPressure"]);
    }
}
