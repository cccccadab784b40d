//! Carries out the steps of a plan that bring a pod up: volumes, cgroup, sandbox, containers. Decides nothing beyond the
//! order within one step.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc;

use crate::cgroup::Limits;
use crate::config::{self, Inputs};
use crate::events::about_pod;
use crate::model::{self, Observed};
use crate::node_context::SharedNode;
use crate::plan::{Action, Role, backoff_key};
use crate::probe::{self, Target};
use crate::volume::{self, PodDir, Prepared};
use crate::{cgroup, network_files, resize};

/// What a task tells the pod's worker.
#[derive(Debug)]
pub(crate) enum Report {
    /// A container or the setup could not be started. `name` is `None` for the setup.
    Failed { name: Option<String>, reason: String, message: String, retry_at: Option<Timestamp> },
    /// A container or the setup was started.
    Started { name: Option<String> },
    /// A container was started anew, or that was tried, after a run that ended at `after`.
    Restarting { key: String, after: Timestamp },
    /// A running container has these resources now.
    Resized { id: String, resources: core::ResourceRequirements },
    /// The pod as a whole has these limits now.
    Limited(Limits),
    /// A resize could not be carried out to its end.
    ResizeFailed(String),
    /// A container's stop has ended.
    Killed { id: String },
    /// A probe reached a verdict.
    Probed { id: String, kind: probe::Kind, verdict: bool },
    /// The list of steps is done.
    Done,
    /// The status was written, or why not.
    Pushed(Box<Result<core::Pod, kube::Error>>),
}

/// One list of steps for one pod.
pub(crate) struct Job {
    pub(crate) node: SharedNode,
    pub(crate) pod: Arc<core::Pod>,
    pub(crate) observed: Observed,
    pub(crate) actions: Vec<Action>,
    /// Resources of running containers before a resize, by id.
    pub(crate) actual: BTreeMap<String, core::ResourceRequirements>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
}

struct Fault {
    reason: &'static str,
    message: String,
    retry_at: Option<Timestamp>,
}

impl Fault {
    fn new(reason: &'static str, message: &dyn std::fmt::Display) -> Self {
        Self { reason, message: message.to_string(), retry_at: None }
    }
}

impl Job {
    fn report(&self, report: Report) {
        // The worker is gone only when the whole kubelet stops.
        let _ = self.reports.send(report);
    }

    fn dir(&self) -> PodDir {
        PodDir::new(&self.node.config.root, model::uid(&self.pod))
    }

    /// Runs all steps, reporting each, then [`Report::Done`].
    pub(crate) async fn run(self) {
        let starts = self.actions.iter().any(|action| matches!(action, Action::Start { .. }));
        let ips = self.observed.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let creates = self.actions.iter().any(|action| matches!(action, Action::CreateSandbox { .. }));
        for action in &self.actions {
            let Action::Resize { containers, from, narrow } = action else { continue };
            if let Err(message) = self.resize(containers, *from, *narrow).await {
                self.report(Report::ResizeFailed(message));
                self.report(Report::Done);
                return;
            }
        }
        let mut volumes = Prepared::new();
        if starts || creates {
            match self.set_up(&ips).await {
                Ok(prepared) => volumes = prepared,
                Err(fault) => {
                    self.report(Report::Failed {
                        name: None,
                        reason: fault.reason.to_owned(),
                        message: fault.message,
                        retry_at: None,
                    });
                    self.report(Report::Done);
                    return;
                }
            }
        }
        for action in &self.actions {
            Box::pin(self.step(action, &volumes, &ips)).await;
        }
        self.report(Report::Done);
    }

