//! The pod status that the API server is to hold, from what the runtime holds and what is remembered. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::model::{
    self, Container, ContainerPhase, Observed, app_containers, ephemeral_containers, from_nanos, init_containers,
    is_sidecar,
};
use crate::plan::{Memory, Plan, restarts, sandbox_needed, should_start};
use crate::resize;

/// Condition types that the kubelet alone writes.
const OWN_CONDITIONS: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

/// What the status also needs to know.
pub struct Context<'a> {
    /// The status last written, or the API server's.
    pub previous: &'a core::PodStatus,
    /// The next steps.
    pub plan: &'a Plan,
    /// Memory of the pod.
    pub memory: &'a Memory,
    /// The node's address.
    pub node_ip: IpAddr,
    /// Now.
    pub now: Timestamp,
}

/// The status of a pod.
pub fn status(pod: &core::Pod, observed: &Observed, context: &Context<'_>) -> core::PodStatus {
    let previous = context.previous;
    let apps: Vec<core::Container> = app_containers(pod).to_vec();
    let inits: Vec<core::Container> = init_containers(pod).to_vec();
    let ephemeral: Vec<core::Container> = ephemeral_containers(pod).into_iter().map(|(item, _)| item).collect();
    let lister = Lister { pod, observed, context };
    let app_statuses = lister.statuses(&apps, previous.container_statuses.as_deref(), Kind::App);
    let init_statuses = lister.statuses(&inits, previous.init_container_statuses.as_deref(), Kind::Init);
    let ephemeral_statuses =
        lister.statuses(&ephemeral, previous.ephemeral_container_statuses.as_deref(), Kind::Ephemeral);

    let mut phase = phase(pod, &app_statuses, &init_statuses, context.plan.ended);
    let mut reason = None;
    let mut message = None;
    let late = crate::plan::deadline(pod).is_some_and(|at| at <= context.now);
    if let Some(verdict) = &context.memory.verdict {
        phase = "Failed".to_owned();
        (reason, message) = (Some(verdict.reason.clone()), Some(verdict.message.clone()));
    } else if late && !model::is_terminal(pod) && phase != "Succeeded" {
        phase = "Failed".to_owned();
        reason = Some("DeadlineExceeded".to_owned());
        message = Some("Pod was active on the node longer than the specified deadline".to_owned());
    }
    for old in [previous.phase.as_deref(), pod.status.as_ref().and_then(|status| status.phase.as_deref())] {
        if let Some(old @ ("Failed" | "Succeeded")) = old {
            old.clone_into(&mut phase);
        }
    }
    if previous.phase.as_deref() == Some(phase.as_str()) {
        reason = reason.or_else(|| previous.reason.clone());
        message = message.or_else(|| previous.message.clone());
    }

    let ips = addresses(pod, observed, context);
    // A pod that was refused has no containers to tell of.
    let refused = context.memory.verdict.is_some() && observed.containers.is_empty();
    let mut status = core::PodStatus {
        conditions: None,
        container_statuses: (!refused).then_some(app_statuses),
        init_container_statuses: (!refused && !init_statuses.is_empty()).then_some(init_statuses),
        ephemeral_container_statuses: (!ephemeral_statuses.is_empty()).then_some(ephemeral_statuses),
        host_ip: Some(context.node_ip.to_string()),
        host_ips: Some(vec![core::HostIP { ip: context.node_ip.to_string() }]),
        message,
        observed_generation: pod.metadata.generation,
        phase: Some(phase),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| core::PodIP { ip }).collect()),
        reason,
        start_time: previous.start_time.clone().or(Some(Time(context.now))),
        ..pod.status.clone().unwrap_or_default()
    };
    status.conditions = Some(conditions(pod, observed, &status, context));
    status
}

/// Addresses of the pod; the last ones known while it ends.
fn addresses(pod: &core::Pod, observed: &Observed, context: &Context<'_>) -> Vec<String> {
    let newest = observed.sandboxes.first();
    if let Some(sandbox) = newest.filter(|sandbox| !sandbox.ips.is_empty()) {
        return sandbox.ips.clone();
    }
    if model::host_network(pod) {
        return if newest.is_some() { vec![context.node_ip.to_string()] } else { Vec::new() };
    }
    if context.plan.ending {
        let old = context.previous.pod_ips.as_deref().unwrap_or_default();
        return old.iter().map(|item| item.ip.clone()).collect();
    }
    Vec::new()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    App,
    Ephemeral,
}

