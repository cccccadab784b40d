//! What to do next for one pod: desired pod, what the runtime holds, what is remembered, and the time give a list of
//! actions. Pure: no I/O, no clock. Asked again after every change, so it never needs to know how a state was reached.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::backoff::Backoff;
use crate::cgroup::{self, Limits};
use crate::model::{
    self, Container, ContainerPhase, Observed, app_containers, container_hash, ephemeral_containers, from_nanos,
    init_containers, is_sidecar,
};
use crate::resize::{self, Change};

/// Shortest grace period that a container gets, seconds.
const MINIMUM_GRACE: i64 = 1;
/// Exited containers of one name that are kept for their logs and last state.
const KEPT: usize = 2;

/// Latest probe results of one container; `None` before the first result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    /// Startup probe.
    pub started: Option<bool>,
    /// Readiness probe.
    pub ready: Option<bool>,
    /// Liveness probe.
    pub alive: Option<bool>,
}

/// Why something could not be started, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Reason shown as the container's waiting reason.
    pub reason: String,
    /// Sentence shown with it.
    pub message: String,
    /// Not before this time.
    pub retry_at: Timestamp,
    /// How often it failed in a row.
    pub times: u32,
}

/// The node's own decision that a pod has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
}

/// What is remembered of a pod between looks. Losing it (a restart) costs at most a back-off or a probe period.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Probe results by container id.
    pub probes: BTreeMap<String, Probed>,
    /// Failed starts by container name.
    pub failures: BTreeMap<String, Failure>,
    /// Why the sandbox or the volumes could not be set up.
    pub setup: Option<Failure>,
    /// Delays between restarts, by [`backoff_key`].
    pub backoff: Backoff,
    /// Containers being stopped, by id.
    pub killing: BTreeSet<String>,
    /// Containers that were stopped because their definition changed, by id.
    pub redefined: BTreeSet<String>,
    /// The node's own decision that the pod has failed.
    pub verdict: Option<Verdict>,
    /// Whether the API object is gone.
    pub gone: bool,
    /// Whether the pod's status was found to be `Succeeded` or `Failed`, which is for good.
    pub over: bool,
    /// When termination began.
    pub terminating_since: Option<Timestamp>,
    /// Resizes in place.
    pub resize: resize::Memory,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            probes: BTreeMap::new(),
            failures: BTreeMap::new(),
            setup: None,
            backoff: Backoff::upstream(),
            killing: BTreeSet::new(),
            redefined: BTreeSet::new(),
            verdict: None,
            gone: false,
            over: false,
            terminating_since: None,
            resize: resize::Memory::default(),
        }
    }
}

/// Which list of the pod a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to completion before the app.
    Init,
    /// Starts before the app and runs beside it.
    Sidecar,
    /// The app.
    App,
    /// Added for debugging.
    Ephemeral,
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// The pod ends.
    PodEnds,
    /// Its definition changed.
    Redefined,
    /// Liveness probe failed.
    Liveness,
    /// Startup probe failed.
    Startup,
    /// The runtime lost track of it, or its sandbox is gone.
    Lost,
}

/// One step towards the desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stop a sandbox.
    StopSandbox {
        /// Sandbox id.
        id: String,
    },
    /// Make a sandbox.
    CreateSandbox {
        /// How many sandboxes the pod had before.
        attempt: u32,
    },
    /// Remove a sandbox with nothing in it.
    RemoveSandbox {
        /// Sandbox id.
        id: String,
    },
    /// Remove a container that does not run.
    RemoveContainer {
        /// Container id.
        id: String,
        /// Its log, removed too.
        log_path: String,
    },
    /// Create and start a container, pulling its image first when needed.
    Start {
        /// Container name.
        name: String,
        /// Its list.
        role: Role,
        /// How many containers of this name ran before.
        attempt: u32,
        /// End of the previous run, when there was one: what the next back-off counts from.
        after: Option<Timestamp>,
    },
    /// Change the limits of running containers, within the pod's as a whole.
    Resize {
        /// Ids and names of the containers.
        containers: Vec<(String, String)>,
        /// The pod's limits in force, where known.
        from: Option<Limits>,
        /// Whether the pod's limits may be narrowed at the end; not while a container with other resources is being
        /// replaced.
        narrow: bool,
    },
    /// Run the stop hook, send the stop signal, wait, kill.
    Kill {
        /// Container id.
        id: String,
        /// Container name.
        name: String,
        /// Seconds to wait.
        grace: i64,
        /// Why.
        reason: KillReason,
        /// Sentence for the event.
        message: String,
    },
}

