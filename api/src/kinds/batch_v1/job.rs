//! `jobs` of batch: pods that run until enough of them succeeded.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value, json};
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, Selectable, describe};
use crate::kinds::shared::{
    cells, conditions, job_spec, job_status, labels, names, parts, pod_gates, rules, selector_cell,
};
use crate::selector::LabelSelector;
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "batch",
    version: "v1",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    subresources: &[parts::status("batch", "v1", "Job")],
    generation: true,
    orphans_dependents: true,
    columns: &[
        Column::NAME,
        Column::text("Status").says("Status of the job."),
        Column::text("Completions").of("status.succeeded"),
        Column::text("Duration").says("Time required to complete the job."),
        Column::AGE,
        cells::CONTAINERS,
        cells::IMAGES,
        cells::SELECTOR,
    ],
    selectable: &[Selectable {
        name: "status.successful",
        value: |job| value::int(job, "status.succeeded").unwrap_or_default().to_string(),
    }],
    gated: pod_gates::WORKLOAD,
    pods: Some("spec.template.spec"),
    describe: describe::<k8s_openapi::api::batch::v1::Job>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &Job,
    ..Kind::BASE
};

/// Labels that carry the job's name: the old one and the one with a domain.
const JOB_NAME: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
/// Labels that carry the job's uid.
const CONTROLLER_UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

struct Job;

impl Hooks for Job {
    fn default(&self, object: &mut Value) {
        job_spec::default_template(object, "spec");
        if let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) {
            job_spec::default(spec);
        }
        // A new job takes its labels when those of its pods are complete.
        if !meta::resource_version(object).is_empty() {
            labels_of_pods(object);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if !value::flag(object, "spec.manualSelector") {
            generate_selector(object);
        }
        labels_of_pods(object);
    }

    fn validate(&self, object: &Value) -> Errors {
        validate(object, true)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        let had = labels::map(old, "spec.template.metadata.labels");
        validate(new, [JOB_NAME[1], CONTROLLER_UID[1]].iter().all(|key| had.is_some_and(|had| had.contains_key(key))))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        // Upstream judges the whole spec again before it looks at what changed.
        let mut errors = spec(new.get("spec").unwrap_or(&Value::Null));
        completions(&mut errors, new, old);
        rules::unchanged_struct(&mut errors, new, old, "spec.selector", "*LabelSelector");
        template(&mut errors, new, old);
        rules::unchanged(&mut errors, new, old, "spec.completionMode");
        rules::unchanged_struct(&mut errors, new, old, "spec.podFailurePolicy", "*PodFailurePolicy");
        rules::unchanged(&mut errors, new, old, "spec.backoffLimitPerIndex");
        rules::unchanged(&mut errors, new, old, "spec.managedBy");
        rules::unchanged_struct(&mut errors, new, old, "spec.successPolicy", "*SuccessPolicy");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        job_status::validate(new, old)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let spec = new.get("spec").unwrap_or(&Value::Null);
        let field = Path::new("spec");
        match old {
            None => {
                let mut out = job_spec::name_warnings(meta::name(new));
                out.extend(job_spec::warnings(spec, &field));
                out
            }
            Some(old) if meta::generation(new) != meta::generation(old) => job_spec::warnings(spec, &field),
            Some(_) => Vec::new(),
        }
    }

    fn warnings_of_part(&self, _part: &str, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let succeeded = value::int(object, "status.succeeded").unwrap_or_default();
        let parallelism = value::int(object, "spec.parallelism").unwrap_or_default();
        let completions = match value::int(object, "spec.completions") {
            Some(completions) => format!("{succeeded}/{completions}"),
            None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            None => format!("{succeeded}/1"),
        };
        let containers = value::items(object, "spec.template.spec.containers");
        vec![
            cells::name(object),
            phase(object).into(),
            completions.into(),
            duration(object, now).into(),
            cells::age(object, now),
            cells::joined(containers, "name").into(),
            cells::joined(containers, "image").into(),
            selector_cell::shown(value::get(object, "spec.selector")),
        ]
    }
}

