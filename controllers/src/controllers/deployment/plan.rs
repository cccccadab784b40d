//! What to write for a Deployment, from what was seen: which ReplicaSet is the new one, how far each is scaled, which
//! revision and conditions stand. Pure.

use std::{cmp::Reverse, collections::HashMap};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};

use super::progress;
use crate::{events::Note, object};

pub(super) const HASH: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets do not inherit.
const OWN: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The longest revision history kept in an annotation, in bytes.
const HISTORY_LIMIT: usize = 2000;

/// What was seen.
pub(super) struct Observed<'a> {
    pub(super) deployment: &'a Deployment,
    /// The ReplicaSets that it controls.
    pub(super) sets: &'a [ReplicaSet],
    /// Pods per ReplicaSet uid that have not ended, those that terminate included.
    pub(super) running: &'a HashMap<String, usize>,
    pub(super) now: Timestamp,
}

/// One write, in the order of the plan.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    Create(Box<ReplicaSet>),
    Update(Box<ReplicaSet>),
    Delete { name: String, uid: String },
    Status(Box<Deployment>),
    Event(Note),
}

/// What to write, and in how many seconds to look again at the latest.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    pub(super) wake: Option<u64>,
}

/// A plan in the making: the Deployment and its sets as they will be.
pub(super) struct Draft<'a> {
    pub(super) deployment: Deployment,
    pub(super) spec: DeploymentSpec,
    pub(super) seen: &'a Observed<'a>,
    pub(super) new: Option<ReplicaSet>,
    /// The other sets, oldest first.
    pub(super) old: Vec<ReplicaSet>,
    pub(super) writes: Vec<Write>,
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn current(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn revision_of(set: &ReplicaSet) -> i64 {
    object::annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    object::annotation(&set.metadata, annotation)?.parse().ok()
}

/// Whether a ReplicaSet runs the Deployment's template.
pub(super) fn same_template(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let (Some(set), Some(spec)) = (&set.spec, &deployment.spec) else { return false };
    set.template.as_ref().is_some_and(|template| {
        object::normal_template(template, HASH) == object::normal_template(&spec.template, HASH)
    })
}

pub(super) fn is_rolling(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// How many pods may be created above, and how many may be missing below, the wanted count.
pub(super) fn bounds(spec: &DeploymentSpec) -> (i32, i32) {
    let wanted = spec.replicas.unwrap_or(1);
    if !is_rolling(spec) || wanted == 0 {
        return (0, 0);
    }
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let share = |value: Option<&_>, up| {
        value.map_or(Some(wanted.saturating_add(3) / 4).filter(|_| up), |value| object::scaled(value, wanted, up))
    };
    let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true).unwrap_or(0);
    let mut unavailable =
        share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false).unwrap_or(wanted / 4);
    // Both may round to nothing; then one pod at a time makes way, or the rollout would stand still.
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    (surge, unavailable.min(wanted))
}

impl<'a> Draft<'a> {
    fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    fn total(&self) -> i32 {
        self.all().map(replicas).sum()
    }

    fn name(&self) -> &str {
        object::name(&self.deployment.metadata)
    }

    /// Marks a set with the size the Deployment had when it was scaled; whether that changed.
    fn mark_size(&self, set: &mut ReplicaSet) -> bool {
        let (surge, _) = bounds(&self.spec);
        let desired = object::put(&mut set.metadata.annotations, DESIRED, &self.wanted().to_string());
        let max = self.wanted().saturating_add(surge);
        object::put(&mut set.metadata.annotations, MAX, &max.to_string()) || desired
    }

