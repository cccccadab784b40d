//! What is wrong with the security contexts of a pod and its containers.
//!
//! Never applies a policy: that is admission's.

use super::names;
use super::pod_defaults::CONTAINER_LISTS;
use super::rules::given_one_of;
use super::{pod_profiles, pod_windows};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

fn ids(errors: &mut Errors, context: &Value, fields: &[&str], field: &Path) {
    for name in fields {
        if let Some(id) = value::int(context, name) {
            self::id(errors, id, &field.child(name));
        }
    }
}

fn id(errors: &mut Errors, id: i64, field: &Path) {
    let max = i64::from(i32::MAX);
    if !(0..=max).contains(&id) {
        errors.push(FieldError::invalid(field, id, names::range(0, max)));
    }
}

/// The security of a pod spec at `field`.
#[must_use]
pub fn pod(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    if let Some(context) = spec.get("securityContext").filter(|context| context.is_object()) {
        let at = field.child("securityContext");
        ids(&mut errors, context, &["fsGroup", "runAsUser", "runAsGroup"], &at);
        for (i, group) in value::items(context, "supplementalGroups").iter().filter_map(Value::as_i64).enumerate() {
            id(&mut errors, group, &at.child("supplementalGroups").index(i));
        }
        if value::flag(spec, "shareProcessNamespace") && value::flag(spec, "hostPID") {
            let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
            errors.push(FieldError::invalid(&at.child("shareProcessNamespace"), true, detail));
        }
        sysctls(&mut errors, spec, context, &at.child("sysctls"));
        given_one_of(&mut errors, context, "fsGroupChangePolicy", &at, &["Always", "OnRootMismatch"]);
        pod_profiles::validate(&mut errors, context, &at);
        pod_windows::options(&mut errors, context, &at);
        given_one_of(&mut errors, context, "supplementalGroupsPolicy", &at, &["Merge", "Strict"]);
        // `MountOption` comes with the gate SELinuxMount.
        given_one_of(&mut errors, context, "seLinuxChangePolicy", &at, &["Recursive"]);
    }
    errors
}

/// What users of a pod's own exclude.
#[must_use]
pub fn host_users(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    if spec.get("hostUsers").and_then(Value::as_bool) != Some(false) {
        return errors;
    }
    for (flag, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if value::flag(spec, flag) {
            errors.push(FieldError::forbidden(&field.child(shown), "when `hostUsers` is false"));
        }
    }
    for list in CONTAINER_LISTS {
        for (i, container) in value::items(spec, list).iter().enumerate() {
            if !value::items(container, "volumeDevices").is_empty() {
                let at = field.child(list).index(i).child("volumeDevices");
                errors.push(FieldError::forbidden(&at, "when `hostUsers` is false"));
            }
        }
    }
    errors
}

fn sysctls(errors: &mut Errors, spec: &Value, context: &Value, field: &Path) {
    let list = value::items(context, "sysctls");
    for (i, sysctl) in list.iter().enumerate() {
        let at = field.index(i).child("name");
        let name = value::text(sysctl, "name");
        let segment = |text: &str| {
            let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let bytes = text.as_bytes();
            edge(bytes.first())
                && edge(bytes.last())
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(b))
        };
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if name.len() > 253 || !name.split(['.', '/']).all(segment) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(FieldError::invalid(&at, name, detail));
        } else if list.iter().take(i).any(|other| value::text(other, "name") == name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        let dotted = name.replace('/', ".");
        let ipc =
            ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|prefix| dotted.starts_with(prefix));
        for (flag, owns) in [("hostNetwork", dotted.starts_with("net.")), ("hostIPC", ipc)] {
            if owns && value::flag(spec, flag) {
                let detail = format!("may not be specified when '{flag}' is true");
                errors.push(FieldError::invalid(&at, name, detail));
            }
        }
    }
}

/// The security context of a container, at `field`.
#[must_use]
pub fn container(container: &Value, spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let Some(context) = container.get("securityContext").filter(|context| context.is_object()) else { return errors };
    ids(&mut errors, context, &["runAsUser", "runAsGroup"], field);
    given_one_of(&mut errors, context, "procMount", field, &["Default", "Unmasked"]);
    let host_users = spec.get("hostUsers").and_then(Value::as_bool).unwrap_or(true);
    if host_users && value::text(context, "procMount") == "Unmasked" {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(&field.child("procMount"), "Unmasked", detail));
    }
    if context.get("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false) {
        if value::flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid_whole(field, detail).showing("SecurityContext", context));
        }
        if value::items(context, "capabilities.add").iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid_whole(field, detail).showing("SecurityContext", context));
        }
    }
    pod_profiles::validate(&mut errors, context, field);
    pod_windows::options(&mut errors, context, field);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn pods_and_containers() {
        let spec = json!({"hostUsers": false, "hostPID": true, "hostNetwork": true, "securityContext": {"runAsUser": -1,
            "sysctls": [{"name": "net.x"}, {"name": "A"}], "seccompProfile": {"type": "Localhost"}}});
        assert_eq!(
            shown(&pod(&spec, &Path::new("s"))),
            [
                "s.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                "s.securityContext.sysctls[0].name: Invalid value: \"net.x\": may not be specified when 'hostNetwork' is true",
                "s.securityContext.sysctls[1].name: Invalid value: \"A\": must have at most 253 characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                "s.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ]
        );
        assert_eq!(
            shown(&host_users(&spec, &Path::new("s"))),
            ["s.hostNetwork: Forbidden: when `hostUsers` is false", "s.HostPID: Forbidden: when `hostUsers` is false"]
        );
        let bad = json!({"securityContext": {"allowPrivilegeEscalation": false, "privileged": true}});
        assert_eq!(
            shown(&container(&bad, &json!({}), &Path::new("c"))),
            [
                "c: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set \
              `allowPrivilegeEscalation` to false and `privileged` to true"
            ]
        );
    }
}
