//! One task per pod: looks, plans, acts, writes the status; woken by the API, the runtime, its own tasks and the clock.
//! A thin shell around [`crate::plan`] and [`crate::status`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::events::about_pod;
use crate::model::{self, ContainerPhase, Observed};
use crate::node_context::SharedNode;
use crate::plan::{Action, Failure, KillReason, Memory, Plan, deadline, plan};
use crate::probe::{self, Counter, Kind, Outcome};
use crate::start::{Job, Report, kill, target};
use crate::status::{Context, same, status};
use crate::volume::{self, PodDir};
use crate::{cgroup, config, static_pods};

mod resizing;

/// How often projected volumes are refreshed.
const REFRESH: Duration = Duration::from_secs(20);

/// Failed writes of a status after which an ended pod is let go without it.
const REFUSALS: u32 = 20;

/// What the API server says of a pod.
#[derive(Clone)]
pub(crate) struct Desired {
    /// The latest object.
    pub(crate) pod: Arc<core::Pod>,
    /// Whether the object is gone.
    pub(crate) gone: bool,
}

/// Tasks that end when the worker does.
#[derive(Default)]
struct Tasks {
    job: Option<JoinHandle<()>>,
    kills: BTreeMap<String, JoinHandle<()>>,
    probes: BTreeMap<(String, Kind), JoinHandle<()>>,
    push: Option<JoinHandle<()>>,
    refresh: Option<JoinHandle<()>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let singles = [self.job.take(), self.push.take(), self.refresh.take()];
        let all = singles.into_iter().flatten().chain(std::mem::take(&mut self.kills).into_values());
        for task in all.chain(std::mem::take(&mut self.probes).into_values()) {
            task.abort();
        }
    }
}

/// The worker of one pod.
pub(crate) struct Worker {
    node: SharedNode,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    /// Tells of resources of the node that became free.
    freed: watch::Receiver<()>,
    memory: Memory,
    tasks: Tasks,
    reports: mpsc::UnboundedReceiver<Report>,
    report_to: mpsc::UnboundedSender<Report>,
    /// The object last taken from the watch.
    taken: Arc<core::Pod>,
    /// Latest object known: from the watch or from our own writes.
    base: Arc<core::Pod>,
    /// The status last computed.
    last: Option<core::PodStatus>,
    push_after: Option<Timestamp>,
    push_failures: u32,
    looped: BTreeMap<String, String>,
    grace: Option<i64>,
    late: bool,
    ended: bool,
}

