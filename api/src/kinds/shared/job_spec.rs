//! The spec of a job, in a Job and in a CronJob's template: defaults, what is wrong with it, what is doubtful.
//!
//! Sources: KEP-2214 (indexed), KEP-3329 (pod failure policy), KEP-3850 (back-off per index), KEP-3998 (success policy),
//! KEP-4368 (managed by). Never looks at selectors or at an older version of the job.

use super::labels::invalid;
use super::{conditions, job_indexes, names, pod_defaults, pod_validation, pod_warnings, references, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;

/// Beyond it, indexes that failed are counted with care.
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_PARALLEL_INDEXED: i64 = 100_000;
const MOST_FAILED_INDEXES: i64 = 100_000;
const MOST_WITH_MANY_COMPLETIONS: i64 = 10_000;
const RULES: usize = 20;
const PATTERNS: usize = 20;
const EXIT_CODES: usize = 255;
const MANAGED_BY: usize = 63;
const SUCCEEDED_INDEXES: usize = 64 * 1024;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];

/// `["a" "b"]`: how Go prints a list of texts.
fn listed(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// One pod per index.
#[must_use]
pub fn is_indexed(spec: &Value) -> bool {
    value::text(spec, "completionMode") == "Indexed"
}

/// Defaults that hold in a template too: those of the pods and of the patterns of conditions.
pub fn default_template(object: &mut Value, path: &str) {
    pod_defaults::template(object, &format!("{path}.template"));
    for rule in value::items_mut(object, &format!("{path}.podFailurePolicy.rules")) {
        for pattern in value::items_mut(rule, "onPodConditions") {
            if value::text(pattern, "status").is_empty() {
                value::set(pattern, "status", "True");
            }
        }
    }
}

/// Defaults of a job.
pub fn default(spec: &mut Value) {
    if value::int(spec, "completions").is_none() && value::int(spec, "parallelism").is_none() {
        value::set(spec, "completions", 1);
    }
    value::set_default(spec, "parallelism", 1);
    let per_index = value::int(spec, "backoffLimitPerIndex").is_some();
    value::set_default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    value::set_default(spec, "completionMode", "NonIndexed");
    value::set_default(spec, "suspend", false);
    let replacement = if is_set(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    value::set_default(spec, "podReplacementPolicy", replacement);
    value::set_default(spec, "manualSelector", false);
}

fn is_set(object: &Value, name: &str) -> bool {
    object.get(name).is_some_and(|value| !value.is_null())
}

/// What is wrong with it.
#[must_use]
pub fn validate(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        rules::not_negative(&mut errors, spec, name, field);
    }
    if is_set(spec, "maxFailedIndexes") && !is_set(spec, "backoffLimitPerIndex") {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&field.child("backoffLimitPerIndex"), detail));
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        let at = field.child("managedBy");
        references::domain_prefixed_path(&mut errors, manager, &at);
        if manager.len() > MANAGED_BY {
            errors.push(FieldError::too_long(&at, MANAGED_BY));
        }
    }
    completion_mode(&mut errors, spec, field);
    if is_set(spec, "podFailurePolicy") {
        failure_policy(&mut errors, spec, &field.child("podFailurePolicy"));
    }
    if let Some(policy) = spec.get("successPolicy").filter(|policy| !policy.is_null()) {
        let at = field.child("successPolicy");
        if is_indexed(spec) {
            success_policy(&mut errors, policy, value::int(spec, "completions").unwrap_or_default(), &at);
        } else {
            let rule = |rule: &Value| {
                let indexes = rules::text_or_null(rule.get("succeededIndexes").and_then(Value::as_str));
                let count = value::int(rule, "succeededCount").map_or(Value::Null, Value::from);
                rules::go_struct(&[("SucceededIndexes", indexes), ("SucceededCount", count)])
            };
            let all: Vec<String> = value::items(policy, "rules").iter().map(rule).collect();
            let detail = format!("{{\"Rules\":[{}]}}: requires indexed completion mode", all.join(","));
            errors.push(FieldError::invalid_whole(&at, detail));
        }
    }
    if let Some(policy) = spec.get("podReplacementPolicy").and_then(Value::as_str) {
        let supported: &[&str] =
            if is_set(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !supported.contains(&policy) {
            errors.push(FieldError::not_supported(&field.child("podReplacementPolicy"), policy, supported));
        }
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    errors.extend(pod_validation::template(template, &field.child("template")));
    restart_policy(&mut errors, spec, &field.child("template.spec.restartPolicy"));
    errors
}

fn restart_policy(errors: &mut Errors, spec: &Value, field: &Path) {
    match value::text(spec, "template.spec.restartPolicy") {
        "" | "Always" => {
            errors.push(FieldError::required(field, "valid values: \"OnFailure\", \"Never\""));
        }
        "Never" => {}
        "OnFailure" => {
            if is_set(spec, "podFailurePolicy") {
                let detail = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.push(FieldError::invalid(field, "OnFailure", detail));
            }
        }
        other => errors.push(FieldError::not_supported_as_listed(field, other, &["OnFailure", "Never"])),
    }
}

fn completion_mode(errors: &mut Errors, spec: &Value, field: &Path) {
    let number = |name: &str| value::int(spec, name);
    let (completions, failed) = (number("completions"), number("maxFailedIndexes"));
    let at_most = |errors: &mut Errors, name: &str, most: i64, when: &str| {
        if let Some(given) = number(name).filter(|given| *given > most) {
            let detail = format!("must be less than or equal to {most}{when}");
            errors.push(FieldError::invalid(&field.child(name), given, detail));
        }
    };
    match spec.get("completionMode").and_then(Value::as_str).unwrap_or("NonIndexed") {
        "Indexed" => {
            if completions.is_none() {
                errors.push(FieldError::required(&field.child("completions"), "when completion mode is Indexed"));
            }
            at_most(errors, "parallelism", MOST_PARALLEL_INDEXED, " when completion mode is Indexed");
            if let (Some(completions), Some(failed)) = (completions, failed)
                && failed > completions
            {
                let detail = "must be less than or equal to completions";
                errors.push(FieldError::invalid(&field.child("maxFailedIndexes"), failed, detail));
            }
            at_most(errors, "maxFailedIndexes", MOST_FAILED_INDEXES, "");
            if completions.is_some_and(|n| n > MANY_COMPLETIONS) && is_set(spec, "backoffLimitPerIndex") {
                if failed.is_none() {
                    let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
                    errors.push(FieldError::required(&field.child("maxFailedIndexes"), detail));
                }
                let when =
                    format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
                at_most(errors, "parallelism", MOST_WITH_MANY_COMPLETIONS, &when);
                at_most(errors, "maxFailedIndexes", MOST_WITH_MANY_COMPLETIONS, &when);
            }
        }
        "NonIndexed" => {
            for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(given) = number(name) {
                    errors.push(FieldError::invalid(&field.child(name), given, "requires indexed completion mode"));
                }
            }
        }
        other => {
            let at = field.child("completionMode");
            errors.push(FieldError::not_supported_as_listed(&at, other, &["NonIndexed", "Indexed"]));
        }
    }
}