    /// Scales a set in the draft and plans the write; whether its size changed.
    fn scale(&mut self, uid: Option<&str>, size: i32, always_mark: bool) -> bool {
        let Some(mut set) = self.all().find(|set| set.metadata.uid.as_deref() == uid).cloned() else { return false };
        let before = replicas(&set);
        if before == size && !always_mark {
            return false;
        }
        let marked = self.mark_size(&mut set);
        if before == size && !marked {
            return false;
        }
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(size);
        }
        for slot in self.old.iter_mut().chain(&mut self.new) {
            if slot.metadata.uid == set.metadata.uid {
                *slot = set.clone();
            }
        }
        if before != size {
            let way = if size > before { "up" } else { "down" };
            let text = format!("Scaled {way} replica set {} from {before} to {size}", object::name(&set.metadata));
            self.writes.push(Write::Event(Note::normal("ScalingReplicaSet", text)));
        }
        // The event tells of the write; it follows it.
        let at = self.writes.len() - usize::from(before != size);
        self.writes.insert(at, Write::Update(Box::new(set)));
        before != size
    }

    /// The size the new set may have now, given the sizes of all.
    fn new_size(&self, new_now: i32) -> i32 {
        if !is_rolling(&self.spec) {
            return self.wanted();
        }
        let (surge, _) = bounds(&self.spec);
        let room = self.wanted().saturating_add(surge) - self.total();
        if room <= 0 {
            return new_now;
        }
        new_now + room.min(self.wanted() - new_now)
    }

    /// Brings the new set's annotations up to date, or makes it if `create`; and the Deployment's revision with it.
    fn find_new(&mut self, create: bool) {
        let next = self.old.iter().map(revision_of).max().unwrap_or(0) + 1;
        if let Some(mut set) = self.new.take() {
            let mut changed = self.inherit(&mut set, next, true);
            let min_ready = self.spec.min_ready_seconds;
            if let Some(spec) = &mut set.spec
                && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
            {
                spec.min_ready_seconds = min_ready;
                changed = true;
            }
            changed |= self.mark_size_if_absent(&mut set);
            let revision = object::annotation(&set.metadata, REVISION).unwrap_or_default().to_owned();
            if changed {
                self.writes.push(Write::Update(Box::new(set.clone())));
            }
            object::put(&mut self.deployment.metadata.annotations, REVISION, &revision);
            if progress::has_deadline(&self.spec) && progress::condition(&self.deployment, "Progressing").is_none() {
                let text = format!("Found new replica set {:?}", object::name(&set.metadata));
                progress::set(&mut self.deployment, "Progressing", "True", "FoundNewReplicaSet", &text, self.seen.now);
            }
            self.new = Some(set);
            return;
        }
        if !create {
            return;
        }
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = object::short_hash(&object::normal_template(&self.spec.template, HASH), collisions);
        let mut template = self.spec.template.clone();
        let template_meta = template.metadata.get_or_insert_default();
        object::put(&mut template_meta.labels, HASH, &hash);
        let mut selector = self.spec.selector.clone();
        object::put(&mut selector.match_labels, HASH, &hash);
        let mut set = ReplicaSet {
            spec: Some(ReplicaSetSpec {
                replicas: Some(self.new_size(0)),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template.clone()),
            }),
            ..ReplicaSet::default()
        };
        set.metadata.name = Some(format!("{}-{hash}", self.name()));
        set.metadata.namespace = self.deployment.metadata.namespace.clone();
        set.metadata.labels = template.metadata.and_then(|meta| meta.labels);
        set.metadata.owner_references = Some(vec![object::controller_reference(&self.deployment)]);
        self.inherit(&mut set, next, false);
        self.mark_size(&mut set);
        let size = replicas(&set);
        let name = object::name(&set.metadata).to_owned();
        self.writes.push(Write::Create(Box::new(set.clone())));
        if size > 0 {
            let text = format!("Scaled up replica set {name} from 0 to {size}");
            self.writes.push(Write::Event(Note::normal("ScalingReplicaSet", text)));
        }
        object::put(&mut self.deployment.metadata.annotations, REVISION, &next.to_string());
        if progress::has_deadline(&self.spec) {
            let text = format!("Created new replica set {name:?}");
            progress::set(&mut self.deployment, "Progressing", "True", "NewReplicaSetCreated", &text, self.seen.now);
        }
        self.new = Some(set);
    }

    fn mark_size_if_absent(&self, set: &mut ReplicaSet) -> bool {
        number(set, DESIRED).is_none() && replicas(set) == self.wanted() && self.mark_size(set)
    }

    /// Copies what a set inherits from the Deployment, and moves its revision forward; whether it changed.
    fn inherit(&self, set: &mut ReplicaSet, next: i64, exists: bool) -> bool {
        let mut changed = false;
        for (name, value) in self.deployment.metadata.annotations.iter().flatten() {
            if !OWN.contains(&name.as_str()) {
                changed |= object::put(&mut set.metadata.annotations, name, value);
            }
        }
        let before = object::annotation(&set.metadata, REVISION).map(str::to_owned);
        if revision_of(set) < next {
            object::put(&mut set.metadata.annotations, REVISION, &next.to_string());
            changed = true;
            if exists && let Some(before) = before.filter(|before| !before.is_empty()) {
                let held = object::annotation(&set.metadata, HISTORY).unwrap_or_default();
                let mut history: Vec<&str> = held.split(',').filter(|one| !one.is_empty()).collect();
                history.push(&before);
                while object::join(history.iter().copied(), ",").len() > HISTORY_LIMIT {
                    history.remove(0);
                }
                let history = object::join(history, ",");
                object::put(&mut set.metadata.annotations, HISTORY, &history);
            }
        }
        changed
    }

    /// Scales without rolling: for a paused Deployment, or when its wanted count changed.
    fn resize(&mut self) {
        let wanted = self.wanted();
        let active: Vec<_> = self.all().filter(|set| replicas(set) > 0).cloned().collect();
        let newest = self.new.clone().or_else(|| self.old.last().cloned());
        let alone = match active.as_slice() {
            [] => newest,
            [one] => Some(one.clone()),
            _ => None,
        };
        if let Some(set) = alone {
            if replicas(&set) != wanted {
                self.scale(set.metadata.uid.as_deref(), wanted, true);
            } else {
                self.scale(set.metadata.uid.as_deref(), wanted, number(&set, DESIRED) != Some(wanted));
            }
            return;
        }
        let saturated = self.new.as_ref().is_some_and(|set| {
            replicas(set) == wanted && number(set, DESIRED) == Some(wanted) && available(set) == wanted
        });
        if saturated {
            for set in self.old.clone().iter().filter(|set| replicas(set) > 0) {
                self.scale(set.metadata.uid.as_deref(), 0, false);
            }
            return;
        }
        if is_rolling(&self.spec) {
            for (uid, size) in proportions(&self.spec, &self.deployment, active) {
                self.scale(Some(&uid), size, true);
            }
        }
    }

    fn roll(&mut self) {
        self.find_new(true);
        let Some(new) = self.new.clone() else { return };
        let created = new.metadata.uid.is_none();
        if created {
            return;
        }
        let size = replicas(&new);
        let next = if size > self.wanted() { self.wanted() } else { self.new_size(size) };
        if next != size && self.scale(new.metadata.uid.as_deref(), next, false) {
            return;
        }
        self.shrink_old();
    }

    /// Takes down old sets as far as availability allows: unhealthy pods first, then available ones.
    fn shrink_old(&mut self) {
        let (_, max_unavailable) = bounds(&self.spec);
        let floor = self.wanted() - max_unavailable;
        let unavailable_new = self.new.as_ref().map_or(0, |set| replicas(set) - available(set));
        let mut allowed = self.total() - floor - unavailable_new;
        if allowed <= 0 || self.old.iter().all(|set| replicas(set) == 0) {
            return;
        }
        for set in self.old.clone() {
            let unhealthy = replicas(&set) - available(&set);
            let cut = unhealthy.min(allowed);
            if replicas(&set) > 0 && cut > 0 {
                self.scale(set.metadata.uid.as_deref(), replicas(&set) - cut, false);
                allowed -= cut;
            }
        }
        let mut spare = self.all().map(available).sum::<i32>() - floor;
        for set in self.old.clone() {
            let cut = replicas(&set).min(spare);
            if cut > 0 {
                self.scale(set.metadata.uid.as_deref(), replicas(&set) - cut, false);
                spare -= cut;
            }
        }
    }

    fn recreate(&mut self) {
        self.find_new(false);
        let doomed: Vec<_> =
            self.old.iter().filter(|set| replicas(set) > 0).filter_map(|set| set.metadata.uid.clone()).collect();
        for uid in &doomed {
            self.scale(Some(uid), 0, false);
        }
        let still = self
            .old
            .iter()
            .any(|set| current(set) > 0 || self.seen.running.get(object::uid(&set.metadata)).copied().unwrap_or(0) > 0);
        if !doomed.is_empty() || still {
            return;
        }
        if self.new.is_none() {
            return self.find_new(true);
        }
        let uid = self.new.as_ref().and_then(|set| set.metadata.uid.clone());
        self.scale(uid.as_deref(), self.wanted(), false);
    }

    /// Deletes the oldest sets that nothing runs in, beyond the limit.
    fn prune(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut idle: Vec<_> = self.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        idle.sort_by_key(|set| revision_of(set));
        let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let doomed: Vec<_> = idle
            .into_iter()
            .take(surplus)
            .filter(|set| {
                let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
                replicas(set) == 0 && current(set) == 0 && set.metadata.generation.unwrap_or(0) <= observed
            })
            .map(|set| Write::Delete {
                name: object::name(&set.metadata).to_owned(),
                uid: object::uid(&set.metadata).to_owned(),
            })
            .collect();
        self.writes.extend(doomed);
    }
}

