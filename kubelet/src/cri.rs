//! The container runtime: CRI v1 over a Unix socket.
//!
//! Turns gRPC into plain calls with deadlines and into [`Observed`] snapshots. Never decides what should run.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::model::{Container, ContainerPhase, Observed, Sandbox};
use crate::names;

/// Messages and clients generated from `proto/cri.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

/// Longest wait for calls that should answer at once.
const SHORT: Duration = Duration::from_secs(10);
/// Longest wait for calls that set up or tear down namespaces and networks.
const LONG: Duration = Duration::from_secs(240);
/// Largest gRPC answer accepted (exec output is capped at 16 MiB by the runtime).
const MAX_MESSAGE: usize = 40 << 20;

/// A failed runtime call.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// The runtime cannot be reached; try again later.
    #[error("container runtime is not reachable: {0}")]
    Unavailable(String),
    /// The sandbox, container or image does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The call did not end in time.
    #[error("{0}")]
    Timeout(String),
    /// The runtime answered with an error.
    #[error("{0}")]
    Failed(String),
}

impl From<tonic::Status> for CriError {
    fn from(status: tonic::Status) -> Self {
        let text = format!("rpc error: code = {:?} desc = {}", status.code(), status.message());
        match status.code() {
            tonic::Code::NotFound => Self::NotFound(text),
            tonic::Code::Unavailable => Self::Unavailable(status.message().to_owned()),
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Self::Timeout(text),
            _ => Self::Failed(text),
        }
    }
}

/// Result of a command run inside a container.
#[derive(Debug, Clone)]
pub struct ExecOutput {
    /// Exit code of the command.
    pub exit_code: i32,
    /// Standard output, then standard error.
    pub output: Vec<u8>,
}

/// One item of a cheap relist: what identifies a sandbox or container and whether it moved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Runtime id.
    pub id: String,
    /// CRI state number.
    pub state: i32,
}

/// Client of one container runtime. Cheap to clone.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    image: ImageServiceClient<Channel>,
    /// Statuses of containers that have exited never change; they are asked for once.
    exited: std::sync::Arc<Mutex<HashMap<String, Container>>>,
}

fn timed<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

