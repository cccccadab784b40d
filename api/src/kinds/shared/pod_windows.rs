//! What a pod says of the operating system of its node, what each system does not know, and Windows' options.
//!
//! Never knows which nodes there are.

use super::labels::invalid;
use super::names;
use super::pod_defaults::CONTAINER_LISTS;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

/// Fields of the pod that Windows does not know, below its spec, in upstream's order.
const NOT_OF_PODS: &[&str] = &[
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
];

/// Those of containers, below their security contexts.
const NOT_OF_CONTAINERS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Flags that say nothing where they are false, and lists that say nothing where they are empty.
const ABSENT_WHEN_EMPTY: &[&str] = &["hostPID", "hostIPC", "securityContext.sysctls"];

/// `spec.os`, and what does not go with it.
#[must_use]
pub fn system(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let Some(os) = spec.get("os").filter(|os| os.is_object()) else { return errors };
    let at = field.child("os");
    match value::text(os, "name") {
        "" => errors.push(FieldError::required(&at.child("name"), "")),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            each_context(spec, field, |context, field| {
                if context.get("windowsOptions").is_some_and(Value::is_object) {
                    errors.push(FieldError::forbidden(&field.child("windowsOptions"), detail));
                }
            });
        }
        "windows" => not_windows(&mut errors, spec, field),
        other => errors.push(FieldError::not_supported(&at, other, &["linux", "windows"])),
    }
    errors
}

/// The security contexts of the pod and of its containers, where they are.
fn each_context<'a>(spec: &'a Value, field: &Path, mut see: impl FnMut(&'a Value, &Path)) {
    let mut see = |of: &'a Value, field: &Path| {
        if let Some(context) = of.get("securityContext").filter(|context| context.is_object()) {
            see(context, &field.child("securityContext"));
        }
    };
    see(spec, field);
    for list in CONTAINER_LISTS {
        for (i, container) in value::items(spec, list).iter().enumerate() {
            see(container, &field.child(list).index(i));
        }
    }
}

fn not_windows(errors: &mut Errors, spec: &Value, field: &Path) {
    const DETAIL: &str = "cannot be set for a windows pod";
    for name in NOT_OF_PODS {
        let said = value::get(spec, name).is_some_and(|said| match said {
            Value::Null => false,
            Value::Bool(flag) => *flag || !ABSENT_WHEN_EMPTY.contains(name),
            Value::Array(list) => !list.is_empty() || !ABSENT_WHEN_EMPTY.contains(name),
            _ => true,
        });
        if said {
            errors.push(FieldError::forbidden(&field.child(name), DETAIL));
        }
    }
    let of_pod = field.child("securityContext");
    each_context(spec, field, |context, field| {
        for name in NOT_OF_CONTAINERS.iter().filter(|_| *field != of_pod) {
            if context.get(*name).is_some_and(|said| !said.is_null()) {
                errors.push(FieldError::forbidden(&field.child(name), DETAIL));
            }
        }
    });
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

/// The most that a credential specification has.
const MOST_BYTES: usize = 64 * 1024;

/// `windowsOptions` of a security context at `field`.
pub fn options(errors: &mut Errors, context: &Value, field: &Path) {
    let Some(options) = context.get("windowsOptions").filter(|options| options.is_object()) else { return };
    let field = field.child("windowsOptions");
    if let Some(name) = options.get("gmsaCredentialSpecName").and_then(Value::as_str) {
        invalid(errors, &field.child("gmsaCredentialSpecName"), name, names::dns_subdomain(name));
    }
    if let Some(spec) = options.get("gmsaCredentialSpec").and_then(Value::as_str) {
        let at = field.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.push(FieldError::invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string"));
        } else if spec.len() > MOST_BYTES {
            errors.push(FieldError::invalid(&at, spec, "gmsaCredentialSpec size must be under 64 KiB"));
        }
    }
    if let Some(name) = options.get("runAsUserName").and_then(Value::as_str) {
        invalid(errors, &field.child("runAsUserName"), name, user_name(name));
    }
}

/// What is wrong with `DOMAIN\user` or `user`.
fn user_name(name: &str) -> names::Messages {
    let whole = |why: &str| vec![format!("runAsUserName {why}")];
    if name.is_empty() {
        return whole("cannot be an empty string");
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return whole("cannot contain control characters");
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, rest)) if rest.contains('\\') => return whole("cannot contain more than one backslash"),
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut wrong = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            wrong.push("Domain length must be under 256 characters");
        }
        if !is_netbios(domain) && !is_domain(domain) {
            wrong.push("Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        wrong.push("User cannot be empty");
    } else if user.len() > 104 {
        wrong.push("User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        wrong.push("User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    wrong.into_iter().map(|why| format!("runAsUserName's {why}")).collect()
}

fn is_netbios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

/// Labels of letters of both cases, digits and dashes.
fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    #[test]
    fn each_system_knows_its_own() {
        let context = json!({"runAsUser": 1, "windowsOptions": {}});
        let mut spec = json!({"os": {"name": "linux"}, "hostPID": false, "securityContext": {"sysctls": [], "fsGroup": 1,
            "windowsOptions": {}}, "containers": [{"securityContext": context}, {}]});
        assert_eq!(
            shown(&system(&spec, &Path::new("spec"))),
            [
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
                "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ]
        );
        spec["os"]["name"] = json!("windows");
        value::set(&mut spec, "hostUsers", false);
        assert_eq!(
            shown(&system(&spec, &Path::new("spec"))),
            [
                "spec.hostUsers: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
                "spec.containers[0].securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            ]
        );
    }

    #[test]
    fn users_of_windows() {
        for (name, wrong) in [
            ("ContainerAdministrator", &[][..]),
            ("NT AUTHORITY\\NETWORK SERVICE", &[]),
            ("a-long-domain.example.com\\me", &[]),
            ("", &["runAsUserName cannot be an empty string"]),
            ("a\tb", &["runAsUserName cannot contain control characters"]),
            ("a\\b\\c", &["runAsUserName cannot contain more than one backslash"]),
            (
                ".a\\",
                &[
                    "runAsUserName's Domain doesn't match the NetBios nor the DNS format",
                    "runAsUserName's User cannot be empty",
                ],
            ),
            ("a\\. .", &["runAsUserName's User cannot contain only periods or spaces"]),
            ("a@b", &["runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"]),
        ] {
            assert_eq!(user_name(name), wrong, "{name}");
        }
        let mut errors = Errors::new();
        let spec = json!({"windowsOptions": {"gmsaCredentialSpec": "", "gmsaCredentialSpecName": "A"}});
        options(&mut errors, &spec, &Path::new("c"));
        let sentences = shown(&errors);
        assert!(
            sentences[0]
                .starts_with("c.windowsOptions.gmsaCredentialSpecName: Invalid value: \"A\": a lowercase RFC 1123")
        );
        assert_eq!(
            sentences[1..],
            ["c.windowsOptions.gmsaCredentialSpec: Invalid value: \"\": gmsaCredentialSpec cannot be an empty string"]
        );
    }
}