fn failure_policy(errors: &mut Errors, spec: &Value, field: &Path) {
    let field = field.child("rules");
    let policy_rules = value::items(spec, "podFailurePolicy.rules");
    if policy_rules.len() > RULES {
        errors.push(FieldError::too_many(&field, policy_rules.len(), RULES));
    }
    for (i, rule) in policy_rules.iter().enumerate() {
        let field = field.index(i);
        let at = field.child("action");
        match value::text(rule, "action") {
            "" => errors.push(FieldError::required(&at, listed(ACTIONS))),
            "FailIndex" if !is_set(spec, "backoffLimitPerIndex") => {
                errors.push(FieldError::invalid(&at, "FailIndex", "requires the backoffLimitPerIndex to be set"));
            }
            action if !ACTIONS.contains(&action) => errors.push(FieldError::not_supported(&at, action, ACTIONS)),
            _ => {}
        }
        let codes = rule.get("onExitCodes").filter(|codes| !codes.is_null());
        let patterns = value::items(rule, "onPodConditions");
        if let Some(codes) = codes {
            exit_codes(errors, codes, spec, &field.child("onExitCodes"));
        }
        pod_conditions(errors, patterns, &field.child("onPodConditions"));
        match (codes, patterns.is_empty()) {
            (Some(_), false) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(FieldError::invalid_whole(&field, detail));
            }
            (None, true) => {
                let detail = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(FieldError::invalid_whole(&field, detail));
            }
            _ => {}
        }
    }
}

fn exit_codes(errors: &mut Errors, codes: &Value, spec: &Value, field: &Path) {
    let at = field.child("operator");
    let operator = value::text(codes, "operator");
    match operator {
        "" => errors.push(FieldError::required(&at, listed(OPERATORS))),
        operator if !OPERATORS.contains(&operator) => errors.push(FieldError::not_supported(&at, operator, OPERATORS)),
        _ => {}
    }
    if let Some(name) = codes.get("containerName").and_then(Value::as_str) {
        let lists = ["template.spec.containers", "template.spec.initContainers"];
        let mut containers = lists.iter().flat_map(|list| value::items(spec, list));
        if !containers.any(|container| value::text(container, "name") == name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(&field.child("containerName"), name, detail));
        }
    }
    let field = field.child("values");
    let values = value::items(codes, "values");
    let shown = || codes.get("values").cloned().unwrap_or_default();
    if values.is_empty() {
        errors.push(FieldError::invalid(&field, shown(), "at least one value is required"));
    } else if values.len() > EXIT_CODES {
        errors.push(FieldError::too_many(&field, values.len(), EXIT_CODES));
    }
    for (i, code) in values.iter().enumerate() {
        let at = field.index(i);
        if operator == "In" && code.as_i64() == Some(0) {
            errors.push(FieldError::invalid(&at, 0, "must not be 0 for the In operator"));
        }
        if values.iter().take(i).any(|other| other == code) {
            errors.push(FieldError::duplicate(&at, code.clone()));
        }
    }
    if !values.is_sorted_by_key(Value::as_i64) {
        errors.push(FieldError::invalid(&field, shown(), "must be ordered"));
    }
}