struct Lister<'a> {
    pod: &'a core::Pod,
    observed: &'a Observed,
    context: &'a Context<'a>,
}

impl Lister<'_> {
    fn statuses(
        &self,
        containers: &[core::Container],
        previous: Option<&[core::ContainerStatus]>,
        kind: Kind,
    ) -> Vec<core::ContainerStatus> {
        let previous = previous.unwrap_or_default();
        let mut list: Vec<core::ContainerStatus> = containers
            .iter()
            .map(|container| {
                let old = previous.iter().find(|status| status.name == container.name);
                self.status(container, old, kind)
            })
            .collect();
        if kind != Kind::Init {
            list.sort_by(|a, b| a.name.cmp(&b.name));
        }
        list
    }

    fn status(
        &self,
        container: &core::Container,
        old: Option<&core::ContainerStatus>,
        kind: Kind,
    ) -> core::ContainerStatus {
        let mut runs = self.observed.containers.iter().filter(|run| run.name == container.name);
        let mut status = match runs.next() {
            Some(run) => {
                let mut status = self.of_run(container, run, old, kind);
                if let Some(before) = runs.next() {
                    status.last_state = Some(state(before, self.waiting_reason()));
                } else if status.last_state.is_none() {
                    status.last_state = old
                        .filter(|old| old.restart_count == status.restart_count)
                        .and_then(|old| old.last_state.clone());
                }
                status
            }
            None => self.without_run(container, old, kind),
        };
        self.explain_waiting(container, &mut status, kind);
        status.volume_mounts = volume_mounts(container);
        status
    }

    fn of_run(
        &self,
        container: &core::Container,
        run: &Container,
        old: Option<&core::ContainerStatus>,
        kind: Kind,
    ) -> core::ContainerStatus {
        let probed = self.context.memory.probes.get(&run.id).copied().unwrap_or_default();
        let running = run.phase == ContainerPhase::Running;
        let id = container_id(&run.id);
        let same = old.filter(|old| old.container_id.as_deref() == Some(id.as_str()));
        let started = running
            && match (&container.startup_probe, probed.started) {
                (None, _) => true,
                (Some(_), Some(result)) => result,
                (Some(_), None) => same.and_then(|old| old.started).unwrap_or(false),
            };
        let ready = match kind {
            Kind::Init if !is_sidecar(container) => run.phase == ContainerPhase::Exited && run.exit_code == 0,
            Kind::Ephemeral => false,
            _ => {
                started
                    && match (&container.readiness_probe, probed.ready) {
                        (None, _) => true,
                        (Some(_), Some(result)) => result,
                        (Some(_), None) => same.is_some_and(|old| old.ready),
                    }
            }
        };
        let resources = container.resources.clone().unwrap_or_default();
        let actual = self.context.memory.resize.actual(run).filter(|_| running).cloned();
        let actual = actual.unwrap_or_else(|| resources.clone());
        core::ContainerStatus {
            allocated_resources: resources.requests.clone(),
            container_id: Some(id),
            image: if run.image.starts_with("sha256:") || run.image.is_empty() {
                container.image.clone().unwrap_or_default()
            } else {
                run.image.clone()
            },
            image_id: run.image_ref.clone(),
            name: container.name.clone(),
            ready,
            resources: Some(actual),
            restart_count: i32::try_from(run.attempt).unwrap_or(i32::MAX),
            started: Some(started),
            state: Some(state(run, self.waiting_reason())),
            ..core::ContainerStatus::default()
        }
    }

    /// Why a container waits that nothing went wrong with.
    fn waiting_reason(&self) -> &'static str {
        if init_containers(self.pod).is_empty() { "ContainerCreating" } else { "PodInitializing" }
    }

    /// A container that the runtime does not hold: not yet made, or forgotten.
    fn without_run(
        &self,
        container: &core::Container,
        old: Option<&core::ContainerStatus>,
        kind: Kind,
    ) -> core::ContainerStatus {
        if let Some(old) = old.filter(|old| old.state.as_ref().is_some_and(|state| state.terminated.is_some())) {
            return old.clone();
        }
        let reason = self.waiting_reason();
        let mut status = core::ContainerStatus {
            image: container.image.clone().unwrap_or_default(),
            name: container.name.clone(),
            restart_count: old.map_or(0, |old| old.restart_count),
            last_state: old.and_then(|old| old.last_state.clone()),
            started: Some(false),
            state: Some(waiting(reason, None)),
            ..core::ContainerStatus::default()
        };
        let began = app_containers(self.pod).iter().any(|app| self.observed.latest(&app.name).is_some());
        if kind == Kind::Init && !is_sidecar(container) && began {
            status.ready = true;
            status.state = Some(core::ContainerState {
                terminated: Some(core::ContainerStateTerminated {
                    reason: Some("Completed".to_owned()),
                    message: Some(
                        "Unable to get init container status from container runtime and pod has been initialized, \
                         treat it as exited normally"
                            .to_owned(),
                    ),
                    ..core::ContainerStateTerminated::default()
                }),
                ..core::ContainerState::default()
            });
            return status;
        }
        let ran = old.is_some_and(|old| old.state.as_ref().is_some_and(|state| state.running.is_some()));
        let known = status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
        if ran && !known {
            status.last_state = Some(core::ContainerState {
                terminated: Some(core::ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some(
                        "The container could not be located when the pod was deleted.  The container used to be Running"
                            .to_owned(),
                    ),
                    ..core::ContainerStateTerminated::default()
                }),
                ..core::ContainerState::default()
            });
            if self.pod.metadata.deletion_timestamp.is_none() {
                status.restart_count = status.restart_count.saturating_add(1);
            }
        }
        status
    }

    /// A container that is to start but cannot yet says why.
    fn explain_waiting(&self, container: &core::Container, status: &mut core::ContainerStatus, kind: Kind) {
        if self.context.plan.ending || status.state.as_ref().is_some_and(|state| state.running.is_some()) {
            return;
        }
        if kind == Kind::Init && status.ready {
            return;
        }
        if !should_start(container, self.pod, self.observed, self.context.memory) {
            return;
        }
        let why = self
            .context
            .plan
            .crash_loops
            .get(&container.name)
            .map(|message| ("CrashLoopBackOff", message.as_str()))
            .or_else(|| {
                let failure = self.context.memory.failures.get(&container.name)?;
                Some((failure.reason.as_str(), failure.message.as_str()))
            });
        let Some((reason, message)) = why else { return };
        if let Some(state) = status.state.take().filter(|state| state.terminated.is_some()) {
            status.last_state = Some(state);
        }
        status.state = Some(waiting(reason, Some(message)));
    }
}

