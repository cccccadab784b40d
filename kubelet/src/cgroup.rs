//! Cgroups of pods, versions 1 and 2, by the cgroupfs driver: the parent under which the runtime puts its containers.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as core;

use crate::config::{cpu_quota, cpu_shares, qos};
use crate::{model, quantity};

/// Where cgroup file systems are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Version 1 hierarchies in which pods get a cgroup of their own.
const V1: [&str; 3] = ["cpu", "memory", "pids"];
/// Version 2 controllers that pods need.
const V2: [&str; 4] = ["cpu", "memory", "pids", "cpuset"];

/// Cgroup of a pod, relative to every hierarchy's root.
pub fn path(pod: &core::Pod) -> String {
    let uid = model::uid(pod);
    match qos(pod) {
        "Guaranteed" => format!("/kubepods/pod{uid}"),
        "Burstable" => format!("/kubepods/burstable/pod{uid}"),
        _ => format!("/kubepods/besteffort/pod{uid}"),
    }
}

/// Limits of a pod as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU shares.
    pub shares: i64,
    /// Microseconds of CPU in each 100 ms; 0 for no limit.
    pub quota: i64,
    /// Bytes; 0 for no limit.
    pub memory: i64,
}

/// A pod's limits: the sum of its containers', or the largest init container's where that is more; none where one
/// container has none.
pub fn limits(pod: &core::Pod) -> Limits {
    let of = |container: &core::Container, limit: bool, name: &str| -> Option<i64> {
        let resources = container.resources.as_ref()?;
        let list = if limit { resources.limits.as_ref() } else { resources.requests.as_ref() };
        let value = list?.get(name)?;
        if name == "cpu" { quantity::milli(value) } else { quantity::value(value) }
    };
    let total = |limit: bool, name: &str| -> Option<i64> {
        let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let whole = whole.and_then(|whole| if limit { whole.limits.as_ref() } else { whole.requests.as_ref() });
        if let Some(value) = whole.and_then(|whole| whole.get(name)) {
            return if name == "cpu" { quantity::milli(value) } else { quantity::value(value) };
        }
        let mut sum = 0_i64;
        for container in model::app_containers(pod) {
            sum = sum.saturating_add(of(container, limit, name).or((!limit).then_some(0))?);
        }
        let mut beside = 0_i64;
        let mut most = 0_i64;
        for container in model::init_containers(pod) {
            let value = of(container, limit, name).or((!limit).then_some(0))?;
            if model::is_sidecar(container) {
                beside = beside.saturating_add(value);
                most = most.max(beside);
            } else {
                most = most.max(beside.saturating_add(value));
            }
        }
        Some(sum.saturating_add(beside).max(most))
    };
    Limits {
        shares: cpu_shares(total(false, "cpu").unwrap_or(0)),
        quota: total(true, "cpu").map_or(0, cpu_quota),
        memory: total(true, "memory").unwrap_or(0),
    }
}

impl Limits {
    /// Limits within which a pod may go from these to others: the wider of each. A limit of 0 is none, and widest.
    pub fn widened(self, other: Self) -> Self {
        let wider = |a: i64, b: i64| if a == 0 || b == 0 { 0 } else { a.max(b) };
        Self {
            shares: self.shares.max(other.shares),
            quota: wider(self.quota, other.quota),
            memory: wider(self.memory, other.memory),
        }
    }
}

fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Weight of version 2 for shares of version 1.
fn weight(shares: i64) -> i64 {
    (1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142).clamp(1, 10_000)
}

/// Makes a pod's cgroup and sets its limits.
///
/// # Errors
/// The file system's.
pub fn ensure(pod: &core::Pod) -> io::Result<()> {
    apply(pod, limits(pod))
}

/// Makes a pod's cgroup and sets these limits, a limit of 0 as none.
///
/// # Errors
/// The file system's; the kernel refuses a limit below what is in use, and one of version 1 below a container's.
pub fn apply(pod: &core::Pod, limits: Limits) -> io::Result<()> {
    let path = path(pod);
    let path = path.trim_start_matches('/');
    if unified() {
        let mut dir = PathBuf::from(ROOT);
        for part in Path::new(path).components() {
            for controller in V2 {
                // A controller that the parent does not offer cannot be passed on; the rest still work.
                let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            dir.push(part);
            std::fs::create_dir_all(&dir)?;
        }
        set(&dir, "cpu.weight", &weight(limits.shares).to_string())?;
        let or_max = |limit: i64| if limit > 0 { limit.to_string() } else { "max".to_owned() };
        set(&dir, "cpu.max", &format!("{} 100000", or_max(limits.quota)))?;
        set(&dir, "memory.max", &or_max(limits.memory))?;
        return Ok(());
    }
    let or_none = |limit: i64| if limit > 0 { limit } else { -1 }.to_string();
    for controller in V1 {
        let hierarchy = Path::new(ROOT).join(controller);
        if !hierarchy.is_dir() {
            continue;
        }
        let dir = hierarchy.join(path);
        std::fs::create_dir_all(&dir)?;
        match controller {
            "cpu" => {
                set(&dir, "cpu.shares", &limits.shares.to_string())?;
                set(&dir, "cpu.cfs_quota_us", &or_none(limits.quota))?;
            }
            "memory" => set(&dir, "memory.limit_in_bytes", &or_none(limits.memory))?,
            _ => {}
        }
    }
    Ok(())
}

fn set(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    match std::fs::write(dir.join(file), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the cgroups of a pod in every hierarchy and class. What still holds a process stays.
pub fn remove(uid: &str) {
    let hierarchies: Vec<PathBuf> = if unified() {
        vec![PathBuf::from(ROOT)]
    } else {
        std::fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    for hierarchy in hierarchies {
        for class in ["", "burstable", "besteffort"] {
            remove_tree(&hierarchy.join("kubepods").join(class).join(format!("pod{uid}")));
        }
    }
}

fn remove_tree(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    if let Err(error) = std::fs::remove_dir(dir) {
        tracing::debug!(dir = %dir.display(), %error, "cgroup stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_limited_when_all_its_containers_are() {
        let cases = [
            (json!([{"name": "a"}]), json!([]), Limits { shares: 2, quota: 0, memory: 0 }),
            (
                json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Ki"}, "requests": {"cpu": "500m"}}}]),
                json!([]),
                Limits { shares: 512, quota: 100_000, memory: 1024 },
            ),
            (
                json!([{"name": "a", "resources": {"limits": {"memory": "1Ki"}}}, {"name": "b"}]),
                json!([]),
                Limits { shares: 2, quota: 0, memory: 0 },
            ),
            (
                json!([{"name": "a", "resources": {"limits": {"memory": "1Ki"}}}]),
                json!([{"name": "s", "restartPolicy": "Always", "resources": {"limits": {"memory": "1Ki"}}},
                       {"name": "i", "resources": {"limits": {"memory": "4Ki"}}}]),
                Limits { shares: 2, quota: 0, memory: 5 * 1024 },
            ),
        ];
        for (apps, inits, expected) in cases {
            let pod =
                serde_json::from_value(json!({"metadata": {}, "spec": {"containers": apps, "initContainers": inits}}));
            assert_eq!(limits(&pod.unwrap()), expected, "{apps} {inits}");
        }
    }

    #[test]
    fn weights_span_the_range() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }
}