/// The next steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order. Kills may run at the same time.
    pub actions: Vec<Action>,
    /// Containers that wait for a restart delay: reason `CrashLoopBackOff` and this message.
    pub crash_loops: BTreeMap<String, String>,
    /// Look again at this time even if nothing changes.
    pub wake_at: Option<Timestamp>,
    /// The pod is ending or has ended.
    pub ending: bool,
    /// Nothing of an ending pod runs any more.
    pub ended: bool,
    /// A running container has not the resources that it was granted.
    pub resizing: bool,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

/// Key of a container's restart delays: another image starts afresh.
pub fn backoff_key(container: &core::Container) -> String {
    format!("{}_{}", container.name, container_hash(container))
}

/// Seconds that the pod's containers get between the stop signal and the kill.
pub fn grace_period(pod: &core::Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    let asked =
        pod.metadata.deletion_timestamp.is_some().then_some(pod.metadata.deletion_grace_period_seconds).flatten();
    asked.map_or(spec, |asked| asked.min(spec.max(asked))).max(MINIMUM_GRACE)
}

/// When the pod's `activeDeadlineSeconds` runs out.
pub fn deadline(pod: &core::Pod) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?.0;
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether a container that has ended is to run again, by its own and the pod's restart policy.
pub fn restarts(container: &core::Container, pod: &core::Pod, exit_code: i32) -> bool {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    for rule in rules {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        if rule.action == "Restart" && (codes.operator == "In") == listed {
            return true;
        }
    }
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    match container.restart_policy.as_deref().unwrap_or(of_pod) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Whether a container is to be started (again), given its newest run.
pub fn should_start(container: &core::Container, pod: &core::Pod, observed: &Observed, memory: &Memory) -> bool {
    match observed.latest(&container.name) {
        None => !ran_to_its_end(container, pod),
        Some(run) => match run.phase {
            ContainerPhase::Running => false,
            ContainerPhase::Created | ContainerPhase::Unknown => true,
            ContainerPhase::Exited => memory.redefined.contains(&run.id) || restarts(container, pod, run.exit_code),
        },
    }
}

/// The runtime has forgotten a container that, says the API, ended and is not to run again.
fn ran_to_its_end(container: &core::Container, pod: &core::Pod) -> bool {
    model::api_status(pod, &container.name)
        .and_then(|status| status.state.as_ref()?.terminated.as_ref())
        .is_some_and(|ended| !restarts(container, pod, ended.exit_code))
}

/// Whether the newest sandbox cannot serve the pod, and the attempt number of the one to make.
pub fn sandbox_needed(pod: &core::Pod, observed: &Observed) -> (bool, u32) {
    let Some(newest) = observed.sandboxes.first() else { return (true, 0) };
    let host = model::host_network(pod);
    let usable = newest.ready && newest.host_network == host && (host || !newest.ips.is_empty());
    (!usable, if usable { newest.attempt } else { newest.attempt.saturating_add(1) })
}

/// The next steps for a pod.
pub fn plan(pod: &core::Pod, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let over = deadline(pod);
    if let Some(at) = over.filter(|at| *at > now) {
        plan.wake(at);
    }
    let ending = memory.gone
        || memory.over
        || memory.verdict.is_some()
        || pod.metadata.deletion_timestamp.is_some()
        || model::is_terminal(pod)
        || over.is_some_and(|at| at <= now);
    if ending {
        end(pod, observed, memory, now, &mut plan);
    } else {
        run(pod, observed, memory, now, &mut plan);
    }
    plan
}

/// Stops everything: app containers at once, then sidecars one by one from the last, then the sandbox.
fn end(pod: &core::Pod, observed: &Observed, memory: &Memory, now: Timestamp, plan: &mut Plan) {
    plan.ending = true;
    let whole = if memory.gone && pod.metadata.deletion_timestamp.is_none() && pod.spec.is_none() {
        observed.containers.iter().find_map(|container| container.grace).unwrap_or(30)
    } else {
        grace_period(pod)
    };
    let spent = memory.terminating_since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
    let sidecars: Vec<&str> =
        init_containers(pod).iter().filter(|item| is_sidecar(item)).map(|item| item.name.as_str()).collect();
    let (side, main): (Vec<&Container>, Vec<&Container>) = observed
        .containers
        .iter()
        .filter(|container| container.alive())
        .partition(|container| sidecars.contains(&container.name.as_str()));
    let kill = |container: &Container, grace: i64| Action::Kill {
        id: container.id.clone(),
        name: container.name.clone(),
        grace,
        reason: KillReason::PodEnds,
        message: format!("Stopping container {}", container.name),
    };
    if !main.is_empty() {
        let fresh = main.iter().filter(|container| !memory.killing.contains(&container.id));
        plan.actions.extend(fresh.map(|container| kill(container, whole)));
        return;
    }
    if !side.is_empty() {
        let order = |container: &&&Container| sidecars.iter().position(|name| *name == container.name);
        if let Some(last) = side.iter().max_by_key(order)
            && !memory.killing.contains(&last.id)
        {
            plan.actions.push(kill(last, (whole - spent).max(MINIMUM_GRACE)));
        }
        return;
    }
    let ready = observed.sandboxes.iter().filter(|sandbox| sandbox.ready);
    plan.actions.extend(ready.map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() }));
    plan.ended = plan.actions.is_empty();
}

