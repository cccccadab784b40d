//! What each level of the Pod Security Standards demands of a pod, by version.
//!
//! Never looks at namespaces. Source: KEP-2579 and upstream's `pod-security-admission/policy`; reasons and details are upstream's, because
//! clients see them.

use super::Level;
use api::json::Value;
use api::{meta, value};
use std::collections::BTreeSet;

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a> {
    /// With its annotations below `metadata`.
    pub(crate) object: &'a Value,
    pub(crate) spec: &'a Value,
}

/// Why a check does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) reason: String,
    pub(crate) detail: String,
}

type Look = fn(Pod<'_>) -> Option<Finding>;

struct Check {
    id: &'static str,
    level: Level,
    /// From which minor version on, rising.
    looks: &'static [(u32, Look)],
    /// The check of the baseline in whose place it stands.
    instead_of: &'static str,
}

/// The newest version at which a check changed: later ones are as this one.
pub(crate) const NEWEST: u32 = 35;

/// In the order of findings: the baseline first, each by name.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, app_armor)]),
    baseline("capabilities_baseline", &[(0, capabilities)]),
    baseline("hostNamespaces", &[(0, host_namespaces)]),
    baseline("hostPathVolumes", &[(0, host_paths)]),
    baseline("hostPorts", &[(0, host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, probe_hosts)]),
    baseline("privileged", &[(0, privileged)]),
    baseline("procMount", &[(0, proc_mount), (35, |pod| relaxed(pod, proc_mount))]),
    baseline("seLinuxOptions", &[(0, |pod| selinux(pod, 3)), (31, |pod| selinux(pod, 4))]),
    baseline("seccompProfile_baseline", &[(0, seccomp_annotations), (19, seccomp)]),
    baseline(
        "sysctls",
        &[
            (0, |pod| sysctls(pod, 5)),
            (27, |pod| sysctls(pod, 6)),
            (29, |pod| sysctls(pod, 10)),
            (32, |pod| sysctls(pod, 12)),
        ],
    ),
    baseline("windowsHostProcess", &[(0, host_process)]),
    restricted("allowPrivilegeEscalation", &[(8, escalation), (25, |pod| unless_windows(pod, escalation))], ""),
    restricted(
        "capabilities_restricted",
        &[(22, few_capabilities), (25, |pod| unless_windows(pod, few_capabilities))],
        "capabilities_baseline",
    ),
    restricted("procMount_restricted", &[(35, proc_mount)], "procMount"),
    restricted("restrictedVolumes", &[(0, volume_types)], "hostPathVolumes"),
    restricted("runAsNonRoot", &[(0, non_root), (35, |pod| relaxed(pod, non_root))], ""),
    restricted("runAsUser", &[(23, root_user), (35, |pod| relaxed(pod, root_user))], ""),
    restricted(
        "seccompProfile_restricted",
        &[(19, seccomp_needed), (25, |pod| unless_windows(pod, seccomp_needed))],
        "seccompProfile_baseline",
    ),
];

const fn baseline(id: &'static str, looks: &'static [(u32, Look)]) -> Check {
    Check { id, level: Level::Baseline, looks, instead_of: "" }
}

const fn restricted(id: &'static str, looks: &'static [(u32, Look)], instead_of: &'static str) -> Check {
    Check { id, level: Level::Restricted, looks, instead_of }
}

impl Check {
    /// The look that holds at a version; none before the check's first.
    fn at(&self, minor: u32) -> Option<Look> {
        self.looks.iter().rev().find(|(since, _)| *since <= minor).map(|(_, look)| *look)
    }
}

/// What a level at a minor version (none: the newest) has against a pod.
pub(crate) fn findings(level: Level, minor: Option<u32>, pod: Pod<'_>) -> Vec<Finding> {
    let minor = minor.unwrap_or(NEWEST).min(NEWEST);
    let overridden = |id: &str| {
        level == Level::Restricted && CHECKS.iter().any(|other| other.instead_of == id && other.at(minor).is_some())
    };
    let own = CHECKS.iter().filter(|check| check.level <= level && !overridden(check.id));
    own.filter_map(|check| check.at(minor)?(pod)).collect()
}

fn found(reason: &str, detail: String) -> Option<Finding> {
    Some(Finding { reason: reason.to_owned(), detail })
}

fn unless_windows(pod: Pod<'_>, look: Look) -> Option<Finding> {
    if value::text(pod.spec, "os.name") == "windows" { None } else { look(pod) }
}