impl Cri {
    /// A client of the runtime behind `socket`. Connects on first use and reconnects by itself.
    pub fn new(socket: &Path) -> Self {
        let socket = socket.to_path_buf();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?)) }
        });
        let channel = Endpoint::from_static("http://runtime").connect_with_connector_lazy(connector);
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            image: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            exited: std::sync::Arc::default(),
        }
    }

    /// Name and version of the runtime.
    pub async fn version(&self) -> Result<v1::VersionResponse, CriError> {
        let request = timed(v1::VersionRequest { version: "0.1.0".to_owned() }, SHORT);
        Ok(self.runtime.clone().version(request).await?.into_inner())
    }

    /// The runtime's own conditions (`RuntimeReady`, `NetworkReady`).
    pub async fn conditions(&self) -> Result<Vec<v1::RuntimeCondition>, CriError> {
        let answer = self.runtime.clone().status(timed(v1::StatusRequest { verbose: false }, SHORT)).await?;
        Ok(answer.into_inner().status.unwrap_or_default().conditions)
    }

    /// Tells the runtime this node's pod address range.
    pub async fn set_pod_cidr(&self, pod_cidr: &str) -> Result<(), CriError> {
        let network_config = Some(v1::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let request = v1::UpdateRuntimeConfigRequest { runtime_config: Some(v1::RuntimeConfig { network_config }) };
        self.runtime.clone().update_runtime_config(timed(request, SHORT)).await?;
        Ok(())
    }

    /// Creates and starts a sandbox; returns its id.
    pub async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, CriError> {
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        Ok(self.runtime.clone().run_pod_sandbox(timed(request, LONG)).await?.into_inner().pod_sandbox_id)
    }

    /// Stops a sandbox and everything in it. Succeeds when it is gone already.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_ok(self.runtime.clone().stop_pod_sandbox(timed(request, LONG)).await)
    }

    /// Removes a sandbox and its containers. Succeeds when it is gone already.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_ok(self.runtime.clone().remove_pod_sandbox(timed(request, LONG)).await)
    }

    /// Status of one sandbox, with its addresses.
    pub async fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, CriError> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.runtime.clone().pod_sandbox_status(timed(request, SHORT)).await?.into_inner();
        answer.status.ok_or_else(|| CriError::Failed("sandbox status is empty".to_owned()))
    }

    /// All sandboxes, or those of one pod.
    pub async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<v1::PodSandbox>, CriError> {
        let filter = pod_uid.map(|uid| v1::PodSandboxFilter {
            label_selector: names::uid_selector(uid),
            ..v1::PodSandboxFilter::default()
        });
        let request = timed(v1::ListPodSandboxRequest { filter }, SHORT);
        Ok(self.runtime.clone().list_pod_sandbox(request).await?.into_inner().items)
    }

    /// All containers, or those of one pod.
    pub async fn list_containers(&self, pod_uid: Option<&str>) -> Result<Vec<v1::Container>, CriError> {
        let filter = pod_uid.map(|uid| v1::ContainerFilter {
            label_selector: names::uid_selector(uid),
            ..v1::ContainerFilter::default()
        });
        let request = timed(v1::ListContainersRequest { filter }, SHORT);
        Ok(self.runtime.clone().list_containers(request).await?.into_inner().containers)
    }

    /// Creates a container in a sandbox; returns its id.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.runtime.clone().create_container(timed(request, LONG)).await?.into_inner().container_id)
    }

    /// Starts a created container.
    pub async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.clone().start_container(timed(request, LONG)).await?;
        Ok(())
    }

    /// Sends the stop signal, waits `grace` seconds, then kills. Returns when the container has stopped.
    pub async fn stop_container(&self, id: &str, grace: i64) -> Result<(), CriError> {
        let limit = LONG + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout: grace };
        gone_is_ok(self.runtime.clone().stop_container(timed(request, limit)).await)
    }

    /// Removes a container. Succeeds when it is gone already.
    pub async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.exited.lock().remove(id);
        gone_is_ok(self.runtime.clone().remove_container(timed(request, LONG)).await)
    }

    /// Full status of one container.
    pub async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, CriError> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.runtime.clone().container_status(timed(request, SHORT)).await?.into_inner();
        answer.status.ok_or_else(|| CriError::Failed("container status is empty".to_owned()))
    }

    /// Changes the limits of a running container.
    pub async fn update_resources(&self, id: &str, linux: v1::LinuxContainerResources) -> Result<(), CriError> {
        let request = v1::UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(linux) };
        self.runtime.clone().update_container_resources(timed(request, SHORT)).await?;
        Ok(())
    }

    /// Makes the runtime reopen a container's log file after it was moved away.
    pub async fn reopen_log(&self, id: &str) -> Result<(), CriError> {
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.runtime.clone().reopen_container_log(timed(request, SHORT)).await?;
        Ok(())
    }

    /// Runs a command in a container and collects its output.
    pub async fn exec_sync(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecOutput, CriError> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd: command.to_vec(), timeout };
        let deadline = if timeout == 0 { LONG } else { limit + Duration::from_secs(3) };
        let answer = self.runtime.clone().exec_sync(timed(request, deadline)).await?.into_inner();
        let mut output = answer.stdout;
        output.extend_from_slice(&answer.stderr);
        Ok(ExecOutput { exit_code: answer.exit_code, output })
    }

    /// One-time URL at which the runtime streams a command.
    pub async fn exec_url(&self, request: v1::ExecRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().exec(timed(request, SHORT)).await?.into_inner().url)
    }

    /// One-time URL at which the runtime streams a container's main process.
    pub async fn attach_url(&self, request: v1::AttachRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().attach(timed(request, SHORT)).await?.into_inner().url)
    }

    /// One-time URL at which the runtime forwards ports of a sandbox.
    pub async fn port_forward_url(&self, request: v1::PortForwardRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().port_forward(timed(request, SHORT)).await?.into_inner().url)
    }

    /// Resource use of all containers.
    pub async fn container_stats(&self) -> Result<Vec<v1::ContainerStats>, CriError> {
        let request = timed(v1::ListContainerStatsRequest { filter: None }, SHORT);
        Ok(self.runtime.clone().list_container_stats(request).await?.into_inner().stats)
    }

    /// All images present.
    pub async fn list_images(&self) -> Result<Vec<v1::Image>, CriError> {
        let request = timed(v1::ListImagesRequest { filter: None }, SHORT);
        Ok(self.image.clone().list_images(request).await?.into_inner().images)
    }

    /// The image behind a reference, if it is present.
    pub async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, CriError> {
        let spec = v1::ImageSpec { image: image.to_owned(), ..v1::ImageSpec::default() };
        let request = timed(v1::ImageStatusRequest { image: Some(spec), verbose: false }, SHORT);
        Ok(self.image.clone().image_status(request).await?.into_inner().image)
    }

    /// Pulls an image; returns its reference.
    pub async fn pull_image(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, CriError> {
        let spec = v1::ImageSpec { image: image.to_owned(), ..v1::ImageSpec::default() };
        let request = v1::PullImageRequest { image: Some(spec), auth, sandbox_config: Some(sandbox_config) };
        Ok(self.image.clone().pull_image(tonic::Request::new(request)).await?.into_inner().image_ref)
    }

    /// What every pod's sandboxes and containers look like in a cheap relist, by pod uid.
    pub async fn fingerprints(&self) -> Result<HashMap<String, Vec<Fingerprint>>, CriError> {
        let (sandboxes, containers) = tokio::try_join!(self.list_sandboxes(None), self.list_containers(None))?;
        let mut pods: HashMap<String, Vec<Fingerprint>> = HashMap::new();
        let items = sandboxes
            .into_iter()
            .map(|item| (item.labels, item.id, item.state))
            .chain(containers.into_iter().map(|item| (item.labels, item.id, item.state)));
        for (labels, id, state) in items {
            if let Some(uid) = labels.get(names::POD_UID) {
                pods.entry(uid.clone()).or_default().push(Fingerprint { id, state });
            }
        }
        for items in pods.values_mut() {
            items.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        }
        Ok(pods)
    }

    /// Everything that exists of one pod, newest first.
    pub async fn observe(&self, pod_uid: &str) -> Result<Observed, CriError> {
        let (sandboxes, containers) =
            tokio::try_join!(self.list_sandboxes(Some(pod_uid)), self.list_containers(Some(pod_uid)))?;
        let mut observed = Observed::default();
        for item in sandboxes {
            match self.sandbox_status(&item.id).await {
                Ok(status) => observed.sandboxes.push(sandbox(status)),
                Err(CriError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for item in containers {
            let cached = self.exited.lock().get(&item.id).cloned();
            if let Some(container) = cached {
                observed.containers.push(container);
                continue;
            }
            match self.container_status(&item.id).await {
                Ok(status) => {
                    let container = container(item.pod_sandbox_id, status).await;
                    if container.phase == ContainerPhase::Exited {
                        self.exited.lock().insert(item.id, container.clone());
                    }
                    observed.containers.push(container);
                }
                Err(CriError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        observed.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created_at, sandbox.attempt)));
        observed.containers.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.attempt)));
        Ok(observed)
    }
}