    async fn step(&self, action: &Action, volumes: &Prepared, ips: &[String]) {
        let cri = &self.node.cri;
        match action {
            Action::StopSandbox { id } => {
                if let Err(error) = cri.stop_sandbox(id).await {
                    tracing::warn!(%error, sandbox = id, "sandbox not stopped");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Action::RemoveSandbox { id } => {
                if let Err(error) = cri.remove_sandbox(id).await {
                    tracing::warn!(%error, sandbox = id, "sandbox not removed");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Action::RemoveContainer { id, log_path } => {
                if let Err(error) = cri.remove_container(id).await {
                    tracing::warn!(%error, container = id, "container not removed");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                } else if !log_path.is_empty() {
                    crate::logs::remove(log_path).await;
                }
            }
            Action::CreateSandbox { attempt } => match self.create_sandbox(*attempt).await {
                Ok(()) => self.report(Report::Started { name: None }),
                Err(fault) => {
                    self.report(Report::Failed {
                        name: None,
                        reason: fault.reason.to_owned(),
                        message: fault.message,
                        retry_at: None,
                    });
                }
            },
            Action::Start { name, role, attempt, after } => {
                let Some(container) = model::find_container(&self.pod, name) else { return };
                let result = Box::pin(self.start(&container, *role, *attempt, volumes, ips)).await;
                if let Some(after) = after {
                    self.report(Report::Restarting { key: backoff_key(&container), after: *after });
                }
                match result {
                    Ok(()) => self.report(Report::Started { name: Some(name.clone()) }),
                    Err(fault) => {
                        let event = match fault.reason {
                            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                                format!("Error: {}", fault.reason)
                            }
                            _ => format!("Error: {}", fault.message),
                        };
                        if fault.reason != "PostStartHookError" {
                            self.node.events.warning(about_pod(&self.pod, Some(name)), "Failed", event);
                        }
                        self.report(Report::Failed {
                            name: Some(name.clone()),
                            reason: fault.reason.to_owned(),
                            message: fault.message,
                            retry_at: fault.retry_at,
                        });
                    }
                }
            }
            Action::Kill { .. } | Action::Resize { .. } => {}
        }
    }

    /// Everything that must be there before a sandbox or container.
    async fn set_up(&self, ips: &[String]) -> Result<Prepared, Fault> {
        let node = &self.node;
        let mut waited = 0;
        while !node.services_known.load(Ordering::Acquire) && waited < 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            waited += 1;
        }
        let pod = self.pod.clone();
        let logs = config::log_directory(&node.logs(), &pod);
        let dir = self.dir().path().to_path_buf();
        let made = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            cgroup::ensure(&pod)?;
            std::fs::create_dir_all(&logs)?;
            std::fs::create_dir_all(&dir)
        });
        if let Err(error) = made.await.map_err(std::io::Error::other).and_then(|result| result) {
            let message = format!("unable to ensure pod container exists: {error}");
            node.events.warning(about_pod(&self.pod, None), "FailedCreatePodContainer", message.clone());
            return Err(Fault::new("FailedCreatePodContainer", &message));
        }
        self.report(Report::Limited(cgroup::limits(&self.pod)));
        let facts = node.facts(&self.pod, ips);
        volume::prepare(&self.pod, &self.dir(), &node.objects, &facts).await.map_err(|error| {
            node.events.warning(about_pod(&self.pod, None), "FailedMount", error.to_string());
            Fault::new("FailedMount", &error)
        })
    }

