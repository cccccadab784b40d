//! `PodTolerationRestriction`: pods get the tolerations of their namespace and may have no others than those it allows.
//!
//! Annotations of the namespace, else the configuration (`default`, `whitelist`). Defaults are given when a pod is made.

use crate::configured::{Settings, Setup};
use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;

/// See the file.
#[derive(Default)]
pub struct PodTolerationRestriction {
    default: Vec<Value>,
    allowed: Vec<Value>,
}

pub(crate) static PLUGIN: PodTolerationRestriction =
    PodTolerationRestriction { default: Vec::new(), allowed: Vec::new() };

const DEFAULT: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

#[async_trait]
impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    fn by_default(&self) -> bool {
        false
    }

    fn configured(&self, settings: &Settings<'_>) -> Setup {
        let list = |field: &str| value::items(settings.configuration, field).to_vec();
        Ok(Some(Box::new(PodTolerationRestriction { default: list("default"), allowed: list("whitelist") })))
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if !request.is_open() || !request.is("pods", "") {
            return Ok(());
        }
        let mut more = Vec::new();
        if request.operation == Operation::Create {
            more = of_namespace(request, DEFAULT, lookup).await?.unwrap_or_else(|| self.default.clone());
        }
        if !is_best_effort(pod) {
            more.push(
                json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}),
            );
        }
        if !more.is_empty() {
            let own = value::items(pod, "spec.tolerations").to_vec();
            value::set(pod, "spec.tolerations", merged(own, more));
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if !request.is_open() || !request.is("pods", "") {
            return Ok(());
        }
        let (allowed, scope) = match of_namespace(request, ALLOWED, lookup).await? {
            Some(allowed) => (allowed, "namespace"),
            None => (self.allowed.clone(), "cluster"),
        };
        let own = value::items(pod, "spec.tolerations");
        if allowed.is_empty() || own.iter().all(|one| allowed.iter().any(|allowed| covers(allowed, one))) {
            return Ok(());
        }
        Err(request.forbidden(&format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        )))
    }
}

/// Tolerations in an annotation of the namespace; `None` without it.
async fn of_namespace(request: &Request<'_>, key: &str, lookup: &dyn Lookup) -> Result<Option<Vec<Value>>, Refusal> {
    let namespace = lookup.get("", "namespaces", "", request.namespace).await.unwrap_or_default();
    match api::meta::annotation(&namespace, key) {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => {
            let read = api::json::from_str(text).map_err(|error| request.forbidden(&format!("{key}: {error}")))?;
            Ok(Some(read))
        }
    }
}

/// Nothing in it asks for anything.
fn is_best_effort(pod: &Value) -> bool {
    let lists = ["spec.initContainers", "spec.containers"];
    let mut containers = lists.iter().flat_map(|list| value::items(pod, list));
    !containers.any(|container| {
        ["resources.requests", "resources.limits"].iter().any(|path| {
            let amounts = api::quota::amounts(container, path);
            ["cpu", "memory"].iter().any(|name| amounts.get(*name).is_some_and(|amount| !amount.is_zero()))
        })
    })
}

/// Both, without those that another one covers.
fn merged(first: Vec<Value>, second: Vec<Value>) -> Vec<Value> {
    let mut left: Vec<Value> = first.into_iter().chain(second).collect();
    left.reverse();
    let mut out: Vec<Value> = Vec::new();
    while let Some(one) = left.pop() {
        let held = out.iter().any(|other| covers(other, &one));
        let comes = left.iter().any(|other| *other != one && covers(other, &one));
        if !held && !comes {
            out.push(one);
        }
    }
    out
}

/// Everything that `part` tolerates `whole` tolerates too.
fn covers(whole: &Value, part: &Value) -> bool {
    if whole == part {
        return true;
    }
    let (key, operator, effect) =
        (value::text(whole, "key"), value::text(whole, "operator"), value::text(whole, "effect"));
    if value::text(part, "key") != key && !(key.is_empty() && operator == "Exists") {
        return false;
    }
    if !effect.is_empty() && value::text(part, "effect") != effect {
        return false;
    }
    if effect == "NoExecute"
        && let Some(most) = value::int(whole, "tolerationSeconds")
        && value::int(part, "tolerationSeconds").is_none_or(|own| own > most)
    {
        return false;
    }
    match operator {
        "Exists" => true,
        "" | "Equal" => {
            matches!(value::text(part, "operator"), "" | "Equal")
                && value::text(part, "value") == value::text(whole, "value")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_what() {
        let all = json!({"operator": "Exists"});
        let key = json!({"key": "a", "operator": "Exists"});
        let one = json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"});
        let short = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let long = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        for (whole, part, want) in [
            (&all, &one, true),
            (&key, &one, true),
            (&one, &key, false),
            (&one, &one, true),
            (&long, &short, true),
            (&short, &long, false),
            (&key, &all, false),
        ] {
            assert_eq!(covers(whole, part), want, "{whole} {part}");
        }
        assert_eq!(merged(vec![one.clone()], vec![key.clone()]), std::slice::from_ref(&key));
        assert_eq!(merged(vec![key.clone()], vec![one.clone()]), std::slice::from_ref(&key));
        assert_eq!(merged(vec![one.clone(), one.clone()], vec![short.clone()]), [one, short]);
    }

    #[test]
    fn best_effort() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        assert!(is_best_effort(&pod(json!({}))));
        assert!(is_best_effort(&pod(json!({"requests": {"cpu": "0", "example.com/x": "1"}}))));
        assert!(!is_best_effort(&pod(json!({"limits": {"memory": "1Mi"}}))));
    }
}