/// Users of a pod with a user namespace of its own are nobody outside of it.
fn relaxed(pod: Pod<'_>, look: Look) -> Option<Finding> {
    let own = value::get(pod.spec, "hostUsers").and_then(Value::as_bool) == Some(false);
    if own { None } else { look(pod) }
}

fn containers(pod: Pod<'_>) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |list| value::items(pod.spec, list))
}

fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    items.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn of_containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Names of the containers for which this holds.
fn named<'a>(pod: Pod<'a>, bad: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
    containers(pod).filter(|container| bad(container)).map(|container| value::text(container, "name")).collect()
}

/// `pod and containers "a", "b"`: who sets something, the pod or its containers.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !containers.is_empty() {
        all.push(of_containers(containers));
    }
    (!all.is_empty()).then(|| all.join(" and "))
}

fn context<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    value::get(object, &format!("securityContext.{path}")).filter(|value| !value.is_null())
}

fn texts<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a str> {
    value::items(object, path).iter().filter_map(Value::as_str)
}

fn app_armor(pod: Pod<'_>) -> Option<Finding> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut bad = |object: &Value| match context(object, "appArmorProfile") {
        None => false,
        Some(profile) => {
            let kind = value::text(profile, "type");
            let bad = !matches!(kind, "RuntimeDefault" | "Localhost");
            if bad {
                values.insert(kind.to_owned());
            }
            bad
        }
    };
    let of_pod = bad(pod.spec);
    let names: Vec<&str> =
        containers(pod).filter(|container| bad(container)).map(|container| value::text(container, "name")).collect();
    let annotations = value::get(pod.object, "metadata.annotations").and_then(Value::as_object);
    let mut forbidden: Vec<String> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, profile)| Some((key, profile.as_str()?)))
        .filter(|(key, profile)| {
            key.starts_with(PREFIX)
                && !profile.is_empty()
                && *profile != "runtime/default"
                && !profile.starts_with("localhost/")
        })
        .map(|(key, profile)| format!("{key}={profile:?}"))
        .collect();
    forbidden.sort();
    let annotated = (!forbidden.is_empty()).then(|| plural("annotation", "annotations", forbidden.len()).to_owned());
    let who: Vec<String> = setters(of_pod, &names).into_iter().chain(annotated).collect();
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(forbidden).collect();
    found(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len()),
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values)),
    )
}

fn capabilities(pod: Pod<'_>) -> Option<Finding> {
    const DEFAULT: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let added = |container| texts(container, "securityContext.capabilities.add").filter(|one| !DEFAULT.contains(one));
    let names = named(pod, |container| added(container).next().is_some());
    let all: BTreeSet<&str> = containers(pod).flat_map(added).collect();
    if names.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not include {} in securityContext.capabilities.add", of_containers(&names), quoted(all));
    found("non-default capabilities", detail)
}

fn few_capabilities(pod: Pod<'_>) -> Option<Finding> {
    let missing =
        named(pod, |container| !texts(container, "securityContext.capabilities.drop").any(|one| one == "ALL"));
    let added =
        |container| texts(container, "securityContext.capabilities.add").filter(|one| *one != "NET_BIND_SERVICE");
    let adding = named(pod, |container| added(container).next().is_some());
    let mut details = Vec::new();
    if !missing.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", of_containers(&missing)));
    }
    if !adding.is_empty() {
        let all: BTreeSet<&str> = containers(pod).flat_map(added).collect();
        let all = quoted(all);
        details.push(format!("{} must not include {all} in securityContext.capabilities.add", of_containers(&adding)));
    }
    if details.is_empty() { None } else { found("unrestricted capabilities", details.join("; ")) }
}

fn host_namespaces(pod: Pod<'_>) -> Option<Finding> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| value::flag(pod.spec, field))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() { None } else { found("host namespaces", shared.join(", ")) }
}