/// Spreads the change of size over the active sets in proportion to theirs; the largest takes what rounding leaves.
fn proportions(spec: &DeploymentSpec, deployment: &Deployment, mut active: Vec<ReplicaSet>) -> Vec<(String, i32)> {
    let wanted = spec.replicas.unwrap_or(1);
    let (surge, _) = bounds(spec);
    let allowed = if wanted > 0 { wanted.saturating_add(surge) } else { 0 };
    let to_add = allowed - active.iter().map(replicas).sum::<i32>();
    if to_add > 0 {
        active.sort_by_key(|set| (Reverse(replicas(set)), Reverse(object::created(&set.metadata))));
    } else {
        active.sort_by_key(|set| (Reverse(replicas(set)), object::created(&set.metadata)));
    }
    let share = |set: &ReplicaSet| {
        let size = replicas(set);
        if wanted == 0 {
            return -size;
        }
        let seen = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let before = number(set, MAX).filter(|max| *max != 0).unwrap_or(seen);
        if before == 0 {
            return 0;
        }
        // Rounds half away from zero, in whole numbers.
        let (product, before) = (i64::from(size) * i64::from(wanted.saturating_add(surge)), i64::from(before));
        let rounded = (2 * product + before).div_euclid(2 * before);
        i32::try_from(rounded).unwrap_or(i32::MAX) - size
    };
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in &active {
        let left = to_add - added;
        let part = match () {
            () if to_add == 0 || left == 0 => 0,
            () if to_add > 0 => share(set).min(left),
            () => share(set).max(left),
        };
        added += part;
        sizes.push((object::uid(&set.metadata).to_owned(), replicas(set) + part));
    }
    if let Some((_, size)) = sizes.first_mut() {
        *size = (*size + to_add - added).max(0);
    }
    sizes
}

