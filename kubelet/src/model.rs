//! What the runtime holds of one pod, in plain values. No I/O, no clock.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;

/// State of a container in the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended.
    Exited,
    /// The runtime lost track of it.
    Unknown,
}

/// One sandbox of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Runtime id.
    pub id: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Whether its namespaces are up.
    pub ready: bool,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Whether it uses the node's network.
    pub host_network: bool,
    /// Addresses, primary first; empty with the node's network.
    pub ips: Vec<String>,
}

/// One container of a pod, running or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Runtime id.
    pub id: String,
    /// The sandbox it lives in.
    pub sandbox_id: String,
    /// Name within the pod.
    pub name: String,
    /// How many containers of this name ran before.
    pub attempt: u32,
    /// State.
    pub phase: ContainerPhase,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Nanoseconds since the epoch, 0 when never started.
    pub started_at: i64,
    /// Nanoseconds since the epoch, 0 while it runs.
    pub finished_at: i64,
    /// Exit code once exited.
    pub exit_code: i32,
    /// Runtime's reason (`Completed`, `Error`, `OOMKilled`).
    pub reason: String,
    /// Termination message.
    pub message: String,
    /// Image as the runtime names it.
    pub image: String,
    /// Image by digest or id.
    pub image_ref: String,
    /// Hash of the definition it was made from.
    pub hash: Option<String>,
    /// The pod's grace period when it was made, seconds.
    pub grace: Option<i64>,
    /// Absolute path of its log.
    pub log_path: String,
    /// The resources that it was made with; `None` when the runtime does not say.
    pub resources: Option<core::ResourceRequirements>,
}

impl Container {
    /// Whether a process may still be there.
    pub fn alive(&self) -> bool {
        matches!(self.phase, ContainerPhase::Running | ContainerPhase::Unknown)
    }
}

/// Everything the runtime holds of one pod, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Containers, newest first.
    pub containers: Vec<Container>,
}

impl Observed {
    /// The newest container of a name.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Whether nothing of the pod may still run.
    pub fn quiet(&self) -> bool {
        !self.containers.iter().any(Container::alive) && !self.sandboxes.iter().any(|sandbox| sandbox.ready)
    }
}

/// Whether an init container is a sidecar.
pub fn is_sidecar(container: &core::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers of a pod in order.
pub fn init_containers(pod: &core::Pod) -> &[core::Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

/// App containers of a pod in order.
pub fn app_containers(pod: &core::Pod) -> &[core::Container] {
    pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

/// Ephemeral containers of a pod as ordinary ones, with the container each targets.
pub fn ephemeral_containers(pod: &core::Pod) -> Vec<(core::Container, Option<String>)> {
    let list = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default();
    list.iter()
        .map(|item| {
            let item = item.clone();
            let container = core::Container {
                args: item.args,
                command: item.command,
                env: item.env,
                env_from: item.env_from,
                image: item.image,
                image_pull_policy: item.image_pull_policy,
                name: item.name,
                resources: item.resources,
                security_context: item.security_context,
                stdin: item.stdin,
                stdin_once: item.stdin_once,
                termination_message_path: item.termination_message_path,
                termination_message_policy: item.termination_message_policy,
                tty: item.tty,
                volume_devices: item.volume_devices,
                volume_mounts: item.volume_mounts,
                working_dir: item.working_dir,
                ..core::Container::default()
            };
            (container, item.target_container_name)
        })
        .collect()
}

/// The definition of any container of a pod by name.
pub fn find_container(pod: &core::Pod, name: &str) -> Option<core::Container> {
    init_containers(pod)
        .iter()
        .chain(app_containers(pod))
        .find(|container| container.name == name)
        .cloned()
        .or_else(|| ephemeral_containers(pod).into_iter().map(|(c, _)| c).find(|container| container.name == name))
}

/// Whether a pod asks for the node's network.
pub fn host_network(pod: &core::Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// The pod's uid, or an empty text.
pub fn uid(pod: &core::Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's name, or an empty text.
pub fn name(pod: &core::Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace, or an empty text.
pub fn namespace(pod: &core::Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as upstream names a pod in messages.
pub fn full_name(pod: &core::Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The pod's phase as the API server last held it.
pub fn phase(pod: &core::Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the API server holds the pod as ended.
pub fn is_terminal(pod: &core::Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Container status of a name among all lists of a pod's status.
pub fn api_status<'a>(pod: &'a core::Pod, name: &str) -> Option<&'a core::ContainerStatus> {
    let status = pod.status.as_ref()?;
    [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses]
        .into_iter()
        .flatten()
        .flatten()
        .find(|item| item.name == name)
}

/// Nanoseconds since the epoch as a timestamp.
pub fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// 32-bit FNV-1a of the fields whose change restarts a container (name and image), in hexadecimal.
pub fn container_hash(container: &core::Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let text = serde_json::json!({ "image": image, "name": container.name }).to_string();
    format!("{:x}", fnv1a(text.as_bytes()))
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