fn pod_conditions(errors: &mut Errors, patterns: &[Value], field: &Path) {
    if patterns.len() > PATTERNS {
        errors.push(FieldError::too_many(field, patterns.len(), PATTERNS));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let field = field.index(i);
        let kind = value::text(pattern, "type");
        invalid(errors, &field.child("type"), kind, names::qualified_name(kind));
        let at = field.child("status");
        match value::text(pattern, "status") {
            "" => errors.push(FieldError::required(&at, listed(conditions::STATUSES))),
            status if !conditions::STATUSES.contains(&status) => {
                errors.push(FieldError::not_supported(&at, status, conditions::STATUSES));
            }
            _ => {}
        }
    }
}

fn success_policy(errors: &mut Errors, policy: &Value, completions: i64, field: &Path) {
    let field = field.child("rules");
    let policy_rules = value::items(policy, "rules");
    if policy_rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&field, detail));
    }
    if policy_rules.len() > RULES {
        errors.push(FieldError::too_many(&field, policy_rules.len(), RULES));
    }
    for (i, rule) in policy_rules.iter().enumerate() {
        let field = field.index(i);
        let indexes = rule.get("succeededIndexes").and_then(Value::as_str);
        let count = value::int(rule, "succeededCount");
        if indexes.is_none() && count.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(&field, detail));
        }
        let mut total = 0;
        if let Some(indexes) = indexes {
            let at = field.child("succeededIndexes");
            if indexes.len() > SUCCEEDED_INDEXES {
                errors.push(FieldError::too_long(&at, SUCCEEDED_INDEXES));
            }
            match job_indexes::count(indexes, completions) {
                Ok(count) => total = count,
                Err(why) => {
                    errors.push(FieldError::invalid(&at, indexes, format!("error parsing succeededIndexes: {why}")));
                }
            }
        }
        if let Some(count) = count {
            let at = field.child("succeededCount");
            rules::not_negative(errors, rule, "succeededCount", &field);
            if count > completions {
                let detail =
                    format!("must be less than or equal to {completions} (the number of specified completions)");
                errors.push(FieldError::invalid(&at, count, detail));
            }
            if indexes.is_some() && count > total {
                let detail = format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                );
                errors.push(FieldError::invalid(&at, count, detail));
            }
        }
    }
}

