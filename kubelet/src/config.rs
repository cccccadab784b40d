//! CRI configurations of sandboxes and containers from a pod. Pure: what needs I/O was done before and comes as input.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as core;

use crate::cri::v1;
use crate::env::expand;
use crate::network_files::{Cluster, dns_config, kernel_hostname};
use crate::{model, names, quantity};

/// Length of a CFS period, microseconds.
const PERIOD: i64 = 100_000;

/// What `/proc` hides and write-protects in an unprivileged container.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_TOO: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Directory of a pod's logs.
pub fn log_directory(logs: &Path, pod: &core::Pod) -> PathBuf {
    logs.join(format!("{}_{}_{}", model::namespace(pod), model::name(pod), model::uid(pod)))
}

fn pod_labels(pod: &core::Pod) -> HashMap<String, String> {
    HashMap::from([
        (names::POD_NAME.to_owned(), model::name(pod).to_owned()),
        (names::POD_NAMESPACE.to_owned(), model::namespace(pod).to_owned()),
        (names::POD_UID.to_owned(), model::uid(pod).to_owned()),
    ])
}

fn int64(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

fn profile(profile: Option<&core::SeccompProfile>) -> Option<v1::SecurityProfile> {
    use v1::security_profile::ProfileType;
    let profile = profile?;
    let (kind, path) = match profile.type_.as_str() {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        "Localhost" => (ProfileType::Localhost, profile.localhost_profile.clone().unwrap_or_default()),
        _ => (ProfileType::Unconfined, String::new()),
    };
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: path })
}

fn apparmor(profile: Option<&core::AppArmorProfile>) -> Option<v1::SecurityProfile> {
    use v1::security_profile::ProfileType;
    let profile = profile?;
    let (kind, path) = match profile.type_.as_str() {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        "Localhost" => (ProfileType::Localhost, profile.localhost_profile.clone().unwrap_or_default()),
        _ => (ProfileType::Unconfined, String::new()),
    };
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: path })
}

fn namespaces(pod: &core::Pod, target: Option<&str>) -> v1::NamespaceOption {
    use v1::NamespaceMode;
    let spec = pod.spec.as_ref();
    let pid = if spec.and_then(|spec| spec.host_pid) == Some(true) {
        NamespaceMode::Node
    } else if target.is_some() {
        NamespaceMode::Target
    } else if spec.and_then(|spec| spec.share_process_namespace) == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    let ipc = spec.and_then(|spec| spec.host_ipc) == Some(true);
    v1::NamespaceOption {
        network: if model::host_network(pod) { NamespaceMode::Node } else { NamespaceMode::Pod }.into(),
        pid: pid.into(),
        ipc: if ipc { NamespaceMode::Node } else { NamespaceMode::Pod }.into(),
        target_id: target.unwrap_or_default().to_owned(),
    }
}

fn supplemental(pod: &core::Pod) -> Vec<i64> {
    let Some(context) = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()) else { return Vec::new() };
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

/// Configuration of a pod's sandbox.
pub fn sandbox(pod: &core::Pod, attempt: u32, cgroup: &str, logs: &Path, cluster: &Cluster) -> v1::PodSandboxConfig {
    use v1::security_profile::ProfileType;
    let spec = pod.spec.as_ref();
    let context = spec.and_then(|spec| spec.security_context.as_ref());
    let mut labels: HashMap<String, String> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_labels(pod));
    let all = model::init_containers(pod).iter().chain(model::app_containers(pod));
    let privileged =
        all.clone().any(|item| item.security_context.as_ref().and_then(|context| context.privileged) == Some(true));
    let mut ports = Vec::new();
    for port in all.flat_map(|container| container.ports.iter().flatten()) {
        let Some(host_port) = port.host_port.filter(|port| *port > 0) else { continue };
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => v1::Protocol::Udp,
            Some("SCTP") => v1::Protocol::Sctp,
            _ => v1::Protocol::Tcp,
        };
        ports.push(v1::PortMapping {
            protocol: protocol.into(),
            container_port: port.container_port,
            host_port,
            host_ip: port.host_ip.clone().unwrap_or_default(),
        });
    }
    let host = model::host_network(pod);
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: model::name(pod).to_owned(),
            uid: model::uid(pod).to_owned(),
            namespace: model::namespace(pod).to_owned(),
            attempt,
        }),
        hostname: if host { String::new() } else { kernel_hostname(pod, cluster) },
        log_directory: log_directory(logs, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns_config(pod, cluster)),
        port_mappings: if host { Vec::new() } else { ports },
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup.to_owned(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod, None)),
                run_as_user: context.and_then(|context| context.run_as_user).map(int64),
                run_as_group: context.and_then(|context| context.run_as_user.and(context.run_as_group)).map(int64),
                supplemental_groups: supplemental(pod),
                privileged,
                seccomp: Some(v1::SecurityProfile {
                    profile_type: ProfileType::RuntimeDefault.into(),
                    localhost_ref: String::new(),
                }),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            sysctls: context
                .and_then(|context| context.sysctls.as_ref())
                .map(|list| list.iter().map(|item| (item.name.clone(), item.value.clone())).collect())
                .unwrap_or_default(),
            ..v1::LinuxPodSandboxConfig::default()
        }),
    }
}

