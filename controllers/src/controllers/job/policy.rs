//! When a pod's end decides more than itself: rules about failed pods, and rules by which part of the work is enough.
//! Pure. Source: KEP-3329, KEP-3850, KEP-3998.

use k8s_openapi::api::{
    batch::v1::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy},
    core::v1::{ContainerStatus, Pod},
};

use super::indexes::Indexes;
use crate::object;

/// What a pod's failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One failure more.
    Count,
    /// Nothing: the pod is replaced and not counted.
    Ignore,
    /// The end of its index.
    FailIndex,
    /// The end of the job, and why.
    FailJob(String),
}

/// The first rule that a failed pod meets decides; without one it counts.
pub(super) fn verdict(rules: Option<&[PodFailurePolicyRule]>, one: &Pod) -> Verdict {
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        let Some(why) = met(rule, one) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {index}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// How the pod meets the rule, in words.
fn met(rule: &PodFailurePolicyRule, one: &Pod) -> Option<String> {
    let status = one.status.as_ref()?;
    let pod = format!("{}/{}", object::namespace(&one.metadata), object::name(&one.metadata));
    if let Some(wanted) = &rule.on_exit_codes {
        let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let (name, code) = all.filter_map(|one| Some((one.name.as_str(), exit_code(one, wanted)?))).next()?;
        return Some(format!("Container {name} for pod {pod} failed with exit code {code}"));
    }
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|held| {
        let mut patterns = rule.on_pod_conditions.iter().flatten();
        patterns.any(|wanted| wanted.type_ == held.type_ && wanted.status.as_deref().unwrap_or("True") == held.status)
    })?;
    Some(format!("Pod {pod} has condition {}", found.type_))
}

/// The exit code of a container that ended as the rule asks.
fn exit_code(one: &ContainerStatus, wanted: &PodFailurePolicyOnExitCodesRequirement) -> Option<i32> {
    let code = one.state.as_ref()?.terminated.as_ref()?.exit_code;
    let named = wanted.container_name.as_ref().is_none_or(|name| *name == one.name);
    let listed = wanted.values.contains(&code);
    let asked = match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (code != 0 && named && asked).then_some(code)
}

/// Which rule of a success policy these indexes meet, in words.
pub(super) fn enough(policy: &SuccessPolicy, succeeded: &Indexes, completions: u32) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let index = policy.rules.iter().position(|rule| {
        let counted = |found: u32| {
            rule.succeeded_count.and_then(|count| u32::try_from(count).ok()).is_some_and(|count| found >= count)
        };
        match &rule.succeeded_indexes {
            Some(text) => {
                let asked = Indexes::parse(text, completions);
                let found = asked.common(succeeded);
                !asked.is_empty() && (found == asked.total() || counted(found))
            }
            None => counted(succeeded.total()),
        }
    })?;
    Some(format!("Matched rules at index {index}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn failed(code: i32, condition: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "a"}, "status": {"phase": "Failed",
            "conditions": [{"type": condition, "status": "True"}],
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}}]}}))
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_is_met_decides() {
        let rules = json!([
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [3]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [4]}},
            {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [5]}},
            {"action": "FailJob", "onExitCodes": {"containerName": "other", "operator": "In", "values": [5]}},
        ]);
        let rules: Vec<PodFailurePolicyRule> = serde_json::from_value(rules).unwrap();
        let why = "Container c for pod a/p failed with exit code 3 matching FailJob rule at index 1";
        for (code, condition, expected) in [
            (3, "DisruptionTarget", Verdict::Ignore),
            (3, "Ready", Verdict::FailJob(why.to_owned())),
            (4, "Ready", Verdict::FailIndex),
            (6, "Ready", Verdict::Count),
            (5, "Ready", Verdict::Count),
            (0, "Ready", Verdict::Count),
        ] {
            assert_eq!(verdict(Some(&rules), &failed(code, condition)), expected, "{code} {condition}");
        }
        assert_eq!(verdict(None, &failed(3, "Ready")), Verdict::Count);
    }

    #[test]
    fn part_of_the_work_may_be_enough() {
        let check = |rules: Value, succeeded: &str, expected: Option<&str>| {
            let policy: SuccessPolicy = serde_json::from_value(json!({"rules": rules})).unwrap();
            let found = enough(&policy, &Indexes::parse(succeeded, 10), 10);
            assert_eq!(found.as_deref(), expected, "{succeeded} {policy:?}");
        };
        check(json!([{"succeededIndexes": "0,2-3"}]), "0-2", None);
        check(json!([{"succeededIndexes": "0,2-3"}]), "0-3", Some("Matched rules at index 0"));
        check(json!([{"succeededIndexes": "0,2-3", "succeededCount": 2}]), "0-2", Some("Matched rules at index 0"));
        check(json!([{"succeededIndexes": "9"}, {"succeededCount": 2}]), "0-1", Some("Matched rules at index 1"));
        check(json!([{"succeededCount": 1}]), "", None);
    }
}