fn waiting(reason: &str, message: Option<&str>) -> core::ContainerState {
    core::ContainerState {
        waiting: Some(core::ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: message.filter(|text| !text.is_empty()).map(str::to_owned),
        }),
        ..core::ContainerState::default()
    }
}

/// A container id as the API names it.
pub fn container_id(id: &str) -> String {
    format!("containerd://{id}")
}

fn state(run: &Container, waiting_reason: &str) -> core::ContainerState {
    let time = |nanos: i64| (nanos > 0).then(|| Time(from_nanos(nanos)));
    match run.phase {
        ContainerPhase::Running => core::ContainerState {
            running: Some(core::ContainerStateRunning { started_at: time(run.started_at) }),
            ..core::ContainerState::default()
        },
        ContainerPhase::Exited => core::ContainerState {
            terminated: Some(core::ContainerStateTerminated {
                container_id: Some(container_id(&run.id)),
                exit_code: run.exit_code,
                finished_at: time(run.finished_at),
                message: (!run.message.is_empty()).then(|| run.message.clone()),
                reason: (!run.reason.is_empty()).then(|| run.reason.clone()),
                signal: None,
                started_at: time(run.started_at).or(Some(Time(Timestamp::UNIX_EPOCH))),
            }),
            ..core::ContainerState::default()
        },
        ContainerPhase::Created | ContainerPhase::Unknown => waiting(waiting_reason, None),
    }
}