/// Decides everything about a Deployment.
pub(super) fn plan(seen: &Observed<'_>) -> Plan {
    let Some(spec) = seen.deployment.spec.clone() else { return Plan::default() };
    let mut sets: Vec<_> = seen.sets.to_vec();
    sets.sort_by(|a, b| {
        (object::created(&a.metadata), &a.metadata.name).cmp(&(object::created(&b.metadata), &b.metadata.name))
    });
    let at = sets.iter().position(|set| same_template(set, seen.deployment));
    let new = at.map(|at| sets.remove(at));
    let mut draft = Draft { deployment: seen.deployment.clone(), spec, seen, new, old: sets, writes: Vec::new() };
    if seen.deployment.metadata.deletion_timestamp.is_some() {
        return progress::finish(draft, false);
    }
    progress::note_pause(&mut draft);
    let wanted = draft.wanted();
    let resized = draft.all().any(|set| replicas(set) > 0 && number(set, DESIRED).is_some_and(|size| size != wanted));
    if draft.spec.paused == Some(true) {
        draft.find_new(false);
        draft.resize();
        draft.prune();
        return progress::finish(draft, false);
    }
    if resized {
        draft.find_new(false);
        draft.resize();
        return progress::finish(draft, false);
    }
    if is_rolling(&draft.spec) {
        draft.roll();
    } else {
        draft.recreate();
    }
    let quiet = !draft.writes.iter().any(|write| matches!(write, Write::Create(_) | Write::Event(_)));
    if quiet && progress::is_complete(&draft) {
        draft.prune();
    }
    progress::finish(draft, true)
}

/// The Deployment with the condition that says its ReplicaSet could not be made; `None` without a deadline.
pub(super) fn creation_failed(deployment: &Deployment, error: &str, now: Timestamp) -> Option<Deployment> {
    if !progress::has_deadline(deployment.spec.as_ref()?) {
        return None;
    }
    let mut failed = deployment.clone();
    progress::set(&mut failed, "Progressing", "False", "ReplicaSetCreateError", error, now);
    (failed.status != deployment.status).then_some(failed)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
