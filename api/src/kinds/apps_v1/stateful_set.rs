//! `statefulsets` of apps: pods with names and claims of their own.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::kind::{Column, Hooks, Kind, NameRule, describe};
use crate::kinds::core_v1::persistent_volume_claim;
use crate::kinds::shared::{cells, labels, names, parts, pod_defaults, pod_gates, pod_warnings, quantities, rules};
use crate::kinds::shared::{volume_claims, workload};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[parts::SCALE, parts::status("apps", "v1", "StatefulSet")],
    generation: true,
    columns: &[
        Column::NAME,
        Column::text("Ready").says("Number of the pod with ready state"),
        Column::AGE,
        cells::CONTAINERS,
        cells::IMAGES,
    ],
    gated: pod_gates::WORKLOAD,
    pods: Some("spec.template.spec"),
    describe: describe::<k8s_openapi::api::apps::v1::StatefulSet>,
    hooks: &StatefulSet,
    ..Kind::BASE
};

struct StatefulSet;

impl Hooks for StatefulSet {
    fn default(&self, object: &mut Value) {
        pod_defaults::template(object, "spec.template");
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        if value::text(spec, "podManagementPolicy").is_empty() {
            value::set(spec, "podManagementPolicy", "OrderedReady");
        }
        if value::text(spec, "updateStrategy.type").is_empty() {
            value::set(spec, "updateStrategy.type", "RollingUpdate");
            value::set_default(spec, "updateStrategy.rollingUpdate", json!({}));
        }
        let rolling = value::get(spec, "updateStrategy.rollingUpdate").is_some_and(Value::is_object);
        if rolling && value::text(spec, "updateStrategy.type") == "RollingUpdate" {
            value::set_default(spec, "updateStrategy.rollingUpdate.partition", 0);
        }
        for when in ["whenDeleted", "whenScaled"] {
            let path = format!("persistentVolumeClaimRetentionPolicy.{when}");
            if value::text(spec, &path).is_empty() {
                value::set(spec, &path, "Retain");
            }
        }
        value::set_default(spec, "replicas", 1);
        value::set_default(spec, "revisionHistoryLimit", 10);
        for claim in value::items_mut(spec, CLAIMS).iter_mut().filter(|claim| claim.is_object()) {
            value::set(claim, "apiVersion", "v1");
            value::set(claim, "kind", "PersistentVolumeClaim");
            persistent_volume_claim::default(claim);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        value::remove(object, MAX_UNAVAILABLE);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if value::get(old, MAX_UNAVAILABLE).is_none_or(Value::is_null) {
            value::remove(new, MAX_UNAVAILABLE);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        validate_spec(object.get("spec").unwrap_or(&Value::Null), &Path::new("spec"), true)
    }

    // Its claims cannot change: what is wrong with them was wrong before.
    fn revalidate(&self, new: &Value, _old: &Value) -> Errors {
        validate_spec(new.get("spec").unwrap_or(&Value::Null), &Path::new("spec"), false)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let (mut after, mut before) = (fixed(new), fixed(old));
        for (claim, old) in value::items_mut(&mut after, CLAIMS).iter_mut().zip(value::items_mut(&mut before, CLAIMS)) {
            for list in ["spec.resources.requests", "spec.resources.limits"] {
                quantities::adopt(claim, old, list);
            }
        }
        if after != before {
            let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                          'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden(&Path::new("spec"), detail));
        }
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        validate_status(new, old)
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = pod_warnings::of_template(new, old, "spec");
        let field = Path::new("spec");
        for (i, claim) in value::items(new, "spec.volumeClaimTemplates").iter().enumerate() {
            let at = field.child(CLAIMS).index(i);
            // Upstream writes it so in updates.
            let at = if old.is_some() { at.child("Spec") } else { at };
            out.extend(volume_claims::warnings(claim.get("spec").unwrap_or(&Value::Null), &at));
        }
        if value::int(new, "spec.revisionHistoryLimit").is_some_and(|limit| limit < 0) {
            out.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                    .to_owned(),
            );
        }
        out
    }

    fn warnings_of_part(&self, _part: &str, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let ready = value::int(object, "status.readyReplicas").unwrap_or_default();
        let wanted = value::int(object, "spec.replicas").unwrap_or_default();
        let [containers, images, _] = workload::wide_cells(object);
        vec![cells::name(object), format!("{ready}/{wanted}").into(), cells::age(object, now), containers, images]
    }
}

const CLAIMS: &str = "volumeClaimTemplates";

/// A beta feature that is off: it is dropped, except from an object that has it already.
const MAX_UNAVAILABLE: &str = "spec.updateStrategy.rollingUpdate.maxUnavailable";

/// What may change in a spec.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// The part of a spec that stays.
fn fixed(object: &Value) -> Value {
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, field| !CHANGEABLE.contains(&name.as_str()) && !rules::is_zero(field));
    }
    spec
}

