//! `cronjobs` of batch: jobs by the clock.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::cron::{self, Schedule};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::{Check, Judgement};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, job_spec, parts, pod_gates, rules, selector_cell};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "batch",
    version: "v1",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[parts::status("batch", "v1", "CronJob")],
    generation: true,
    columns: &[
        Column::NAME,
        Column::text("Schedule").of("spec.schedule"),
        Column::text("Timezone").of("spec.timeZone"),
        Column::boolean("Suspend").of("spec.suspend"),
        Column::integer("Active").of("status.active"),
        Column::text("Last Schedule").of("status.lastScheduleTime"),
        Column::AGE,
        cells::CONTAINERS,
        cells::IMAGES,
        cells::SELECTOR.of("spec.jobTemplate.spec.selector"),
    ],
    gated: pod_gates::JOB_TEMPLATE,
    pods: Some("spec.jobTemplate.spec.template.spec"),
    describe: describe::<k8s_openapi::api::batch::v1::CronJob>,
    judgement: Judgement::USUAL.of_part(&[Check::Object]),
    hooks: &CronJob,
    ..Kind::BASE
};

/// What the name of a job has room for beside the time at its end.
const NAME: usize = 63 - 11;

struct CronJob;

impl Hooks for CronJob {
    fn default(&self, object: &mut Value) {
        job_spec::default_template(object, "spec.jobTemplate.spec");
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        if value::text(spec, "concurrencyPolicy").is_empty() {
            value::set(spec, "concurrencyPolicy", "Allow");
        }
        value::set_default(spec, "suspend", false);
        value::set_default(spec, "successfulJobsHistoryLimit", 3);
        value::set_default(spec, "failedJobsHistoryLimit", 1);
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = validate(object, None);
        let name = meta::name(object);
        if name.len() > NAME {
            let detail = format!("must be no more than {NAME} characters");
            errors.push(FieldError::invalid(&Path::new("metadata.name"), name, detail));
        }
        errors
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        validate(new, Some(old))
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let template = value::get(new, "spec.jobTemplate.spec").unwrap_or(&Value::Null);
        let field = Path::new("spec.jobTemplate.spec");
        let Some(old) = old else {
            let mut out = job_spec::name_warnings(meta::name(new));
            out.extend(job_spec::warnings(template, &field));
            return out;
        };
        let changed = meta::generation(new) != meta::generation(old);
        let mut out = if changed { job_spec::warnings(template, &field) } else { Vec::new() };
        if value::text(new, "spec.schedule").contains("TZ") {
            out.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        out
    }

    fn warnings_of_part(&self, _part: &str, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let last = match value::text(object, "status.lastScheduleTime") {
            "" => "<none>".to_owned(),
            time => meta::since(time, now),
        };
        let suspend = match value::get(object, "spec.suspend").and_then(Value::as_bool) {
            None => "<unset>",
            Some(true) => "True",
            Some(false) => "False",
        };
        let zone = value::get(object, "spec.timeZone").and_then(Value::as_str).unwrap_or("<none>");
        let containers = value::items(object, "spec.jobTemplate.spec.template.spec.containers");
        vec![
            cells::name(object),
            cells::text(object, "spec.schedule"),
            zone.into(),
            suspend.into(),
            value::items(object, "status.active").len().into(),
            last.into(),
            cells::age(object, now),
            cells::joined(containers, "name").into(),
            cells::joined(containers, "image").into(),
            selector_cell::shown(value::get(object, "spec.jobTemplate.spec.selector")),
        ]
    }
}

fn validate(object: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let before = old.and_then(|old| old.get("spec"));
    let zone = |spec: &Value| spec.get("timeZone").and_then(Value::as_str).map(str::to_owned);
    let schedule = value::text(spec, "schedule");
    let at = field.child("schedule");
    if schedule.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        if let Err(why) = Schedule::parse(schedule) {
            errors.push(FieldError::invalid(&at, schedule, why));
        }
        let named_before = before.is_some_and(|before| value::text(before, "schedule").contains("TZ"));
        match (schedule.contains("TZ"), named_before) {
            (true, true) if zone(spec).is_some() => {
                let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
                errors.push(FieldError::invalid(&at, schedule, detail));
            }
            (true, false) => {
                let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.push(FieldError::invalid(&at, schedule, detail));
            }
            _ => {}
        }
    }
    rules::not_negative(&mut errors, spec, "startingDeadlineSeconds", &field);
    if let Some(name) = zone(spec).filter(|name| before.and_then(zone).as_ref() != Some(name)) {
        time_zone(&mut errors, &name, &field.child("timeZone"));
    }
    rules::required_one_of(&mut errors, spec, "concurrencyPolicy", &field, &["Allow", "Forbid", "Replace"]);
    let (field, template) = (field.child("jobTemplate.spec"), value::get(spec, "jobTemplate.spec"));
    let template = template.unwrap_or(&Value::Null);
    errors.extend(job_spec::validate(template, &field));
    if let Some(selector) = template.get("selector").filter(|selector| !selector.is_null()) {
        let error = FieldError::invalid_whole(&field.child("selector"), "`selector` will be auto-generated");
        errors.push(error.showing("LabelSelector", selector));
    }
    if value::flag(template, "manualSelector") {
        let at = field.child("manualSelector");
        errors.push(FieldError::not_supported_as_listed(&at, true, &["nil", "false"]));
    }
    let field = Path::new("spec");
    rules::not_negative(&mut errors, spec, "successfulJobsHistoryLimit", &field);
    rules::not_negative(&mut errors, spec, "failedJobsHistoryLimit", &field);
    errors
}

