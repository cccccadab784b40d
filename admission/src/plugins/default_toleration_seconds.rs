//! `DefaultTolerationSeconds`: a pod outlives its node's trouble for five minutes unless it says otherwise.

use crate::configured::{Settings, Setup};
use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;

/// See the file. Seconds for nodes that are not ready, and for those that cannot be reached: its settings are `notReady` and `unreachable`, which
/// are flags of upstream's server.
pub struct DefaultTolerationSeconds([i64; 2]);

pub(crate) static PLUGIN: DefaultTolerationSeconds = DefaultTolerationSeconds([300, 300]);

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    fn configured(&self, settings: &Settings<'_>) -> Setup {
        let given = |name: &str| value::int(settings.configuration, name).unwrap_or(300);
        Ok(Some(Box::new(DefaultTolerationSeconds([given("notReady"), given("unreachable")]))))
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Delete && request.is("pods", "") {
            tolerate(pod, self.0);
        }
        Ok(())
    }
}

fn tolerate(pod: &mut Value, seconds: [i64; 2]) {
    let mut tolerations = value::items(pod, "spec.tolerations").to_vec();
    let before = tolerations.len();
    for (key, seconds) in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].into_iter().zip(seconds) {
        let covered = tolerations.iter().any(|toleration| {
            let (own_key, effect) = (value::text(toleration, "key"), value::text(toleration, "effect"));
            (own_key == key || own_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !covered {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}));
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
            tolerate(&mut pod, [300, 300]);
            assert_eq!(value::items(&pod, "spec.tolerations").len(), total, "{pod}");
        }
        let mut pod = json!({"spec": {}});
        tolerate(&mut pod, [30, 60]);
        let seconds = value::items(&pod, "spec.tolerations").iter().map(|own| value::int(own, "tolerationSeconds"));
        assert_eq!(seconds.collect::<Vec<_>>(), [Some(30), Some(60)], "{pod}");
    }
}