fn host_paths(pod: Pod<'_>) -> Option<Finding> {
    let is_there = |volume: &&Value| volume.get("hostPath").is_some_and(|source| !source.is_null());
    let names: Vec<&str> =
        value::items(pod.spec, "volumes").iter().filter(is_there).map(|volume| value::text(volume, "name")).collect();
    if names.is_empty() {
        return None;
    }
    found("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names)))
}

fn host_ports(pod: Pod<'_>) -> Option<Finding> {
    let ports = |container| {
        let all = value::items(container, "ports").iter();
        all.filter_map(|port| value::int(port, "hostPort")).filter(|port| *port != 0)
    };
    let names = named(pod, |container| ports(container).next().is_some());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = containers(pod).flat_map(ports).map(|port| port.to_string()).collect();
    let detail = format!(
        "{} {} {} {}",
        of_containers(&names),
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", all.len()),
        all.into_iter().collect::<Vec<_>>().join(", "),
    );
    found("hostPort", detail)
}

fn probe_hosts(pod: Pod<'_>) -> Option<Finding> {
    const PLACES: [&str; 5] =
        ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"];
    let hosts = |container| {
        let handlers = PLACES.iter().filter_map(move |place| value::get(container, place));
        handlers
            .flat_map(|handler| ["httpGet.host", "tcpSocket.host"].map(|path| value::text(handler, path)))
            .filter(|host| !host.is_empty())
    };
    let names: BTreeSet<&str> = named(pod, |container| hosts(container).next().is_some()).into_iter().collect();
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<&str> = containers(pod).flat_map(hosts).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        of_containers(&names),
        plural("uses", "use", names.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", all.len()),
        quoted(all),
    );
    found("probe or lifecycle host", detail)
}

fn privileged(pod: Pod<'_>) -> Option<Finding> {
    let names = named(pod, |container| value::flag(container, "securityContext.privileged"));
    if names.is_empty() {
        return None;
    }
    found("privileged", format!("{} must not set securityContext.privileged=true", of_containers(&names)))
}

fn proc_mount(pod: Pod<'_>) -> Option<Finding> {
    let kind = |container| context(container, "procMount").and_then(Value::as_str).filter(|kind| *kind != "Default");
    let names = named(pod, |container| kind(container).is_some());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<&str> = containers(pod).filter_map(kind).collect();
    found("procMount", format!("{} must not set securityContext.procMount to {}", of_containers(&names), quoted(all)))
}

/// With the first so many types allowed.
fn selinux(pod: Pod<'_>, allowed: usize) -> Option<Finding> {
    const TYPES: [&str; 4] = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let bad_type = |object| {
        let kind = context(object, "seLinuxOptions").map_or("", |options| value::text(options, "type"));
        (!kind.is_empty() && !TYPES.iter().take(allowed).any(|known| *known == kind)).then_some(kind)
    };
    let sets = |object, field: &str| {
        context(object, "seLinuxOptions").is_some_and(|options| !value::text(options, field).is_empty())
    };
    let bad = |object| bad_type(object).is_some() || sets(object, "user") || sets(object, "role");
    let names = named(pod, bad);
    let who = setters(bad(pod.spec), &names)?;
    let all = || std::iter::once(pod.spec).chain(containers(pod));
    let types: BTreeSet<&str> = all().filter_map(bad_type).collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    for field in ["user", "role"] {
        if all().any(|object| sets(object, field)) {
            data.push(format!("{field} may not be set"));
        }
    }
    found("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

fn seccomp_annotations(pod: Pod<'_>) -> Option<Finding> {
    let good = |text: &str| matches!(text, "runtime/default" | "docker/default") || text.starts_with("localhost/");
    let of_containers = containers(pod)
        .map(|container| format!("container.seccomp.security.alpha.kubernetes.io/{}", value::text(container, "name")));
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(of_containers);
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let text = meta::annotation(pod.object, &key)?;
            (!good(text)).then(|| format!("{key}={text:?}"))
        })
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", forbidden.len());
    found("seccompProfile", format!("forbidden {what} {}", forbidden.into_iter().collect::<Vec<_>>().join(", ")))
}

/// The type of a profile that is set.
fn profile(object: &Value) -> Option<&str> {
    context(object, "seccompProfile").map(|profile| value::text(profile, "type"))
}

fn bad_profile(object: &Value) -> Option<&str> {
    profile(object).filter(|kind| !matches!(*kind, "Localhost" | "RuntimeDefault"))
}

fn seccomp(pod: Pod<'_>) -> Option<Finding> {
    let names = named(pod, |container| bad_profile(container).is_some());
    let who = setters(bad_profile(pod.spec).is_some(), &names)?;
    let all: BTreeSet<&str> = std::iter::once(pod.spec).chain(containers(pod)).filter_map(bad_profile).collect();
    found("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(all)))
}

fn seccomp_needed(pod: Pod<'_>) -> Option<Finding> {
    if let Some(bad) = seccomp(pod) {
        return Some(bad);
    }
    if profile(pod.spec).is_some() {
        return None;
    }
    let names = named(pod, |container| profile(container).is_none());
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        of_containers(&names)
    );
    found("seccompProfile", detail)
}

/// With the first so many names allowed.
fn sysctls(pod: Pod<'_>, allowed: usize) -> Option<Finding> {
    const NAMES: [&str; 12] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ];
    let names = value::items(pod.spec, "securityContext.sysctls").iter().map(|sysctl| value::text(sysctl, "name"));
    let forbidden: Vec<&str> = names.filter(|name| !NAMES.iter().take(allowed).any(|known| known == name)).collect();
    if forbidden.is_empty() { None } else { found("forbidden sysctls", forbidden.join(", ")) }
}