/// A name of the IANA database.
fn time_zone(errors: &mut Errors, name: &str, field: &Path) {
    if name.is_empty() {
        errors.push(FieldError::invalid(field, "", "timeZone must be nil or non-empty string"));
        return;
    }
    let is_component = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
        (1..=14).contains(&part.len())
            && part.bytes().all(plain)
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
    };
    if !name.split('/').all(is_component) {
        errors.push(FieldError::invalid(field, name, format!("unknown time zone {name}")));
        return;
    }
    if name.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(field, name, detail));
    }
    // "Local", so written, is a zone to upstream's library, if not to its rules.
    if let (true, Err(why)) = (name != "Local", cron::zone(name)) {
        errors.push(FieldError::invalid(field, name, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn with(changes: &Value) -> Value {
        let mut object = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"schedule": "*/5 * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "OnFailure",
                "containers": [{"name": "c", "image": "i"}]}}}}}});
        for (path, to) in changes.as_object().unwrap() {
            value::set(&mut object, path, to.clone());
        }
        KIND.hooks.default(&mut object);
        object
    }

    #[test]
    fn defaults() {
        let object = with(&json!({}));
        assert_eq!(object["spec"]["concurrencyPolicy"], "Allow");
        assert_eq!(object["spec"]["suspend"], false);
        assert_eq!(object["spec"]["successfulJobsHistoryLimit"], 3);
        assert_eq!(object["spec"]["failedJobsHistoryLimit"], 1);
        let template = &object["spec"]["jobTemplate"]["spec"];
        assert_eq!(template["template"]["spec"]["dnsPolicy"], "ClusterFirst");
        assert_eq!(template.get("completions"), None, "the job's own defaults come when it is made");
        testing::defaults(&KIND, object.clone(), &object);
        testing::invalid(&KIND, &object, &[]);
    }

    #[test]
    fn validation() {
        let long = "x".repeat(53);
        for (changes, sentences) in [
            (json!({"spec.schedule": ""}), vec!["spec.schedule: Required value"]),
            (
                json!({"spec.schedule": "61 * * * *"}),
                vec!["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"],
            ),
            (
                json!({"spec.schedule": "TZ=UTC * * * * *"}),
                vec![
                    "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field \
                     instead",
                ],
            ),
            (json!({"spec.timeZone": "Europe/Berlin"}), vec![]),
            (
                json!({"spec.timeZone": ""}),
                vec!["spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string"],
            ),
            (
                json!({"spec.timeZone": "Local"}),
                vec![
                    "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in \
                     https://www.iana.org/time-zones",
                ],
            ),
            (
                json!({"spec.timeZone": "Mars/Base"}),
                vec!["spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base"],
            ),
            (
                json!({"spec.timeZone": "a/../b"}),
                vec!["spec.timeZone: Invalid value: \"a/../b\": unknown time zone a/../b"],
            ),
            (
                json!({"spec.concurrencyPolicy": "Odd", "spec.startingDeadlineSeconds": -1, "spec.failedJobsHistoryLimit": -1}),
                vec![
                    "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                    "spec.concurrencyPolicy: Unsupported value: \"Odd\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                    "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                json!({"spec.jobTemplate.spec.selector": {}, "spec.jobTemplate.spec.manualSelector": true}),
                vec![
                    "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
                    "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
                ],
            ),
            (
                json!({"spec.jobTemplate.spec.template.spec.restartPolicy": "Always"}),
                vec![
                    "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                ],
            ),
            (
                json!({"metadata.name": long}),
                vec![
                    "metadata.name: Invalid value: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\": must be no more than \
                     52 characters",
                ],
            ),
        ] {
            testing::invalid(&KIND, &with(&changes), &sentences);
        }
    }

    #[test]
    fn what_an_old_one_may_keep() {
        let old = with(&json!({"spec.schedule": "TZ=UTC @daily", "metadata.name": "x".repeat(60)}));
        assert_eq!(testing::shown(&KIND.hooks.revalidate(&old, &old)), [""; 0]);
        let mut new = old.clone();
        value::set(&mut new, "spec.timeZone", "UTC");
        assert_eq!(
            testing::shown(&KIND.hooks.revalidate(&new, &old)),
            [
                "spec.schedule: Invalid value: \"TZ=UTC @daily\": cannot use both timeZone field and TZ or CRON_TZ in schedule"
            ]
        );
        let old = with(&json!({"spec.timeZone": "Mars/Base"}));
        assert_eq!(testing::shown(&KIND.hooks.revalidate(&old, &old)), [""; 0]);
    }

    #[test]
    fn warnings() {
        let old = with(&json!({"spec.schedule": "TZ=UTC @daily"}));
        assert_eq!(KIND.hooks.warnings(&old, None), [""; 0]);
        assert!(KIND.hooks.warnings(&old, Some(&old))[0].starts_with("cannot use TZ or CRON_TZ in spec.spec.schedule"));
        assert_eq!(KIND.hooks.warnings_of_part("status", &old, &old), [""; 0]);
    }

    #[test]
    fn row() {
        let mut object = with(&json!({}));
        let cells = json!(["c", "*/5 * * * *", "<none>", "False", 0, "<none>", "<unknown>", "c", "i", "<none>"]);
        testing::row(&KIND, &object, &cells);
        value::set(&mut object, "spec.timeZone", "UTC");
        value::set(&mut object, "status", json!({"active": [{}], "lastScheduleTime": "2026-01-01T00:00:00Z"}));
        let cells = json!(["c", "*/5 * * * *", "UTC", "False", 1, "30m", "<unknown>", "c", "i", "<none>"]);
        testing::row(&KIND, &object, &cells);
    }
}