fn validate_spec(spec: &Value, field: &Path, claims: bool) -> Errors {
    let mut errors = Errors::new();
    let at = field.child("podManagementPolicy");
    match value::text(spec, "podManagementPolicy") {
        "" => errors.push(FieldError::required(&at, "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(FieldError::invalid(&at, other, "must be 'OrderedReady' or 'Parallel'")),
    }
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    validate_strategy(&mut errors, strategy, &field.child("updateStrategy"));
    let policy = "persistentVolumeClaimRetentionPolicy";
    if let Some(given) = spec.get(policy).filter(|policy| policy.is_object()) {
        for when in ["whenDeleted", "whenScaled"] {
            let text = value::text(given, when);
            if !matches!(text, "Retain" | "Delete") {
                let at = field.child(policy).child(when);
                errors.push(FieldError::not_supported_as_listed(&at, text, &["Retain", "Delete"]));
            }
        }
    }
    for (i, claim) in value::items(spec, CLAIMS).iter().enumerate().filter(|_| claims) {
        let at = field.child(CLAIMS).index(i).child("spec");
        volume_claims::validate(&mut errors, claim.get("spec").unwrap_or(&Value::Null), &at);
    }
    for name in ["replicas", "minReadySeconds", "ordinals.start"] {
        rules::not_negative(&mut errors, spec, name, field);
    }
    let service = value::text(spec, "serviceName");
    if !service.is_empty() {
        labels::invalid(&mut errors, &field.child("serviceName"), service, names::dns_label(service));
    }
    if workload::selector(&mut errors, spec, "statefulset", field) {
        workload::template(&mut errors, &with_volumes(spec), "StatefulSet", field);
    }
    errors
}

/// The spec with the template that the pods will have: its claims are volumes, its names those of the pods.
fn with_volumes(spec: &Value) -> Value {
    let mut out = spec.clone();
    let Some(pod) = value::get_mut(&mut out, "template.spec").and_then(Value::as_object_mut) else { return out };
    pod.remove("subdomain");
    pod.remove("hostname");
    let claims: Vec<&str> =
        value::items(spec, CLAIMS).iter().map(|claim| value::text(claim, "metadata.name")).collect();
    if !claims.is_empty() {
        let own = value::items(spec, "template.spec.volumes").iter();
        let own = own.filter(|volume| !claims.contains(&value::text(volume, "name"))).cloned();
        let mut names = claims.clone();
        names.sort_unstable();
        names.dedup();
        let made = names.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        pod.insert("volumes".to_owned(), made.chain(own).collect());
    }
    out
}

fn validate_strategy(errors: &mut Errors, strategy: &Value, field: &Path) {
    let rolling = strategy.get("rollingUpdate").filter(|update| update.is_object());
    let at = field.child("rollingUpdate");
    match (value::text(strategy, "type"), rolling) {
        ("", _) => errors.push(FieldError::required(field, "")),
        ("OnDelete", Some(update)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid_whole(&at, detail).showing("RollingUpdateStatefulSetStrategy", update));
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(update)) => {
            rules::not_negative(errors, update, "partition", &at);
            rules::int_or_percent(errors, update, "maxUnavailable", &at);
            if let Some(given) = update.get("maxUnavailable").filter(|given| !given.is_null())
                && workload::amount(update, "maxUnavailable") == 0
            {
                errors.push(FieldError::invalid(&at.child("maxUnavailable"), given.clone(), "cannot be 0"));
            }
            rules::at_most_all(errors, update, "maxUnavailable", &at);
        }
        _ => {
            let error = FieldError::invalid_whole(field, "must be 'RollingUpdate' or 'OnDelete'");
            errors.push(error.showing("StatefulSetUpdateStrategy", strategy));
        }
    }
}

fn validate_status(new: &Value, old: &Value) -> Errors {
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let mut errors = workload::status(new, &counts, &[]);
    let count = |name: &str| value::int(new, &format!("status.{name}")).unwrap_or_default();
    let bounds = [
        ("readyReplicas", "replicas"),
        ("currentReplicas", "replicas"),
        ("updatedReplicas", "replicas"),
        ("availableReplicas", "replicas"),
        ("availableReplicas", "readyReplicas"),
    ];
    for (name, most) in bounds.iter().filter(|(name, most)| count(name) > count(most)) {
        let detail = format!("cannot be greater than status.{most}");
        errors.push(FieldError::invalid(&Path::new("status").child(name), count(name), detail));
    }
    rules::not_decremented(&mut errors, new, old, "status.collisionCount");
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        let mut object = json!({"metadata": {"name": "w", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"a": "1"}},
            "serviceName": "s", "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"hostname": "A_B", "containers": [
                {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]}});
        KIND.hooks.default(&mut object);
        object
    }

    #[test]
    fn defaults() {
        let object = sound();
        testing::defaults(&KIND, object.clone(), &object);
        let spec = &object["spec"];
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(spec["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
        );
        assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        let claim = &spec["volumeClaimTemplates"][0];
        assert_eq!(claim["kind"], "PersistentVolumeClaim");
        assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
        assert_eq!(claim["status"], json!({"phase": "Pending"}));
    }

    #[test]
    fn a_feature_that_is_off_is_dropped() {
        let mut object = sound();
        value::set(&mut object, MAX_UNAVAILABLE, 2);
        let old = object.clone();
        KIND.hooks.prepare_create(&mut object);
        assert_eq!(object, sound());
        let mut new = old.clone();
        KIND.hooks.prepare_update(&mut new, &old);
        assert_eq!(new, old);
        KIND.hooks.prepare_update(&mut new, &sound());
        assert_eq!(new, sound());
    }

    #[test]
    fn validation() {
        testing::invalid(&KIND, &sound(), &[]);
        for (path, to, sentences) in [
            (
                "spec.podManagementPolicy",
                json!("Odd"),
                vec!["spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (
                "spec.updateStrategy.type",
                json!("OnDelete"),
                vec![
                    "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":0,\"MaxUnavailable\":null}: only allowed for updateStrategy \
                     'RollingUpdate'",
                ],
            ),
            (
                "spec.updateStrategy",
                json!({"type": "Odd"}),
                vec![
                    "spec.updateStrategy: Invalid value: {\"Type\":\"Odd\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'",
                ],
            ),
            (
                "spec.updateStrategy.rollingUpdate",
                json!({"partition": -1, "maxUnavailable": 0}),
                vec![
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
                ],
            ),
            (
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
                json!("Odd"),
                vec![
                    "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Odd\": supported values: \
                     \"Retain\", \"Delete\"",
                ],
            ),
            (
                "spec.ordinals",
                json!({"start": -1}),
                vec!["spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"],
            ),
            ("spec.serviceName", json!("a.b"), vec!["spec.serviceName: Invalid value: \"a.b\": must not contain dots"]),
            (
                "spec.selector",
                json!({}),
                vec!["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
            ),
            (
                "spec.template.spec.restartPolicy",
                json!("Never"),
                vec!["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "spec.volumeClaimTemplates",
                json!([]),
                vec!["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
            ),
        ] {
            let mut object = sound();
            value::set(&mut object, path, to);
            testing::invalid(&KIND, &object, &sentences);
        }
        let mut object = sound();
        object["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] = json!([]);
        testing::invalid(
            &KIND,
            &object,
            &["spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"],
        );
    }

    #[test]
    fn few_fields_may_change() {
        let changed = |path: &str, to: Value| {
            let mut object = sound();
            value::set(&mut object, path, to);
            object
        };
        for path in CHANGEABLE {
            testing::invalid_update(&KIND, &changed(&format!("spec.{path}"), json!(1)), &sound(), &[]);
        }
        let mut same = sound();
        same["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!("1024Mi");
        testing::invalid_update(&KIND, &same, &sound(), &[]);
        for path in ["spec.serviceName", "spec.selector", "spec.podManagementPolicy", "spec.volumeClaimTemplates"] {
            testing::invalid_update(
                &KIND,
                &changed(path, json!("x")),
                &sound(),
                &[
                    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                     'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
                     forbidden",
                ],
            );
        }
    }

    #[test]
    fn status() {
        let new = json!({"status": {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 3, "availableReplicas": 2}});
        let old = json!({"status": {"collisionCount": 1}});
        assert_eq!(
            testing::shown(&KIND.hooks.validate_part("status", &new, &old)),
            [
                "status.updatedReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ]
        );
    }

    #[test]
    fn row_and_warnings() {
        let mut object = sound();
        value::set(&mut object, "status", json!({"readyReplicas": 1}));
        testing::row(&KIND, &object, &json!(["w", "1/1", "<unknown>", "c", "i"]));
        assert!(KIND.hooks.warnings(&object, None).is_empty());
        value::set(&mut object, "spec.revisionHistoryLimit", -1);
        object["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!("1500m");
        let limit =
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended";
        for (old, at) in [(None, ""), (Some(&object), ".Spec")] {
            let storage = format!(
                "spec.volumeClaimTemplates[0]{at}.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be \
                 an integer"
            );
            assert_eq!(KIND.hooks.warnings(&object, old), [storage.as_str(), limit]);
        }
    }
}