fn volume_mounts(container: &core::Container) -> Option<Vec<core::VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_deref().filter(|mounts| !mounts.is_empty())?;
    let status = |mount: &core::VolumeMount| core::VolumeMountStatus {
        mount_path: mount.mount_path.clone(),
        name: mount.name.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| "Disabled".to_owned()),
        volume_status: None,
    };
    Some(mounts.iter().map(status).collect())
}

#[derive(Default)]
struct Counts {
    waiting: usize,
    running: usize,
    stopped: usize,
    final_stops: usize,
    succeeded: usize,
}

fn exit_code(state: Option<&core::ContainerState>) -> Option<i32> {
    state?.terminated.as_ref().map(|ended| ended.exit_code)
}

/// The phase by upstream's rules: what the statuses say, with `Never`-like policies ending the pod.
fn phase(pod: &core::Pod, apps: &[core::ContainerStatus], inits: &[core::ContainerStatus], ended: bool) -> String {
    let find = |list: &[core::ContainerStatus], name: &str| list.iter().find(|status| status.name == name).cloned();
    let app_began = apps.iter().any(|status| {
        status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
    });
    let mut pending = false;
    let mut counts = Counts::default();
    for container in init_containers(pod) {
        let Some(status) = find(inits, &container.name) else {
            pending = true;
            continue;
        };
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        let ended = exit_code(status.state.as_ref());
        let before = exit_code(status.last_state.as_ref());
        if is_sidecar(container) {
            if running {
                counts.running += 1;
                pending |= status.started != Some(true) && !app_began;
            } else if ended.is_none() && before.is_none() {
                pending |= !app_began;
                counts.waiting += 1;
            }
            continue;
        }
        match (running, ended.or(before)) {
            (false, Some(0)) => {}
            (false, Some(code)) if !restarts(container, pod, code) => return "Failed".to_owned(),
            _ => pending |= !app_began,
        }
    }
    for container in app_containers(pod) {
        let Some(status) = find(apps, &container.name) else {
            counts.waiting += 1;
            continue;
        };
        if status.state.as_ref().is_some_and(|state| state.running.is_some()) {
            counts.running += 1;
        } else if let Some(code) = exit_code(status.state.as_ref()).or_else(|| exit_code(status.last_state.as_ref())) {
            counts.stopped += 1;
            counts.final_stops += usize::from(!restarts(container, pod, code));
            counts.succeeded += usize::from(code == 0 && exit_code(status.state.as_ref()).is_some());
        } else {
            counts.waiting += 1;
        }
    }
    let phase = if pending || counts.waiting > 0 {
        "Pending"
    } else if counts.running > 0 {
        "Running"
    } else if counts.stopped > 0 {
        match (ended || counts.stopped == counts.final_stops, counts.stopped == counts.succeeded) {
            (false, _) => "Running",
            (true, true) => "Succeeded",
            (true, false) => "Failed",
        }
    } else {
        "Pending"
    };
    phase.to_owned()
}

