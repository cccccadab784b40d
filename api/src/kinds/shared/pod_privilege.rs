//! What the containers of pods may have of their machine where the cluster gives nobody all of it.
//!
//! Never knows whether it does. Source: upstream's validation of security contexts.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const HOST_PROCESS: &str = "securityContext.windowsOptions.hostProcess";

/// What asks for all of the machine in a pod's spec that lies at `path`.
#[must_use]
pub fn refused(object: &Value, path: &str) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = value::get(object, path) else { return errors };
    let mut at = path.split('.');
    let at = at.next().map(Path::new).map(|first| at.fold(first, |path, field| path.child(field)));
    let Some(at) = at else { return errors };
    let whole = value::flag(spec, HOST_PROCESS);
    let mut host_process = false;
    for list in LISTS {
        for (place, container) in value::items(spec, list).iter().enumerate() {
            if value::flag(container, "securityContext.privileged") {
                let field = at.child(list).index(place).child("securityContext").child("privileged");
                errors.push(FieldError::forbidden(&field, "disallowed by cluster policy"));
            }
            let own = value::get(container, HOST_PROCESS).and_then(Value::as_bool);
            host_process |= own.unwrap_or(whole);
        }
    }
    if host_process {
        errors.push(FieldError::forbidden(&at, "hostProcess containers are disallowed by cluster policy"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn who_asks_for_all_of_the_machine() {
        let said = |spec: Value| -> Vec<String> {
            let object = json!({"spec": {"template": {"spec": spec}}});
            refused(&object, "spec.template.spec").iter().map(ToString::to_string).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(said(json!({"containers": [{"securityContext": {"privileged": false}}, {}]})), none);
        let privileged = json!({"securityContext": {"privileged": true}});
        assert_eq!(
            said(json!({"initContainers": [{}, privileged], "containers": [privileged],
                "ephemeralContainers": [privileged]})),
            ["initContainers[1]", "containers[0]", "ephemeralContainers[0]"].map(|place| format!(
                "spec.template.spec.{place}.securityContext.privileged: Forbidden: disallowed by cluster policy"
            ))
        );
        let options = |says: bool| json!({"windowsOptions": {"hostProcess": says}});
        let host_process = ["spec.template.spec: Forbidden: hostProcess containers are disallowed by cluster policy"];
        assert_eq!(said(json!({"securityContext": options(true), "containers": [{}]})), host_process);
        assert_eq!(said(json!({"containers": [{"securityContext": options(true)}]})), host_process);
        let taken_back = json!({"securityContext": options(true), "containers": [{"securityContext": options(false)}]});
        assert_eq!(said(taken_back), none);
    }
}