/// What is doubtful about it.
#[must_use]
pub fn warnings(spec: &Value, field: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let above = |name: &str, limit: i64| value::int(spec, name).is_some_and(|n| n > limit);
    if is_indexed(spec) && above("completions", MANY_COMPLETIONS) && above("parallelism", MOST_WITH_MANY_COMPLETIONS) {
        out.push(format!(
            "{field}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    let pods = spec.get("template").unwrap_or(&Value::Null);
    out.extend(pod_warnings::of_template_at(pods, &field.child("template")));
    out
}

/// About a name that becomes part of host names.
#[must_use]
pub fn name_warnings(name: &str) -> Vec<String> {
    let messages = names::dns_label(name);
    if messages.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is \
         recommended: [{}]",
        messages.join(" ")
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    /// A sound spec, some fields changed, gives these sentences.
    fn check(changes: &Value, sentences: &[&str]) {
        let mut object = json!({"s": {"completions": 10, "template":
            {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}}});
        for (path, to) in changes.as_object().unwrap() {
            value::set(&mut object["s"], path, to.clone());
        }
        default_template(&mut object, "s");
        default(&mut object["s"]);
        assert_eq!(shown(&validate(&object["s"], &Path::new("spec"))), sentences, "{changes}");
    }

    #[test]
    fn numbers_and_modes() {
        check(&json!({}), &[]);
        check(
            &json!({"parallelism": -1, "managedBy": "me"}),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        );
        check(
            &json!({"maxFailedIndexes": 1}),
            &[
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
            ],
        );
        check(
            &json!({"completionMode": "Odd"}),
            &["spec.completionMode: Unsupported value: \"Odd\": supported values: \"NonIndexed\", \"Indexed\""],
        );
        check(
            &json!({"completionMode": "Indexed", "completions": null, "parallelism": 100_001}),
            &[
                "spec.completions: Required value: when completion mode is Indexed",
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ],
        );
        check(
            &json!({"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001, "backoffLimitPerIndex": 1}),
            &[
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 \
                 and used with backoff limit per index",
            ],
        );
        check(
            &json!({"completionMode": "Indexed", "maxFailedIndexes": 11, "backoffLimitPerIndex": 1}),
            &["spec.maxFailedIndexes: Invalid value: 11: must be less than or equal to completions"],
        );
        check(
            &json!({"podReplacementPolicy": "Odd"}),
            &[
                "spec.podReplacementPolicy: Unsupported value: \"Odd\": supported values: \"Failed\", \"TerminatingOrFailed\"",
            ],
        );
        for (policy, sentence) in [
            ("Always", "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""),
            ("OnFailure", ""),
        ] {
            let wanted: Vec<&str> = [sentence].into_iter().filter(|s| !s.is_empty()).collect();
            check(&json!({"template.spec.restartPolicy": policy}), &wanted);
        }
    }

    #[test]
    fn failure_policies() {
        check(
            &json!({"podFailurePolicy": {"rules": [
                {"action": "FailJob", "onExitCodes": {"containerName": "a", "operator": "In", "values": [1, 2]}},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}),
            &[],
        );
        check(
            &json!({"template.spec.restartPolicy": "OnFailure", "podReplacementPolicy": "TerminatingOrFailed",
                "podFailurePolicy": {"rules": [
                {"onExitCodes": {"containerName": "b", "operator": "In", "values": [3, 0, 3]}},
                {"action": "FailIndex"},
                {"action": "Odd", "onExitCodes": {"operator": "Near"}, "onPodConditions": [{"type": "x y", "status": "Maybe"}]}]}}),
            &[
                "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"b\": must be one of the container or \
                 initContainer names in the pod template",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered",
                "spec.podFailurePolicy.rules[1].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
                "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                "spec.podFailurePolicy.rules[2].action: Unsupported value: \"Odd\": supported values: \"Count\", \"FailIndex\", \
                 \"FailJob\", \"Ignore\"",
                "spec.podFailurePolicy.rules[2].onExitCodes.operator: Unsupported value: \"Near\": supported values: \"In\", \"NotIn\"",
                "spec.podFailurePolicy.rules[2].onExitCodes.values: Invalid value: null: at least one value is required",
                "spec.podFailurePolicy.rules[2].onPodConditions[0].type: Invalid value: \"x y\": name part must consist of \
                 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or \
                 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "spec.podFailurePolicy.rules[2].onPodConditions[0].status: Unsupported value: \"Maybe\": supported values: \
                 \"False\", \"True\", \"Unknown\"",
                "spec.podFailurePolicy.rules[2]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported",
                "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
                "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy \
                 is specified",
            ],
        );
    }

    #[test]
    fn success_policies() {
        let with = |policy: Value| json!({"completionMode": "Indexed", "successPolicy": policy});
        check(&with(json!({"rules": [{"succeededIndexes": "0-4", "succeededCount": 3}]})), &[]);
        check(
            &json!({"successPolicy": {"rules": []}}),
            &["spec.successPolicy: Invalid value: {\"Rules\":[]}: requires indexed completion mode"],
        );
        check(
            &with(json!({"rules": [{}, {"succeededIndexes": "9-3"}, {"succeededIndexes": "0", "succeededCount": 11}]})),
            &[
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
                "spec.successPolicy.rules[1].succeededIndexes: Invalid value: \"9-3\": error parsing succeededIndexes: \
                 non-increasing order, previous: 9, current: 3",
                "spec.successPolicy.rules[2].succeededCount: Invalid value: 11: must be less than or equal to 10 (the number of \
                 specified completions)",
                "spec.successPolicy.rules[2].succeededCount: Invalid value: 11: must be less than or equal to 1 (the number of \
                 indexes in the specified succeededIndexes field)",
            ],
        );
        check(
            &with(json!({})),
            &[
                "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified",
            ],
        );
    }

    #[test]
    fn doubts() {
        let spec = json!({"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001,
            "template": {"spec": {"volumes": [{"name": "g", "gitRepo": {}}]}}});
        let got = warnings(&spec, &Path::new("spec"));
        assert!(got[0].starts_with("spec: In Indexed Jobs with a number of completions higher than 10^5"), "{got:?}");
        assert_eq!(
            got[1],
            "spec.template.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"
        );
        assert_eq!(name_warnings("a"), [""; 0]);
        assert!(name_warnings("a.b")[0].ends_with("a DNS label is recommended: [must not contain dots]"));
    }
}
