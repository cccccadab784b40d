//! What is wrong with a change of a job's status: whoever manages a job keeps to the order of its life.
//!
//! A rule is held against what changed alone, so that a status that was odd before can still be written. Source: KEP-4368.
//! Never decides what a job's status ought to be.

use super::{conditions, job_indexes, job_spec, rules};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::{meta, value};

/// One state of a job's status.
struct State<'a> {
    spec: &'a Value,
    status: &'a Value,
    complete: bool,
    failed: bool,
    failure_target: bool,
    criteria_met: bool,
}

impl<'a> State<'a> {
    fn of(job: &'a Value) -> State<'a> {
        const NONE: &Value = &Value::Null;
        let is = |kind| conditions::is(job, kind, "True");
        State {
            spec: job.get("spec").unwrap_or(NONE),
            status: job.get("status").unwrap_or(NONE),
            complete: is("Complete"),
            failed: is("Failed"),
            failure_target: is("FailureTarget"),
            criteria_met: is("SuccessCriteriaMet"),
        }
    }

    fn finished(&self) -> bool {
        self.complete || self.failed
    }

    fn count(&self, name: &str) -> i64 {
        value::int(self.status, name).unwrap_or_default()
    }

    fn text(&self, name: &str) -> &'a str {
        value::text(self.status, name)
    }

    fn has(&self, name: &str) -> bool {
        self.status.get(name).is_some_and(|value| !value.is_null())
    }

    fn shown(&self, name: &str) -> Value {
        self.status.get(name).cloned().unwrap_or_default()
    }
}

/// The change of `status`.
#[must_use]
pub fn validate(new: &Value, old: &Value) -> Errors {
    let field = Path::new("status");
    let resumes = conditions::is(old, "Suspended", "True") && conditions::is(new, "Suspended", "False");
    let (new, old) = (State::of(new), State::of(old));
    let mut errors = Errors::new();
    for name in ["active", "succeeded", "failed", "ready", "terminating"] {
        rules::not_negative(&mut errors, new.status, name, &field);
    }
    uncounted(&mut errors, new.status, &field.child("uncountedTerminatedPods"));
    outcome(&mut errors, &new, &old, &field);
    finished(&mut errors, &new, &old, &field);
    indexes(&mut errors, &new, &old, &field);
    contradictions(&mut errors, &new, &old, &field);
    transition(&mut errors, &new, &old, resumes, &field);
    errors
}

fn uncounted(errors: &mut Errors, status: &Value, field: &Path) {
    let mut seen: Vec<&Value> = Vec::new();
    for list in ["succeeded", "failed"] {
        let uids = value::get(status, "uncountedTerminatedPods").map_or(&[][..], |pods| value::items(pods, list));
        for (i, uid) in uids.iter().enumerate() {
            let at = field.child(list).index(i);
            if uid.as_str() == Some("") {
                errors.push(FieldError::invalid(&at, "", "must not be empty"));
            } else if seen.contains(&uid) {
                errors.push(FieldError::duplicate(&at, uid.clone()));
            } else {
                seen.push(uid);
            }
        }
    }
}

