//! `LimitRanger`: containers get the defaults of the namespace's LimitRanges, and pods and claims keep to their bounds.
//!
//! Never touches a pod that exists already.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::quantity::Quantity;
use api::quota::{self, Amounts};
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct LimitRanger;

pub(crate) static PLUGIN: LimitRanger = LimitRanger;

/// Tells which amounts were chosen for the pod.
const NOTE: &str = "kubernetes.io/limit-ranger";
const LISTS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["persistentvolumeclaims", "pods"]
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation == Operation::Create && request.is("pods", "") {
            for range in lookup.list("", "limitranges", request.namespace).await {
                fill(pod, &range);
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let writes = request.operation != Operation::Delete;
        let pod =
            request.is("pods", "") && request.operation == Operation::Create || request.is("pods", "resize") && writes;
        let claim = request.is("persistentvolumeclaims", "") && writes;
        if !pod && !claim {
            return Ok(());
        }
        for range in lookup.list("", "limitranges", request.namespace).await {
            let wrong = if pod { of_pod(object, &range) } else { of_claim(object, &range) };
            match wrong.as_slice() {
                [] => {}
                [one] => return Err(request.forbidden(one)),
                several => return Err(request.forbidden(&format!("[{}]", several.join(", ")))),
            }
        }
        Ok(())
    }
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    value::items(range, "spec.limits").iter().filter(move |limit| value::text(limit, "type") == kind)
}