    /// Widens the pod's limits as far as the way needs, gives the containers theirs, then narrows the pod's.
    async fn resize(&self, containers: &[(String, String)], from: Option<Limits>, narrow: bool) -> Result<(), String> {
        let wanted = cgroup::limits(&self.pod);
        let wide = from.unwrap_or(wanted).widened(wanted);
        if from != Some(wide) {
            // Where the present limits are not known, the kernel may refuse what the containers have not yet left.
            match self.limit(wide).await {
                Ok(()) => {}
                Err(_) if from.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        self.check_memory(containers).await?;
        for (id, name) in containers {
            let Some(container) = model::find_container(&self.pod, name) else { continue };
            let linux = config::resources(&self.pod, &container, self.node.memory);
            self.node.cri.update_resources(id, linux).await.map_err(|error| error.to_string())?;
            self.report(Report::Resized { id: id.clone(), resources: container.resources.unwrap_or_default() });
        }
        if narrow && (from.is_none() || wide != wanted) { self.limit(wanted).await } else { Ok(()) }
    }

    async fn limit(&self, limits: Limits) -> Result<(), String> {
        let pod = self.pod.clone();
        let result = tokio::task::spawn_blocking(move || cgroup::apply(&pod, limits)).await;
        result.map_err(std::io::Error::other).and_then(|result| result).map_err(|error| error.to_string())?;
        self.report(Report::Limited(limits));
        Ok(())
    }

    /// Refuses limits of memory below what is in use: the kernel would end the container.
    async fn check_memory(&self, containers: &[(String, String)]) -> Result<(), String> {
        let lowered: BTreeMap<&String, (&String, i64)> = containers
            .iter()
            .filter_map(|(id, name)| {
                let container = model::find_container(&self.pod, name)?;
                Some((id, (name, resize::lowered_memory(&container, self.actual.get(id))?)))
            })
            .collect();
        if lowered.is_empty() {
            return Ok(());
        }
        let stats = self.node.cri.container_stats().await.map_err(|error| error.to_string())?;
        for stat in &stats {
            let id = stat.attributes.as_ref().map(|attributes| &attributes.id);
            let used = stat.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref());
            let used = i64::try_from(used.map_or(0, |used| used.value)).unwrap_or(i64::MAX);
            match id.and_then(|id| lowered.get(id)) {
                Some((name, limit)) if used >= *limit => {
                    return Err(format!(
                        "cannot decrease memory limits: attempting to set container {name:?} memory limit ({limit}) \
                         below current usage ({used})"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn create_sandbox(&self, attempt: u32) -> Result<(), Fault> {
        let node = &self.node;
        let handler = match self.pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) {
            None | Some("") => "",
            Some(name) => {
                let message =
                    format!("Failed to create pod sandbox: no runtime for RuntimeClass {name:?} is configured");
                node.events.warning(about_pod(&self.pod, None), "FailedCreatePodSandBox", message.clone());
                return Err(Fault::new("FailedCreatePodSandBox", &message));
            }
        };
        if attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            node.events.normal(about_pod(&self.pod, None), "SandboxChanged", text);
        }
        if self.pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false) {
            let message = "Failed to create pod sandbox: user namespaces are not supported by this node";
            node.events.warning(about_pod(&self.pod, None), "FailedCreatePodSandBox", message);
            return Err(Fault::new("FailedCreatePodSandBox", &message));
        }
        let config = config::sandbox(&self.pod, attempt, &cgroup::path(&self.pod), &node.logs(), &node.cluster);
        node.cri.run_sandbox(config, handler).await.map(|_| ()).map_err(|error| {
            let message = format!("Failed to create pod sandbox: {error}");
            node.events.warning(about_pod(&self.pod, None), "FailedCreatePodSandBox", message.clone());
            Fault::new("FailedCreatePodSandBox", &message)
        })
    }

    async fn start(
        &self,
        container: &core::Container,
        role: Role,
        attempt: u32,
        volumes: &Prepared,
        ips: &[String],
    ) -> Result<(), Fault> {
        let node = &self.node;
        let pod = &self.pod;
        let events = &node.events;
        let about = || about_pod(pod, Some(&container.name));
        let sandbox = self.observed.sandboxes.first().filter(|sandbox| sandbox.ready);
        let sandbox = sandbox.ok_or_else(|| Fault::new("CreateContainerError", &"the pod's sandbox is gone"))?;
        let sandbox_config = config::sandbox(pod, sandbox.attempt, &cgroup::path(pod), &node.logs(), &node.cluster);
        let image = node
            .images
            .ensure(pod, container, sandbox_config.clone(), &node.objects, events)
            .await
            .map_err(|error| Fault { reason: error.reason, message: error.message, retry_at: error.retry_at })?;
        self.mount_images(container, &sandbox_config).await?;
        let inputs = self.inputs(container, role, attempt, volumes, ips, image).await?;
        let config = config::container(pod, container, &inputs)
            .map_err(|error| Fault::new("CreateContainerConfigError", &error))?;
        let id = node
            .cri
            .create_container(&sandbox.id, config, sandbox_config)
            .await
            .map_err(|error| Fault::new("CreateContainerError", &error))?;
        events.normal(about(), "Created", "Container created");
        node.cri.start_container(&id).await.map_err(|error| Fault::new("RunContainerError", &error))?;
        events.normal(about(), "Started", "Container started");
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return Ok(());
        };
        let target = target(node, container, &id, ips);
        if let Err(error) = probe::hook(&target, hook).await {
            tracing::info!(error, container = container.name, "post-start hook failed");
            events.warning(about(), "FailedPostStartHook", "PostStartHook failed");
            events.normal(about(), "Killing", "FailedPostStartHook");
            let grace = crate::plan::grace_period(pod);
            if let Err(error) = node.cri.stop_container(&id, grace).await {
                tracing::warn!(%error, container = id, "container not stopped");
            }
            return Err(Fault::new("PostStartHookError", &"PostStartHook failed"));
        }
        Ok(())
    }

    /// Pulls and mounts the image volumes that a container uses (KEP-4639).
    async fn mount_images(
        &self,
        container: &core::Container,
        sandbox: &crate::cri::v1::PodSandboxConfig,
    ) -> Result<(), Fault> {
        let node = &self.node;
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes {
            let Some(source) = &volume.image else { continue };
            let target = self.dir().image(&volume.name);
            let used = container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
            if !used || volume::mounts::is_mounted(&target) {
                continue;
            }
            let asked = core::Container {
                name: container.name.clone(),
                image: source.reference.clone(),
                image_pull_policy: source.pull_policy.clone(),
                ..core::Container::default()
            };
            let image =
                node.images.ensure(&self.pod, &asked, sandbox.clone(), &node.objects, &node.events).await.map_err(
                    |error| Fault { reason: error.reason, message: error.message, retry_at: error.retry_at },
                )?;
            crate::containerd::mount_image(&node.config.containerd, &image.id, &target).await.map_err(|error| {
                Fault::new("CreateContainerError", &format!("failed to mount image volume: {error}"))
            })?;
        }
        Ok(())
    }

    async fn inputs<'a>(
        &self,
        container: &core::Container,
        role: Role,
        attempt: u32,
        volumes: &'a Prepared,
        ips: &[String],
        image: crate::cri::v1::Image,
    ) -> Result<Inputs<'a>, Fault> {
        let node = &self.node;
        let pod = &self.pod;
        let fault = |error: String| Fault::new("CreateContainerConfigError", &error);
        let facts = node.facts(pod, ips);
        let sources =
            node.objects.sources(model::namespace(pod), container).await.map_err(|error| fault(error.to_string()))?;
        let services = node.service_variables(pod);
        let env = crate::env::environment(pod, container, &sources, &services, &facts).map_err(fault)?;
        let sub_paths = self.sub_paths(container, &env, volumes).await.map_err(fault)?;
        let (hosts, message_file) =
            self.files(container, attempt, ips).await.map_err(|error| fault(error.to_string()))?;
        let target = model::ephemeral_containers(pod)
            .into_iter()
            .filter(|_| role == Role::Ephemeral)
            .find(|(item, _)| item.name == container.name)
            .and_then(|(_, target)| target)
            .filter(|name| !name.is_empty());
        let target = match target {
            Some(name) => {
                let run = self.observed.latest(&name).filter(|run| run.alive());
                let run = run.ok_or_else(|| fault(format!("unable to find target container {name}")))?;
                Some(run.id.clone())
            }
            None => None,
        };
        Ok(Inputs {
            attempt,
            env,
            volumes,
            sub_paths,
            hosts: Some(hosts),
            message_file,
            image,
            node_memory: node.memory,
            target,
        })
    }

    async fn sub_paths(
        &self,
        container: &core::Container,
        env: &[(String, String)],
        volumes: &Prepared,
    ) -> Result<BTreeMap<usize, PathBuf>, String> {
        let mut pinned = BTreeMap::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let Some(path) = config::sub_path(mount, env)? else { continue };
            let Some(volume) = volumes.get(&mount.name).cloned() else { continue };
            let target = self.dir().sub_path(&mount.name, &container.name, index);
            let bound = target.clone();
            let text = path.clone();
            let work = move || volume::mounts::bind_sub_path(&volume, std::path::Path::new(&text), &bound);
            let result = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
            result
                .map_err(|error| format!("failed to prepare subPath {path:?} of volume {:?}: {error}", mount.name))?;
            pinned.insert(index, target);
        }
        Ok(pinned)
    }