/// How a job ended, and when.
fn outcome(errors: &mut Errors, new: &State<'_>, old: &State<'_>, field: &Path) {
    let conditions = field.child("conditions");
    let (complete, failed) = (new.complete != old.complete, new.failed != old.failed);
    let changed = |name| rules::differ(new.status.get(name), old.status.get(name));
    if (complete || failed) && new.complete && new.failed {
        let detail = "cannot set Complete=True and Failed=true conditions";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
    if (complete || new.failure_target != old.failure_target) && new.complete && new.failure_target {
        let detail = "cannot set Complete=True and FailureTarget=true conditions";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
    let at = field.child("completionTime");
    if complete || changed("completionTime") {
        if new.has("completionTime") && !new.complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(&at, new.shown("completionTime"), detail));
        }
        if !new.has("completionTime") && new.complete {
            errors.push(FieldError::required(&at, "completionTime is required for Complete jobs"));
        }
    }
    if (changed("startTime") || changed("completionTime"))
        && let (Some(start), Some(end)) =
            (meta::seconds(new.text("startTime")), meta::seconds(new.text("completionTime")))
        && end < start
    {
        let detail = "must be equal to or after `startTime`";
        errors.push(FieldError::invalid(&at, new.shown("completionTime"), detail));
    }
    if (failed || changed("failedIndexes")) && new.failed && !new.failure_target {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
    if (complete || new.criteria_met != old.criteria_met) && new.complete && !new.criteria_met {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
}

/// What a finished job no longer has.
fn finished(errors: &mut Errors, new: &State<'_>, old: &State<'_>, field: &Path) {
    let changed = |name| new.finished() != old.finished() || rules::differ(new.status.get(name), old.status.get(name));
    let count_changed = |name| new.finished() != old.finished() || new.count(name) != old.count(name);
    if !new.finished() {
        return;
    }
    if count_changed("active") && new.count("active") > 0 {
        let detail = "active>0 is invalid for finished job";
        errors.push(FieldError::invalid(&field.child("active"), new.count("active"), detail));
    }
    let asked_for_nothing = value::flag(new.spec, "suspend") && value::int(new.spec, "completions") == Some(0);
    if changed("startTime") && !asked_for_nothing && !new.has("startTime") {
        errors.push(FieldError::required(&field.child("startTime"), "startTime is required for finished job"));
    }
    let lists = ["uncountedTerminatedPods.succeeded", "uncountedTerminatedPods.failed"];
    if changed("uncountedTerminatedPods") && lists.iter().any(|list| !value::items(new.status, list).is_empty()) {
        let at = field.child("uncountedTerminatedPods");
        let error = FieldError::invalid_whole(&at, "must be empty for finished job");
        errors.push(error.showing("UncountedTerminatedPods", &new.shown("uncountedTerminatedPods")));
    }
}

fn indexes(errors: &mut Errors, new: &State<'_>, old: &State<'_>, field: &Path) {
    let completed_changed = new.text("completedIndexes") != old.text("completedIndexes");
    let failed_changed = new.status.get("failedIndexes") != old.status.get("failedIndexes");
    let completions = value::int(new.spec, "completions");
    let per_index = value::int(new.spec, "backoffLimitPerIndex").is_some();
    let failed = new.status.get("failedIndexes").and_then(Value::as_str);
    let completed = new.text("completedIndexes");
    let parse = |errors: &mut Errors, name: &str, text: &str| {
        if let Some(Err(why)) = completions.map(|completions| job_indexes::count(text, completions)) {
            errors.push(FieldError::invalid(&field.child(name), text, format!("error parsing {name}: {why}")));
        }
    };
    if completed_changed {
        parse(errors, "completedIndexes", completed);
    }
    if let (true, true, Some(failed)) = (failed_changed, per_index, failed) {
        parse(errors, "failedIndexes", failed);
    }
    if completed_changed && !completed.is_empty() && !job_spec::is_indexed(new.spec) {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(FieldError::invalid(&field.child("completedIndexes"), completed, detail));
    }
    let at = field.child("failedIndexes");
    if let (true, false, Some(failed)) = (failed_changed, per_index, failed) {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(FieldError::invalid(&at, failed, detail));
    }
    if let (true, Some(failed), Some(completions)) = (failed_changed || completed_changed, failed, completions)
        && let Some(index) = job_indexes::overlap(completed, failed, completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(FieldError::invalid(&at, failed, detail));
    }
}

fn contradictions(errors: &mut Errors, new: &State<'_>, old: &State<'_>, field: &Path) {
    let terminating = new.count("terminating");
    if (new.finished() != old.finished() || new.status.get("terminating") != old.status.get("terminating"))
        && terminating > 0
        && new.finished()
    {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(FieldError::invalid(&field.child("terminating"), terminating, detail));
    }
    let ready_changed = new.status.get("ready") != old.status.get("ready");
    let says = new.status.get("ready").is_some_and(|ready| !ready.is_null());
    if says && (ready_changed || new.count("active") != old.count("active")) && new.count("ready") > new.count("active")
    {
        let detail = "cannot set more ready pods than active";
        errors.push(FieldError::invalid(&field.child("ready"), new.count("ready"), detail));
    }
    let conditions = field.child("conditions");
    if new.criteria_met && new.failed {
        let detail = "cannot set SuccessCriteriaMet=True and Failed=true conditions";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
    if new.criteria_met && new.failure_target {
        let detail = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
    let has_policy = new.spec.get("successPolicy").is_some_and(|policy| !policy.is_null());
    if has_policy && !new.criteria_met && new.complete {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
}

/// What stays once it is so.
fn transition(errors: &mut Errors, new: &State<'_>, old: &State<'_>, resumes: bool, field: &Path) {
    let conditions = field.child("conditions");
    for (name, was, is) in [
        ("Failed", old.failed, new.failed),
        ("Complete", old.complete, new.complete),
        ("FailureTarget", old.failure_target, new.failure_target),
    ] {
        if was && !is {
            let detail = format!("cannot disable the terminal {name}=True condition");
            errors.push(FieldError::invalid_whole(&conditions, detail));
        }
    }
    let number = |name| value::int(new.spec, name);
    // An indexed job whose completions follow its parallelism can shrink, and what succeeded beyond is forgotten.
    let shrinks = job_spec::is_indexed(new.spec) && number("completions") == number("parallelism");
    for (name, may_shrink) in [("failed", false), ("succeeded", shrinks)] {
        if !may_shrink && new.count(name) < old.count(name) {
            let detail = format!("cannot decrease the {name} counter");
            errors.push(FieldError::invalid(&field.child(name), new.count(name), detail));
        }
    }
    let changed = |name| new.status.get(name) != old.status.get(name);
    if new.has("completionTime") && old.has("completionTime") && changed("completionTime") {
        let at = field.child("completionTime");
        errors.push(FieldError::invalid(&at, new.shown("completionTime"), rules::IMMUTABLE));
    }
    if !resumes && old.has("startTime") && changed("startTime") && !value::flag(new.spec, "suspend") {
        let detail = "field is immutable for unsuspended job once set";
        errors.push(FieldError::invalid(&field.child("startTime"), new.shown("startTime"), detail));
    }
    if old.criteria_met && !new.criteria_met {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
    if old.complete && !old.criteria_met && new.criteria_met {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(FieldError::invalid_whole(&conditions, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    const START: &str = "2026-01-01T00:00:00Z";
    const END: &str = "2026-01-01T01:00:00Z";

    fn is(kinds: &[&str]) -> Value {
        kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect()
    }

    #[allow(clippy::needless_pass_by_value)] // `json!` at every call
    fn check(spec: Value, old: Value, new: Value, sentences: &[&str]) {
        let got = shown(&validate(&json!({"spec": spec, "status": new}), &json!({"spec": spec, "status": old})));
        assert_eq!(got, sentences, "{old} {new}");
    }

    #[test]
    fn a_life_in_order_passes() {
        let spec = json!({"completions": 1, "parallelism": 1, "completionMode": "NonIndexed"});
        let states = [
            json!({}),
            json!({"startTime": START, "active": 1, "ready": 1}),
            json!({"startTime": START, "succeeded": 1, "conditions": is(&["SuccessCriteriaMet"])}),
            json!({"startTime": START, "completionTime": END, "succeeded": 1, "conditions": is(&["SuccessCriteriaMet", "Complete"])}),
        ];
        for pair in states.windows(2) {
            check(spec.clone(), pair[0].clone(), pair[1].clone(), &[]);
        }
    }

    #[test]
    fn ends_are_consistent() {
        let spec = json!({"completions": 1});
        check(
            spec.clone(),
            json!({}),
            json!({"active": 1, "completionTime": START, "startTime": END, "conditions": is(&["Complete", "Failed"]),
                "terminating": 1, "uncountedTerminatedPods": {"succeeded": ["a", "a", ""]}}),
            &[
                "status.uncountedTerminatedPods.succeeded[1]: Duplicate value: \"a\"",
                "status.uncountedTerminatedPods.succeeded[2]: Invalid value: \"\": must not be empty",
                "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
                "status.completionTime: Invalid value: \"2026-01-01T00:00:00Z\": must be equal to or after `startTime`",
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.uncountedTerminatedPods: Invalid value: {\"Succeeded\":[\"a\",\"a\",\"\"],\"Failed\":null}: must be empty for finished job",
                "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
            ],
        );
        check(
            spec,
            json!({}),
            json!({"conditions": is(&["Complete", "SuccessCriteriaMet", "FailureTarget"]), "ready": 2}),
            &[
                "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.startTime: Required value: startTime is required for finished job",
                "status.ready: Invalid value: 2: cannot set more ready pods than active",
                "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ],
        );
    }

    #[test]
    fn what_was_odd_before_may_stay() {
        let odd = json!({"active": 1, "conditions": is(&["Complete", "Failed"])});
        check(json!({}), odd.clone(), odd, &[]);
    }

    #[test]
    fn indexes_fit_the_job() {
        check(
            json!({"completions": 5, "completionMode": "NonIndexed"}),
            json!({}),
            json!({"completedIndexes": "1", "failedIndexes": "1"}),
            &[
                "status.completedIndexes: Invalid value: \"1\": cannot set non-empty completedIndexes when non-indexed completion \
                 mode",
                "status.failedIndexes: Invalid value: \"1\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
                "status.failedIndexes: Invalid value: \"1\": failedIndexes and completedIndexes overlap at index: 1",
            ],
        );
        check(
            json!({"completions": 5, "completionMode": "Indexed", "backoffLimitPerIndex": 1}),
            json!({}),
            json!({"completedIndexes": "5", "failedIndexes": "x"}),
            &[
                "status.completedIndexes: Invalid value: \"5\": error parsing completedIndexes: too large index: \"5\"",
                "status.failedIndexes: Invalid value: \"x\": error parsing failedIndexes: cannot convert string to integer for \
                 index: \"x\"",
            ],
        );
    }

    #[test]
    fn nothing_is_taken_back() {
        let old = json!({"startTime": START, "completionTime": END, "failed": 2, "succeeded": 2,
            "conditions": is(&["Complete", "SuccessCriteriaMet"])});
        check(
            json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed"}),
            old,
            json!({"startTime": END, "failed": 1, "succeeded": 1}),
            &[
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
                "status.startTime: Invalid value: \"2026-01-01T01:00:00Z\": field is immutable for unsuspended job once set",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            ],
        );
        let suspended = |status: &str, start: &str| json!({"startTime": start, "conditions": [{"type": "Suspended", "status": status}]});
        check(json!({"suspend": false}), suspended("True", START), suspended("False", END), &[]);
    }
}