fn host_process(pod: Pod<'_>) -> Option<Finding> {
    let bad = |object: &Value| value::flag(object, "securityContext.windowsOptions.hostProcess");
    let who = setters(bad(pod.spec), &named(pod, bad))?;
    found("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn escalation(pod: Pod<'_>) -> Option<Finding> {
    let off = |container| context(container, "allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false);
    let names = named(pod, |container| !off(container));
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", of_containers(&names));
    found("allowPrivilegeEscalation != false", detail)
}

fn volume_types(pod: Pod<'_>) -> Option<Finding> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    const KNOWN: [&str; 19] = [
        "hostPath",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "gitRepo",
        "nfs",
        "iscsi",
        "glusterfs",
        "rbd",
        "flexVolume",
        "cinder",
        "cephfs",
        "flocker",
        "fc",
        "azureFile",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "photonPersistentDisk",
        "portworxVolume",
    ];
    let is = |volume: &Value, kind: &str| volume.get(kind).is_some_and(|source| !source.is_null());
    let volumes = value::items(pod.spec, "volumes").iter();
    let bad: Vec<&Value> = volumes.filter(|volume| !ALLOWED.iter().any(|kind| is(volume, kind))).collect();
    if bad.is_empty() {
        return None;
    }
    let kind = |volume: &&Value| {
        let mut known = KNOWN.iter().chain(&["scaleIO", "storageos"]);
        known.find(|kind| is(volume, kind)).copied().unwrap_or("unknown")
    };
    let kinds: BTreeSet<&str> = bad.iter().map(kind).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|volume| value::text(volume, "name"))),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(kinds),
    );
    found("restricted volume types", detail)
}