/// Brings the pod up and keeps it up.
fn run(pod: &core::Pod, observed: &Observed, memory: &Memory, now: Timestamp, plan: &mut Plan) {
    let (needed, attempt) = sandbox_needed(pod, observed);
    if needed {
        renew_sandbox(pod, observed, memory, now, attempt, plan);
        return;
    }
    if let Some(failure) = memory.setup.as_ref().filter(|failure| failure.retry_at > now) {
        plan.wake(failure.retry_at);
        return;
    }
    let mut starter = Starter { pod, observed, memory, now, plan, updates: Vec::new(), replacing: false };
    for (container, _) in ephemeral_containers(pod) {
        if observed.latest(&container.name).is_none()
            && model::api_status(pod, &container.name)
                .and_then(|status| status.state.as_ref()?.terminated.as_ref())
                .is_none()
        {
            starter.start(&container, Role::Ephemeral);
        }
    }
    if starter.init() == Progress::Failed {
        end(pod, observed, memory, now, plan);
        return;
    }
    if starter.initialized() {
        starter.apps();
        let idle = app_containers(pod).iter().all(|container| {
            !observed.latest(&container.name).is_some_and(|run| run.phase == ContainerPhase::Running)
                && !should_start(container, pod, observed, memory)
        });
        if idle {
            plan.actions.clear();
            end(pod, observed, memory, now, plan);
            return;
        }
    }
    starter.resize();
    collect_garbage(observed, plan);
}

/// Replaces a sandbox that is missing, dead, or of the wrong kind, unless the pod has nothing left to run.
fn renew_sandbox(pod: &core::Pod, observed: &Observed, memory: &Memory, now: Timestamp, attempt: u32, plan: &mut Plan) {
    let alive: Vec<&Container> = observed.containers.iter().filter(|container| container.alive()).collect();
    if !alive.is_empty() {
        for container in alive.iter().filter(|container| !memory.killing.contains(&container.id)) {
            plan.actions.push(Action::Kill {
                id: container.id.clone(),
                name: container.name.clone(),
                grace: grace_period(pod),
                reason: KillReason::Lost,
                message: "Pod sandbox changed, it will be killed and re-created.".to_owned(),
            });
        }
        return;
    }
    let began = app_containers(pod)
        .iter()
        .any(|container| observed.latest(&container.name).is_some() || ran_to_its_end(container, pod));
    let left = app_containers(pod).iter().any(|container| should_start(container, pod, observed, memory));
    let once = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("Never");
    let tried = once && attempt > 0 && !observed.containers.is_empty();
    if tried || (began && !left) {
        end(pod, observed, memory, now, plan);
        return;
    }
    if let Some(failure) = memory.setup.as_ref().filter(|failure| failure.retry_at > now) {
        plan.wake(failure.retry_at);
        return;
    }
    let old = observed.sandboxes.iter().filter(|sandbox| sandbox.ready || sandbox.attempt.saturating_add(1) == attempt);
    plan.actions.extend(old.map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() }));
    plan.actions.push(Action::CreateSandbox { attempt });
}