fn phase(job: &Value) -> &'static str {
    let is = |kind| conditions::is(job, kind, "True");
    let ended = ["Complete", "Failed"].into_iter().find(|kind| is(kind));
    let running = || ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|kind| is(kind));
    match ended {
        Some(phase) => phase,
        None if meta::is_deleting(job) => "Terminating",
        None => running().unwrap_or("Running"),
    }
}

/// How long it took or has taken; empty before it starts.
fn duration(job: &Value, now: i64) -> String {
    let time = |name| meta::seconds(value::text(job, name));
    time("status.startTime")
        .map(|start| meta::human_duration(time("status.completionTime").unwrap_or(now) - start))
        .unwrap_or_default()
}

/// A job without labels has those of its pods.
fn labels_of_pods(job: &mut Value) {
    let own = labels::map(job, "metadata.labels").is_none_or(Map::is_empty);
    if let (true, Some(theirs)) = (own, labels::map(job, "spec.template.metadata.labels")) {
        let theirs = theirs.clone();
        value::set(job, "metadata.labels", theirs);
    }
}

/// Labels that no other job's pods have, and a selector of them. What the client set stays: validation refuses it if it
/// contradicts.
fn generate_selector(job: &mut Value) {
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    let own = value::map_mut(job, "spec.template.metadata.labels");
    for (keys, text) in [(JOB_NAME, &name), (CONTROLLER_UID, &uid)] {
        for key in keys {
            own.entry(key).or_insert_with(|| text.as_str().into());
        }
    }
    value::map_mut(job, "spec.selector.matchLabels").entry(CONTROLLER_UID[1]).or_insert_with(|| uid.into());
}

/// `prefixed`: the labels with a domain are demanded too.
fn validate(job: &Value, prefixed: bool) -> Errors {
    let mut errors = Errors::new();
    let spec = job.get("spec").unwrap_or(&Value::Null);
    let selector = spec.get("selector").filter(|selector| !selector.is_null());
    if let (Some(selector), false) = (selector, value::flag(spec, "manualSelector")) {
        generated_selector(&mut errors, job, selector, prefixed);
    }
    errors.extend(self::spec(spec));
    if let (true, Some(completions)) =
        (job_spec::is_indexed(spec), value::int(spec, "completions").filter(|completions| *completions > 0))
    {
        let last = format!("{}-{}", meta::name(job), completions - 1);
        if !names::dns_label(&last).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {last}");
            errors.push(FieldError::invalid(&Path::new("metadata.name"), meta::name(job), detail));
        }
    }
    errors
}

/// What is wrong with the spec by itself.
fn spec(spec: &Value) -> Errors {
    let field = Path::new("spec");
    let selector = spec.get("selector").filter(|selector| !selector.is_null());
    let mut errors = job_spec::validate(spec, &field);
    match selector {
        None => errors.push(FieldError::required(&field.child("selector"), "")),
        Some(selector) => errors.extend(labels::validate_selector(Some(selector), &field.child("selector"))),
    }
    let own = value::get(spec, "template.metadata.labels");
    if let Ok(selector) = LabelSelector::from_value(selector.unwrap_or(&Value::Null))
        && !selector.matches(own.and_then(Value::as_object).unwrap_or(&Map::new()))
    {
        let at = field.child("template.metadata.labels");
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&at, own.cloned().unwrap_or_default(), detail));
    }
    errors
}

fn generated_selector(errors: &mut Errors, job: &Value, selector: &Value, prefixed: bool) {
    let (name, uid) = (meta::name(job), meta::uid(job));
    if uid.is_empty() {
        errors.push(FieldError::required(&Path::new("metadata.uid"), ""));
    }
    let mut expected = vec![(CONTROLLER_UID[0], uid), (JOB_NAME[0], name)];
    if prefixed {
        expected.extend([(CONTROLLER_UID[1], uid), (JOB_NAME[1], name)]);
    }
    let own = value::get(job, "spec.template.metadata.labels").unwrap_or(&Value::Null);
    let field = Path::new("spec.template.metadata.labels");
    for (key, text) in &expected {
        match own.get(*key).and_then(Value::as_str) {
            None => errors.push(FieldError::required(&field.key(key), format!("must be '{text}'"))),
            Some(found) if found != *text => {
                errors.push(FieldError::invalid(&field.key(key), own.clone(), format!("must be '{text}'")));
            }
            Some(_) => {}
        }
    }
    let generated: Map = expected.iter().map(|(key, text)| (*key, *text)).collect();
    if LabelSelector::from_value(selector).is_ok_and(|selector| !selector.matches(&generated)) {
        let detail = "`selector` not auto-generated";
        let error = FieldError::invalid_whole(&Path::new("spec.selector"), detail);
        errors.push(error.showing("LabelSelector", selector));
    }
}

