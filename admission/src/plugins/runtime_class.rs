//! `RuntimeClass`: a pod gets the overhead and the scheduling of its class; one whose class is absent is refused.
//!
//! Source: KEP-585, KEP-688. Never looks at which handlers a node has.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::{quota, value};
use async_trait::async_trait;

/// See the file.
pub struct RuntimeClass;

pub(crate) static PLUGIN: RuntimeClass = RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is("pods", "") {
            return Ok(());
        }
        let class = class_of(request, pod, lookup).await?;
        class.map_or(Ok(()), |class| equip(pod, &class)).map_err(|why| request.forbidden(&why))
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is("pods", "") {
            return Ok(());
        }
        let class = class_of(request, pod, lookup).await?;
        judge(pod, class.as_ref()).map_err(|why| request.forbidden(why))
    }
}

async fn class_of(request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<Option<Value>, Refusal> {
    let Some(name) = value::get(pod, "spec.runtimeClassName").and_then(Value::as_str) else { return Ok(None) };
    let found = lookup.get("node.k8s.io", "runtimeclasses", "", name).await;
    found.map(Some).ok_or_else(|| request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")))
}

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// Whether the pod has the overhead of its class, and none without one.
fn judge(pod: &Value, class: Option<&Value>) -> Result<(), &'static str> {
    let own = value::get(pod, "spec.overhead").filter(|own| !own.is_null());
    match (class.and_then(|class| value::get(class, "overhead")).filter(|one| !one.is_null()), own) {
        (Some(_), _) => {
            let of_class = class.map(|class| quota::amounts(class, "overhead.podFixed")).unwrap_or_default();
            if of_class == quota::amounts(pod, "spec.overhead") { Ok(()) } else { Err(OTHER_OVERHEAD) }
        }
        (None, Some(_)) => Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        (None, None) => Ok(()),
    }
}

/// Gives the pod what its class says.
fn equip(pod: &mut Value, class: &Value) -> Result<(), String> {
    if let Some(fixed) = value::get(class, "overhead.podFixed").filter(|fixed| !fixed.is_null()) {
        let own = quota::amounts(pod, "spec.overhead");
        if !own.is_empty() && own != quota::amounts(class, "overhead.podFixed") {
            return Err(OTHER_OVERHEAD.to_owned());
        }
        value::set(pod, "spec.overhead", fixed.clone());
    }
    for (key, wanted) in value::get(class, "scheduling.nodeSelector").and_then(Value::as_object).into_iter().flatten() {
        let held = value::map_mut(pod, "spec.nodeSelector");
        if let Some(own) = held.get(key).filter(|own| *own != wanted) {
            let (wanted, own) = (wanted.as_str().unwrap_or_default(), own.as_str().unwrap_or_default());
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        held.insert(key.clone(), wanted.clone());
    }
    let mut tolerations = value::items(pod, "spec.tolerations").to_vec();
    for one in value::items(class, "scheduling.tolerations") {
        if !tolerations.contains(one) {
            tolerations.push(one.clone());
        }
    }
    if !tolerations.is_empty() {
        value::set(pod, "spec.tolerations", tolerations);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn a_pod_takes_over_what_its_class_says() {
        let class = json!({"handler": "h", "overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {
            "nodeSelector": {"kind": "vm"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        let mut pod = json!({"spec": {"nodeSelector": {"zone": "a"}}});
        equip(&mut pod, &class).unwrap();
        let once = pod.clone();
        assert_eq!(
            once["spec"],
            json!({"nodeSelector": {"zone": "a", "kind": "vm"}, "overhead": {"cpu": "250m"},
                "tolerations": [{"key": "vm", "operator": "Exists"}]})
        );
        equip(&mut pod, &class).unwrap();
        assert_eq!(pod, once);
        assert_eq!(judge(&pod, Some(&class)), Ok(()));
        let mut other = json!({"spec": {"nodeSelector": {"kind": "bare"}}});
        let why = "conflict: runtimeClass.scheduling.nodeSelector[kind] = vm; pod.spec.nodeSelector[kind] = bare";
        assert_eq!(equip(&mut other, &class), Err(why.to_owned()));
    }

    #[test]
    fn overhead_is_that_of_the_class() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m"}}});
        for (pod, class, fine) in [
            (json!({"spec": {"overhead": {"cpu": "0.25"}}}), Some(&class), true),
            (json!({"spec": {"overhead": {"cpu": "1"}}}), Some(&class), false),
            (json!({"spec": {}}), Some(&class), false),
            (json!({"spec": {"overhead": {"cpu": "1"}}}), None, false),
            (json!({"spec": {}}), None, true),
        ] {
            assert_eq!(judge(&pod, class).is_ok(), fine, "{pod}");
        }
        assert_eq!(equip(&mut json!({"spec": {"overhead": {"cpu": "1"}}}), &class), Err(OTHER_OVERHEAD.to_owned()));
    }
}