fn non_root(pod: Pod<'_>) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    let set = |object| context(object, "runAsNonRoot").and_then(Value::as_bool);
    let names = named(pod, |container| set(container) == Some(false));
    if let Some(who) = setters(set(pod.spec) == Some(false), &names) {
        return found(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if set(pod.spec) == Some(true) {
        return None;
    }
    let names = named(pod, |container| set(container).is_none());
    if names.is_empty() {
        return None;
    }
    found(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", of_containers(&names)))
}

fn root_user(pod: Pod<'_>) -> Option<Finding> {
    let root = |object| context(object, "runAsUser").and_then(Value::as_i64) == Some(0);
    let who = setters(root(pod.spec), &named(pod, root))?;
    found("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    fn said(level: Level, minor: Option<u32>, pod: &Value) -> Vec<String> {
        let pod = Pod { object: pod, spec: pod.get("spec").unwrap() };
        findings(level, minor, pod).into_iter().map(|one| format!("{} ({})", one.reason, one.detail)).collect()
    }

    /// A pod that the strictest level takes, with changes.
    fn pod(changes: &[(&str, Value)]) -> Value {
        let mut pod = json!({"metadata": {"annotations": {}}, "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
        for (path, new) in changes {
            match path.strip_prefix("container.") {
                Some(path) => value::set(&mut pod["spec"]["containers"][0], path, new.clone()),
                None => value::set(&mut pod, path, new.clone()),
            }
        }
        pod
    }

    #[test]
    fn every_check_at_every_level() {
        let check = |changes: &[(&str, Value)], baseline: &[&str], restricted: &[&str]| {
            let pod = pod(changes);
            assert_eq!(said(Level::Baseline, None, &pod), baseline, "{pod}");
            assert_eq!(said(Level::Restricted, None, &pod), restricted, "{pod}");
            assert!(said(Level::Privileged, None, &pod).is_empty());
        };
        let both = |path: &str, new: Value, want: &str| check(&[(path, new)], &[want], &[want]);
        check(&[], &[], &[]);
        both("spec.hostNetwork", json!(true), "host namespaces (hostNetwork=true)");
        both(
            "container.securityContext.privileged",
            json!(true),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        );
        both(
            "container.ports",
            json!([{"hostPort": 80}, {"hostPort": 0}]),
            "hostPort (container \"a\" uses hostPort 80)",
        );
        both(
            "container.securityContext.procMount",
            json!("Unmasked"),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        );
        both(
            "container.livenessProbe",
            json!({"httpGet": {"host": "h"}}),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")",
        );
        both(
            "spec.securityContext.sysctls",
            json!([{"name": "kernel.sem"}, {"name": "net.ipv4.tcp_rmem"}]),
            "forbidden sysctls (kernel.sem)",
        );
        both(
            "spec.securityContext.windowsOptions",
            json!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        );
        both(
            "spec.securityContext.appArmorProfile",
            json!({"type": "Unconfined"}),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        );
        both(
            "container.securityContext.seLinuxOptions",
            json!({"type": "x", "user": "u"}),
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set)",
        );
        both(
            "container.securityContext.seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        );
        check(
            &[("spec.volumes", json!([{"name": "h", "hostPath": {}}, {"name": "n", "nfs": {}}]))],
            &["hostPath volumes (volume \"h\")"],
            &["restricted volume types (volumes \"h\", \"n\" use restricted volume types \"hostPath\", \"nfs\")"],
        );
        check(
            &[("container.securityContext.capabilities", json!({"add": ["SYS_ADMIN", "CHOWN"], "drop": ["ALL"]}))],
            &[
                "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
            ],
            &[
                "unrestricted capabilities (container \"a\" must not include \"CHOWN\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
            ],
        );
        check(
            &[("container.securityContext", json!({}))],
            &[],
            &[
                "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"])",
            ],
        );
        check(
            &[("spec.securityContext", json!({}))],
            &[],
            &[
                "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ],
        );
        check(&[("spec.securityContext.runAsUser", json!(0))], &[], &["runAsUser=0 (pod must not set runAsUser=0)"]);
        check(
            &[("container.securityContext.runAsNonRoot", json!(false))],
            &[],
            &["runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)"],
        );
        let own_users = ("spec.hostUsers", json!(false));
        check(&[own_users.clone(), ("spec.securityContext.runAsUser", json!(0))], &[], &[]);
        check(
            &[own_users, ("container.securityContext.procMount", json!("Unmasked"))],
            &[],
            &["procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")"],
        );
    }

    #[test]
    fn versions_differ() {
        let at = |level: Level, minor: u32, changes: &[(&str, Value)]| said(level, Some(minor), &pod(changes)).len();
        let sysctl = |name: &str| [("spec.securityContext.sysctls", json!([{"name": name}]))];
        for (name, since) in
            [("net.ipv4.ip_local_reserved_ports", 27), ("net.ipv4.tcp_fin_timeout", 29), ("net.ipv4.tcp_wmem", 32)]
        {
            assert_eq!(
                (at(Level::Baseline, since - 1, &sysctl(name)), at(Level::Baseline, since, &sysctl(name))),
                (1, 0)
            );
        }
        let engine = [("spec.securityContext.seLinuxOptions", json!({"type": "container_engine_t"}))];
        assert_eq!((at(Level::Baseline, 30, &engine), at(Level::Baseline, 31, &engine)), (1, 0));
        let root = [("spec.securityContext.runAsUser", json!(0))];
        assert_eq!((at(Level::Restricted, 22, &root), at(Level::Restricted, 23, &root)), (0, 1));
        let windows = [("spec.os", json!({"name": "windows"})), ("container.securityContext", json!({}))];
        assert_eq!((at(Level::Restricted, 24, &windows), at(Level::Restricted, 25, &windows)), (2, 0));
        let probe = [("container.readinessProbe", json!({"tcpSocket": {"host": "h"}}))];
        assert_eq!((at(Level::Baseline, 33, &probe), at(Level::Baseline, 34, &probe)), (0, 1));
        let annotated = [("metadata.annotations", json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}))];
        assert_eq!((at(Level::Baseline, 18, &annotated), at(Level::Baseline, 19, &annotated)), (1, 0));
        // A version to come is the newest.
        assert_eq!(at(Level::Restricted, 99, &root), 1);
    }
}