    /// Writes `/etc/hosts` and an empty termination message file; makes the log directory.
    async fn files(
        &self,
        container: &core::Container,
        attempt: u32,
        ips: &[String],
    ) -> std::io::Result<(PathBuf, Option<PathBuf>)> {
        let node_hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        let hosts = self.dir().hosts();
        tokio::fs::write(&hosts, network_files::hosts_file(&self.pod, ips, &self.node.cluster, &node_hosts)).await?;
        let logs = config::log_directory(&self.node.logs(), &self.pod).join(&container.name);
        tokio::fs::create_dir_all(&logs).await?;
        if container.termination_message_path.as_deref() == Some("") {
            return Ok((hosts, None));
        }
        let dir = self.dir().container(&container.name);
        tokio::fs::create_dir_all(&dir).await?;
        let file = dir.join(attempt.to_string());
        tokio::fs::write(&file, b"").await?;
        tokio::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).await?;
        Ok((hosts, Some(file)))
    }
}

/// A container as probes and hooks see it.
pub(crate) fn target(node: &SharedNode, container: &core::Container, id: &str, ips: &[String]) -> Target {
    Target {
        cri: node.cri.clone(),
        container_id: id.to_owned(),
        container: container.clone(),
        pod_ip: ips.first().cloned().unwrap_or_else(|| node.config.node_ip.to_string()),
    }
}

