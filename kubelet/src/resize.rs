//! Resizing of pods in place (KEP-1287): which resources the node grants a pod, and what that changes for its running
//! containers. Pure; never asks the runtime, never writes a cgroup.
//!
//! There is no checkpoint. What was granted is read back from the status that the kubelet wrote; what a container has is in the annotation
//! it was made with, and a change applied to it since is applied once more by a new kubelet, which changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cgroup::Limits;
use crate::model::{self, Container};
use crate::quantity;

/// Resources by container name, of the containers that can be resized.
pub type Allocation = BTreeMap<String, core::ResourceRequirements>;

/// CPU and memory of a container in thousandths and bytes; 0 where none is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amounts {
    cpu: (i64, i64),
    memory: (i64, i64),
}

fn amounts(resources: Option<&core::ResourceRequirements>) -> Amounts {
    let of = |name: &str, measure: fn(&quantity::Quantity) -> Option<i64>| {
        let list = |list: Option<&BTreeMap<String, quantity::Quantity>>| {
            list.and_then(|list| list.get(name)).and_then(measure).unwrap_or(0)
        };
        let limit = list(resources.and_then(|resources| resources.limits.as_ref()));
        // A limit without a request requests as much.
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        (if requests.is_some_and(|list| list.contains_key(name)) { list(requests) } else { limit }, limit)
    };
    Amounts { cpu: of("cpu", quantity::milli), memory: of("memory", quantity::value) }
}

/// Resources of a container as an annotation holds them.
pub fn text(container: &core::Container) -> String {
    serde_json::to_string(&container.resources.clone().unwrap_or_default()).unwrap_or_default()
}

/// Containers that can be resized: the app's and sidecars.
fn resizable(pod: &core::Pod) -> impl Iterator<Item = &core::Container> {
    model::init_containers(pod).iter().filter(|item| model::is_sidecar(item)).chain(model::app_containers(pod))
}

/// What the spec asks for.
pub fn asked(pod: &core::Pod) -> Allocation {
    resizable(pod).map(|item| (item.name.clone(), item.resources.clone().unwrap_or_default())).collect()
}

/// What a kubelet before this one granted, by the status it wrote; the spec's where it says nothing.
pub fn granted_before(pod: &core::Pod) -> Allocation {
    let of = |item: &core::Container| {
        let status = model::api_status(pod, &item.name)?;
        let held = status.resources.clone()?;
        Some(core::ResourceRequirements { requests: status.allocated_resources.clone().or(held.requests), ..held })
    };
    resizable(pod)
        .map(|item| (item.name.clone(), of(item).or_else(|| item.resources.clone()).unwrap_or_default()))
        .collect()
}

/// Whether two allocations are the same amounts, however written.
pub fn same(a: &Allocation, b: &Allocation) -> bool {
    a.len() == b.len()
        && a.iter().all(|(name, own)| b.get(name).is_some_and(|other| amounts(Some(own)) == amounts(Some(other))))
}

/// Whether an allocation requests more of anything than another.
pub fn grows(from: &Allocation, to: &Allocation) -> bool {
    let total = |of: &Allocation| {
        of.values().map(|one| amounts(Some(one))).fold((0_i64, 0_i64), |(cpu, memory), one| {
            (cpu.saturating_add(one.cpu.0), memory.saturating_add(one.memory.0))
        })
    };
    let (from, to) = (total(from), total(to));
    to.0 > from.0 || to.1 > from.1
}

/// The pod with what was granted in place of what its spec asks for.
pub fn with(pod: &Arc<core::Pod>, granted: &Allocation) -> Arc<core::Pod> {
    if asked(pod) == *granted {
        return pod.clone();
    }
    let mut pod = core::Pod::clone(pod);
    if let Some(spec) = pod.spec.as_mut() {
        for item in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(resources) = granted.get(&item.name) {
                item.resources = Some(resources.clone());
            }
        }
    }
    Arc::new(pod)
}

