//! `Priority`: the number behind a pod's priority class name, or that of the global default class.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct Priority;

pub(crate) static PLUGIN: Priority = Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is("pods", "") {
            return Ok(());
        }
        let name = value::text(pod, "spec.priorityClassName").to_owned();
        let class = if name.is_empty() {
            // Of several global defaults the smallest holds.
            lookup
                .list("scheduling.k8s.io", "priorityclasses", "")
                .await
                .into_iter()
                .filter(|class| value::flag(class, "globalDefault"))
                .min_by_key(|class| value::int(class, "value"))
        } else {
            let found = lookup.get("scheduling.k8s.io", "priorityclasses", "", &name).await;
            let why = || request.forbidden(&format!("no PriorityClass with name {name} was found"));
            Some(found.ok_or_else(why)?)
        };
        let priority = class.as_ref().and_then(|class| value::int(class, "value")).unwrap_or(0);
        let policy = class.as_ref().map_or("", |class| value::text(class, "preemptionPolicy"));
        let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy }.to_owned();
        if value::int(pod, "spec.priority").is_some_and(|given| given != priority) {
            let given = value::int(pod, "spec.priority").unwrap_or_default();
            return Err(request.forbidden(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            )));
        }
        if let (true, Some(class)) = (name.is_empty(), &class) {
            value::set(pod, "spec.priorityClassName", api::meta::name(class));
        }
        value::set(pod, "spec.priority", priority);
        value::set_default(pod, "spec.preemptionPolicy", json!(policy));
        Ok(())
    }
}
