//! What is wrong with probes and lifecycle hooks of containers.
//!
//! Never runs them.

use super::labels::invalid;
use super::names;
use super::pod_validation::Context;
use super::rules::not_negative;
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

/// The probes and hooks of a container at `field`.
pub fn validate(errors: &mut Errors, context: &Context<'_>, container: &Value, field: &Path) {
    let grace = value::int(context.spec, "terminationGracePeriodSeconds");
    for name in ["postStart", "preStop"] {
        let hook = container.get("lifecycle").and_then(|lifecycle| lifecycle.get(name)).filter(|hook| hook.is_object());
        if let Some(hook) = hook {
            handler(
                errors,
                hook,
                grace,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &field.child("lifecycle").child(name),
            );
        }
    }
    if !value::text(container, "lifecycle.stopSignal").is_empty() && value::text(context.spec, "os.name").is_empty() {
        let detail = "may not be set for containers with empty `spec.os.name`";
        errors.push(FieldError::forbidden(&field.child("lifecycle.stopSignal"), detail));
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name).filter(|probe| probe.is_object()) else { continue };
        let field = field.child(name);
        handler(errors, probe, grace, &["exec", "httpGet", "tcpSocket", "grpc"], &field);
        for number in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            not_negative(errors, probe, number, &field);
        }
        let own_grace = value::int(probe, "terminationGracePeriodSeconds");
        let at = field.child("terminationGracePeriodSeconds");
        if let Some(seconds) = own_grace.filter(|seconds| *seconds <= 0) {
            errors.push(FieldError::invalid(&at, seconds, "must be greater than 0"));
        }
        if name == "readinessProbe" {
            if let Some(seconds) = own_grace {
                errors.push(FieldError::invalid(&at, seconds, "must not be set for readinessProbes"));
            }
        } else if let Some(threshold) = value::int(probe, "successThreshold").filter(|threshold| *threshold != 1) {
            errors.push(FieldError::invalid(&field.child("successThreshold"), threshold, "must be 1"));
        }
    }
}

fn handler(errors: &mut Errors, object: &Value, grace: Option<i64>, kinds: &[&str], field: &Path) {
    let mut any = false;
    for kind in kinds {
        let Some(action) = object.get(*kind).filter(|action| action.is_object()) else { continue };
        let at = field.child(kind);
        if any {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 handler type"));
            continue;
        }
        any = true;
        match *kind {
            "exec" => {
                if value::items(action, "command").is_empty() {
                    errors.push(FieldError::required(&at.child("command"), ""));
                }
            }
            "httpGet" => http(errors, action, &at),
            "sleep" => {
                let seconds = value::int(action, "seconds").unwrap_or_default();
                if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                    let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.push(FieldError::invalid(&at, seconds, detail));
                }
            }
            _ => port(errors, action.get("port"), &at.child("port")),
        }
    }
    if !any {
        errors.push(FieldError::required(field, "must specify a handler type"));
    }
}

fn http(errors: &mut Errors, action: &Value, field: &Path) {
    super::rules::required(errors, action, "path", field);
    port(errors, action.get("port"), &field.child("port"));
    let scheme = value::text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(FieldError::not_supported(&field.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in value::items(action, "httpHeaders") {
        let name = value::text(header, "name");
        invalid(errors, &field.child("httpHeaders"), name, names::http_header(name));
    }
}

/// A port by number or by name.
pub fn port(errors: &mut Errors, port: Option<&Value>, field: &Path) {
    match port {
        Some(Value::String(name)) => invalid(errors, field, name, names::port_name(name)),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or_default();
            let messages = names::port_number(number);
            errors.extend(messages.into_iter().map(|message| FieldError::invalid(field, number, message)));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::json::json;
    use crate::kinds::shared::testing::shown;
    use crate::kinds::shared::{pod_defaults, pod_validation};

    #[test]
    fn probes_and_hooks() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i",
            "livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}, "successThreshold": 2},
            "readinessProbe": {"httpGet": {"port": 0, "scheme": "FTP"}, "periodSeconds": -1},
            "startupProbe": {}, "lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}]}});
        pod_defaults::pod(&mut pod);
        let at = "spec.containers[0]";
        assert_eq!(
            shown(&pod_validation::pod(&pod)),
            [
                "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
                "livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "readinessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
                "readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                "startupProbe: Required value: must specify a handler type",
            ]
            .map(|sentence| format!("{at}.{sentence}"))
        );
    }
}