/// The pods that the node admitted, each with what it was granted.
#[derive(Debug, Default)]
pub struct Ledger {
    pods: BTreeMap<String, Arc<core::Pod>>,
    /// Pods that ask for more than there is room for, as they ask for it, with the order in which they came.
    waiting: BTreeMap<String, (u64, Arc<core::Pod>)>,
    came: u64,
}

impl Ledger {
    /// Admits a pod, or grants it something else.
    pub fn grant(&mut self, pod: Arc<core::Pod>) {
        self.waiting.remove(model::uid(&pod));
        self.pods.insert(model::uid(&pod).to_owned(), pod);
    }

    /// Forgets a pod; whether it was there.
    pub fn release(&mut self, uid: &str) -> bool {
        self.waiting.remove(uid);
        self.pods.remove(uid).is_some()
    }

    /// What a pod was granted.
    pub fn granted(&self, uid: &str) -> Option<Allocation> {
        self.pods.get(uid).map(|pod| asked(pod))
    }

    /// Remembers that a pod waits for room.
    pub fn wait(&mut self, pod: Arc<core::Pod>) {
        self.came += 1;
        let place = self.waiting.get(model::uid(&pod)).map_or(self.came, |(place, _)| *place);
        self.waiting.insert(model::uid(&pod).to_owned(), (place, pod));
    }

    /// Those that wait and come before this pod: of higher priority, or of better quality of service, or longer there.
    pub fn ahead_of(&self, pod: &core::Pod) -> Vec<Arc<core::Pod>> {
        let rank = |pod: &core::Pod, place: u64| {
            let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
            (std::cmp::Reverse(priority), crate::config::qos(pod) != "Guaranteed", place)
        };
        let uid = model::uid(pod);
        let own = rank(pod, self.waiting.get(uid).map_or(u64::MAX, |(place, _)| *place));
        let others = self.waiting.iter().filter(|(other, _)| *other != uid);
        others.filter(|(_, (place, other))| rank(other, *place) < own).map(|(_, (_, other))| other.clone()).collect()
    }

    /// All admitted pods but one.
    pub fn others(&self, uid: &str) -> Vec<Arc<core::Pod>> {
        self.pods.iter().filter(|(own, _)| *own != uid).map(|(_, pod)| pod.clone()).collect()
    }
}

/// A resize that the node has not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Why not.
    pub message: String,
    /// Generation of the pod that asks for it.
    pub generation: Option<i64>,
}

/// A resize that is being carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Generation of the pod that asked for it.
    pub generation: Option<i64>,
    /// Why it cannot be carried out at present.
    pub error: Option<String>,
}

/// What is remembered of a pod's resizes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Resources last applied to running containers, by id; without an entry those they were made with.
    pub applied: BTreeMap<String, core::ResourceRequirements>,
    /// Limits last applied to the pod as a whole.
    pub limits: Option<Limits>,
    /// Not granted yet.
    pub pending: Option<Pending>,
    /// Granted and not done.
    pub progress: Option<Progress>,
    /// After an error: not before this time.
    pub retry_at: Option<Timestamp>,
}

impl Memory {
    /// The resources that a running container has; `None` when nobody knows.
    pub fn actual<'a>(&'a self, run: &'a Container) -> Option<&'a core::ResourceRequirements> {
        self.applied.get(&run.id).or(run.resources.as_ref())
    }
}

/// What new resources mean for a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// New limits while it runs.
    Update,
    /// A new container, as its `resizePolicy` says.
    Restart,
}

