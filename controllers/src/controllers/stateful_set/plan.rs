//! Which pods of a StatefulSet are made, deleted and waited for, and its status. Pure. Source: KEP-3335, and the
//! documented guarantees of deployment, scaling and updates.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
};

use crate::{history::HASH, object, pod};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// A template and the name of its revision.
#[derive(Clone, Copy)]
pub(super) struct Revision<'a> {
    pub(super) name: &'a str,
    pub(super) template: &'a PodTemplateSpec,
}

/// What was seen.
#[derive(Clone, Copy)]
pub(super) struct Observed<'a> {
    pub(super) set: &'a StatefulSet,
    /// The pods that the set controls.
    pub(super) pods: &'a [Arc<Pod>],
    /// What the set ran before the update that is under way, or runs.
    pub(super) current: Revision<'a>,
    /// What it is to run.
    pub(super) update: Revision<'a>,
    pub(super) now: Timestamp,
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In this order, each with its claims before it.
    pub(super) create: Vec<Pod>,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) status: StatefulSetStatus,
    /// Seconds until the next ready pod becomes available.
    pub(super) wake: Option<i64>,
}

/// The number at the end of the name of one of the set's pods.
pub(super) fn ordinal(set: &StatefulSet, one: &Pod) -> Option<i32> {
    let tail = object::name(&one.metadata).strip_prefix(object::name(&set.metadata))?.strip_prefix('-')?;
    tail.parse().ok().filter(|number: &i32| *number >= 0 && number.to_string() == tail)
}

/// Whether the set no longer wants a pod of this number.
pub(super) fn is_condemned(set: &StatefulSet, one: &Pod) -> bool {
    let Some(spec) = &set.spec else { return false };
    ordinal(set, one).is_some_and(|number| !wanted(spec).contains(&number))
}

/// The numbers of the pods that the set wants.
fn wanted(spec: &StatefulSetSpec) -> std::ops::Range<i32> {
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    start..start.saturating_add(spec.replicas.unwrap_or(1).max(0))
}

/// The name of a claim of a pod.
fn claim_name(template: &PersistentVolumeClaim, pod: &str) -> String {
    format!("{}-{pod}", object::name(&template.metadata))
}

/// The claims of the pod of this name, as they are made.
pub(super) fn claims(set: &StatefulSet, pod: &str) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let one = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(template, pod));
        claim.metadata.namespace = set.metadata.namespace.clone();
        for (name, value) in spec.selector.match_labels.iter().flatten() {
            object::put(&mut claim.metadata.labels, name, value);
        }
        claim.status = None;
        claim
    };
    spec.volume_claim_templates.iter().flatten().map(one).collect()
}

/// The pod of an ordinal, by a revision.
fn pod_for(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32, revision: Revision<'_>) -> Pod {
    let name = format!("{}-{ordinal}", object::name(&set.metadata));
    let owner = object::controller_reference(set);
    let mut one = pod::from_template(revision.template, object::namespace(&set.metadata), "", owner);
    one.metadata.generate_name = None;
    one.metadata.name = Some(name.clone());
    for (label, value) in [(POD_NAME, name.as_str()), (POD_INDEX, &ordinal.to_string()), (HASH, revision.name)] {
        object::put(&mut one.metadata.labels, label, value);
    }
    if let Some(inner) = &mut one.spec {
        inner.hostname = Some(name.clone());
        inner.subdomain = spec.service_name.clone().filter(|service| !service.is_empty());
        let templates: Vec<_> = spec.volume_claim_templates.iter().flatten().collect();
        let own: BTreeSet<&str> = templates.iter().map(|template| object::name(&template.metadata)).collect();
        let mut volumes = inner.volumes.take().unwrap_or_default();
        volumes.retain(|volume| !own.contains(volume.name.as_str()));
        volumes.extend(templates.iter().map(|template| Volume {
            name: object::name(&template.metadata).to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(template, &name),
                read_only: None,
            }),
            ..Volume::default()
        }));
        inner.volumes = Some(volumes).filter(|all| !all.is_empty());
    }
    one
}