/// Fixed, but for indexed jobs, whose completions change together with their parallelism.
fn completions(errors: &mut Errors, new: &Value, old: &Value) {
    let path = "spec.completions";
    let number = |job, path| value::int(job, path);
    if !value::get(new, "spec").is_some_and(job_spec::is_indexed) {
        rules::unchanged(errors, new, old, path);
    } else if let Some(completions) = number(new, path).filter(|n| number(old, path) != Some(*n))
        && number(new, "spec.parallelism") != Some(completions)
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(&Path::new(path), completions, detail));
    }
}

/// The template is fixed, but for a suspended job without pods, which may be placed and sized anew (KEP-2926).
fn template(errors: &mut Errors, new: &Value, old: &Value) {
    let none = Value::Null;
    let get = |job| value::get(job, "spec.template").unwrap_or(&none);
    let suspended = value::flag(old, "spec.suspend");
    let idle = value::text(old, "status.startTime").is_empty() || conditions::is(old, "Suspended", "True");
    if !(suspended && idle && value::int(old, "status.active").unwrap_or_default() == 0) {
        rules::unchanged_struct(errors, new, old, "spec.template", "PodTemplateSpec");
        return;
    }
    let (new, mut old) = (get(new), get(old).clone());
    let has_affinity = |template: &Value| value::get(template, "spec.affinity").is_some_and(Value::is_object);
    if has_affinity(new) && !has_affinity(&old) {
        value::set(&mut old, "spec.affinity", json!({}));
    }
    for path in ["spec.affinity.nodeAffinity", "spec.nodeSelector", "spec.tolerations", "spec.schedulingGates"] {
        parts::copy(&mut old, new, path);
    }
    if !has_affinity(new) && value::get(&old, "spec.affinity").is_some_and(rules::is_zero) {
        value::remove(&mut old, "spec.affinity");
    }
    for list in ["spec.containers", "spec.initContainers"] {
        let theirs = value::items(new, list);
        let own = value::items_mut(&mut old, list);
        if own.len() == theirs.len() {
            for (own, theirs) in own.iter_mut().zip(theirs) {
                if value::text(own, "name") == value::text(theirs, "name") {
                    parts::copy(own, theirs, "resources");
                }
            }
        }
    }
    if rules::differ(new.get("spec"), old.get("spec")) {
        let shown = new.get("spec").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&Path::new("spec.template.spec"), shown, rules::IMMUTABLE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    /// A job as it is stored, some fields set by the client.
    fn stored(changes: &Value) -> Value {
        let mut job = json!({"metadata": {"name": "pi", "namespace": "n", "uid": "u"}, "spec":
            {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        for (path, to) in changes.as_object().unwrap() {
            value::set(&mut job, path, to.clone());
        }
        KIND.hooks.default(&mut job);
        KIND.hooks.prepare_create(&mut job);
        value::set(&mut job, "metadata.resourceVersion", "1");
        KIND.hooks.default(&mut job);
        job
    }

    #[test]
    fn defaults() {
        let with = |spec: Value| {
            let mut job = json!({ "spec": spec });
            KIND.hooks.default(&mut job);
            let template = value::remove(&mut job, "spec.template").unwrap();
            assert_eq!(template["spec"]["dnsPolicy"], "ClusterFirst", "it is there, whatever was sent");
            job["spec"].clone()
        };
        assert_eq!(
            with(json!({})),
            json!({"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
                "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false})
        );
        let spec = with(json!({"parallelism": 3, "backoffLimitPerIndex": 1,
            "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "x"}]}]}}));
        assert_eq!(spec.get("completions"), None);
        assert_eq!(spec["backoffLimit"], 2_147_483_647);
        assert_eq!(spec["podReplacementPolicy"], "Failed");
        assert_eq!(spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"], "True");
        assert!(KIND.orphans_dependents);
    }

    #[test]
    fn selectors_and_labels_are_generated() {
        let all = json!({"job-name": "pi", "batch.kubernetes.io/job-name": "pi", "controller-uid": "u",
            "batch.kubernetes.io/controller-uid": "u"});
        let job = stored(&json!({}));
        assert_eq!(job["spec"]["template"]["metadata"]["labels"], all);
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
        assert_eq!(job["metadata"]["labels"], all);
        testing::invalid(&KIND, &job, &[]);
        let job = stored(&json!({"metadata.labels": {"a": "1"}, "spec.template.metadata": {"labels": {"a": "1"}}}));
        assert_eq!(job["metadata"]["labels"], json!({"a": "1"}));
        let job = stored(&json!({"spec.manualSelector": true, "spec.selector": {"matchLabels": {"a": "1"}},
            "spec.template.metadata": {"labels": {"a": "1"}}}));
        assert_eq!(job["spec"]["template"]["metadata"]["labels"], json!({"a": "1"}));
        assert_eq!(job["metadata"]["labels"], json!({"a": "1"}));
        testing::invalid(&KIND, &job, &[]);
    }

    #[test]
    fn contradicting_selectors_are_refused() {
        let job = stored(&json!({"spec.template.metadata": {"labels": {"job-name": "other"}},
            "spec.selector": {"matchLabels": {"a": "1"}}}));
        let own = job["spec"]["template"]["metadata"]["labels"].clone();
        let selector = job["spec"]["selector"].clone();
        testing::invalid(
            &KIND,
            &job,
            &[
                &format!("spec.template.metadata.labels[job-name]: Invalid value: {own}: must be 'pi'"),
                &format!("spec.selector: Invalid value: {selector}: `selector` not auto-generated"),
                &format!(
                    "spec.template.metadata.labels: Invalid value: {own}: `selector` does not match template `labels`"
                ),
            ],
        );
        testing::invalid(
            &KIND,
            &stored(&json!({"spec.manualSelector": true})),
            &[
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            ],
        );
        // Jobs from before the labels with a domain may go without.
        let mut old = stored(&json!({}));
        for key in [JOB_NAME[1], CONTROLLER_UID[1]] {
            value::map_mut(&mut old, "spec.template.metadata.labels").remove(key);
        }
        value::set(&mut old, "spec.selector", json!({"matchLabels": {"controller-uid": "u"}}));
        assert_eq!(testing::shown(&KIND.hooks.revalidate(&old, &old)), [""; 0]);
        assert_eq!(KIND.hooks.validate(&old).len(), 2);
    }

    #[test]
    fn indexed_names_fit_into_host_names() {
        testing::invalid(
            &KIND,
            &stored(&json!({"metadata.name": "a.b", "spec.completionMode": "Indexed", "spec.completions": 3})),
            &["metadata.name: Invalid value: \"a.b\": will not able to create pod with invalid DNS label: a.b-2"],
        );
    }

    fn update(old: &Value, changes: &Value, sentences: &[&str]) {
        let mut new = old.clone();
        for (path, to) in changes.as_object().unwrap() {
            value::set(&mut new, path, to.clone());
        }
        let got = testing::shown(&KIND.hooks.validate_update(&new, old));
        assert_eq!(got.len(), sentences.len(), "{changes} {got:?}");
        for (got, start) in got.iter().zip(sentences) {
            assert!(got.starts_with(start), "{changes} {got}");
        }
    }

    #[test]
    fn what_may_change() {
        let job = stored(&json!({}));
        update(&job, &json!({"spec.parallelism": 3, "spec.suspend": true, "spec.backoffLimit": 1}), &[]);
        update(
            &job,
            &json!({"spec.completions": 2, "spec.selector": {"matchLabels": {"x": "y"}}, "spec.managedBy": "a.b/c",
                "spec.template.spec.nodeSelector": {"a": "b"}}),
            &[
                "spec.template.metadata.labels: Invalid value: {",
                "spec.completions: Invalid value: 2: field is immutable",
                "spec.selector: Invalid value: {\"matchLabels\":{\"x\":\"y\"}}: field is immutable",
                "spec.template: Invalid value: {",
                "spec.managedBy: Invalid value: \"a.b/c\": field is immutable",
            ],
        );
        let indexed = stored(&json!({"spec.completionMode": "Indexed", "spec.completions": 3, "spec.parallelism": 3}));
        update(&indexed, &json!({"spec.completions": 2, "spec.parallelism": 2}), &[]);
        update(
            &indexed,
            &json!({"spec.completions": 2}),
            &["spec.completions: Invalid value: 2: can only be modified in tandem with spec.parallelism"],
        );
    }

    #[test]
    fn suspended_jobs_are_placed_anew() {
        let placed = json!({"spec.template.spec.nodeSelector": {"a": "b"},
            "spec.template.spec.affinity": {"nodeAffinity": {"x": 1}},
            "spec.template.spec.tolerations": [{"key": "a"}],
            "spec.template.metadata.annotations": {"a": "b"},
            "spec.template.spec.containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}},
                "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"}]});
        let suspended = json!({"spec.suspend": true, "spec.template.spec.containers": [{"name": "c", "image": "i",
            "imagePullPolicy": "IfNotPresent"}]});
        let job = stored(&suspended);
        update(&job, &placed, &[]);
        update(&job, &json!({"spec.template.spec.affinity": {}}), &[]);
        update(
            &job,
            &json!({"spec.template.spec.affinity": {"podAffinity": {"x": 1}}}),
            &["spec.template.spec: Invalid value: {"],
        );
        update(&job, &json!({"spec.template.spec.hostNetwork": true}), &["spec.template.spec: Invalid value: {"]);
        for (status, sentences) in [
            (json!({"startTime": "2026-01-01T00:00:00Z"}), &["spec.template: Invalid value: {"][..]),
            (json!({"active": 1}), &["spec.template: Invalid value: {"]),
            (
                json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]}),
                &[],
            ),
        ] {
            let mut job = job.clone();
            value::set(&mut job, "status", status);
            update(&job, &placed, sentences);
        }
    }

    #[test]
    fn warnings() {
        let mut job = stored(&json!({"metadata.name": "a.b"}));
        assert_eq!(KIND.hooks.warnings(&job, None).len(), 1);
        assert_eq!(KIND.hooks.warnings(&job, Some(&job)), [""; 0]);
        let old = job.clone();
        value::set(&mut job, "metadata.generation", 2);
        value::set(&mut job, "spec.template.spec.volumes", json!([{"name": "g", "gitRepo": {}}]));
        assert_eq!(KIND.hooks.warnings(&job, Some(&old)).len(), 1);
        assert_eq!(KIND.hooks.warnings_of_part("status", &job, &old), [""; 0]);
    }

    #[test]
    fn row() {
        let mut job = stored(&json!({}));
        let selector = "batch.kubernetes.io/controller-uid=u";
        testing::row(&KIND, &job, &json!(["pi", "Running", "0/1", "", "<unknown>", "c", "i", selector]));
        value::set(
            &mut job,
            "status",
            json!({"succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:40Z",
                "conditions": [{"type": "Complete", "status": "True"}]}),
        );
        testing::row(&KIND, &job, &json!(["pi", "Complete", "1/1", "100s", "<unknown>", "c", "i", selector]));
        assert_eq!((KIND.selectable[0].value)(&job), "1");
        for (change, phase) in [
            (json!([{"type": "Failed", "status": "True"}]), "Failed"),
            (json!([{"type": "Suspended", "status": "True"}]), "Suspended"),
            (json!([{"type": "SuccessCriteriaMet", "status": "True"}]), "SuccessCriteriaMet"),
            (json!([{"type": "Complete", "status": "False"}]), "Running"),
        ] {
            value::set(&mut job, "status.conditions", change);
            assert_eq!(super::phase(&job), phase);
        }
        value::set(&mut job, "metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
        assert_eq!(phase(&job), "Terminating");
        let worker = json!({"metadata": {"name": "w"}, "spec": {"parallelism": 2}, "status": {"startTime": "2026-01-01T00:00:00Z"}});
        testing::row(&KIND, &worker, &json!(["w", "Running", "0/1 of 2", "30m", "<unknown>", "", "", "<none>"]));
    }
}