/// What the resources granted to a container mean for its run.
pub fn change(container: &core::Container, run: &Container, memory: &Memory) -> Change {
    let Some(actual) = memory.actual(run) else { return Change::None };
    let (old, new) = (amounts(Some(actual)), amounts(container.resources.as_ref()));
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    let restarts = |name: &str| {
        policies.iter().any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    match (old.cpu != new.cpu, old.memory != new.memory) {
        (false, false) => Change::None,
        (cpu, memory) if (cpu && restarts("cpu")) || (memory && restarts("memory")) => Change::Restart,
        _ => Change::Update,
    }
}

/// The memory limit to come, bytes, where it is lower than the one in force.
pub fn lowered_memory(container: &core::Container, actual: Option<&core::ResourceRequirements>) -> Option<i64> {
    let (old, new) = (amounts(actual).memory.1, amounts(container.resources.as_ref()).memory.1);
    (new > 0 && (old == 0 || new < old)).then_some(new)
}

/// The message of an event about a resize: what happened and the resources of all containers, as JSON.
pub fn event(what: &str, pod: &core::Pod, generation: Option<i64>, error: Option<&str>) -> String {
    let list = |containers: &[core::Container]| -> Value {
        let one = |item: &core::Container| json!({"name": item.name, "resources": item.resources.clone().unwrap_or_default()});
        containers.iter().map(one).collect()
    };
    // In the order of fields that upstream's summary has.
    let mut parts = Vec::new();
    if !model::init_containers(pod).is_empty() {
        parts.push(format!("\"initContainers\":{}", list(model::init_containers(pod))));
    }
    if !model::app_containers(pod).is_empty() {
        parts.push(format!("\"containers\":{}", list(model::app_containers(pod))));
    }
    parts.push(format!("\"generation\":{}", generation.unwrap_or(0)));
    if let Some(error) = error.filter(|error| !error.is_empty()) {
        parts.push(format!("\"error\":{}", json!(error)));
    }
    format!("{what}: {{{}}}", parts.join(","))
}

/// What a condition of the pod says of a resize under way; its status is `True`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `PodResizePending` or `PodResizeInProgress`.
    pub kind: &'static str,
    /// `Deferred`, `Error` or nothing.
    pub reason: Option<&'static str>,
    /// Why.
    pub message: Option<String>,
    /// Generation of the pod that asked for it.
    pub generation: Option<i64>,
}