/// Runs the stop hook, then stops a container within its grace period.
pub(crate) async fn kill(
    node: SharedNode,
    pod: Arc<core::Pod>,
    action: Action,
    ips: Vec<String>,
    reports: mpsc::UnboundedSender<Report>,
) {
    let Action::Kill { id, name, grace, message, .. } = action else { return };
    node.events.normal(about_pod(&pod, Some(&name)), "Killing", message);
    let began = std::time::Instant::now();
    let whole = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    let container = model::find_container(&pod, &name);
    let hook = container.as_ref().and_then(|item| item.lifecycle.as_ref()?.pre_stop.as_ref());
    if let (Some(container), Some(hook)) = (&container, hook) {
        let target = target(&node, container, &id, &ips);
        let result = tokio::time::timeout(whole, probe::hook(&target, hook)).await;
        if let Ok(Err(error)) = result {
            tracing::info!(error, container = name, "pre-stop hook failed");
            node.events.warning(about_pod(&pod, Some(&name)), "FailedPreStopHook", "PreStopHook failed");
        }
    }
    let spent = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
    let left = grace.saturating_sub(spent).max(2.min(grace));
    if let Err(error) = node.cri.stop_container(&id, left).await {
        tracing::warn!(%error, container = id, "container not stopped");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let _ = reports.send(Report::Killed { id });
}
