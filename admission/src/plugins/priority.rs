//! `Priority`: the number behind a pod's priority class name, or that of the global default class, of which there is one.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct Priority;

pub(crate) static PLUGIN: Priority = Priority;

const GROUP: &str = "scheduling.k8s.io";
/// What a pod preempts where no class says it.
const PREEMPTS: &str = "PreemptLowerPriority";

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods", "priorityclasses"]
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if !request.is("pods", "") {
            return Ok(());
        }
        if request.operation == Operation::Update {
            // A client that knows neither field takes away neither.
            for field in ["spec.priority", "spec.preemptionPolicy"] {
                if let (None, Some(old)) = (value::get(pod, field), value::get(request.old, field)) {
                    value::set(pod, field, old.clone());
                }
            }
        }
        if request.operation != Operation::Create {
            return Ok(());
        }
        let name = value::text(pod, "spec.priorityClassName").to_owned();
        let class = if name.is_empty() {
            default(lookup).await
        } else {
            let found = lookup.get(GROUP, "priorityclasses", "", &name).await;
            let why = || request.forbidden(&format!("no PriorityClass with name {name} was found"));
            Some(found.ok_or_else(why)?)
        };
        let priority = class.as_ref().and_then(|class| value::int(class, "value")).unwrap_or(0);
        if let Some(given) = value::int(pod, "spec.priority").filter(|given| *given != priority) {
            return Err(request.forbidden(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            )));
        }
        let policy = class.as_ref().map_or("", |class| value::text(class, "preemptionPolicy"));
        let policy = if policy.is_empty() { PREEMPTS } else { policy };
        let given = value::text(pod, "spec.preemptionPolicy");
        if !given.is_empty() && given != policy {
            return Err(request.forbidden(&format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        if let (true, Some(class)) = (name.is_empty(), &class) {
            value::set(pod, "spec.priorityClassName", api::meta::name(class));
        }
        value::set(pod, "spec.priority", priority);
        value::set(pod, "spec.preemptionPolicy", policy);
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, class: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let concerns = request.kind.group == GROUP && request.subresource.is_empty() && request.is_open();
        if !concerns || !value::flag(class, "globalDefault") {
            return Ok(());
        }
        match default(lookup).await.as_ref().map(api::meta::name) {
            Some(held) if request.operation == Operation::Create || held != api::meta::name(class) => Err(request
                .forbidden(&format!("PriorityClass {held} is already marked as default. Only one default can exist"))),
            _ => Ok(()),
        }
    }
}

/// The class of those that name none; of several, which writers at the same time may leave, the smallest.
async fn default(lookup: &dyn Lookup) -> Option<Value> {
    let classes = lookup.list(GROUP, "priorityclasses", "").await.into_iter();
    classes.filter(|class| value::flag(class, "globalDefault")).min_by_key(|class| value::int(class, "value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ask, Cluster};
    use api::json::json;

    /// Classes `high`, which preempts nobody, and `usual`, which is everybody's where `with_default` says so.
    fn cluster(with_default: bool) -> Cluster {
        let classes = move || {
            vec![
                json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
                json!({"metadata": {"name": "usual"}, "value": 5, "globalDefault": with_default}),
                json!({"metadata": {"name": "second"}, "value": 7, "globalDefault": with_default}),
            ]
        };
        Cluster {
            object: Box::new(move |_, name, _| classes().into_iter().find(|class| api::meta::name(class) == name)),
            list: Box::new(move |_| classes()),
            ..Cluster::default()
        }
    }

    #[test]
    fn what_a_pod_gets_and_may_not_say() {
        let computed = "priority admission controller computed";
        for (with_default, spec, wanted) in [
            (false, json!({}), Ok(("", 0, PREEMPTS))),
            (true, json!({}), Ok(("usual", 5, PREEMPTS))),
            (false, json!({"priorityClassName": "high"}), Ok(("high", 1000, "Never"))),
            (true, json!({"priority": 5, "preemptionPolicy": PREEMPTS}), Ok(("usual", 5, PREEMPTS))),
            (false, json!({"priorityClassName": "none"}), Err("no PriorityClass with name none was found".to_owned())),
            (
                false,
                json!({"priority": 3}),
                Err(format!(
                    "the integer value of priority (3) must not be provided in pod spec; {computed} 0 from the given PriorityClass name"
                )),
            ),
            (
                false,
                json!({"priorityClassName": "high", "preemptionPolicy": PREEMPTS}),
                Err(format!(
                    "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; {computed} Never from the given PriorityClass name"
                )),
            ),
        ] {
            let ask = Ask { cluster: cluster(with_default), ..Ask::create("", "v1", "pods") };
            let made = ask.mutated(&PLUGIN, json!({"metadata": {"name": "a"}, "spec": spec}));
            let wanted = wanted.map_err(|why| (403, format!("pods \"a\" is forbidden: {why}")));
            let made = made.as_ref().map_err(Clone::clone).map(|pod| {
                let text = |field: &str| value::text(pod, field);
                (
                    text("spec.priorityClassName"),
                    value::int(pod, "spec.priority").unwrap(),
                    text("spec.preemptionPolicy"),
                )
            });
            assert_eq!(made, wanted, "{spec}");
        }
    }

    #[test]
    fn an_update_takes_nothing_away() {
        let old = json!({"spec": {"priority": 7, "preemptionPolicy": "Never"}});
        let ask = Ask { operation: Operation::Update, old: old.clone(), ..Ask::create("", "v1", "pods") };
        assert_eq!(ask.mutated(&PLUGIN, json!({"spec": {}})), Ok(old));
        let other = json!({"spec": {"priority": 8, "preemptionPolicy": "Never"}});
        assert_eq!(ask.mutated(&PLUGIN, other.clone()), Ok(other));
    }

    #[test]
    fn there_is_one_default() {
        let refused = |name: &str| {
            let why = "PriorityClass usual is already marked as default. Only one default can exist";
            Err((403, format!("priorityclasses.scheduling.k8s.io {name:?} is forbidden: {why}")))
        };
        for (operation, with_default, name, is_default, wanted) in [
            (Operation::Create, false, "new", true, Ok(())),
            (Operation::Create, true, "new", true, refused("new")),
            (Operation::Create, true, "new", false, Ok(())),
            (Operation::Update, true, "high", true, refused("high")),
            (Operation::Update, true, "usual", true, Ok(())),
        ] {
            let ask = Ask { operation, cluster: cluster(with_default), ..Ask::create(GROUP, "v1", "priorityclasses") };
            let class = json!({"metadata": {"name": name}, "globalDefault": is_default});
            assert_eq!(ask.validated(&PLUGIN, &class), wanted, "{operation:?} {name}");
        }
    }
}
