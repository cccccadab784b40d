//! The revisions of a DaemonSet's template, as ControllerRevisions whose data `kubectl rollout undo` applies as a
//! patch. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet},
        core::v1::Pod,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::{Value, json};

use crate::{object, pod};

/// The label of revisions and pods with the template's hash.
pub(super) const HASH: &str = "controller-revision-hash";

/// What to do about the current template's revision.
#[derive(Debug, PartialEq)]
pub(super) enum Write {
    /// It stands as it is.
    Keep(ControllerRevision),
    /// It exists, but a later one was current before: its number moves up.
    Renumber(ControllerRevision),
    /// The template is new.
    Create(ControllerRevision),
}

/// The patch that brings a set back to this template.
pub(super) fn data(set: &DaemonSet) -> Value {
    let template = set.spec.as_ref().map(|spec| serde_json::to_value(&spec.template).unwrap_or_default());
    let mut template = template.unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), json!("replace"));
    }
    json!({"spec": {"template": template}})
}

fn same(a: &Value, b: &Value) -> bool {
    normal(a) == normal(b)
}

/// Upstream writes `creationTimestamp: null` into templates; it says nothing.
fn normal(data: &Value) -> Value {
    let mut data = data.clone();
    if let Some(meta) = data.pointer_mut("/spec/template/metadata").and_then(Value::as_object_mut) {
        meta.retain(|name, value| !(name == "creationTimestamp" && value.is_null()));
    }
    data
}

pub(super) fn plan(set: &DaemonSet, held: &[Arc<ControllerRevision>]) -> Write {
    let wanted = data(set);
    let highest = held.iter().map(|one| one.revision).max().unwrap_or(0);
    let equal = held
        .iter()
        .filter(|one| one.data.as_ref().is_some_and(|data| same(&data.0, &wanted)))
        .max_by_key(|one| one.revision);
    if let Some(one) = equal {
        let mut one = ControllerRevision::clone(one);
        if one.revision == highest {
            return Write::Keep(one);
        }
        one.revision = highest + 1;
        return Write::Renumber(one);
    }
    let template = set.spec.as_ref().map(|spec| object::normal_template(&spec.template, HASH)).unwrap_or_default();
    let hash = object::short_hash(&template, set.status.as_ref().and_then(|status| status.collision_count));
    let mut labels = template.metadata.and_then(|meta| meta.labels).unwrap_or_default();
    labels.insert(HASH.to_owned(), hash.clone());
    Write::Create(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", object::name(&set.metadata))),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![object::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(wanted)),
        revision: highest + 1,
    })
}

/// The oldest revisions beyond the limit that no pod runs.
pub(super) fn surplus(
    set: &DaemonSet,
    old: &[Arc<ControllerRevision>],
    pods: &[Arc<Pod>],
) -> Vec<Arc<ControllerRevision>> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let live: BTreeSet<_> =
        pods.iter().filter(|one| !pod::is_terminal(one)).filter_map(|one| object::label(&one.metadata, HASH)).collect();
    let mut idle: Vec<_> = old
        .iter()
        .filter(|one| object::label(&one.metadata, HASH).is_none_or(|hash| !live.contains(hash)))
        .cloned()
        .collect();
    idle.sort_by_key(|one| one.revision);
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    idle.truncate(surplus);
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(image: &str, limit: i32) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": "agent", "namespace": "a", "uid": "ds", "annotations": {"kubernetes.io/change-cause": image}},
            "spec": {"revisionHistoryLimit": limit, "selector": {"matchLabels": {"app": "x"}}, "template": {
                "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .unwrap()
    }

    fn made(write: Write) -> ControllerRevision {
        match write {
            Write::Create(one) => one,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_template_that_comes_back_moves_up() {
        let first = made(plan(&set("one", 10), &[]));
        assert_eq!(first.revision, 1);
        assert_eq!(first.data.as_ref().unwrap().0["spec"]["template"]["$patch"], "replace");
        assert_eq!(object::annotation(&first.metadata, "kubernetes.io/change-cause"), Some("one"));
        let held = vec![Arc::new(first.clone())];
        assert_eq!(plan(&set("one", 10), &held), Write::Keep(first.clone()));
        let second = made(plan(&set("two", 10), &held));
        assert_eq!(second.revision, 2);
        assert_ne!(second.metadata.name, first.metadata.name);
        let held = vec![Arc::new(first.clone()), Arc::new(second)];
        let Write::Renumber(back) = plan(&set("one", 10), &held) else { panic!("not renumbered") };
        assert_eq!((back.revision, &back.metadata.name), (3, &first.metadata.name));
    }

    #[test]
    fn old_revisions_go_unless_a_pod_runs_them() {
        let revisions: Vec<_> = (1..=4)
            .map(|number| {
                let mut one = made(plan(&set(&number.to_string(), 2), &[]));
                one.revision = number;
                Arc::new(one)
            })
            .collect();
        let mut one = Pod::default();
        one.metadata.labels = revisions[0].metadata.labels.clone();
        let gone = surplus(&set("5", 2), &revisions, &[Arc::new(one)]);
        assert_eq!(gone.iter().map(|one| one.revision).collect::<Vec<_>>(), [2, 3]);
    }
}