/// What a container's configuration needs beyond the pod.
pub struct Inputs<'a> {
    /// How many containers of this name ran before.
    pub attempt: u32,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Where volumes are on the node.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// Where mounts with a sub-path are pinned, by mount index.
    pub sub_paths: BTreeMap<usize, PathBuf>,
    /// The pod's `/etc/hosts`, unless a volume takes its place.
    pub hosts: Option<PathBuf>,
    /// The file for the termination message.
    pub message_file: Option<PathBuf>,
    /// The image by id, and the user it names: uid or user name.
    pub image: v1::Image,
    /// Memory of the node, bytes.
    pub node_memory: i64,
    /// Container whose processes an ephemeral container shares, by runtime id.
    pub target: Option<String>,
}

/// Sub-path of a mount after expansion, `None` when the whole volume is mounted.
///
/// # Errors
/// A sentence when it is absolute or leaves the volume.
pub fn sub_path(mount: &core::VolumeMount, env: &[(String, String)]) -> Result<Option<String>, String> {
    let find = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let path = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(text), _) if !text.is_empty() => {
            let path = expand(text, &find);
            if path.contains("$(") {
                return Err(format!("missing value in subPathExpr {text:?}"));
            }
            path
        }
        (_, Some(text)) if !text.is_empty() => text.clone(),
        _ => return Ok(None),
    };
    let outside = Path::new(&path).components().any(|part| !matches!(part, std::path::Component::Normal(_)));
    if outside || path.is_empty() {
        return Err(format!("sub-path {path:?} must be a relative path that does not contain '..'"));
    }
    Ok(Some(path))
}

/// Configuration of a container.
///
/// # Errors
/// A sentence for `CreateContainerConfigError`.
pub fn container(
    pod: &core::Pod,
    container: &core::Container,
    inputs: &Inputs<'_>,
) -> Result<v1::ContainerConfig, String> {
    check_user(pod, container, &inputs.image)?;
    let lookup = |name: &str| inputs.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let expanded = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|text| expand(text, &lookup)).collect()
    };
    let mut labels = pod_labels(pod);
    labels.insert(names::CONTAINER_NAME.to_owned(), container.name.clone());
    let message_path = container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned());
    let annotations = HashMap::from([
        (names::HASH.to_owned(), model::container_hash(container)),
        (names::RESTART_COUNT.to_owned(), inputs.attempt.to_string()),
        (names::MESSAGE_PATH.to_owned(), message_path.clone()),
        (
            names::MESSAGE_POLICY.to_owned(),
            container.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned()),
        ),
        (names::POD_GRACE.to_owned(), crate::plan::grace_period(pod).to_string()),
        (names::RESOURCES.to_owned(), crate::resize::text(container)),
    ]);
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: inputs.attempt }),
        image: Some(v1::ImageSpec {
            image: inputs.image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..v1::ImageSpec::default()
        }),
        command: expanded(container.command.as_ref()),
        args: expanded(container.args.as_ref()),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs
            .env
            .iter()
            .map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone().into_bytes() })
            .collect(),
        mounts: mounts(container, inputs, &message_path)?,
        devices: Vec::new(),
        labels,
        annotations,
        log_path: format!("{}/{}.log", container.name, inputs.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(pod, container, inputs.node_memory)),
            security_context: Some(security(pod, container, inputs)),
        }),
    })
}

fn mounts(container: &core::Container, inputs: &Inputs<'_>, message_path: &str) -> Result<Vec<v1::Mount>, String> {
    let mut mounts = Vec::new();
    let mut hosts_taken = false;
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = inputs.volumes.get(&mount.name).ok_or_else(|| {
            format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name)
        })?;
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
            _ => v1::MountPropagation::PropagationPrivate,
        };
        hosts_taken |= mount.mount_path == "/etc/hosts";
        mounts.push(v1::Mount {
            container_path: mount.mount_path.clone(),
            host_path: inputs.sub_paths.get(&index).unwrap_or(volume).to_string_lossy().into_owned(),
            readonly: mount.read_only == Some(true),
            propagation: propagation.into(),
            ..v1::Mount::default()
        });
    }
    if let Some(hosts) = inputs.hosts.as_ref().filter(|_| !hosts_taken) {
        mounts.push(v1::Mount {
            container_path: "/etc/hosts".to_owned(),
            host_path: hosts.to_string_lossy().into_owned(),
            ..v1::Mount::default()
        });
    }
    if let Some(file) = &inputs.message_file {
        mounts.push(v1::Mount {
            container_path: message_path.to_owned(),
            host_path: file.to_string_lossy().into_owned(),
            ..v1::Mount::default()
        });
    }
    Ok(mounts)
}