/// Removes runs of a container beyond those kept, and old sandboxes that hold none.
fn collect_garbage(observed: &Observed, plan: &mut Plan) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut removed = BTreeSet::new();
    for container in &observed.containers {
        let count = seen.entry(container.name.as_str()).or_default();
        *count += 1;
        if *count > KEPT && !container.alive() {
            removed.insert(container.id.as_str());
            plan.actions
                .push(Action::RemoveContainer { id: container.id.clone(), log_path: container.log_path.clone() });
        }
    }
    for sandbox in observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
        let holds =
            |container: &&Container| container.sandbox_id == sandbox.id && !removed.contains(container.id.as_str());
        if observed.containers.iter().find(holds).is_none() {
            plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// Go on (or wait).
    On,
    /// An init container failed for good.
    Failed,
}

struct Starter<'a> {
    pod: &'a core::Pod,
    observed: &'a Observed,
    memory: &'a Memory,
    now: Timestamp,
    plan: &'a mut Plan,
    /// Running containers to get new limits: id and name.
    updates: Vec<(String, String)>,
    /// Whether a container is replaced, or to be replaced, for its new resources.
    replacing: bool,
}

impl Starter<'_> {
    /// An app container was made in the present sandbox: init containers are over for its lifetime.
    fn past_init(&self) -> bool {
        let sandbox = self.observed.sandboxes.first().map(|sandbox| sandbox.id.as_str());
        app_containers(self.pod).iter().any(|container| {
            self.observed.latest(&container.name).is_some_and(|run| {
                Some(run.sandbox_id.as_str()) == sandbox
                    && matches!(run.phase, ContainerPhase::Created | ContainerPhase::Running | ContainerPhase::Exited)
            })
        })
    }

    /// The newest run of an init container in the present sandbox: a new sandbox runs them anew.
    fn init_run(&self, name: &str) -> Option<&Container> {
        let sandbox = self.observed.sandboxes.first().map(|sandbox| sandbox.id.as_str());
        self.observed.latest(name).filter(|run| Some(run.sandbox_id.as_str()) == sandbox)
    }

    fn has_started(&self, container: &core::Container, run: &Container) -> bool {
        container.startup_probe.is_none()
            || self.memory.probes.get(&run.id).and_then(|probed| probed.started) == Some(true)
    }

    /// Whether every init container has done its part.
    fn initialized(&self) -> bool {
        self.past_init()
            || init_containers(self.pod).iter().all(|container| match self.init_run(&container.name) {
                Some(run) if is_sidecar(container) => {
                    run.phase == ContainerPhase::Running && self.has_started(container, run)
                }
                Some(run) => run.phase == ContainerPhase::Exited && run.exit_code == 0,
                None => false,
            })
    }

    fn init(&mut self) -> Progress {
        let past = self.past_init();
        for container in init_containers(self.pod) {
            let run = self.init_run(&container.name).cloned();
            if is_sidecar(container) {
                match run {
                    Some(run) if run.phase == ContainerPhase::Running => {
                        self.check(container, &run, Role::Sidecar);
                        if !past && !self.has_started(container, &run) {
                            return Progress::On;
                        }
                    }
                    _ => {
                        self.start(container, Role::Sidecar);
                        if !past {
                            return Progress::On;
                        }
                    }
                }
                continue;
            }
            if past {
                continue;
            }
            match run {
                Some(run) if run.phase == ContainerPhase::Running => return Progress::On,
                Some(run) if run.phase == ContainerPhase::Exited && run.exit_code == 0 => {}
                Some(run) if run.phase == ContainerPhase::Exited && !restarts(container, self.pod, run.exit_code) => {
                    return Progress::Failed;
                }
                _ => {
                    self.start(container, Role::Init);
                    return Progress::On;
                }
            }
        }
        Progress::On
    }

    fn apps(&mut self) {
        for container in app_containers(self.pod) {
            match self.observed.latest(&container.name).cloned() {
                Some(run) if run.phase == ContainerPhase::Running => self.check(container, &run, Role::App),
                _ if should_start(container, self.pod, self.observed, self.memory) => {
                    self.start(container, Role::App);
                }
                _ => {}
            }
        }
    }

    /// Stops a running container whose definition changed or whose probes failed.
    fn check(&mut self, container: &core::Container, run: &Container, role: Role) {
        let resize = resize::change(container, run, &self.memory.resize);
        self.plan.resizing |= resize != Change::None;
        self.replacing |= resize == Change::Restart;
        if self.memory.killing.contains(&run.id) {
            return;
        }
        let probed = self.memory.probes.get(&run.id).copied().unwrap_or_default();
        let named = if role == Role::Sidecar { "Init container" } else { "Container" };
        let changed = run.hash.as_ref().is_some_and(|hash| *hash != container_hash(container));
        let pod_grace = grace_period(self.pod);
        let own = |probe: &Option<core::Probe>| {
            probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds).unwrap_or(pod_grace)
        };
        let (reason, why, grace) = if changed {
            (KillReason::Redefined, "definition changed", pod_grace)
        } else if probed.alive == Some(false) {
            (KillReason::Liveness, "failed liveness probe", own(&container.liveness_probe))
        } else if probed.started == Some(false) {
            (KillReason::Startup, "failed startup probe", own(&container.startup_probe))
        } else if resize == Change::Restart {
            (KillReason::Redefined, "resize requires restart", pod_grace)
        } else {
            if resize == Change::Update {
                self.updates.push((run.id.clone(), run.name.clone()));
            }
            return;
        };
        let again = changed || restarts(container, self.pod, 137);
        let suffix = if again && role == Role::App && resize != Change::Restart { ", will be restarted" } else { "" };
        self.plan.actions.push(Action::Kill {
            id: run.id.clone(),
            name: run.name.clone(),
            grace,
            reason,
            message: format!("{named} {} {why}{suffix}", run.name),
        });
    }

    /// Gives running containers and the pod as a whole their new limits, before anything starts.
    fn resize(&mut self) {
        let wanted = cgroup::limits(self.pod);
        let from = self.memory.resize.limits;
        let off = from.is_some_and(|from| if self.replacing { from.widened(wanted) != from } else { from != wanted });
        self.plan.resizing |= off;
        if self.updates.is_empty() && !off {
            return;
        }
        if let Some(at) = self.memory.resize.retry_at.filter(|at| *at > self.now) {
            self.plan.wake(at);
            return;
        }
        let containers = std::mem::take(&mut self.updates);
        self.plan.actions.insert(0, Action::Resize { containers, from, narrow: !self.replacing });
    }

    /// Starts a container unless a delay is in force.
    fn start(&mut self, container: &core::Container, role: Role) {
        if let Some(failure) = self.memory.failures.get(&container.name).filter(|failure| failure.retry_at > self.now) {
            self.plan.wake(failure.retry_at);
            return;
        }
        let last = self.observed.latest(&container.name);
        if let Some(run) = last.filter(|run| run.phase == ContainerPhase::Unknown) {
            if !self.memory.killing.contains(&run.id) {
                self.plan.actions.push(Action::Kill {
                    id: run.id.clone(),
                    name: run.name.clone(),
                    grace: grace_period(self.pod),
                    reason: KillReason::Lost,
                    message: "Container is in \"unknown\" state, try killing it before restart".to_owned(),
                });
            }
            return;
        }
        let mut after = None;
        if let Some(run) = last.filter(|run| run.phase == ContainerPhase::Exited) {
            let finished = from_nanos(run.finished_at);
            let fresh = self.memory.redefined.contains(&run.id);
            let pending = self.memory.backoff.pending(&backoff_key(container), finished, self.now);
            if let Some((delay, end)) = pending.filter(|_| !fresh) {
                let text = format!(
                    "back-off {} restarting failed container={} pod={}",
                    go_duration(delay),
                    container.name,
                    model::full_name(self.pod)
                );
                self.plan.crash_loops.insert(container.name.clone(), text);
                self.plan.wake(end);
                return;
            }
            after = Some(finished);
        }
        if let Some(run) = last.filter(|run| run.phase == ContainerPhase::Created) {
            self.plan.actions.push(Action::RemoveContainer { id: run.id.clone(), log_path: run.log_path.clone() });
        }
        let attempt = match last {
            Some(run) if run.phase == ContainerPhase::Created => run.attempt,
            Some(run) => run.attempt.saturating_add(1),
            None => model::api_status(self.pod, &container.name)
                .filter(|status| status.container_id.as_deref().is_some_and(|id| !id.is_empty()))
                .map_or(0, |status| u32::try_from(status.restart_count).unwrap_or(0).saturating_add(1)),
        };
        self.plan.actions.push(Action::Start { name: container.name.clone(), role, attempt, after });
    }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
