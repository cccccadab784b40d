//! The revisions of a template, as ControllerRevisions whose data `kubectl rollout undo` applies as a patch: planned
//! purely, written here. It never changes the template's owner but to count colliding names.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{Resource, api::PostParams};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    controller::{self, Context, Error, is_already_exists},
    informer::Watched,
    object,
};

impl Watched for ControllerRevision {}

/// The label of pods that tells their revision.
pub(crate) const HASH: &str = "controller-revision-hash";

/// A kind whose templates have a history.
pub(crate) trait Revised: Watched + Resource<Scope = NamespaceResourceScope> + Serialize {
    /// The label of a revision with the template's hash.
    const REVISION_HASH: &'static str;

    fn template(&self) -> Option<&PodTemplateSpec>;

    fn collisions(&self) -> Option<i32>;

    /// The same object, with one colliding name more.
    fn collided(&self) -> Self;
}

/// What to do about the current template's revision.
#[derive(Debug, PartialEq)]
enum Write {
    /// It stands as it is.
    Keep(ControllerRevision),
    /// It exists, but a later one was current before: its number moves up.
    Renumber(ControllerRevision),
    /// The template is new.
    Create(ControllerRevision),
}

/// The patch that brings a set back to this template.
fn data<K: Revised>(set: &K) -> Value {
    let template = set.template().map(|template| serde_json::to_value(template).unwrap_or_default());
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

fn plan<K: Revised>(set: &K, held: &[Arc<ControllerRevision>]) -> Write {
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
    let template = set.template().map(|template| object::normal_template(template, HASH)).unwrap_or_default();
    let hash = object::short_hash(&template, set.collisions());
    let mut labels = template.metadata.and_then(|meta| meta.labels).unwrap_or_default();
    labels.insert(K::REVISION_HASH.to_owned(), hash.clone());
    Write::Create(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", object::name(set.meta()))),
            namespace: set.meta().namespace.clone(),
            labels: Some(labels),
            annotations: set.meta().annotations.clone(),
            owner_references: Some(vec![object::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(wanted)),
        revision: highest + 1,
    })
}

/// The template of a revision.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The oldest revisions beyond the limit that are not `live`.
fn surplus(limit: usize, all: &[Arc<ControllerRevision>], live: &BTreeSet<String>) -> Vec<Arc<ControllerRevision>> {
    let mut idle: Vec<_> = all.iter().filter(|one| !live.contains(object::name(&one.metadata))).cloned().collect();
    idle.sort_by_key(|one| one.revision);
    idle.truncate(idle.len().saturating_sub(limit));
    idle
}

/// Makes sure that the template has a revision with the highest number. Returns it and the others.
///
/// # Errors
/// [`Error::NotYet`] when its name was taken by another.
pub(crate) async fn keep<K: Revised>(
    context: &Context,
    set: &K,
) -> Result<(ControllerRevision, Vec<Arc<ControllerRevision>>), Error> {
    let revisions = context.informers.of::<ControllerRevision>();
    let namespace = object::namespace(set.meta());
    let api = context.api::<ControllerRevision>(namespace);
    let uid = object::uid(set.meta());
    let mut held = revisions.owned_by(uid);
    held.retain(|one| object::is_controlled_by(&one.metadata, uid));
    let kept = match plan(set, &held) {
        Write::Keep(revision) => revision,
        Write::Renumber(revision) => {
            let written = api.replace(object::name(&revision.metadata), &PostParams::default(), &revision).await?;
            revisions.saw(&written.metadata).await;
            written
        }
        Write::Create(revision) => match api.create(&PostParams::default(), &revision).await {
            Ok(made) => {
                revisions.saw(&made.metadata).await;
                made
            }
            Err(error) if is_already_exists(&error) => {
                let name = object::name(&revision.metadata);
                let live = api.get(name).await?;
                if live.data != revision.data {
                    let sets = context.api::<K>(namespace);
                    sets.replace_status(object::name(set.meta()), &PostParams::default(), &set.collided()).await?;
                }
                return Err(Error::NotYet(format!("{name} exists already")));
            }
            Err(error) => return Err(error.into()),
        },
    };
    held.retain(|one| one.metadata.uid != kept.metadata.uid);
    Ok((kept, held))
}

/// Deletes the oldest revisions beyond so many; `live` are the names of those that must stay.
pub(crate) async fn prune<K: Revised>(
    context: &Context,
    set: &K,
    old: &[Arc<ControllerRevision>],
    live: &BTreeSet<String>,
    limit: usize,
) -> Result<(), Error> {
    let api = context.api::<ControllerRevision>(object::namespace(set.meta()));
    for revision in surplus(limit, old, live) {
        controller::delete(&api, object::name(&revision.metadata), revision.metadata.uid.as_deref()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSet;

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
    fn a_template_comes_back_from_its_revision() {
        let one = set("one", 10);
        assert_eq!(template_of(&made(plan(&one, &[]))).as_ref(), one.template());
    }

    #[test]
    fn old_revisions_go_unless_something_runs_them() {
        let revisions: Vec<_> = (1..=4)
            .map(|number| {
                let mut one = made(plan(&set(&number.to_string(), 2), &[]));
                one.revision = number;
                Arc::new(one)
            })
            .collect();
        let live = BTreeSet::from([object::name(&revisions[0].metadata).to_owned()]);
        let gone = |limit| surplus(limit, &revisions, &live).iter().map(|one| one.revision).collect::<Vec<_>>();
        assert_eq!((gone(2), gone(0), gone(3)), (vec![2], vec![2, 3, 4], vec![]));
    }
}