/// The user a container will run as, where the pod or container says so.
fn run_as_user(pod: &core::Pod, container: &core::Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
    own.or_else(|| pod.spec.as_ref()?.security_context.as_ref()?.run_as_user)
}

/// Refuses root where `runAsNonRoot` forbids it.
fn check_user(pod: &core::Pod, container: &core::Container, image: &v1::Image) -> Result<(), String> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
    let of_pod = || {
        pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|context| context.run_as_non_root)
    };
    if own.or_else(of_pod) != Some(true) {
        return Ok(());
    }
    let place = format!(
        "(pod: {:?}, container: {})",
        format!("{}_{}({})", model::name(pod), model::namespace(pod), model::uid(pod)),
        container.name
    );
    match run_as_user(pod, container) {
        Some(0) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => Ok(()),
        None => match (&image.uid, image.username.as_str()) {
            (Some(uid), _) if uid.value == 0 => {
                Err(format!("container has runAsNonRoot and image will run as root {place}"))
            }
            (Some(_), _) => Ok(()),
            (None, "") => Err(format!("container has runAsNonRoot and image will run as root {place}")),
            (None, name) => Err(format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
            )),
        },
    }
}

fn security(pod: &core::Pod, container: &core::Container, inputs: &Inputs<'_>) -> v1::LinuxContainerSecurityContext {
    let own = container.security_context.clone().unwrap_or_default();
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let named = Some(inputs.image.username.clone()).filter(|name| !name.is_empty() && inputs.image.uid.is_none());
    let from_image = || if named.is_some() { None } else { Some(inputs.image.uid.as_ref().map_or(0, |uid| uid.value)) };
    let user = run_as_user(pod, container).or_else(from_image);
    let username = named.filter(|_| user.is_none()).unwrap_or_default();
    let open = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| -> Vec<String> {
        if open { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() }
    };
    let mut masked = paths(&MASKED);
    masked.extend(paths(&MASKED_TOO));
    let capabilities = own.capabilities.unwrap_or_default();
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
        }),
        privileged,
        namespace_options: Some(namespaces(pod, inputs.target.as_deref())),
        selinux_options: None,
        run_as_user: user.map(int64),
        run_as_group: own.run_as_group.or(of_pod.run_as_group).map(int64),
        run_as_username: username,
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: supplemental(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: masked,
        readonly_paths: paths(&READ_ONLY),
        seccomp: if privileged {
            None
        } else {
            profile(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()))
        },
        apparmor: apparmor(own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref())),
    }
}

/// CPU shares of a request in thousandths of a CPU; at least 2.
pub fn cpu_shares(milli: i64) -> i64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Microseconds of CPU per period for a limit in thousandths of a CPU; at least 1 ms, 0 for no limit.
pub fn cpu_quota(milli: i64) -> i64 {
    if milli <= 0 { 0 } else { (milli.saturating_mul(PERIOD) / 1000).max(1000) }
}

/// Adjustment of the kernel's out-of-memory score, by quality of service.
pub fn oom_score_adj(qos: &str, memory_request: i64, node_memory: i64) -> i64 {
    match qos {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let part = memory_request.saturating_mul(1000).checked_div(node_memory.max(1)).unwrap_or(0);
            (1000 - part).clamp(3, 999)
        }
    }
}

/// The pod's quality of service as the API server holds it.
pub fn qos(pod: &core::Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.qos_class.as_deref()).unwrap_or("BestEffort")
}