/// The conditions of resizes under way.
pub fn conditions(memory: &Memory) -> Vec<Condition> {
    let pending = memory.pending.iter().map(|item| Condition {
        kind: "PodResizePending",
        reason: Some("Deferred"),
        message: Some(item.message.clone()),
        generation: item.generation,
    });
    let progress = memory.progress.iter().map(|item| Condition {
        kind: "PodResizeInProgress",
        reason: item.error.is_some().then_some("Error"),
        message: item.error.clone(),
        generation: item.generation,
    });
    pending.chain(progress).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(request: &str, limit: &str, policy: &Value) -> core::Container {
        let list = |text: &str| -> Value {
            let pairs = text.split(' ').filter_map(|item| item.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
        };
        serde_json::from_value(json!({"name": "c", "resizePolicy": policy,
            "resources": {"requests": list(request), "limits": list(limit)}}))
        .unwrap()
    }

    fn run(of: &core::Container) -> Container {
        Container {
            id: "1".into(),
            sandbox_id: "s".into(),
            name: "c".into(),
            attempt: 0,
            phase: model::ContainerPhase::Running,
            created_at: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_ref: String::new(),
            hash: None,
            grace: None,
            log_path: String::new(),
            resources: serde_json::from_str(&text(of)).unwrap(),
        }
    }

    #[test]
    fn what_new_resources_mean() {
        let memory_restarts = || json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let cases = [
            ("cpu=1", "cpu=1", json!([]), "cpu=1000m", "cpu=1.0", Change::None),
            ("", "cpu=1", json!([]), "cpu=1", "cpu=1", Change::None),
            ("cpu=1", "", json!([]), "cpu=2", "", Change::Update),
            ("cpu=1", "", json!([]), "cpu=1 memory=1Mi", "", Change::Update),
            ("memory=1Mi", "memory=2Mi", memory_restarts(), "memory=1Mi", "memory=3Mi", Change::Restart),
            ("memory=1Mi", "", memory_restarts(), "memory=1Mi cpu=1", "", Change::Update),
        ];
        for (request, limit, policy, new_request, new_limit, expected) in cases {
            let old = container(request, limit, &policy);
            let new = container(new_request, new_limit, &policy);
            let found = change(&new, &run(&old), &Memory::default());
            assert_eq!(found, expected, "{request} / {limit} -> {new_request} / {new_limit}");
            let done = Memory {
                applied: BTreeMap::from([("1".to_owned(), new.resources.clone().unwrap())]),
                ..Memory::default()
            };
            assert_eq!(change(&new, &run(&old), &done), Change::None, "what was applied counts");
        }
        let unknown = Container { resources: None, ..run(&container("", "", &json!([]))) };
        assert_eq!(change(&container("cpu=1", "", &json!([])), &unknown, &Memory::default()), Change::None);
    }

    #[test]
    fn a_lower_limit_of_memory_is_told_from_others() {
        let of = |old: &str, new: &str| {
            let old = container("", old, &json!([]));
            lowered_memory(&container("", new, &json!([])), old.resources.as_ref())
        };
        assert_eq!(of("memory=2Ki", "memory=1Ki"), Some(1024));
        assert_eq!(of("", "memory=1Ki"), Some(1024), "a limit where there was none");
        assert_eq!(of("memory=1Ki", "memory=2Ki"), None);
        assert_eq!(of("memory=1Ki", ""), None);
    }

    #[test]
    fn what_was_granted_survives_a_new_kubelet() {
        let pod: core::Pod = serde_json::from_value(json!({"metadata": {"uid": "u"},
            "spec": {
                "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "9"}}}],
                "containers": [{"name": "a", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}},
                               {"name": "b", "resources": {"requests": {"cpu": "2"}}}]},
            "status": {"containerStatuses": [{"name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "3"}}}]}}))
        .unwrap();
        let granted = granted_before(&pod);
        assert_eq!(
            serde_json::to_value(&granted).unwrap(),
            json!({
            "a": {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}, "b": {"requests": {"cpu": "2"}}})
        );
        assert!(!same(&granted, &asked(&pod)));
        assert!(grows(&granted, &asked(&pod)) && !grows(&asked(&pod), &granted));
        let pod = Arc::new(pod);
        let as_granted = with(&pod, &granted);
        assert_eq!(asked(&as_granted), granted);
        assert!(Arc::ptr_eq(&with(&as_granted, &granted), &as_granted));
        let mut ledger = Ledger::default();
        ledger.grant(as_granted);
        assert_eq!((ledger.granted("u"), ledger.others("u").len(), ledger.others("v").len()), (Some(granted), 0, 1));
        assert!(ledger.release("u") && !ledger.release("u"));
    }

    #[test]
    fn those_who_wait_have_an_order() {
        let pod = |uid: &str, priority: i32, qos: &str| -> Arc<core::Pod> {
            let value = json!({"metadata": {"uid": uid}, "spec": {"containers": [], "priority": priority},
                "status": {"qosClass": qos}});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let mut ledger = Ledger::default();
        let all = [
            pod("first", 0, "Burstable"),
            pod("second", 0, "Burstable"),
            pod("sure", 0, "Guaranteed"),
            pod("high", 5, "Burstable"),
        ];
        for pod in &all {
            ledger.grant(pod.clone());
            ledger.wait(pod.clone());
        }
        ledger.wait(all[0].clone());
        let ahead = |ledger: &Ledger, pod: &core::Pod| -> Vec<String> {
            ledger.ahead_of(pod).iter().map(|other| model::uid(other).to_owned()).collect()
        };
        assert_eq!(ahead(&ledger, &all[1]), ["first", "high", "sure"]);
        assert_eq!(ahead(&ledger, &all[0]), ["high", "sure"], "asking again is not coming later");
        assert_eq!(ahead(&ledger, &all[2]), ["high"]);
        assert_eq!(ahead(&ledger, &pod("new", 0, "Burstable")), ["first", "high", "second", "sure"]);
        ledger.grant(all[3].clone());
        ledger.release("sure");
        assert_eq!(ahead(&ledger, &all[1]), ["first"]);
    }

    #[test]
    fn events_say_all_resources() {
        let pod: core::Pod = serde_json::from_value(json!({"metadata": {},
            "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "2"}}}]}}))
        .unwrap();
        assert_eq!(
            event("Pod resize error", &pod, Some(3), Some("no \"room\"")),
            r#"Pod resize error: {"containers":[{"name":"a","resources":{"requests":{"cpu":"2"}}}],"generation":3,"error":"no \"room\""}"#
        );
    }
}
