//! What is wrong with the security contexts of a pod and its containers.
//!
//! Never applies a policy: that is admission's.

use super::names;
use super::pod_defaults::CONTAINER_LISTS;
use super::pod_volumes::descending_path;
use super::rules::{given_one_of, invalid_struct, text_or_null};
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
        profiles(&mut errors, context, &at);
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

/// Processes of Windows' host: all containers of a pod are such, or none.
#[must_use]
pub fn host_process(spec: &Value, field: &Path) -> Errors {
    const PATH: &str = "securityContext.windowsOptions.hostProcess";
    let mut errors = Errors::new();
    let said = |of: &Value| value::get(of, PATH).and_then(Value::as_bool);
    let whole = said(spec);
    let (mut count, mut all) = (0, 0);
    for list in CONTAINER_LISTS {
        for (i, container) in value::items(spec, list).iter().enumerate() {
            all += 1;
            let own = said(container);
            if let (Some(whole), Some(own)) = (whole, own)
                && whole != own
            {
                let at = field.child(list).index(i).child(PATH);
                let detail = format!("pod hostProcess value must be identical if both are specified, was {whole}");
                errors.push(FieldError::invalid(&at, own, detail));
            }
            count += i32::from(own.or(whole) == Some(true));
        }
    }
    if count > 0 && count != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(field, "", detail));
    }
    if count > 0 && !value::flag(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&field.child("hostNetwork"), false, detail));
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

fn profiles(errors: &mut Errors, context: &Value, field: &Path) {
    for (name, shown) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = context.get(name).filter(|profile| profile.is_object()) else { continue };
        let field = field.child(name);
        let kind = value::text(profile, "type");
        let local = profile.get("localhostProfile").and_then(Value::as_str);
        match kind {
            "" => {
                errors.push(FieldError::required(&field.child("type"), format!("type is required when {name} is set")));
            }
            "Localhost" | "RuntimeDefault" | "Unconfined" => {}
            other => errors.push(FieldError::not_supported(
                &field.child("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            )),
        }
        let at = field.child("localhostProfile");
        match (kind, local) {
            ("Localhost", None) => {
                errors.push(FieldError::required(&at, format!("must be set when {shown} type is Localhost")));
            }
            ("Localhost", Some(path)) if name == "seccompProfile" => descending_path(errors, path, &at),
            ("Localhost", Some(path)) if path.trim() != path => {
                errors.push(FieldError::invalid(&at, path, "must not be padded with whitespace"));
            }
            ("Localhost", Some("")) => {
                errors.push(FieldError::required(&at, format!("must be set when {shown} type is Localhost")));
            }
            ("Localhost", _) | (_, None) => {}
            (kind, path) if name == "seccompProfile" => {
                let fields = [("Type", kind.into()), ("LocalhostProfile", text_or_null(path))];
                errors.push(invalid_struct(&at, &fields, "can only be set when seccomp type is Localhost"));
            }
            ("RuntimeDefault" | "Unconfined", Some(path)) => {
                errors.push(FieldError::invalid(&at, path, "can only be set when AppArmor type is Localhost"));
            }
            (_, Some(_)) => {}
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
            errors.push(FieldError::invalid(field, context.clone(), detail));
        }
        if value::items(context, "capabilities.add").iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(field, context.clone(), detail));
        }
    }
    profiles(&mut errors, context, field);
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
            ["c: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set \
              `allowPrivilegeEscalation` to false and `privileged` to true"]
        );
    }
}