struct Draft {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Draft {
    fn yes() -> Self {
        Self { status: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { status: false, reason: Some(reason), message }
    }
}

fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn conditions(
    pod: &core::Pod,
    observed: &Observed,
    status: &core::PodStatus,
    context: &Context<'_>,
) -> Vec<core::PodCondition> {
    let held = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let previous = context.previous.conditions.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let ready_to_start = if sandbox_needed(pod, observed).0 {
        Draft { status: false, reason: None, message: None }
    } else {
        Draft::yes()
    };
    let containers_ready = containers_ready(pod, status, phase);
    let ready = if containers_ready.status {
        gates_ready(pod, &held)
    } else {
        Draft { status: false, reason: containers_ready.reason, message: containers_ready.message.clone() }
    };
    let drafts = [
        ("PodReadyToStartContainers", ready_to_start),
        ("Initialized", initialized(pod, status, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Draft::yes()),
    ];
    let foreign = held.iter().filter(|condition| !OWN_CONDITIONS.contains(&condition.type_.as_str())).cloned();
    let mut list: Vec<core::PodCondition> = foreign.collect();
    for (kind, draft) in drafts {
        let value = if draft.status { "True" } else { "False" };
        let old = previous.iter().chain(&held).find(|condition| condition.type_ == kind);
        let since = old.filter(|old| old.status == value).and_then(|old| old.last_transition_time.clone());
        list.push(core::PodCondition {
            last_probe_time: None,
            last_transition_time: since.or(Some(Time(context.now))),
            message: draft.message,
            observed_generation: pod.metadata.generation,
            reason: draft.reason.map(str::to_owned),
            status: value.to_owned(),
            type_: kind.to_owned(),
        });
    }
    for resize::Condition { kind, reason, message, generation } in resize::conditions(&context.memory.resize) {
        let old = previous.iter().chain(&held).find(|old| old.type_ == kind && old.reason.as_deref() == reason);
        list.push(core::PodCondition {
            last_probe_time: None,
            last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(Time(context.now))),
            message,
            observed_generation: generation,
            reason: reason.map(str::to_owned),
            status: "True".to_owned(),
            type_: kind.to_owned(),
        });
    }
    list
}

fn containers_ready(pod: &core::Pod, status: &core::PodStatus, phase: &str) -> Draft {
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    let apps = status.container_statuses.as_deref().unwrap_or_default();
    match phase {
        "Succeeded" => return Draft::no("PodCompleted", None),
        "Failed" => return Draft::no("PodFailed", None),
        _ => {}
    }
    let sidecars = init_containers(pod).iter().filter(|container| is_sidecar(container));
    let unready: Vec<&str> = sidecars
        .chain(app_containers(pod))
        .map(|container| container.name.as_str())
        .filter(|name| !inits.iter().chain(apps).any(|status| status.name == *name && status.ready))
        .collect();
    if unready.is_empty() {
        return Draft::yes();
    }
    Draft::no("ContainersNotReady", Some(format!("containers with unready status: {}", list(&unready))))
}

fn gates_ready(pod: &core::Pod, held: &[core::PodCondition]) -> Draft {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut messages = Vec::new();
    for gate in gates {
        let kind = gate.condition_type.as_str();
        match held.iter().find(|condition| condition.type_ == kind) {
            None => messages.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(condition) if condition.status != "True" => messages
                .push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", condition.status)),
            Some(_) => {}
        }
    }
    if messages.is_empty() { Draft::yes() } else { Draft::no("ReadinessGatesNotReady", Some(messages.join(", "))) }
}

fn initialized(pod: &core::Pod, status: &core::PodStatus, phase: &str) -> Draft {
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    if phase == "Succeeded" {
        return Draft { status: true, reason: Some("PodCompleted"), message: None };
    }
    let began = status.container_statuses.iter().flatten().any(|status| {
        let state = status.state.as_ref();
        status.started == Some(true)
            || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
    });
    if began {
        return Draft::yes();
    }
    let incomplete: Vec<&str> = init_containers(pod)
        .iter()
        .filter(|container| {
            !inits.iter().any(|status| {
                status.name == container.name
                    && if is_sidecar(container) { status.started == Some(true) } else { status.ready }
            })
        })
        .map(|container| container.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return Draft::yes();
    }
    Draft::no("ContainersNotInitialized", Some(format!("containers with incomplete status: {}", list(&incomplete))))
}

/// Whether two statuses are the same for the API: an absent field and an empty object (`lastState: {}`) are.
pub fn same(a: &core::PodStatus, b: &core::PodStatus) -> bool {
    let bare = |status| serde_json::to_value(status).ok().and_then(bare);
    bare(a) == bare(b)
}

/// A value without nulls and without objects and lists that hold nothing.
fn bare(value: serde_json::Value) -> Option<serde_json::Value> {
    use serde_json::Value;
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let map: serde_json::Map<_, _> =
                map.into_iter().filter_map(|(key, value)| Some((key, bare(value)?))).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        Value::Array(list) => {
            let list: Vec<_> = list.into_iter().filter_map(bare).collect();
            (!list.is_empty()).then_some(Value::Array(list))
        }
        scalar => Some(scalar),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