fn revision_of(one: &Pod) -> &str {
    object::label(&one.metadata, HASH).unwrap_or_default()
}

fn shown(number: usize) -> Option<i32> {
    i32::try_from(number).ok().filter(|number| *number != 0)
}

/// The status that the pods amount to.
fn status(seen: &Observed<'_>, spec: &StatefulSetSpec) -> StatefulSetStatus {
    let held = seen.set.status.clone().unwrap_or_default();
    let least = spec.min_ready_seconds.unwrap_or(0);
    let count = |holds: &dyn Fn(&Pod) -> bool| seen.pods.iter().filter(|one| holds(one)).count();
    let made = |one: &Pod| !pod::phase(one).is_empty();
    let runs = |one: &Pod| pod::phase(one) == "Running" && pod::is_ready(one);
    let of = |revision: &str| count(&|one| made(one) && !pod::is_terminating(one) && revision_of(one) == revision);
    let mut status = StatefulSetStatus {
        replicas: i32::try_from(count(&made)).unwrap_or(i32::MAX),
        ready_replicas: shown(count(&runs)),
        available_replicas: Some(
            i32::try_from(count(&|one| runs(one) && pod::is_available(one, least, seen.now))).unwrap_or(i32::MAX),
        ),
        current_replicas: shown(of(seen.current.name)),
        updated_replicas: shown(of(seen.update.name)),
        current_revision: Some(seen.current.name.to_owned()),
        update_revision: Some(seen.update.name.to_owned()),
        observed_generation: seen.set.metadata.generation,
        collision_count: held.collision_count.or(Some(0)),
        conditions: held.conditions,
    };
    let whole = Some(spec.replicas.unwrap_or(1));
    let done = [Some(status.replicas), status.ready_replicas.or(Some(0)), status.updated_replicas.or(Some(0))];
    if rolls(spec) && done == [whole; 3] {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
    status
}

fn rolls(spec: &StatefulSetSpec) -> bool {
    spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

pub(super) fn plan(seen: &Observed<'_>) -> Plan {
    let Some(spec) = &seen.set.spec else { return Plan::default() };
    let mut plan = Plan { status: status(seen, spec), ..Plan::default() };
    let least = spec.min_ready_seconds.unwrap_or(0);
    let waits = seen.pods.iter().filter_map(|one| pod::available_in(one, least, seen.now));
    plan.wake = waits.filter(|seconds| *seconds > 0).min();
    if seen.set.metadata.deletion_timestamp.is_none() {
        act(seen, spec, &mut plan);
    }
    plan
}

fn act(seen: &Observed<'_>, spec: &StatefulSetSpec, plan: &mut Plan) {
    let std::ops::Range { start, end } = wanted(spec);
    let one_by_one = spec.pod_management_policy.as_deref() != Some("Parallel");
    let least = spec.min_ready_seconds.unwrap_or(0);
    let available = |one: &Pod| {
        pod::phase(one) == "Running" && !pod::is_terminating(one) && pod::is_available(one, least, seen.now)
    };
    let at = |wanted: i32| seen.pods.iter().find(|one| ordinal(seen.set, one) == Some(wanted));
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let partition = rolling.and_then(|rolling| rolling.partition);
    let held = seen.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0);

    // Every ordinal has its pod.
    let mut broken = false;
    for number in start..end {
        match at(number) {
            None => {
                let older = number < start.saturating_add(partition.unwrap_or(held));
                let revision = if rolls(spec) && older { seen.current } else { seen.update };
                plan.create.push(pod_for(seen.set, spec, number, revision));
                if one_by_one {
                    return;
                }
            }
            Some(one) if pod::is_terminal(one) => {
                if !pod::is_terminating(one) {
                    plan.delete.push(one.clone());
                }
                broken = true;
                if one_by_one {
                    return;
                }
            }
            Some(one) if one_by_one && !available(one) => return,
            Some(_) => {}
        }
    }
    if broken || !plan.create.is_empty() {
        return;
    }

    // Nobody else has one; the highest goes first, and the lowest unhealthy one may go though others wait for it.
    let mut condemned: Vec<_> = seen
        .pods
        .iter()
        .filter_map(|one| Some((ordinal(seen.set, one)?, one)))
        .filter(|(number, _)| !(start..end).contains(number))
        .collect();
    condemned.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let first_unhealthy = seen
        .pods
        .iter()
        .filter(|one| !available(one))
        .filter_map(|one| Some((ordinal(seen.set, one)?, &one.metadata.uid)))
        .min_by_key(|(number, _)| *number)
        .map(|(_, uid)| uid);
    for (_, one) in condemned {
        if pod::is_terminating(one) {
            if one_by_one {
                return;
            }
            continue;
        }
        if one_by_one && !available(one) && Some(&one.metadata.uid) != first_unhealthy {
            return;
        }
        plan.delete.push(one.clone());
        if one_by_one {
            return;
        }
    }

    // The update goes from the highest ordinal down to the partition.
    if !rolls(spec) {
        return;
    }
    let most = rolling
        .and_then(|rolling| rolling.max_unavailable.as_ref())
        .and_then(|most| object::scaled(most, spec.replicas.unwrap_or(1), true))
        .map_or(1, |most| most.max(1));
    let from = start.saturating_add(partition.unwrap_or(0));
    let mut unavailable = 0;
    for number in (from..end).rev() {
        let Some(one) = at(number) else { continue };
        if revision_of(one) != seen.update.name && !pod::is_terminating(one) {
            plan.delete.push(one.clone());
            unavailable += 1;
        } else if !available(one) {
            unavailable += 1;
        }
        if unavailable >= most {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(spec: impl Into<Value>, current_replicas: i32) -> StatefulSet {
        let spec: Value = spec.into();
        let mut whole = json!({"replicas": 3, "serviceName": "svc", "selector": {"matchLabels": {"app": "x"}}, "template": {},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}});
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(
            json!({"metadata": {"name": "db", "namespace": "a", "uid": "set", "generation": 4}, "spec": whole,
            "status": {"replicas": 0, "currentReplicas": current_replicas}}),
        )
        .unwrap()
    }

    /// Pods by words: the ordinal, then `!` not ready, `-` ending, `x` failed, `'` of the new revision.
    fn pods(words: &str) -> Vec<Arc<Pod>> {
        let one = |word: &str| {
            let number: String = word.chars().take_while(char::is_ascii_digit).collect();
            let has = |mark: char| word.contains(mark);
            let mut one = json!({"metadata": {"name": format!("db-{number}"), "uid": number,
                "labels": {HASH: if has('\'') { "new" } else { "old" }}},
                "status": {"phase": if has('x') { "Failed" } else { "Running" }, "conditions": [{"type": "Ready",
                    "status": if has('!') { "False" } else { "True" }, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            if has('-') {
                one["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Arc::new(serde_json::from_value(one).unwrap())
        };
        words.split_whitespace().map(one).collect()
    }

    /// `+` and `-` with ordinals; a made pod of the old revision has a prime less.
    fn check(spec: impl Into<Value>, words: &str, expected: &str) {
        let spec: Value = spec.into();
        let (set, pods, template) =
            (set(spec.clone(), 0), pods(words), PodTemplateSpec { spec: Some(Default::default()), metadata: None });
        let now = "2026-01-01T00:00:05Z".parse().unwrap();
        let (current, update) =
            (Revision { name: "old", template: &template }, Revision { name: "new", template: &template });
        let plan = plan(&Observed { set: &set, pods: &pods, current, update, now });
        let made = plan.create.iter().map(|one| {
            let new = if revision_of(one) == "new" { "'" } else { "" };
            format!("+{}{new}", ordinal(&set, one).unwrap())
        });
        let gone = plan.delete.iter().map(|one| format!("-{}", ordinal(&set, one).unwrap()));
        assert_eq!(made.chain(gone).collect::<Vec<_>>().join(" "), expected, "{spec} with {words:?}");
    }

    #[test]
    fn pods_come_and_go_one_by_one() {
        let new = |spec: Value| spec;
        for (words, expected) in [
            ("", "+0'"),
            ("0'", "+1'"),
            ("0'!", ""),
            ("0' 1'! ", ""),
            ("0' 1'-", ""),
            ("0' 1'x 2'", "-1"),
            ("0' 1' 2'", ""),
            ("0' 1' 2' 3' 4'", "-4"),
            ("0' 1' 2' 3' 4'-", ""),
            ("0' 1' 2' 3'! 4'", "-4"),
            ("0' 1' 2' 3' 4'!", "-4"),
            ("0' 1'! 2' 3' 4'", ""),
        ] {
            check(new(json!({})), words, expected);
        }
        check(json!({"ordinals": {"start": 2}}), "0' 1' 2' 3' 4'", "-1");
        check(json!({"minReadySeconds": 9}), "0'", "");
    }

    #[test]
    fn or_all_at_once() {
        for (words, expected) in
            [("", "+0' +1' +2'"), ("1'!", "+0' +2'"), ("0' 1'x 2'", "-1"), ("0'! 1' 2' 3' 4'", "-4 -3")]
        {
            check(json!({"podManagementPolicy": "Parallel"}), words, expected);
        }
    }

    #[test]
    fn updates_roll_down_to_the_partition() {
        let partition =
            |number: i32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}});
        check(partition(0), "0 1 2", "-2");
        check(partition(0), "0 1 2'!", "");
        check(partition(0), "0 1 2'", "-1");
        check(partition(2), "0 1 2'", "");
        check(partition(2), "0 2'", "+1");
        check(partition(0), "0 2'", "+1'");
        check(json!({"updateStrategy": {"type": "OnDelete"}}), "0 1 2", "");
        check(
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}}),
            "0 1 2",
            "-2 -1",
        );
    }

    #[test]
    fn pods_have_names_and_claims_of_their_own() {
        let set = set(json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}), 0);
        let template: PodTemplateSpec = serde_json::from_value(json!({"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "other"}]}}))
        .unwrap();
        let one = pod_for(&set, set.spec.as_ref().unwrap(), 1, Revision { name: "db-1", template: &template });
        let shown = serde_json::to_value(&one).unwrap();
        assert_eq!(shown["metadata"]["name"], "db-1");
        assert_eq!(shown["metadata"]["labels"], json!({"app": "x", POD_NAME: "db-1", POD_INDEX: "1", HASH: "db-1"}));
        assert_eq!((&shown["spec"]["hostname"], &shown["spec"]["subdomain"]), (&json!("db-1"), &json!("svc")));
        let volumes = json!([{"name": "other"}, {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}]);
        assert_eq!(shown["spec"]["volumes"], volumes);
        let made = claims(&set, "db-1");
        assert_eq!(made[0].metadata.name.as_deref(), Some("data-db-1"));
        assert_eq!(object::label(&made[0].metadata, "app"), Some("x"));
    }

    #[test]
    fn an_update_is_over_when_all_run_it() {
        let template = PodTemplateSpec::default();
        let now = "2026-01-01T00:00:05Z".parse().unwrap();
        for (words, current, counts) in
            [("0' 1' 2'", "new", (3, Some(3), Some(3))), ("0 1' 2'", "old", (3, Some(1), Some(2)))]
        {
            let (set, pods) = (set(json!({}), 3), pods(words));
            let (old, new) =
                (Revision { name: "old", template: &template }, Revision { name: "new", template: &template });
            let status = plan(&Observed { set: &set, pods: &pods, current: old, update: new, now }).status;
            assert_eq!(status.current_revision.as_deref(), Some(current), "{words}");
            assert_eq!((status.replicas, status.current_replicas, status.updated_replicas), counts, "{words}");
        }
    }
}