fn version(pod: &core::Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Worker {
    /// A worker for the pod that `desired` tells of.
    pub(crate) fn new(
        node: SharedNode,
        desired: watch::Receiver<Desired>,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        let (report_to, reports) = mpsc::unbounded_channel();
        let base = desired.borrow().pod.clone();
        let freed = node.freed.subscribe();
        Self {
            freed,
            taken: base.clone(),
            node,
            desired,
            wake,
            stop,
            memory: Memory::default(),
            tasks: Tasks::default(),
            reports,
            report_to,
            base,
            last: None,
            push_after: None,
            push_failures: 0,
            looped: BTreeMap::new(),
            grace: None,
            late: false,
            ended: false,
        }
    }

    /// Marks the pod as refused by the node: it fails without ever starting.
    pub(crate) fn refuse(&mut self, reason: &str, message: &str) {
        self.memory.verdict = Some(crate::plan::Verdict { reason: reason.to_owned(), message: message.to_owned() });
    }

    /// Works until the pod is gone from the API and the runtime, or the kubelet stops. Stopping touches nothing.
    pub(crate) async fn run(mut self) {
        let mut refresh_at = tokio::time::Instant::now() + REFRESH;
        loop {
            let wait = match self.look().await {
                Step::Finished => return,
                Step::Wait(until) => until,
            };
            let clock = wait.unwrap_or(Duration::from_secs(60));
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.desired.changed() => if changed.is_err() { return },
                () = self.wake.notified() => {}
                freed = self.freed.changed(), if self.memory.resize.pending.is_some() => if freed.is_err() { return },
                report = self.reports.recv() => if let Some(report) = report { self.take(report) },
                () = tokio::time::sleep(clock) => {}
                () = tokio::time::sleep_until(refresh_at) => {
                    refresh_at = tokio::time::Instant::now() + REFRESH;
                    self.refresh();
                }
            }
            while let Ok(report) = self.reports.try_recv() {
                self.take(report);
            }
        }
    }

    /// Looks once: observe, plan, write the status, act.
    async fn look(&mut self) -> Step {
        let desired = self.desired.borrow_and_update().clone();
        // A static pod has no version: what was last written of it holds until its mirror is seen to be otherwise.
        let news = !Arc::ptr_eq(&desired.pod, &self.taken);
        self.taken = desired.pod.clone();
        if version(&desired.pod) >= version(&self.base) && (news || !static_pods::is_static(&self.base)) {
            if volume_inputs_changed(&self.base, &desired.pod) {
                self.refresh();
            }
            self.base = desired.pod.clone();
        }
        self.freed.mark_unchanged();
        let pod = self.granted(desired.gone);
        self.memory.gone = desired.gone;
        if self.ended && !desired.gone {
            return self.after_end(&pod).await;
        }
        let observed = match self.node.cri.observe(model::uid(&pod)).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::debug!(%error, pod = model::full_name(&pod), "runtime not observed");
                return Step::Wait(Some(Duration::from_secs(1)));
            }
        };
        let now = Timestamp::now();
        let plan = plan(&pod, &observed, &self.memory, now);
        if plan.ending {
            self.begin_ending(&pod, now);
        }
        self.tend_probes(&pod, &observed, plan.ending);
        self.note_crash_loops(&pod, &plan);
        self.note_deadline(&pod, now);
        self.note_resize(&pod, &plan);
        if !desired.gone {
            self.update_status(&pod, &observed, &plan, now);
        }
        if plan.ended {
            return self.finish(&pod, &observed).await;
        }
        let wake_at = plan.wake_at;
        self.act(&pod, &observed, plan);
        let until = [wake_at, self.push_after].into_iter().flatten().min();
        Step::Wait(
            until.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(5)),
        )
    }

    fn begin_ending(&mut self, pod: &core::Pod, now: Timestamp) {
        if self.memory.terminating_since.is_none() {
            self.memory.terminating_since = Some(now);
            if let Some(job) = self.tasks.job.take() {
                job.abort();
            }
        }
        let grace = crate::plan::grace_period(pod);
        if self.grace.is_some_and(|old| grace < old) {
            for (id, task) in std::mem::take(&mut self.tasks.kills) {
                task.abort();
                self.memory.killing.remove(&id);
            }
        }
        self.grace = Some(grace);
    }

    fn note_crash_loops(&mut self, pod: &core::Pod, plan: &Plan) {
        for (name, message) in &plan.crash_loops {
            if self.looped.get(name) != Some(message) {
                let text = format!("Back-off restarting failed container {name} in pod {}", model::full_name(pod));
                self.node.events.warning(about_pod(pod, Some(name)), "BackOff", text);
            }
        }
        self.looped.clone_from(&plan.crash_loops);
    }

    fn note_deadline(&mut self, pod: &core::Pod, now: Timestamp) {
        if !self.late && !model::is_terminal(pod) && deadline(pod).is_some_and(|at| at <= now) {
            self.late = true;
            let text = "Pod was active on the node longer than the specified deadline";
            self.node.events.normal(about_pod(pod, None), "DeadlineExceeded", text);
        }
    }

    /// Starts what the plan asks for and is not under way.
    fn act(&mut self, pod: &Arc<core::Pod>, observed: &Observed, plan: Plan) {
        let ips = observed.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let (kills, rest): (Vec<Action>, Vec<Action>) =
            plan.actions.into_iter().partition(|action| matches!(action, Action::Kill { .. }));
        for action in kills {
            let Action::Kill { id, reason, .. } = &action else { continue };
            if !self.memory.killing.insert(id.clone()) {
                continue;
            }
            if matches!(reason, KillReason::Redefined) {
                self.memory.redefined.insert(id.clone());
            }
            let id = id.clone();
            let task = kill(self.node.clone(), pod.clone(), action, ips.clone(), self.report_to.clone());
            self.tasks.kills.insert(id, tokio::spawn(task));
        }
        if rest.is_empty() || self.tasks.job.is_some() {
            return;
        }
        let job = Job {
            node: self.node.clone(),
            pod: pod.clone(),
            observed: observed.clone(),
            actions: rest,
            actual: self.actual(observed),
            reports: self.report_to.clone(),
        };
        self.tasks.job = Some(tokio::spawn(job.run()));
    }

    fn take(&mut self, report: Report) {
        let now = Timestamp::now();
        match report {
            Report::Failed { name, reason, message, retry_at } => {
                let old = match &name {
                    Some(name) => self.memory.failures.get(name),
                    None => self.memory.setup.as_ref(),
                };
                let times = old.map_or(0, |old| old.times).saturating_add(1);
                let seconds = match reason.as_str() {
                    "ErrImagePull" => 1500,
                    "FailedMount" => 250 << times.min(7),
                    _ => (500_i64 << times.min(5)).min(10_000),
                };
                let retry_at =
                    retry_at.or_else(|| now.checked_add(SignedDuration::from_millis(seconds)).ok()).unwrap_or(now);
                let failure = Failure { reason, message, retry_at, times };
                match name {
                    Some(name) => {
                        self.memory.failures.insert(name, failure);
                    }
                    None => self.memory.setup = Some(failure),
                }
            }
            Report::Started { name: Some(name) } => {
                self.memory.failures.remove(&name);
                self.memory.setup = None;
            }
            Report::Started { name: None } => self.memory.setup = None,
            Report::Restarting { key, after } => {
                self.memory.backoff.next(&key, after);
            }
            Report::Resized { id, resources } => {
                self.memory.resize.retry_at = None;
                self.memory.resize.applied.insert(id, resources);
            }
            Report::Limited(limits) => self.memory.resize.limits = Some(limits),
            Report::ResizeFailed(message) => self.note_failed_resize(message, now),
            Report::Killed { id } => {
                self.memory.killing.remove(&id);
                self.tasks.kills.remove(&id);
            }
            Report::Probed { id, kind, verdict } => {
                let probed = self.memory.probes.entry(id).or_default();
                match kind {
                    Kind::Startup => probed.started = Some(verdict),
                    Kind::Readiness => probed.ready = Some(verdict),
                    Kind::Liveness => probed.alive = Some(verdict),
                }
            }
            Report::Done => self.tasks.job = None,
            Report::Pushed(result) => {
                self.tasks.push = None;
                match *result {
                    Ok(pod) => {
                        self.push_after = None;
                        self.push_failures = 0;
                        if static_pods::is_static(&self.base) {
                            Arc::make_mut(&mut self.base).status = pod.status;
                        } else if version(&pod) > version(&self.base) && pod.metadata.uid == self.base.metadata.uid {
                            self.base = Arc::new(pod);
                        }
                    }
                    Err(error) => {
                        self.push_failures = self.push_failures.saturating_add(1);
                        if self.push_failures == REFUSALS {
                            tracing::warn!(%error, pod = model::full_name(&self.base), "status not written");
                        }
                        self.push_after = now.checked_add(SignedDuration::from_millis(500)).ok();
                    }
                }
            }
        }
    }

    /// Computes the status and sends it when it differs from what the API server holds.
    fn update_status(&mut self, pod: &Arc<core::Pod>, observed: &Observed, plan: &Plan, now: Timestamp) {
        let held = pod.status.clone().unwrap_or_default();
        let previous = self.last.clone().unwrap_or_else(|| held.clone());
        let context =
            Context { previous: &previous, plan, memory: &self.memory, node_ip: self.node.config.node_ip, now };
        let fresh = status(pod, observed, &context);
        self.memory.over |= matches!(fresh.phase.as_deref(), Some("Succeeded" | "Failed"));
        self.last = Some(fresh.clone());
        let waiting = self.push_after.is_some_and(|at| at > now);
        if self.tasks.push.is_some() || waiting || same(&fresh, &held) {
            return;
        }
        let task = push(self.node.config.client.clone(), pod.clone(), fresh);
        let reports = self.report_to.clone();
        self.tasks.push = Some(tokio::spawn(async move {
            let _ = reports.send(Report::Pushed(Box::new(task.await)));
        }));
    }

    /// Nothing runs any more: writes the last status, frees what the node holds, and lets go of a deleted pod.
    async fn finish(&mut self, pod: &Arc<core::Pod>, observed: &Observed) -> Step {
        self.tasks.probes.clear();
        let dir = PodDir::new(&self.node.config.root, model::uid(pod));
        if self.memory.gone {
            self.clean(pod, observed, &dir).await;
            return Step::Finished;
        }
        let held = pod.status.clone().unwrap_or_default();
        if self.push_failures < REFUSALS && self.last.as_ref().is_some_and(|last| !same(last, &held)) {
            // The write is under way or waits for its retry.
            return Step::Wait(Some(Duration::from_millis(500)));
        }
        self.unmount_images(&dir).await;
        if let Err(error) = volume::release(&dir).await {
            tracing::warn!(%error, pod = model::full_name(pod), "volumes not released");
            return Step::Wait(Some(Duration::from_secs(1)));
        }
        cgroup::remove(model::uid(pod));
        self.node.release(model::uid(pod));
        self.ended = true;
        self.after_end(pod).await
    }

    /// The pod has ended; waits for its deletion and then removes the object.
    async fn after_end(&mut self, pod: &Arc<core::Pod>) -> Step {
        if pod.metadata.deletion_timestamp.is_none() {
            return Step::Wait(None);
        }
        let api: Api<core::Pod> = Api::namespaced(self.node.config.client.clone(), model::namespace(pod));
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(model::name(pod), &params).await {
            Ok(_) => Step::Wait(Some(Duration::from_secs(10))),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                Step::Wait(Some(Duration::from_secs(10)))
            }
            Err(error) => {
                tracing::warn!(%error, pod = model::full_name(pod), "pod not deleted");
                Step::Wait(Some(Duration::from_secs(1)))
            }
        }
    }

    async fn clean(&self, pod: &Arc<core::Pod>, observed: &Observed, dir: &PodDir) {
        for sandbox in &observed.sandboxes {
            if let Err(error) = self.node.cri.remove_sandbox(&sandbox.id).await {
                tracing::warn!(%error, sandbox = sandbox.id, "sandbox not removed");
            }
        }
        for container in &observed.containers {
            if let Err(error) = self.node.cri.remove_container(&container.id).await {
                tracing::debug!(%error, container = container.id, "container not removed");
            }
        }
        self.unmount_images(dir).await;
        if let Err(error) = volume::tear_down(dir).await {
            tracing::warn!(%error, pod = model::full_name(pod), "pod directory not removed");
        }
        cgroup::remove(model::uid(pod));
        self.node.objects.forget(model::uid(pod));
        if let Err(error) = tokio::fs::remove_dir_all(config::log_directory(&self.node.logs(), pod)).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, pod = model::full_name(pod), "logs not removed");
        }
    }

    async fn unmount_images(&self, dir: &PodDir) {
        for target in dir.images() {
            if let Err(error) = crate::containerd::unmount_image(&self.node.config.containerd, &target).await {
                tracing::warn!(%error, target = %target.display(), "image volume not unmounted by its runtime");
            }
        }
    }

    fn refresh(&mut self) {
        let busy = self.tasks.refresh.as_ref().is_some_and(|task| !task.is_finished());
        if busy || self.ended || self.memory.gone || !volume::refreshable(&self.base) {
            return;
        }
        let (node, pod) = (self.node.clone(), self.base.clone());
        self.tasks.refresh = Some(tokio::spawn(async move {
            let dir = PodDir::new(&node.config.root, model::uid(&pod));
            if !dir.path().exists() {
                return;
            }
            let ips: Vec<String> = pod
                .status
                .iter()
                .flat_map(|status| status.pod_ips.iter().flatten())
                .map(|item| item.ip.clone())
                .collect();
            let facts = node.facts(&pod, &ips);
            if let Err(error) = volume::prepare(&pod, &dir, &node.objects, &facts).await {
                tracing::info!(%error, pod = model::full_name(&pod), "volumes not refreshed");
            }
        }));
    }

    /// Has a task for every probe of every running container, and none else.
    fn tend_probes(&mut self, pod: &Arc<core::Pod>, observed: &Observed, ending: bool) {
        let mut wanted = BTreeSet::new();
        let ips = observed.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        for container in model::init_containers(pod).iter().chain(model::app_containers(pod)) {
            let Some(run) = observed.latest(&container.name).filter(|run| run.phase == ContainerPhase::Running) else {
                continue;
            };
            let probed = self.memory.probes.get(&run.id).copied().unwrap_or_default();
            let started = container.startup_probe.is_none() || probed.started == Some(true);
            let probes = [
                (Kind::Startup, container.startup_probe.as_ref().filter(|_| !started && !ending)),
                (Kind::Readiness, container.readiness_probe.as_ref().filter(|_| started)),
                (Kind::Liveness, container.liveness_probe.as_ref().filter(|_| started && !ending)),
            ];
            for (kind, probe) in probes {
                let Some(probe) = probe else { continue };
                let key = (run.id.clone(), kind);
                wanted.insert(key.clone());
                if self.tasks.probes.contains_key(&key) {
                    continue;
                }
                let watcher = Prober {
                    node: self.node.clone(),
                    pod: pod.clone(),
                    target: target(&self.node, container, &run.id, &ips),
                    kind,
                    probe: probe.clone(),
                    started_at: model::from_nanos(run.started_at),
                    reports: self.report_to.clone(),
                };
                self.tasks.probes.insert(key, tokio::spawn(watcher.run()));
            }
        }
        self.tasks.probes.retain(|key, task| {
            let keep = wanted.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        let known: BTreeSet<&str> = observed.containers.iter().map(|run| run.id.as_str()).collect();
        self.memory.probes.retain(|id, _| known.contains(id.as_str()));
        self.memory.redefined.retain(|id| known.contains(id.as_str()));
        self.memory.resize.applied.retain(|id, _| known.contains(id.as_str()));
    }
}

enum Step {
    /// Look again when woken or after this time.
    Wait(Option<Duration>),
    /// The worker's task is done.
    Finished,
}

/// Whether files that show the pod's own fields may have changed.
fn volume_inputs_changed(old: &core::Pod, new: &core::Pod) -> bool {
    old.metadata.labels != new.metadata.labels || old.metadata.annotations != new.metadata.annotations
}

struct Prober {
    node: SharedNode,
    pod: Arc<core::Pod>,
    target: probe::Target,
    kind: Kind,
    probe: core::Probe,
    started_at: Timestamp,
    reports: mpsc::UnboundedSender<Report>,
}

impl Prober {
    async fn run(self) {
        let delay = SignedDuration::from_secs(i64::from(self.probe.initial_delay_seconds.unwrap_or(0)));
        let left = delay - Timestamp::now().duration_since(self.started_at);
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        let period = u64::try_from(self.probe.period_seconds.unwrap_or(10)).unwrap_or(10).max(1);
        let mut ticks = tokio::time::interval(Duration::from_secs(period));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counter = Counter::new(&self.probe);
        let mut told = None;
        loop {
            ticks.tick().await;
            let passed = match probe::check(&self.target, &self.probe).await {
                Outcome::Success => true,
                Outcome::Failure(text) => {
                    self.unhealthy(format!("{} probe failed: {text}", self.kind.name()));
                    false
                }
                Outcome::Unknown(text) => {
                    self.unhealthy(format!("{} probe errored and resulted in unknown state: {text}", self.kind.name()));
                    continue;
                }
            };
            let Some(verdict) = counter.take(passed) else { continue };
            if told == Some(verdict) {
                continue;
            }
            told = Some(verdict);
            let report = Report::Probed { id: self.target.container_id.clone(), kind: self.kind, verdict };
            let over = match self.kind {
                Kind::Startup => true,
                Kind::Liveness => !verdict,
                Kind::Readiness => false,
            };
            if self.reports.send(report).is_err() || over {
                return;
            }
        }
    }

    fn unhealthy(&self, message: String) {
        self.node.events.warning(about_pod(&self.pod, Some(&self.target.container.name)), "Unhealthy", message);
    }
}

/// The merge patch that brings the status `held` by the API server to `fresh`; conditions that others write are kept.
fn status_patch(base: &core::Pod, fresh: &core::PodStatus) -> Value {
    let mut patch = serde_json::to_value(fresh).unwrap_or_else(|_| json!({}));
    let held = base.status.as_ref().and_then(|status| serde_json::to_value(status).ok()).unwrap_or_else(|| json!({}));
    if let (Some(patch), Some(held)) = (patch.as_object_mut(), held.as_object()) {
        for key in held.keys() {
            if !patch.contains_key(key) {
                patch.insert(key.clone(), Value::Null);
            }
        }
    }
    json!({
        "metadata": {"uid": base.metadata.uid, "resourceVersion": base.metadata.resource_version},
        "status": patch,
    })
}

/// Writes a status; on a conflict once more over the object as it is now.
async fn push(client: kube::Client, base: Arc<core::Pod>, fresh: core::PodStatus) -> Result<core::Pod, kube::Error> {
    let api: Api<core::Pod> = Api::namespaced(client, model::namespace(&base));
    let name = model::name(&base);
    let write = |patch: Value| {
        let api = api.clone();
        async move { api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await }
    };
    if static_pods::is_static(&base) {
        // What the API server shows of it has a uid of its own.
        let mirror = api.get(name).await?;
        if !static_pods::shows(&mirror, &base) {
            return Err(kube::Error::Service(format!("the mirror of {name} shows another state").into()));
        }
        return write(status_patch(&mirror, &fresh)).await;
    }
    match write(status_patch(&base, &fresh)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let now = api.get(name).await?;
            if now.metadata.uid != base.metadata.uid {
                return Ok(core::Pod::clone(&base));
            }
            // The worker computes the status anew over this object and writes it if it still differs.
            Ok(now)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_removes_what_is_no_longer_so() {
        let base: core::Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u", "resourceVersion": "7"},
            "status": {"phase": "Pending", "reason": "Old", "qosClass": "BestEffort"}}))
        .unwrap();
        let fresh = core::PodStatus {
            phase: Some("Running".into()),
            qos_class: Some("BestEffort".into()),
            ..Default::default()
        };
        let expected = json!({"metadata": {"uid": "u", "resourceVersion": "7"},
            "status": {"phase": "Running", "reason": null, "qosClass": "BestEffort"}});
        assert_eq!(status_patch(&base, &fresh), expected);
    }
}