/// What the kernel is told of a container's resources.
pub fn resources(pod: &core::Pod, container: &core::Container, node_memory: i64) -> v1::LinuxContainerResources {
    let asked = container.resources.clone().unwrap_or_default();
    let (limits, requests) = (asked.limits.unwrap_or_default(), asked.requests.unwrap_or_default());
    let cpu_limit = limits.get("cpu").and_then(quantity::milli).unwrap_or(0);
    let cpu_request = requests.get("cpu").and_then(quantity::milli).unwrap_or(cpu_limit);
    let memory_limit = limits.get("memory").and_then(quantity::value).unwrap_or(0);
    let memory_request = requests.get("memory").and_then(quantity::value).unwrap_or(memory_limit);
    v1::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: cpu_quota(cpu_limit),
        cpu_shares: cpu_shares(cpu_request),
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adj(qos(pod), memory_request, node_memory),
        ..v1::LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(container: serde_json::Value, context: serde_json::Value) -> (core::Pod, core::Container) {
        let mut value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {},
            "status": {"qosClass": "Burstable"}});
        value["spec"]["containers"] = serde_json::Value::Array(vec![container]);
        value["spec"]["securityContext"] = context;
        let pod: core::Pod = serde_json::from_value(value).unwrap();
        let container = model::app_containers(&pod)[0].clone();
        (pod, container)
    }

    fn build(pod: &core::Pod, item: &core::Container, image: v1::Image) -> Result<v1::ContainerConfig, String> {
        let volumes = BTreeMap::from([("v".to_owned(), PathBuf::from("/host/v"))]);
        let inputs = Inputs {
            attempt: 2,
            env: vec![("A".into(), "1".into())],
            volumes: &volumes,
            sub_paths: BTreeMap::new(),
            hosts: Some("/host/hosts".into()),
            message_file: None,
            image,
            node_memory: 1000 << 20,
            target: None,
        };
        container(pod, item, &inputs)
    }

    #[test]
    fn commands_mounts_and_resources() {
        let (made, item) = pod(
            json!({"name": "c", "image": "i", "command": ["sh", "$(A)"], "args": ["$(B)"],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}],
                "resources": {"limits": {"cpu": "500m", "memory": "10Mi"}, "requests": {"cpu": "100m", "memory": "100Mi"}}}),
            json!({}),
        );
        let config = build(&made, &item, v1::Image::default()).unwrap();
        assert_eq!((config.command.join(" "), config.args.join(" ")), ("sh 1".to_owned(), "$(B)".to_owned()));
        assert_eq!(config.log_path, "c/2.log");
        assert_eq!(config.mounts.iter().map(|m| m.container_path.as_str()).collect::<Vec<_>>(), ["/v", "/etc/hosts"]);
        let resources = config.linux.unwrap().resources.unwrap();
        assert_eq!((resources.cpu_quota, resources.cpu_shares, resources.oom_score_adj), (50_000, 102, 900));
        let (made, item) = pod(json!({"name": "c", "volumeMounts": [{"name": "w", "mountPath": "/w"}]}), json!({}));
        assert!(build(&made, &item, v1::Image::default()).unwrap_err().contains("cannot find volume \"w\""));
    }

    #[test]
    fn root_is_refused_where_forbidden() {
        let uid = |value: i64| v1::Image { uid: Some(int64(value)), ..v1::Image::default() };
        let named = v1::Image { username: "web".into(), ..v1::Image::default() };
        let cases = [
            (json!({}), json!({"runAsNonRoot": true}), uid(0), false),
            (json!({}), json!({"runAsNonRoot": true}), uid(5), true),
            (json!({}), json!({"runAsNonRoot": true, "runAsUser": 7}), uid(0), true),
            (json!({"runAsNonRoot": false}), json!({"runAsNonRoot": true}), uid(0), true),
            (json!({"runAsUser": 0}), json!({"runAsNonRoot": true}), uid(5), false),
            (json!({}), json!({"runAsNonRoot": true}), named, false),
            (json!({}), json!({"runAsNonRoot": true}), v1::Image::default(), false),
        ];
        for (own, of_pod, image, allowed) in cases {
            let (pod, item) = pod(json!({"name": "c", "securityContext": own}), of_pod.clone());
            assert_eq!(build(&pod, &item, image).is_ok(), allowed, "{of_pod}");
        }
    }

    #[test]
    fn sub_paths_stay_below_the_volume() {
        let env = vec![("POD".to_owned(), "web".to_owned())];
        let cases = [
            (json!({}), Ok(None)),
            (json!({"subPath": "a/b"}), Ok(Some("a/b".to_owned()))),
            (json!({"subPathExpr": "$(POD)/x"}), Ok(Some("web/x".to_owned()))),
            (json!({"subPathExpr": "$(NO)/x"}), Err(())),
            (json!({"subPath": "../x"}), Err(())),
            (json!({"subPath": "/etc"}), Err(())),
        ];
        for (extra, expected) in cases {
            let mut value = json!({"name": "v", "mountPath": "/v"});
            value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let mount: core::VolumeMount = serde_json::from_value(value).unwrap();
            assert_eq!(sub_path(&mount, &env).map_err(|_| ()), expected, "{extra}");
        }
    }
}