/// Writes the defaults where containers say nothing, and notes it.
fn fill(pod: &mut Value, range: &Value) {
    let (mut requests, mut most) = (api::json::Map::new(), api::json::Map::new());
    for limit in limits(range, "Container") {
        for (list, into) in [("defaultRequest", &mut requests), ("default", &mut most)] {
            let found = limit.get(list).and_then(Value::as_object).cloned();
            into.extend(found.into_iter().flatten());
        }
    }
    let mut notes = Vec::new();
    for (list, word) in LISTS {
        for container in value::items_mut(pod, &format!("spec.{list}")) {
            let name = value::text(container, "name").to_owned();
            for (side, singular, defaults) in [("requests", "request", &requests), ("limits", "limit", &most)] {
                let mut set = Vec::new();
                for (resource, amount) in defaults {
                    let held = value::map_mut(container, &format!("resources.{side}"));
                    if !held.contains_key(resource) {
                        held.insert(resource.clone(), amount.clone());
                        set.push(resource.as_str());
                    }
                }
                if !set.is_empty() {
                    set.sort_unstable();
                    notes.push(format!("{} {singular} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        value::map_mut(pod, "metadata.annotations").insert(NOTE.to_owned(), text.into());
    }
}

fn of_pod(pod: &Value, range: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for limit in limits(range, "Container") {
        for container in LISTS.iter().flat_map(|(list, _)| value::items(pod, &format!("spec.{list}"))) {
            let side = |side: &str| quota::amounts(container, &format!("resources.{side}"));
            bounds(&mut wrong, "Container", limit, &side("requests"), Some(&side("limits")));
        }
    }
    for limit in limits(range, "Pod") {
        let spec = pod.get("spec").unwrap_or(&Value::Null);
        bounds(&mut wrong, "Pod", limit, &quota::sums(spec, "requests"), Some(&quota::sums(spec, "limits")));
    }
    wrong
}

fn of_claim(claim: &Value, range: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for limit in limits(range, "PersistentVolumeClaim") {
        let requests = quota::amounts(claim, "spec.resources.requests");
        bounds(&mut wrong, "PersistentVolumeClaim", limit, &requests, None);
    }
    wrong
}

/// What is out of bounds, in upstream's words. Without a list of limits the upper bound is one of the request.
fn bounds(wrong: &mut Vec<String>, of: &str, limit: &Value, requests: &Amounts, most: Option<&Amounts>) {
    for (name, least) in quota::amounts(limit, "min") {
        let rule = format!("minimum {name} usage per {of} is {least}");
        match (requests.get(&name), most.and_then(|most| most.get(&name))) {
            (None, _) => wrong.push(format!("{rule}.  No request is specified")),
            (Some(request), _) if *request < least => wrong.push(format!("{rule}, but request is {request}")),
            (_, Some(limit)) if *limit < least => wrong.push(format!("{rule}, but limit is {limit}")),
            _ => {}
        }
    }
    for (name, bound) in quota::amounts(limit, "max") {
        let rule = format!("maximum {name} usage per {of} is {bound}");
        let request = requests.get(&name);
        match most.map(|most| most.get(&name)) {
            None if request.is_none() => wrong.push(format!("{rule}.  No request is specified")),
            Some(None) => wrong.push(format!("{rule}.  No limit is specified")),
            Some(Some(limit)) if *limit > bound => wrong.push(format!("{rule}, but limit is {limit}")),
            _ => {
                if let Some(request) = request.filter(|request| **request > bound) {
                    wrong.push(format!("{rule}, but request is {request}"));
                }
            }
        }
    }
    let Some(most) = most else { return };
    for (name, ratio) in quota::amounts(limit, "maxLimitRequestRatio") {
        let rule = format!("{name} max limit to request ratio per {of} is {ratio}");
        let said = |list: &Amounts| list.get(&name).copied().filter(|amount| !amount.is_zero());
        match (said(requests), said(most)) {
            (None, _) => wrong.push(format!("{rule}, but no request is specified or request is 0")),
            (_, None) => wrong.push(format!("{rule}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                if let Some(found) = exceeds(request, limit, ratio) {
                    wrong.push(format!("{rule}, but provided ratio is {found}"));
                }
            }
        }
    }
}

/// The ratio of limit to request with six decimals, if it is more than the bound.
fn exceeds(request: Quantity, limit: Quantity, bound: Quantity) -> Option<String> {
    let milli = |amount: Quantity| i128::from(amount.milli_value());
    if milli(limit).checked_mul(1000)? <= milli(request).checked_mul(milli(bound))? {
        return None;
    }
    let millionths = (milli(limit) * 1_000_000).checked_div(milli(request))?;
    Some(format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    fn range(limit: impl Into<Value>) -> Value {
        let limit: Value = limit.into();
        json!({"spec": {"limits": [limit]}})
    }

    #[test]
    fn silence_is_filled() {
        let range = range(
            json!({"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}}),
        );
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "5m"},
            "limits": {"cpu": "7m", "memory": "1Mi"}}}], "initContainers": [{"name": "i"}]}});
        fill(&mut pod, &range);
        let whole = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], whole);
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"], json!({"cpu": "7m", "memory": "1Mi"}));
        assert_eq!(pod["spec"]["initContainers"][0]["resources"], whole);
        let note = "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for \
                    init container i; cpu, memory limit for init container i";
        assert_eq!(pod["metadata"]["annotations"][NOTE], note);
        let once = pod.clone();
        fill(&mut pod, &range);
        assert_eq!(pod, once);
    }

    #[test]
    fn bounds_are_kept() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"name": "a", "resources": resources}, {"name": "b", "resources": resources}]}});
        let check = |limit: Value, object: &Value, expected: &[&str]| {
            let range = range(limit.clone());
            let found = if object.pointer("/spec/containers").is_some() {
                of_pod(object, &range)
            } else {
                of_claim(object, &range)
            };
            assert_eq!(found, expected, "{limit}");
        };
        let asks = pod(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}));
        let low = "minimum cpu usage per Container is 2, but request is 1";
        check(json!({"type": "Container", "min": {"cpu": "2"}}), &asks, &[low, low]);
        let high = "maximum cpu usage per Container is 2, but limit is 3";
        check(json!({"type": "Container", "max": {"cpu": "2"}}), &asks, &[high, high]);
        check(json!({"type": "Container", "max": {"cpu": "3"}, "min": {"cpu": "1"}}), &asks, &[]);
        check(json!({"type": "Pod", "max": {"cpu": "5"}}), &asks, &["maximum cpu usage per Pod is 5, but limit is 6"]);
        check(
            json!({"type": "Pod", "max": {"memory": "5"}}),
            &asks,
            &["maximum memory usage per Pod is 5.  No limit is specified"],
        );
        let steep = "cpu max limit to request ratio per Pod is 2500m, but provided ratio is 3.000000";
        check(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "2.5"}}), &asks, &[steep]);
        check(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "3"}}), &asks, &[]);
        let claim = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
        let of_claims = |least: &str, most: &str| json!({"type": "PersistentVolumeClaim", "min": {"storage": least}, "max": {"storage": most}});
        check(of_claims("1Gi", "5Gi"), &claim, &[]);
        check(
            of_claims("1Gi", "4Gi"),
            &claim,
            &["maximum storage usage per PersistentVolumeClaim is 4Gi, but request is 5Gi"],
        );
    }
}
