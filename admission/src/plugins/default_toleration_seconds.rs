//! `DefaultTolerationSeconds`: a pod outlives its node's trouble for five minutes unless it says otherwise.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct DefaultTolerationSeconds;

pub(crate) static PLUGIN: DefaultTolerationSeconds = DefaultTolerationSeconds;

/// Upstream's `--default-not-ready-toleration-seconds` and its sibling.
const SECONDS: i64 = 300;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Delete && request.is("pods", "") {
            tolerate(pod);
        }
        Ok(())
    }
}

fn tolerate(pod: &mut Value) {
    let mut tolerations = value::items(pod, "spec.tolerations").to_vec();
    let before = tolerations.len();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|toleration| {
            let (own_key, effect) = (value::text(toleration, "key"), value::text(toleration, "effect"));
            (own_key == key || own_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !covered {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
    if tolerations.len() > before {
        value::set(pod, "spec.tolerations", tolerations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tolerations_are_respected() {
        for (own, total) in [
            (json!([]), 2),
            (json!([{"operator": "Exists"}]), 1),
            (json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]), 2),
            (json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}]), 3),
        ] {
            let mut pod = json!({"spec": {"tolerations": own}});
            tolerate(&mut pod);
            assert_eq!(value::items(&pod, "spec.tolerations").len(), total, "{pod}");
        }
    }
}