fn gone_is_ok<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Result<(), CriError> {
    match result.map_err(CriError::from) {
        Ok(_) | Err(CriError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn sandbox(status: v1::PodSandboxStatus) -> Sandbox {
    let host_network = status
        .linux
        .and_then(|linux| linux.namespaces)
        .and_then(|namespaces| namespaces.options)
        .is_some_and(|options| options.network == v1::NamespaceMode::Node as i32);
    let network = status.network.unwrap_or_default();
    let mut ips = Vec::new();
    if !host_network && !network.ip.is_empty() {
        ips.push(network.ip);
        ips.extend(network.additional_ips.into_iter().map(|item| item.ip));
    }
    Sandbox {
        id: status.id,
        attempt: status.metadata.unwrap_or_default().attempt,
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        host_network,
        ips,
    }
}

/// The container's state, with the message that it left in its termination file.
async fn container(sandbox_id: String, status: v1::ContainerStatus) -> Container {
    let phase = match status.state() {
        v1::ContainerState::ContainerCreated => ContainerPhase::Created,
        v1::ContainerState::ContainerRunning => ContainerPhase::Running,
        v1::ContainerState::ContainerExited => ContainerPhase::Exited,
        v1::ContainerState::ContainerUnknown => ContainerPhase::Unknown,
    };
    let message = if phase == ContainerPhase::Exited {
        crate::termination::message(&status).await
    } else {
        status.message.clone()
    };
    let metadata = status.metadata.unwrap_or_default();
    let attempt =
        status.annotations.get(names::RESTART_COUNT).and_then(|text| text.parse().ok()).unwrap_or(metadata.attempt);
    let named = status.image.as_ref().map(|spec| spec.image.clone()).unwrap_or_default();
    Container {
        id: status.id,
        sandbox_id,
        name: metadata.name,
        attempt,
        phase,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message,
        image: named,
        image_ref: status.image_ref,
        hash: status.annotations.get(names::HASH).cloned(),
        grace: status.annotations.get(names::POD_GRACE).and_then(|text| text.parse().ok()),
        log_path: status.log_path,
        resources: status.annotations.get(names::RESOURCES).and_then(|text| serde_json::from_str(text).ok()),
    }
}
